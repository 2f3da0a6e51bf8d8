"""The lines of a run's log: PaddleSeg's logger, past the progress line where one is drawn."""

from __future__ import annotations

import sys
import warnings
from typing import Any, Callable

from ppliteseg_paddle.engine.loop.budget import NOT_BY_TIME
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.engine.loop.rebind import look_up, rebound
from ppliteseg_paddle.engine.loop.run import LoopRun

TRAIN_LINE = (
    "[TRAIN] epoch: {epoch}, iter: {iter}/{total}, loss: {loss:.4f}, lr: {lr:.6f}, batch_cost: {batch_cost:.4f}, "
    "reader_cost: {reader_cost:.5f}, ips: {ips:.4f} samples/sec | ETA {eta}"
)
_BEST = "[EVAL] The model with the best validation mIoU"
_EMA_BEST = "[EVAL] The EMA model with the best validation mIoU"


def say(message: str) -> None:
    """Log a line as PaddleSeg does. A progress bar makes room for it."""
    from paddleseg.utils import logger
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        logger.info(message)


def run_log(run: LoopRun, original: Any) -> Any:
    """The loop's `logger`: what it says of losses and of the best model is left to those who know the numbers.

    Reason: after a resume the loop divides the first sum of losses by too many steps, knows nothing of the best model
    before, and with several ranks knows the losses of its own images only.
    """

    class Log:
        def __getattr__(self, name: str) -> Any:
            return getattr(original, name)

        def info(self, message: str = "") -> None:
            if message.startswith("[TRAIN]"):
                return
            for beginning, kind, best in (
                (_BEST, "model's", run.monitor.best),
                (_EMA_BEST, "EMA", run.monitor.ema_best),
            ):
                if message.startswith(beginning):
                    if best.value is None:
                        return
                    message = f"[EVAL] Best {kind} {best.by}: {best.value:.4f}, at iter {best.iteration:d}."
            say(message)

    return Log()


def logged_resume(run: LoopRun, original: Callable) -> Callable:
    """`resume`, whose line would break the progress line. Afterwards a changed schedule gives the rate of the first
    step, in place of the one that the checkpoint holds."""
    load = rebound(original, {"logger": run_log(run, look_up(original, "logger"))})

    def resume(model: Any, optimizer: Any, resume_model: str | None) -> Any:
        with warnings.catch_warnings():
            # Said of each state with a warm-up, whose inner schedule Paddle loads all the same.
            warnings.filterwarnings("ignore", message="There are some unused values in state_dict")
            start = load(model, optimizer, resume_model)
        schedule = optimizer._learning_rate
        if run.new_schedule and type(schedule).__name__ not in NOT_BY_TIME:
            schedule.step(schedule.last_epoch)
        return start

    return resume


class LogLines(Callback):
    """PaddleSeg's `[TRAIN]` line for each row of the record.

    Args: total: iterations at the end; may be a `budget.OpenEnd`.
    """

    def __init__(self, total: int):
        self.total = total

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        from paddleseg.utils import calculate_eta

        eta = calculate_eta(self.total - row["iter"], row["batch_cost"])
        say(TRAIN_LINE.format(total=self.total, eta=eta, **row))
