"""Several processes that train or evaluate together, one a device.

A process is called a rank, as in Paddle. `paddle.distributed.launch` (`train --nproc_per_node`, see `launch`) starts
them and tells
each its number by environment variables. Every rank has the whole model and reads its own share of the data; a step
averages the
gradients of all. The first rank alone prints and writes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time

import numpy as np

from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, OPTIMIZER, PARAMS
from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.engine.loop.surroundings import loop_module, replaced
from ppliteseg_paddle.errors import PPLiteSegError

STOPPED = "the launcher ended this rank"
_meetings = itertools.count(1)
# What Paddle's communication says when another process is gone. It raises plain RuntimeErrors.
_LOST = re.compile(r"gloo|nccl|bkcl|xccl|connection (reset|closed|refused)|TCPStore", re.IGNORECASE)


class RankLost(PPLiteSegError):
    """Another process of the run has ended, so that this one cannot go on."""

    exit_status = 3


def rank() -> int:
    """The number of this process among all of them, over all machines, from 0; 0 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINER_ID") or 0)


def ranks() -> int:
    """How many processes work together; 1 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)


def batch_in_words(batch_size: int) -> str:
    """ "4", or with several ranks "8 (4 on each of 2 devices)"."""
    return (
        f"{batch_size * ranks():d} ({batch_size:d} on each of {ranks():d} devices)"
        if ranks() > 1
        else f"{batch_size:d}"
    )


def join_ranks() -> None:
    """Connect this process to the others; returns at once where that is done, or nobody else is."""
    import paddle

    if ranks() > 1 and not paddle.distributed.is_initialized():
        if paddle.get_device() == "cpu":
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
        paddle.distributed.init_parallel_env()


def meet() -> None:
    """Wait until all ranks are here. Every rank has to come equally often.

    Reason: gloo gives up when one rank is half a minute behind another, and offers no setting for it. The first rank
    draws and saves while others wait. So after such work they wait here, where there is no limit, and where the
    launcher's
    signal reaches Python if another rank never comes. It takes some 90 ms (Paddle's store answers slowly), too long for
    every step.
    """
    import paddle

    if ranks() < 2 or paddle.get_device() != "cpu":
        return
    join_ranks()
    store = paddle.distributed.collective._default_store
    number = next(_meetings)
    arrived, nap = store.add("ppliteseg/arrived", 1), 0.0002
    while arrived < number * ranks():
        time.sleep(nap)
        nap = min(1.1 * nap, 0.02)
        arrived = store.add("ppliteseg/arrived", 0)


def share(count: int) -> range:
    """Which of `count` items this rank takes: each item belongs to exactly one rank."""
    return range(rank(), count, ranks())


def sum_over_ranks(values: np.ndarray, in_step: bool = False) -> np.ndarray:
    """The sum of an array over all ranks, on every rank. All have to call it, with one shape and type.

    Args: in_step: whether the ranks come from another transfer, so that none has to be waited for.
    """
    if ranks() < 2:
        return values
    import paddle

    if not in_step:
        meet()
    tensor = paddle.to_tensor(np.ascontiguousarray(values))
    paddle.distributed.all_reduce(tensor)
    return tensor.numpy()


def average_statistics(model) -> None:
    """Give all ranks the mean of their running statistics of batch norm, in place. All have to call it.

    Each rank has seen other images. Without this, one image would be evaluated with other statistics than the next, and
    a
    checkpoint would hold those of the first rank's images alone.
    """
    if ranks() < 2:
        return
    statistics = [
        getattr(layer, name) for layer in model.sublayers() for name in ("_mean", "_variance") if hasattr(layer, name)
    ]
    if statistics:
        values = [tensor.numpy() for tensor in statistics]
        mean = sum_over_ranks(np.concatenate([value.ravel() for value in values])) / np.float32(ranks())
        for tensor, value, part in zip(
            statistics, values, np.split(mean, np.cumsum([value.size for value in values])[:-1])
        ):
            tensor.set_value(part.reshape(value.shape).astype(value.dtype))


# --------------------------------------------------------------------------------------------
# Around the loop
# --------------------------------------------------------------------------------------------
class _Run:
    """What the mends below share: the parts of a run, and how far it is."""

    def __init__(self, model, optimizer, watch: Monitor):
        self.model, self.optimizer, self.watch = model, optimizer, watch
        self.done = watch.start  # steps
        self.updating = False  # after the gradients of a step, before it counts as done
        self.torn = False  # some weights are a step ahead of others
        self.stopped = False  # told to end by the launcher while they were
        self.apart = True  # the first rank may have done more than others since the last transfer
        self.ema_model: object | None = None

    def meet(self) -> None:
        """Before a transfer of every step."""
        if self.apart:
            meet()
            self.apart = False


@contextlib.contextmanager
def ranks_together(model, optimizer, watch: Monitor, iters, save_interval: int):
    """Let the loop train on all ranks as on one; nothing where there is only one.

    Args: watch: of this run; the rest: as the loop's own.
    Raises: RankLost: in place of the loop's error, when another rank has ended; the first rank leaves a checkpoint of
        the last
        whole step then, wherever the error comes to Python (with gloo).
    """
    if ranks() < 2:
        yield
        return
    run = _Run(model, optimizer, watch)
    with (
        _end_together(run),
        _data_parallel(run),
        _common_loss(run, watch.log_iters),
        _after_each_step(run, iters, save_interval),
        _noted_average(run),
    ):
        yield


@contextlib.contextmanager
def _data_parallel(run: _Run):
    """Reason: the loop asks `fleet` to wrap model and optimizer. Without a strategy that comes to `DataParallel` around
    the model
    and nothing around the optimizer, but setting `fleet` up reads a field that protobuf 7 has removed. And on CPU,
    DataParallel
    aborts the process when another one is gone, with nothing saved; there the gradients are averaged by `_Average`."""
    import paddle

    fleet, optimizer = paddle.distributed.fleet, run.optimizer
    average = _Average(run.model) if paddle.get_device() == "cpu" else None

    def whole(update):
        def update_atomically(*args, **kwargs):
            run.updating = run.torn = True
            result = update(*args, **kwargs)
            run.torn = False
            if run.stopped:
                raise RankLost(STOPPED)
            return result

        return update_atomically

    step = whole(optimizer.step)

    def averaged_step(*args, **kwargs):
        if average is not None:
            run.meet()
            average()
        return step(*args, **kwargs)

    def wrapped(model):
        meet()
        parallel = paddle.DataParallel(model)  # gives all ranks the first one's weights
        parallel.grad_need_sync = average is None
        return parallel

    optimizer.step = averaged_step
    optimizer.minimize = whole(optimizer.minimize)  # what mixed precision calls in its place
    try:
        with (
            replaced(fleet, "init", lambda *args, **kwargs: join_ranks()),
            replaced(fleet, "distributed_optimizer", lambda optimizer, *args, **kwargs: optimizer),
            replaced(fleet, "distributed_model", wrapped),
        ):
            yield
    finally:
        del optimizer.step, optimizer.minimize


class _Average:
    """The mean of a model's gradients over all ranks, in one transfer of all of them."""

    def __init__(self, model):
        self.parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
        self.flat, self.views = None, []

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
            paddle.distributed.all_reduce(self.flat)
            self.flat.scale_(1.0 / ranks())
            for parameter, view in zip(self.parameters, self.views):
                parameter.grad = view

    def _allocate(self, paddle) -> None:
        sizes = [int(np.prod(parameter.shape)) for parameter in self.parameters]
        self.flat = paddle.zeros([sum(sizes)])
        ends = np.cumsum(sizes)
        self.views = [
            self.flat[int(end - size) : int(end)].reshape(parameter.shape)
            for parameter, size, end in zip(self.parameters, sizes, ends)
        ]


@contextlib.contextmanager
def _common_loss(run: _Run, log_iters: int):
    """Reason: the loop logs the losses of the first rank's images. At each line of the log their sums since the last
    one become
    the mean over all ranks; a constant is added to each loss, which its gradient does not see."""
    model, state = run.model, {"steps": run.done, "sums": None}

    def common(compute):
        def compute_and_share(*args, **kwargs):
            import paddle

            losses = compute(*args, **kwargs)
            plain = [loss.detach().astype("float32").reshape([1]) for loss in losses]
            state["steps"] += 1
            state["sums"] = (
                plain if state["sums"] is None else [total + loss for total, loss in zip(state["sums"], plain)]
            )
            if state["steps"] % log_iters:
                return losses
            sums, state["sums"] = paddle.concat(state["sums"]), None
            mean = sums.clone()
            run.meet()
            paddle.distributed.all_reduce(mean)
            with paddle.amp.auto_cast(enable=False):  # the loop lets it add in fp16
                shift = mean / ranks() - sums
                return [loss + shift[index].astype(loss.dtype).reshape(loss.shape) for index, loss in enumerate(losses)]

        return compute_and_share

    if not hasattr(model, "loss_computation"):
        module = loop_module()
        with replaced(module, "loss_computation", common(module.loss_computation)):
            yield
        return
    model.loss_computation = common(model.loss_computation)
    try:
        yield
    finally:
        del model.loss_computation


@contextlib.contextmanager
def _after_each_step(run: _Run, iters, save_interval: int):
    """Reason: only the first rank saves, and it has the batch norm statistics of its own images. The loop's call of its
    profiler is a place that every rank passes in every step, after the update."""
    module = loop_module()
    profiler = module.train_profiler

    class Profiler:
        def __getattr__(self, name):
            return getattr(profiler, name)

        def add_profiler_step(self, *args, **kwargs):
            profiler.add_profiler_step(*args, **kwargs)
            run.done, run.updating = run.done + 1, False
            if run.done % save_interval == 0 or run.done == iters:
                average_statistics(run.model)
                run.apart = True  # an evaluation and a save follow

    with replaced(module, "train_profiler", Profiler()):
        yield


@contextlib.contextmanager
def _noted_average(run: _Run):
    """Reason: the averaged weights live inside the loop, and a checkpoint after an error should hold them."""
    module = loop_module()
    update = module.update_ema_model

    def update_and_note(ema_model, *args, **kwargs):
        run.ema_model = ema_model
        return update(ema_model, *args, **kwargs)

    with replaced(module, "update_ema_model", update_and_note):
        yield


# --------------------------------------------------------------------------------------------
# When a rank ends
# --------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _end_together(run: _Run):
    """Turn the end of another rank into one line, and save what there is to save."""

    def told_to_end(number, frame):
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
            _save(run)
        raise RankLost(_lost_message(run, str(error))) from None
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _lost_message(run: _Run, cause: str) -> str:
    how = run.watch.how_to_go_on() if rank() == 0 else "the first rank's log says how to go on"
    return (
        f"another rank has ended, so rank {rank()} of {ranks()} ends after iteration {run.done}; {how} "
        f"({' '.join(cause.split())})"
    )


def _save(run: _Run) -> None:
    """A checkpoint of the last whole step, as the loop writes them. Batch norm's statistics may be those of a step
    later."""
    import paddle

    steps = run.done + run.updating
    folder = os.path.join(run.watch.save_dir, f"iter_{steps:d}")
    if steps == run.watch.start or run.watch.saved == folder:
        return
    average = [(EMA_PARAMS, run.ema_model)] if run.ema_model is not None else []
    for name, part in [(PARAMS, run.model), *average, (OPTIMIZER, run.optimizer)]:
        paddle.save(part.state_dict(), os.path.join(folder, name))  # whole or not at all: see `loop.safe_saving`
