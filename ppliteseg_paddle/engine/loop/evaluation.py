"""The loop's evaluations: by the run's own `evaluate`, and noted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, MANIFEST, PARAMS, iteration_of
from ppliteseg_paddle.engine.loop.distributed import rank, ranks
from ppliteseg_paddle.engine.loop.early_stop import agreed
from ppliteseg_paddle.engine.loop.log import run_log, say
from ppliteseg_paddle.engine.loop.rebind import rebound
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.workers import guarded_loader
from ppliteseg_paddle.engine.metrics import scores_line
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.files import read_json
from ppliteseg_paddle.progress import bar

# In place of a validation set where the run has none: PaddleSeg 2.9.1 saves a score with each checkpoint, and fails
# where nothing was evaluated. The loop gets a score that it takes for the best; neither is saved nor logged.
NO_VALIDATION = object()
_NO_SCORE = (0.0, 0.0, np.zeros(0), np.zeros(0), 0.0)
_SLOW = ("auc_roc",)  # what PaddleSeg's own evaluation alone can do


def fast_and_noted(run: LoopRun, original: Callable) -> Callable:
    """`evaluate` with the same figures, which the run's monitor notes.

    Reason: the loop's evaluation counts each class by itself, several times slower than it need be; with several ranks
    each uses batch norm's statistics of its own, and three transfers are made for every image. And the loop drops the
    classes' IoU and kappa that its evaluation returns.
    """

    import paddle

    def evaluate(model: Any, eval_dataset: Any, print_detail: bool = True, **arguments: Any) -> tuple:
        if eval_dataset is NO_VALIDATION:
            return _NO_SCORE
        arguments.pop("use_multilabel", None)  # the data set says it
        begin = time.monotonic()
        try:
            if any(arguments.get(name) for name in _SLOW):
                names = {"logger": run_log(run, original.__globals__["logger"]), "progbar": Bars}
                slow = rebound(original, {**names, "paddle.io.DataLoader": guarded_loader(run, paddle.io.DataLoader)})
                scores = slow(model, eval_dataset, print_detail=print_detail, **arguments)
            else:
                scores = _fast(run, model, eval_dataset, print_detail, arguments)
        except Exception as error:
            if _ends_the_run(error):
                raise
            run.monitor.evaluation_failed(error)
            scores = _NO_SCORE
        else:
            miou, accuracy, class_iou, _, kappa = scores
            result = {"mIoU": miou, "acc": accuracy, "kappa": kappa, "class_iou": class_iou}
            run.monitor.evaluated(result, time.monotonic() - begin, model, ema=model is run.ema_model)
        if not run.use_ema or model is run.ema_model:  # the last one of its iteration
            stop_early(run)
        return scores

    return evaluate


def stop_early(run: LoopRun) -> None:
    """Let the run end here if its evaluations do not improve any more. All ranks have to call it."""
    stop = run.monitor.early_stop
    if stop is None or not agreed(stop):
        return
    iters: Any = run.iters
    iters.end()
    if rank() == 0:
        say(f"[EVAL] Training stops early at iter {run.done:d}: {stop.line()}; {run.monitor.best_so_far()}.")


def stopped_before(run: LoopRun, may_be_over: bool) -> str | None:
    """End a resumed run whose evaluations did not improve any more at its checkpoint. All ranks have to call it.

    Returns: a line that says so; None for a run that continues.
    Raises: ConfigError: if such a run may not begin.
    """
    stop = run.monitor.early_stop
    if stop is None or not agreed(stop):
        return None
    if not may_be_over:
        raise ConfigError(
            f"--resume_model {run.resume_model}: the run had stopped early there, as {stop.line()}: nothing is left to "
            "train. Give a larger --early_stop_intervals."
        )
    iters: Any = run.iters
    iters.end()
    return f"the run had stopped early, as {stop.line()}; {run.monitor.best_so_far()}"


def _ends_the_run(error: Exception) -> bool:
    """Whether an error of an evaluation is not its own: of a process that is gone, or of the transfer to it."""
    lost = isinstance(error, PPLiteSegError) and error.exit_status == 3
    return lost or (ranks() > 1 and isinstance(error, RuntimeError) and not isinstance(error, PPLiteSegError))


def _fast(run: LoopRun, model: Any, dataset: Any, print_detail: bool, arguments: dict[str, Any]) -> tuple:
    arguments = {name: value for name, value in arguments.items() if name not in _SLOW}
    arguments["precision"] = run.precision  # the loop knows no bf16
    # A bar would litter a log.
    result = run.evaluate(model, dataset, progress=print_detail and sys.stderr.isatty(), **arguments)
    occurs = enumerate(zip(result["present"], result["predicted"]))
    run.monitor.never_predicted = [number for number, (present, predicted) in occurs if present and not predicted]
    if print_detail and rank() == 0 and run.log_lines:
        say(f"[EVAL] {scores_line(result)}")
        named = zip(run.classes, result["class_iou"])
        say(f"[EVAL] Class IoU: {', '.join(f'{name} {value:.4f}' for name, value in named)}")
    iou, precision = np.array(result["class_iou"]), np.array(result["class_precision"])
    return result["mIoU"], result["acc"], iou, precision, result["kappa"]


# --------------------------------------------------------------------------------------------
# After a resume
# --------------------------------------------------------------------------------------------
def missed(checkpoint: str, rows: Sequence[dict[str, Any]], use_ema: bool) -> list[str]:
    """The files of a checkpoint whose evaluation was interrupted, after it was written and before it was noted.

    Args: rows: of the evaluations in the run's record.
    """
    if not (read_json(os.path.join(checkpoint, MANIFEST)) or {}).get("evaluation"):
        return []
    done = {bool(row.get("ema")) for row in rows if row.get("iter") == iteration_of(checkpoint)}
    files = [PARAMS] + ([EMA_PARAMS] if use_ema and os.path.isfile(os.path.join(checkpoint, EMA_PARAMS)) else [])
    return [file for file in files if (file == EMA_PARAMS) not in done]


def make_up(run: LoopRun, evaluate: Callable, dataset: Any, files: Sequence[str]) -> None:
    """Evaluate what an interrupted run has saved and not evaluated. All ranks have to call it, before the loop, which
    loads the checkpoint again.

    Args: evaluate: of `fast_and_noted`, with its arguments; files: by `missed`.
    """
    import paddle

    for file in files:
        run.model.set_state_dict(paddle.load(os.path.join(str(run.resume_model), file)))
        run.ema_model = run.model if file == EMA_PARAMS else None
        evaluate(run.model, dataset)
    run.ema_model = None


class Bars:
    """In place of PaddleSeg's module of bars, which draws on stdout, and into files, where it is litter."""

    class Progbar:
        def __init__(self, target: int, **kwargs: Any):
            self.target = target
            self.bar = bar(total=target, desc="evaluating", unit="batch", leave=False, dynamic_ncols=True)

        def update(self, current: int, values: Any = None) -> None:
            signals.check()
            self.bar.update(current - self.bar.n)
            if current >= self.target:
                self.bar.close()
