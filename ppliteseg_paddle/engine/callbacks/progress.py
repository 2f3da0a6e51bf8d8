"""The line that a person watches while a model trains.

On a terminal one line is kept up to date on stderr, and the log scrolls past above it; lines that would only repeat it
are not logged there. In a file or a pipe there is no such line: the log is PaddleSeg's, one `[TRAIN]` line every
`log_iters` steps, for programs that read it.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.progress import bar, drawn

RECENT = 50  # steps over which times are averaged


class ProgressLine(Callback):
    """Iteration, loss, learning rate, data and step time, images/s and ETA.

    Args:
        total: iterations at the end; may be a `budget.OpenEnd`.
        start: iterations before this run; images: of a step, over all ranks.
        save_interval: iterations between checkpoints; evaluates: whether there is an evaluation with each.
        budget: the clock of a run with a time limit.
        classes: their names, for the line after an evaluation.
    """

    def __init__(
        self,
        total: int,
        start: int,
        images: int,
        save_interval: int = 1000,
        evaluates: bool = False,
        budget: Any = None,
        classes: Sequence[str] = (),
    ):
        self.total, self.start, self.images, self.save_interval, self.evaluates = (
            total,
            start,
            images,
            save_interval,
            evaluates,
        )
        self.budget, self.classes = budget, classes
        self.recent: collections.deque = collections.deque(maxlen=RECENT)
        self.loss: float | None = None
        self.evaluating: dict[bool, float] = {}  # averaged weights or plain ones -> seconds of their last evaluation
        self.bar: Any = None
        self.tells_evaluations = False  # in words, where PaddleSeg's lines of them are not logged

    # --- what happens ---
    def on_step(self, monitor: Monitor, read: float, whole: float) -> None:
        self.recent.append((read, whole))
        if self.bar is not None:
            self.bar.total = int(str(self.total))
            self.bar.set_description_str(self.text(monitor.steps, monitor.optimizer.get_lr()), refresh=False)
            self.bar.update(monitor.steps - self.bar.n)

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        self.loss = row["loss"]

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        self.evaluating[evaluation["ema"]] = evaluation["seconds"]
        if self.tells_evaluations:
            from tqdm import tqdm

            tqdm.write(evaluation_lines(evaluation, monitor.steps, self.classes), file=sys.stdout)

    # --- in words ---
    def text(self, iteration: int, rate: float) -> str:
        read, whole = (sum(times) / len(self.recent) for times in zip(*self.recent))
        parts = [
            f"iter {iteration:d}/{self.total}",
            f"loss {('-' if self.loss is None else f'{self.loss:.4f}')}",
            f"lr {rate:.3g}",
            f"{whole:.3f} s/step (data {read:.3f})",
            f"{(self.images / whole):.3g} images/s",
            f"ETA {duration(self.remaining(iteration, whole))}",
        ]
        return "  ".join(parts)

    def remaining(self, iteration: int, step: float) -> float:
        """Seconds to the end, with the evaluations that are still to come as long as the last one."""
        evaluation = sum(self.evaluating.values()) if self.evaluates else 0.0
        if self.budget is not None:
            return max(0.0, self.budget.total - self.budget.now()) + evaluation
        left = self.total - iteration
        multiples = self.total // self.save_interval - iteration // self.save_interval
        final = bool(self.total % self.save_interval) and left > 0
        return left * step + (multiples + final) * evaluation


def duration(seconds: float) -> str:
    """As in 4:05 or 1:04:05."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:d}:{seconds:02d}"


def evaluation_lines(evaluation: dict[str, Any], iteration: int, classes: Sequence[str]) -> str:
    """What a person reads of an evaluation: two lines, the classes in their order."""
    first = (
        f"[EVAL] iter {iteration}{', averaged weights' if evaluation['ema'] else ''}: "
        f"mIoU {100 * evaluation['mIoU']:.2f} %, pixels right {100 * evaluation['acc']:.2f} %, "
        f"in {duration(evaluation['seconds'])}"
    )
    values = [f"{name.replace('_', ' ')} {100 * value:.1f}" for name, value in zip(classes, evaluation["class_iou"])]
    return first + (f"\n       IoU %: {', '.join(values)}" if values else "")


# --------------------------------------------------------------------------------------------
# On the screen
# --------------------------------------------------------------------------------------------
@contextlib.contextmanager
def shown(line: ProgressLine) -> Iterator[None]:
    """Draw `line` on stderr where that is a terminal; what `loop.log.say` logs goes above it."""
    if not drawn():
        yield
        return
    with bar(
        total=int(str(line.total)),
        initial=line.start,
        dynamic_ncols=True,
        mininterval=0.2,
        bar_format="{percentage:3.0f}%|{bar:12}| {desc}",
        desc="first step",
    ) as line.bar:
        try:
            yield
        finally:
            line.bar.refresh()
    line.bar = None
