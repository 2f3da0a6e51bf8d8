"""Several processes that train or evaluate together, one a device: who is who, the gradients' way, what they share.

A process is called a rank, as in Paddle. `paddle.distributed.launch` (or `ppliteseg train --nproc_per_node N`) starts them and tells each its number
by environment variables. Every rank has the whole model and reads its own part of the data.
"""
from __future__ import annotations

import contextlib
import os

from ppliteseg_paddle.engine.loop import replaced


def rank() -> int:
    """The number of this process among all of them, over all machines, from 0; 0 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINER_ID") or 0)


def ranks() -> int:
    """How many processes work together; 1 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)


def join_ranks() -> None:
    """Connect this process to the others; returns at once where that is done, or nobody else is."""
    import paddle
    if ranks() > 1 and not paddle.distributed.is_initialized():
        if not paddle.is_compiled_with_cuda() and not os.environ.get("PADDLE_DISTRI_BACKEND"):
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # what CPU builds have
        paddle.distributed.init_parallel_env()


@contextlib.contextmanager
def data_parallel():
    """Average the gradients of all ranks with Paddle's `DataParallel` itself, without `fleet` around it.

    Reason: with several ranks the loop asks `fleet` to wrap model and optimizer. Without a strategy that comes to
    DataParallel around the model and nothing around the optimizer, but setting `fleet` up reads a field that protobuf 7 has removed.
    """
    import paddle
    if ranks() < 2:
        yield
        return
    fleet = paddle.distributed.fleet
    with replaced(fleet, "init", lambda *args, **kwargs: join_ranks()), \
            replaced(fleet, "distributed_optimizer", lambda optimizer, *args, **kwargs: optimizer), \
            replaced(fleet, "distributed_model", lambda model: paddle.DataParallel(model)):
        yield
