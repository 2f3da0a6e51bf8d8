"""val_pictures/iter_N.png in the run's folder: predictions of a few validation images, to look at without a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from typing import Any

from ppliteseg_paddle.engine.callbacks.samples import Samples
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.files import clean_up
from ppliteseg_paddle.reading.run_files import PICTURES_FOLDER, picture_iteration, picture_name

KEPT = 10  # pictures of a run, of about a megabyte each


class ValPictures(Callback):
    """Writes a picture at each evaluation, and keeps `KEPT` of them: the first, the best and the newest one, and others
    spread over the run.

    Args: save_dir: of the run; start: iteration from which it resumes: later pictures are of steps that it takes again.
    """

    def __init__(self, save_dir: str, samples: Samples, start: int = 0):
        self.folder, self.samples = os.path.join(save_dir, PICTURES_FOLDER), samples
        with contextlib.suppress(OSError):  # it does not exist yet
            clean_up(self.folder)
            self._remove(number for number in pictures_in(self.folder) if number > start)

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        from ppliteseg_paddle.visual.png import write_image

        picture = self.samples.sheet(model, evaluation)
        if picture is None:
            return
        write_image(os.path.join(self.folder, picture_name(evaluation["iter"])), picture)
        best = monitor.ema_best if self.samples.ema else monitor.best
        self._remove(superfluous(pictures_in(self.folder), {best.iteration}))

    def _remove(self, iterations: Iterable[int]) -> None:
        for number in iterations:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(self.folder, picture_name(number)))


def pictures_in(folder: str) -> list[int]:
    """The iterations of which a folder holds a picture, in their order."""
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    return sorted(number for number in map(picture_iteration, names) if number is not None)


def superfluous(iterations: Iterable[int], best: Collection[int | None], limit: int = KEPT) -> list[int]:
    """Those to remove so that `limit` remain: one after the other that with the nearest neighbors. The first, the last
    and the best stay."""
    left, gone = sorted(iterations), []
    while len(left) > limit:
        inner = [place for place in range(1, len(left) - 1) if left[place] not in best]
        if not inner:
            break
        gone.append(left.pop(min(inner, key=lambda place: left[place + 1] - left[place - 1])))
    return gone
