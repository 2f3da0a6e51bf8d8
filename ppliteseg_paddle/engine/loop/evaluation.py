"""The loop's evaluations: by the run's own `evaluate`, and noted."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.engine.loop.distributed import rank
from ppliteseg_paddle.engine.loop.log import run_log, say
from ppliteseg_paddle.engine.loop.rebind import rebound
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.metrics import scores_line

# In place of a validation set where the run has none: PaddleSeg 2.9.1 saves a score with each checkpoint, and fails
# where nothing was evaluated. The loop gets a score that it takes for the best; neither is saved nor logged.
NO_VALIDATION = object()
_NO_SCORE = (0.0, 0.0, np.zeros(0), np.zeros(0), 0.0)
_SLOW = ("auc_roc", "use_multilabel")  # what PaddleSeg's own evaluation alone can do


def fast_and_noted(run: LoopRun, original: Callable) -> Callable:
    """`evaluate` with the same figures, which the run's monitor notes.

    Reason: the loop's evaluation counts each class by itself, several times slower than it need be; with several ranks
    each uses batch norm's statistics of its own, and three transfers are made for every image. And the loop drops the
    classes' IoU and kappa that its evaluation returns.
    """

    def evaluate(model: Any, eval_dataset: Any, print_detail: bool = True, **arguments: Any) -> tuple:
        if eval_dataset is NO_VALIDATION:
            return _NO_SCORE
        begin = time.monotonic()
        if any(arguments.get(name) for name in _SLOW):
            slow = rebound(original, {"logger": run_log(run, original.__globals__["logger"]), "progbar": Bars})
            scores = slow(model, eval_dataset, print_detail=print_detail, **arguments)
        else:
            scores = _fast(run, model, eval_dataset, print_detail, arguments)
        miou, accuracy, class_iou, _, kappa = scores
        result = {"mIoU": miou, "acc": accuracy, "kappa": kappa, "class_iou": class_iou}
        run.monitor.evaluated(result, time.monotonic() - begin, model, ema=model is run.ema_model)
        return scores

    return evaluate


def _fast(run: LoopRun, model: Any, dataset: Any, print_detail: bool, arguments: dict[str, Any]) -> tuple:
    arguments = {name: value for name, value in arguments.items() if name not in _SLOW}
    arguments["precision"] = run.precision  # the loop knows no bf16
    # A bar would litter a log.
    result = run.evaluate(model, dataset, progress=print_detail and sys.stderr.isatty(), **arguments)
    if print_detail and rank() == 0 and run.log_lines:
        say(f"[EVAL] {scores_line(result)}")
        say(f"[EVAL] Class IoU: {' '.join(f'{value:.4f}' for value in result['class_iou'])}")
    iou, precision = np.array(result["class_iou"]), np.array(result["class_precision"])
    return result["mIoU"], result["acc"], iou, precision, result["kappa"]


class Bars:
    """In place of PaddleSeg's module of bars, which draws on stdout, and into files, where it is litter."""

    class Progbar:
        def __init__(self, target: int, **kwargs: Any):
            from tqdm import tqdm

            self.target = target
            self.bar = tqdm(
                total=target,
                desc="evaluating",
                unit="batch",
                leave=False,
                file=sys.stderr,
                disable=None,
                dynamic_ncols=True,
            )

        def update(self, current: int, values: Any = None) -> None:
            self.bar.update(current - self.bar.n)
            if current >= self.target:
                self.bar.close()
