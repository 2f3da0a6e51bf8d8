"""The line that a person watches while a model trains.

On a terminal one line is kept up to date on stderr, and what PaddleSeg logs scrolls past above it; its `[TRAIN]` lines
would only
repeat the line, so they are left out there. In a file or a pipe there is no such line: PaddleSeg's own log stands there
unchanged, one
`[TRAIN]` line every `log_iters` steps, for programs that read it.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.engine.loop.surroundings import replaced

RECENT = 50  # steps over which times are averaged
_SILENT_ON_A_TERMINAL = ("[TRAIN]", "Start evaluating", "[EVAL] #Images", "[EVAL] Class")  # shown in other words


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
        budget=None,
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
        self.in_words = False  # whether evaluations are told in our words, as PaddleSeg's are left out

    # --- what happens ---
    def stepped(self, watch, read: float, whole: float) -> None:
        self.recent.append((read, whole))
        if self.bar is not None:
            self.bar.total = int(str(self.total))
            self.bar.set_description_str(self.text(watch.steps, watch.optimizer.get_lr()), refresh=False)
            self.bar.update(watch.steps - self.bar.n)

    def logged(self, watch, row) -> None:
        self.loss = row["loss"]

    def evaluated(self, watch, model, evaluation) -> None:
        self.evaluating[evaluation["ema"]] = evaluation["seconds"]
        if self.in_words:
            from tqdm import tqdm

            tqdm.write(evaluation_lines(evaluation, watch.steps, self.classes), file=sys.stdout)

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
def shown(line: ProgressLine):
    """Draw `line` on stderr where that is a terminal, and keep PaddleSeg's output from breaking it.

    Reason: PaddleSeg prints its log and an evaluation bar of its own to stdout, the bar also into files, where it is
        litter.
    """
    from paddleseg.core import val
    from paddleseg.utils import logger
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    with replaced(val, "progbar", _EvaluationBars if terminal else _NoBars):
        if not terminal:
            yield
            return
        line.in_words = sys.stdout.isatty()

        def log(level=2, message=""):
            if line.in_words and message.startswith(_SILENT_ON_A_TERMINAL):
                return
            with tqdm.external_write_mode(file=sys.stdout):
                original(level, message)

        with (
            replaced(logger, "log", log) as original,
            tqdm(
                total=int(str(line.total)),
                initial=line.start,
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=0.2,
                bar_format="{percentage:3.0f}%|{bar:12}| {desc}",
                desc="first step",
            ) as line.bar,
        ):
            try:
                yield
            finally:
                line.bar.refresh()
        line.bar = None


class _NoBars:
    """In place of PaddleSeg's module of bars."""

    class Progbar:
        def __init__(self, target, **kwargs):
            self.target = target

        def update(self, current, values=None):
            """Nothing to draw."""


class _EvaluationBars:
    class Progbar:
        def __init__(self, target, **kwargs):
            from tqdm import tqdm

            self.bar = tqdm(
                total=target, desc="evaluating", unit="batch", leave=False, file=sys.stderr, dynamic_ncols=True
            )

        def update(self, current, values=None):
            self.bar.update(current - self.bar.n)
            if current >= self.bar.total:
                self.bar.close()
