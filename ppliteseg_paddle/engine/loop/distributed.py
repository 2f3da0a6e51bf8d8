"""Several processes that train or evaluate jointly, one a device: their numbers and what they exchange.

A process is called a rank, as in Paddle. `paddle.distributed.launch` (`train --nproc_per_node`, see `launch`) starts
them and tells each its number by environment variables. Every rank has the whole model and reads its own share of the
data; a step averages the gradients of all. The first rank alone prints and writes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.loop.notes import NOTES, RankLost, lost_machine, missing_rank
from ppliteseg_paddle.errors import DataError

_barriers = itertools.count(1)
_looked = 0.0  # when `check_ranks` did


def rank() -> int:
    """The number of this process among all of them, over all machines, from 0; 0 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINER_ID") or 0)


def ranks() -> int:
    """How many processes work jointly; 1 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)


def batch_in_words(batch_size: int, accumulate: int = 1) -> str:
    """ "4", or with several ranks "8 (4 on each of 2 devices)"; and how many of them make an update."""
    text = f"{batch_size:d}"
    if ranks() > 1:
        text = f"{batch_size * ranks():d} ({batch_size:d} on each of {ranks():d} devices)"
    return text if accumulate == 1 else f"{text}, {accumulate:d} for each update,"


def join_ranks() -> None:
    """Connect this process to the others; returns at once where that is done, or nobody else is."""
    import paddle

    if ranks() > 1 and not paddle.distributed.is_initialized():
        if paddle.get_device() == "cpu":
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
        paddle.distributed.init_parallel_env()


def barrier() -> None:
    """Wait until all ranks are here. Every rank has to come equally often.

    Reason: gloo gives up when one rank is half a minute behind another, and offers no setting for it. The first rank
    draws and saves while others wait. So after such work they wait here, where there is no limit but the life of the
    others. It takes some 90 ms (Paddle's store answers slowly), too long for every step.

    Raises: RankLost
    """
    import paddle

    if ranks() < 2 or paddle.get_device() != "cpu":
        return
    join_ranks()
    store = paddle.distributed.collective._default_store
    number = next(_barriers)
    arrived, nap = _add(store, "ppliteseg/arrived", 1), 0.0002
    while arrived < number * ranks():
        time.sleep(nap)
        nap = min(1.1 * nap, 0.02)
        arrived = _add(store, "ppliteseg/arrived", 0)
        if arrived < number * ranks():
            check_ranks()


def _add(store: Any, key: str, number: int) -> int:
    """`store.add`, while signals wait.

    Reason: Paddle's store takes a receive that a signal interrupts for an error, and so the SIGTERM by which the
    launcher ends this rank after another one died took the place of that one's end. Can go: when it tries again.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return store.add(key, number)
    waiting = {*signals.ENDING, signal.SIGUSR1, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    try:
        return store.add(key, number)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_ranks() -> None:
    """See that the other ranks of this machine, and the other machines, are alive, once a second at most: for work in
    which a dead one is not missed for long.

    Raises: RankLost
    """
    global _looked
    if ranks() < 2 or time.monotonic() - _looked < 1:
        return
    _looked = time.monotonic()
    missing = missing_rank()
    if missing is not None:
        raise RankLost(f"rank {missing:d} is gone")
    machine = lost_machine(os.environ.get(NOTES))
    if machine is not None:
        raise RankLost(f"machine {machine:d} is gone")


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
        barrier()
    tensor = paddle.to_tensor(np.ascontiguousarray(values))
    paddle.distributed.all_reduce(tensor)
    return tensor.numpy()


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Around each rank's share of some work: what fails on one fails on all, so that none waits for the result of
    another that never comes. All have to use it.

    Raises: the error of this rank; DataError: with the text of another's.
    """
    if ranks() < 2:
        yield
        return
    fault = None
    try:
        yield
    except Exception as error:
        fault = error
    texts = np.zeros((ranks(), 400), np.int64)
    text = (str(fault).strip() or type(fault).__name__).encode()[: texts.shape[1]] if fault is not None else b""
    texts[rank(), : len(text)] = list(text)
    told = [bytes(row[row > 0].astype(np.uint8)).decode(errors="replace") for row in sum_over_ranks(texts)]
    if fault is not None:
        raise fault
    for number, text_of_it in enumerate(told):
        if text_of_it:
            raise DataError(f"on rank {number:d}: {text_of_it}")


def average_statistics(model: Any) -> None:
    """Give all ranks the mean of their running statistics of batch norm, in place. All have to call it.

    Each rank has seen other images. Without this, one image would be evaluated with other statistics than the next, and
    a checkpoint would hold those of the first rank's images alone.
    """
    statistics = statistics_of(model)
    if ranks() < 2 or not statistics:
        return
    values = [tensor.numpy() for tensor in statistics]
    # In float64, in which the mean of equal numbers is that number: where ranks agree, nothing changes.
    mean = sum_over_ranks(np.concatenate([value.ravel() for value in values]).astype(np.float64)) / ranks()
    ends = np.cumsum([value.size for value in values])[:-1]
    for tensor, value, part in zip(statistics, values, np.split(mean, ends)):
        tensor.set_value(part.reshape(value.shape).astype(value.dtype))


def statistics_of(model: Any) -> list[Any]:
    """The running means and variances of a model's batch norm layers, without those that never change."""
    return [
        getattr(layer, name)
        for layer in model.sublayers()
        for name in ("_mean", "_variance")
        if hasattr(layer, name) and not getattr(layer, "_use_global_stats", None)
    ]
