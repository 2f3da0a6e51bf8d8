"""The end of a run whose evaluations do not improve any more (`early_stop_intervals`)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ppliteseg_paddle.engine.best import Metric
from ppliteseg_paddle.engine.loop.distributed import rank, sum_over_ranks


class EarlyEnd(int):
    """The number of iterations of a run that may stop earlier.

    Reason: the loop compares its iteration with `iters` and with nothing else. After `end` it finds itself at its end.
    """

    stopped = False

    def end(self) -> None:
        self.stopped = True

    def __gt__(self, iteration: int) -> bool:  # iteration < iters
        return not self.stopped and super().__gt__(iteration)

    def __ge__(self, iteration: int) -> bool:
        return self.stopped or super().__ge__(iteration)

    def __lt__(self, iteration: int) -> bool:  # iteration > iters
        return self.stopped or super().__lt__(iteration)

    def __le__(self, iteration: int) -> bool:
        return self.stopped or super().__le__(iteration)

    def __eq__(self, iteration: object) -> bool:
        return self.stopped or super().__eq__(iteration)

    def __ne__(self, iteration: object) -> bool:
        return not self == iteration

    __hash__ = int.__hash__


class EarlyStop:
    """Counts evaluations without improvement. With averaged weights, an improvement of either model counts.

    An evaluation is that of one iteration, of all models of the run. One that failed is not counted.

    Args: metric: that has to improve; limit: evaluations without that, after which the run stops.
    """

    def __init__(self, metric: Metric, limit: int):
        self.metric, self.limit = metric, limit
        self._start()

    def _start(self) -> None:
        self.evaluations, self.improved = 0, 0  # so far, and up to the last improvement
        self.iteration: int | None = None  # of the last evaluation
        self.best: dict[str, float] = {}  # "weights", "averaged weights" -> the best value

    @property
    def over(self) -> bool:
        return self.evaluations - self.improved >= self.limit

    def line(self) -> str:
        """Why the run is over."""
        return f"{self.metric.name} has not improved for {self.evaluations - self.improved:d} evaluations"

    def note(self, evaluation: Mapping[str, Any]) -> None:
        """Take note of an evaluation, as train.json holds them."""
        if evaluation["iter"] != self.iteration:
            self.evaluations, self.iteration = self.evaluations + 1, evaluation["iter"]
        value, model = self.metric.value(evaluation), "averaged weights" if evaluation["ema"] else "weights"
        if value == value and (model not in self.best or value > self.best[model]):
            self.best[model], self.improved = value, self.evaluations

    def state(self) -> dict[str, Any]:
        """For the state of a checkpoint, which is written before the evaluation of its iteration."""
        return copy.deepcopy({"best_by": self.metric.name, **{key: getattr(self, key) for key in _STATE}})

    def restore(self, state: Any, rows: Iterable[Mapping[str, Any]]) -> None:
        """Continue from the state of a checkpoint and the evaluations after it. Without a state of the same metric,
        all of the run's evaluations are counted.

        Args: rows: the run's evaluations up to the checkpoint's iteration.
        """
        self._start()
        if isinstance(state, dict) and state.get("best_by") == self.metric.name:
            vars(self).update(copy.deepcopy({key: state[key] for key in _STATE}))
        for row in rows:
            if self.iteration is None or row["iter"] >= self.iteration:  # one that is noted twice counts once
                self.note(row)


_STATE = ("evaluations", "improved", "iteration", "best")


def agreed(stop: EarlyStop) -> bool:
    """Whether the first rank's count says that the run is over. All ranks have to call it."""
    return bool(sum_over_ranks(np.array([int(rank() == 0 and stop.over)]))[0])
