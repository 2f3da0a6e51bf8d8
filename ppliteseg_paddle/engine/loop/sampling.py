"""Which images a run trains on, in which order and with which random numbers: the same for the same seed, also after a
resume."""

from __future__ import annotations

import contextlib
from typing import Callable

from ppliteseg_paddle.engine.loop.surroundings import replaced


def epochs_done(images: int, iteration: int, batch_size: int, ranks: int = 1) -> int:
    """Epochs that a run had begun after `iteration`; PaddleSeg's loop begins a new one when it is resumed."""
    iterations = -(-images // ranks) // batch_size
    return -(-iteration // max(iterations, 1))


def seed_samples(dataset, seed: int | None, start: int, batch_size: int, ranks: int = 1) -> None:
    """Let a training set of ours draw what belongs to the seed and to the epochs from `start` on.

    All ranks get one seed, unlike for Paddle's and NumPy's generators: what is drawn for an image then does not depend
    on the rank that reads it.
    """
    draws = getattr(dataset, "draws", None)
    if draws is None:
        return
    if seed is not None:
        draws.seed = seed
    draws.resume_from(epochs_done(len(dataset), start, batch_size, ranks))


def progress_of(dataset, share: Callable[[], float]) -> Callable[[], None]:
    """What to call when an epoch begins: tells the data set's transforms the share of the run that is done, if they ask
    for it."""
    transforms = [
        transform
        for transform in getattr(getattr(dataset, "transforms", None), "transforms", ())
        if hasattr(transform, "set_progress")
    ]

    def begin_epoch() -> None:
        for transform in transforms:
            transform.set_progress(share())

    return begin_epoch


@contextlib.contextmanager
def epochs_go_on(epochs: int, begin_epoch: Callable[[], None] = lambda: None):
    """Call `begin_epoch` before the first sample of each epoch is read, in this process, and number the epochs from
    `epochs` on.

    Reason: the loop's sampler shuffles by the number of the epoch, and counts from 0 again after a resume, so that the
    orders of the first epochs come back. And the loop tells nobody that an epoch begins.
    """
    import paddle

    class Sampler(paddle.io.DistributedBatchSampler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.epoch = epochs

        def __iter__(self):  # called when the loader starts, before it reads ahead or forks workers
            begin_epoch()
            if self.nranks > 1 and getattr(self.dataset, "draws", None) is not None:
                # This rank has read only some of the images before: without it, another's numbers would come back.
                self.dataset.draws.resume_from(self.epoch)
            return super().__iter__()

    with replaced(paddle.io, "DistributedBatchSampler", Sampler):
        yield
