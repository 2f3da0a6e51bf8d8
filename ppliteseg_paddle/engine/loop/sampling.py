"""Which images a run trains on, in which order and with which random numbers: the same for the same seed, also after a
resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

from ppliteseg_paddle.engine.loop.run import LoopRun


def epochs_done(images: int, iteration: int, batch_size: int, ranks: int = 1) -> int:
    """Epochs that a run had begun after `iteration`; PaddleSeg's loop begins a new one when it is resumed."""
    iterations = -(-images // ranks) // batch_size
    return -(-iteration // max(iterations, 1))


def seed_samples(dataset: Any, seed: int | None, start: int, batch_size: int, ranks: int = 1) -> None:
    """Let a training set draw what belongs to the seed and to the epochs from `start` on.

    All ranks get one seed, unlike for Paddle's and NumPy's generators: what is drawn for an image then does not depend
    on the rank that reads it.
    """
    draws = getattr(dataset, "draws", None)
    if draws is None:
        return
    if seed is not None:
        draws.seed = seed
    draws.resume_from(epochs_done(len(dataset), start, batch_size, ranks))


def progress_of(dataset: Any, share: Callable[[], float]) -> Callable[[], None]:
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


def resumed_sampler(run: LoopRun, original: type) -> type:
    """`DistributedBatchSampler` that calls `run.begin_epoch` before the first sample of each epoch is read, in this
    process, and numbers the epochs from `run.epochs` on.

    Reason: the loop's sampler shuffles by the number of the epoch, and counts from 0 again after a resume, so that the
    orders of the first epochs come back. And the loop tells nobody that an epoch begins.
    """

    class Sampler(original):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.epoch = run.epochs
            run.monitor.steps_per_epoch = max(len(self), 1)

        def __iter__(self) -> Iterator[Any]:  # called when the loader starts, before it reads ahead or forks workers
            run.begin_epoch()
            if self.nranks > 1 and getattr(self.dataset, "draws", None) is not None:
                # This rank has read only some of the images before: without it, another's numbers would come back.
                self.dataset.draws.resume_from(self.epoch)
            return super().__iter__()

    return Sampler
