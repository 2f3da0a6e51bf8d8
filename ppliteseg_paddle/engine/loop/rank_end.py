"""The end of a rank: turned into one line, with a checkpoint of what there is to save."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

from ppliteseg_paddle.engine.loop.distributed import rank, ranks
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.saving import save_checkpoint
from ppliteseg_paddle.errors import PPLiteSegError

STOPPED = "the launcher ended this rank"
# What Paddle's communication says when another process is gone. It raises plain RuntimeErrors.
_LOST = re.compile(r"gloo|nccl|bkcl|xccl|connection (reset|closed|refused)|TCPStore", re.IGNORECASE)


class RankLost(PPLiteSegError):
    """Another process of the run has ended, so that this one cannot continue."""

    exit_status = 3


@contextlib.contextmanager
def end_jointly(run: LoopRun) -> Iterator[None]:
    """Turn the end of another rank into one line, and save what there is to save.

    The handler of SIGTERM is the process's own, as there is no other: the launcher ends a rank by that signal, and
    without a handler the process would be gone at once, its work unsaved.
    """

    def told_to_end(number: int, frame: Any) -> None:
        if os.getpid() != process:  # a process that reads data, forked from this one
            os._exit(128 + number)
        run.stopped = True
        if not run.torn:  # else at the end of the update
            raise RankLost(STOPPED)

    process, before = os.getpid(), signal.signal(signal.SIGTERM, told_to_end)
    try:
        yield
    except (RuntimeError, RankLost) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # not while saving
        if not isinstance(error, RankLost) and not _LOST.search(str(error)):
            raise
        if rank() == 0 and not run.torn:
            save_checkpoint(run)  # batch norm's statistics may be those of a step later
        raise RankLost(_lost_message(run, str(error))) from None
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _lost_message(run: LoopRun, cause: str) -> str:
    how = run.monitor.how_to_resume() if rank() == 0 else "the first rank's log says how to resume"
    return (
        f"another rank has ended, so rank {rank():d} of {ranks():d} ends after iteration {run.done:d}; {how} "
        f"({' '.join(cause.split())})"
    )
