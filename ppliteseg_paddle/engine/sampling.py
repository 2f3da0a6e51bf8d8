"""Which images a run trains on, in which order and with which random numbers: the same for the same seed, also after a resume."""
from __future__ import annotations

import contextlib
from typing import Optional

from ppliteseg_paddle.engine.loop import replaced


def epochs_done(images: int, iteration: int, batch_size: int, ranks: int = 1) -> int:
    """Epochs that a run had begun after `iteration`; PaddleSeg's loop begins a new one when it is resumed."""
    iterations = -(-images // ranks) // batch_size
    return -(-iteration // max(iterations, 1))


def seed_samples(dataset, seed: Optional[int], start: int, batch_size: int, ranks: int = 1) -> None:
    """Let a training set of ours draw what belongs to the seed and to the epochs from `start` on.

    All ranks get one seed, unlike for Paddle's and NumPy's generators: what is drawn for an image then does not depend
    on the rank that reads it.
    """
    draws = getattr(dataset, "draws", None)
    if draws is None:
        return
    if seed is not None:
        draws.seed = seed
    draws.go_on_from(epochs_done(len(dataset), start, batch_size, ranks))


@contextlib.contextmanager
def order_goes_on(epochs: int):
    """Reason: the loop's sampler shuffles by the number of the epoch, and counts from 0 again after a resume, so that the
    orders of the first epochs come back."""
    import paddle

    class Sampler(paddle.io.DistributedBatchSampler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.epoch = epochs

    with replaced(paddle.io, "DistributedBatchSampler", Sampler) if epochs else contextlib.nullcontext():
        yield
