"""The loop's steps on several ranks as on one: gradients averaged, updates never torn, statistics shared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.engine.loop import requests
from ppliteseg_paddle.engine.loop.distributed import average_statistics, barrier, join_ranks, ranks, statistics_of
from ppliteseg_paddle.engine.loop.rank_end import end_jointly
from ppliteseg_paddle.engine.loop.run import LoopRun


@contextlib.contextmanager
def jointly(run: LoopRun) -> Iterator[None]:
    """Let the loop train on all ranks as on one; nothing where there is only one.

    Raises: RankLost: as `end_jointly`.
    """
    if ranks() < 2:
        yield
        return
    with end_jointly(run), complete_updates(run):
        yield


# --------------------------------------------------------------------------------------------
# What the loop asks of `fleet`
# --------------------------------------------------------------------------------------------
# Reason: the loop asks `fleet` to wrap model and optimizer. Without a strategy that comes to `DataParallel` around the
# model and nothing around the optimizer, but setting `fleet` up reads a field that protobuf 7 has removed. And on the
# CPU, DataParallel aborts the process when another one is gone, with nothing saved; there `GradientMean` averages.
def init(run: LoopRun, original: Callable) -> Callable:
    return lambda *args, **kwargs: join_ranks()


def distributed_optimizer(run: LoopRun, original: Callable) -> Callable:
    return lambda optimizer, *args, **kwargs: optimizer


def distributed_model(run: LoopRun, original: Callable) -> Callable:
    def wrap(model: Any) -> Any:
        import paddle

        barrier()
        parallel = paddle.DataParallel(model)  # gives all ranks the first one's weights
        parallel.grad_need_sync = paddle.get_device() != "cpu"
        run.parallel = parallel
        return parallel

    return wrap


# --------------------------------------------------------------------------------------------
# The update of a step
# --------------------------------------------------------------------------------------------
@contextlib.contextmanager
def complete_updates(run: LoopRun) -> Iterator[None]:
    """Average gradients before each update of the run's optimizer (on the CPU), and note where an update is."""
    import paddle

    optimizer = run.optimizer
    average = GradientMean(run.model) if paddle.get_device() == "cpu" else None

    def complete(update: Callable) -> Callable:
        def update_completely(*args: Any, **kwargs: Any) -> Any:
            run.updating = run.torn = True
            result = update(*args, **kwargs)
            run.torn = False
            return result

        return update_completely

    step = complete(optimizer.step)

    def averaged_step(*args: Any, **kwargs: Any) -> Any:
        if average is not None:
            run.barrier()
            average()
        return step(*args, **kwargs)

    optimizer.step = averaged_step
    optimizer.minimize = complete(optimizer.minimize)  # what PaddleSeg 2.8.0's mixed precision calls in its place
    try:
        yield
    finally:
        del optimizer.step, optimizer.minimize


class GradientMean:
    """The mean of a model's gradients over all ranks, in one transfer of all of them, and that of batch norm's running
    statistics, so that every rank has all of the run's state after each step."""

    def __init__(self, model: Any):
        self.parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
        self.statistics = statistics_of(model)
        self.flat: Any = None
        self.views: list[Any] = []

    def __call__(self) -> None:
        import paddle

        with paddle.no_grad():
            if self.flat is None:
                self._allocate(paddle)
            for parameter, view in zip(self.parameters, self.views):
                if parameter.grad is None:  # not used by this rank's images, perhaps by another's
                    view.zero_()
                else:
                    paddle.assign(parameter.grad, view)
            means = self.views[len(self.parameters) :]
            for statistic, view in zip(self.statistics, means):
                paddle.assign(statistic, view)
            paddle.distributed.all_reduce(self.flat)
            self.flat.scale_(1.0 / ranks())
            for parameter, view in zip(self.parameters, self.views):
                parameter.grad = view
            for statistic, view in zip(self.statistics, means):
                paddle.assign(view, statistic)

    def _allocate(self, paddle: Any) -> None:
        tensors = [*self.parameters, *self.statistics]
        sizes = [int(np.prod(tensor.shape)) for tensor in tensors]
        self.flat = paddle.zeros([sum(sizes)])
        ends = np.cumsum(sizes)
        self.views = [
            self.flat[int(end - size) : int(end)].reshape(tensor.shape)
            for tensor, size, end in zip(tensors, sizes, ends)
        ]


# --------------------------------------------------------------------------------------------
# The end of a step
# --------------------------------------------------------------------------------------------
class AfterStep:
    """PaddleSeg's `train_profiler` with something to do after its step: `then`.

    Reason: the loop calls its profiler after each update, on every rank, and before it evaluates and saves.
    """

    def __init__(self, profiler: Any, then: Callable[[], None]):
        self._profiler, self._then = profiler, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._profiler, name)

    def add_profiler_step(self, *args: Any, **kwargs: Any) -> None:
        self._profiler.add_profiler_step(*args, **kwargs)
        self._then()


def count_step(run: LoopRun, profiler: Any) -> AfterStep:
    """Reason: what follows the last step, and a checkpoint after an error, need to know how far the run is. And the
    ranks come from the gradients' transfer here: what one of them is asked for, all take up in the same step."""

    def then() -> None:
        run.done, run.updating = run.done + 1, False
        if ranks() > 1:
            requests.agree(run)

    return AfterStep(profiler, then)


def share_statistics(run: LoopRun, profiler: Any) -> AfterStep:
    """Reason: only the first rank saves, and it has the batch norm statistics of its own images."""

    def then() -> None:
        if run.saves_now:
            average_statistics(run.model)
            run.apart = True  # an evaluation and a save follow

    return AfterStep(profiler, then)
