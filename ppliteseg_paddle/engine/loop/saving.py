"""The loop's checkpoints: written atomically, the best one never overwritten by a worse one."""

from __future__ import annotations

from typing import Any, Callable

from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import save_atomic


def atomic(run: LoopRun, save: Callable) -> Callable:
    """`paddle.save` that leaves a complete file or the former one, and tells the run's monitor."""

    def save_atomically(obj: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(path, str):
            save(obj, path, *args, **kwargs)
            return
        if not run.monitor.may_save(path):
            return
        try:
            with save_atomic(path) as temporary:
                save(obj, temporary, *args, **kwargs)
        except ConfigError as error:
            raise ConfigError(
                f"{error} Make room, or give another --save_dir; {run.monitor.how_to_resume()}"
            ) from error
        run.monitor.saving_done(path)

    return save_atomically
