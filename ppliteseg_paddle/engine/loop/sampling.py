"""Which images a run trains on, in which order and with which random numbers: the same for the same seed, also after a
resume in the middle of an epoch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.data.randomness import Draws, seed_globals
from ppliteseg_paddle.engine.loop.distributed import join_ranks, rank, sum_over_ranks
from ppliteseg_paddle.engine.loop.run import LoopRun


# --------------------------------------------------------------------------------------------
# The seed
# --------------------------------------------------------------------------------------------
def seed_of_run(given: int | None, noted: int | None) -> int:
    """The seed of all that is drawn while a run trains, the same on every rank.

    Args: given: by the user; noted: by the checkpoint that the run resumes from. With neither, a new one.
    """
    if given is not None:
        return given
    if noted is not None:
        return noted
    join_ranks()
    return int(sum_over_ranks(np.array([random.getrandbits(31) if rank() == 0 else 0]))[0])


class SeededSamples:
    """A training set whose samples draw numbers that belong to the seed, the image and the epoch.

    For data sets that are not ours, whose transforms draw from Python's and NumPy's global generators: both are seeded
    before each sample. Ours have `draws` of their own.
    """

    def __init__(self, dataset: Any, seed: int):
        self.dataset, self.draws = dataset, Draws(len(dataset), seed)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        seed_globals(self.draws.generator(index))
        return self.dataset[index]


def seeded(dataset: Any, seed: int) -> Any:
    """`dataset` with samples that belong to `seed`; all ranks give the same, so that it does not matter which of them
    reads an image."""
    if getattr(dataset, "draws", None) is None:
        return SeededSamples(dataset, seed)
    dataset.draws.seed = seed
    return dataset


def seeded_steps(run: LoopRun, original: type) -> type:
    """`TimeAverager`, which the loop calls between reading a batch and computing with it: there the generators of this
    process, from which dropout draws, are seeded with what belongs to the seed, the rank and the step.

    Reason: so a checkpoint need not hold their states, of which each rank has its own, and an evaluation or a new data
    loader in between, which draw as well, change nothing.
    """

    class Averager(original):
        def record(self, usetime: float, num_samples: int | None = None) -> None:
            super().record(usetime, num_samples)
            if num_samples is None:  # the time of reading
                seed_step(run, run.accumulate - 1)

    return Averager


def seed_step(run: LoopRun, part: int = 0) -> None:
    """Seed what the next step, or a part of it, draws from. Without workers a thread of this process reads, which seeds
    Python's and NumPy's generators for each image; they are left to it."""
    import paddle

    generator = np.random.Generator(np.random.PCG64((run.seed, rank(), run.monitor.steps, *([part] * (part > 0)))))
    paddle.seed(int(generator.integers(2**31)))
    if run.num_workers:
        seed_globals(generator)


# --------------------------------------------------------------------------------------------
# The place in the epoch
# --------------------------------------------------------------------------------------------
@dataclass
class Place:
    """Where a run is among its epochs.

    Args:
        epoch: that was begun last, from 0; begin: iteration after which it began.
        share: of the run that was done then, as told to the transforms; steps: of an epoch.
    """

    epoch: int
    begin: int
    share: float
    steps: int

    @classmethod
    def resumed(cls, noted: Place | None, start: int, steps: int, share: Callable[[int], float]) -> Place:
        """After `start` iterations, of which a checkpoint has noted the place. Without it, epochs are taken to have
        had `steps` all along. With another number of steps, the epoch continues at the same share of its images."""
        if noted is None:
            begin = start - start % steps
            return cls(start // steps, begin, share(begin), steps)
        done = start - noted.begin
        done = done if noted.steps == steps else done * steps // noted.steps
        return cls(noted.epoch, start - done, noted.share, steps)


def tell_progress(dataset: Any) -> Callable[[float], None]:
    """What to call when an epoch begins: tells the data set's transforms the share of the run that is done, if they ask
    for it."""
    transforms = [
        transform
        for transform in getattr(getattr(dataset, "transforms", None), "transforms", ())
        if hasattr(transform, "set_progress")
    ]

    def tell(share: float) -> None:
        for transform in transforms:
            transform.set_progress(share)

    return tell


def resumed_sampler(run: LoopRun, original: type) -> type:
    """`DistributedBatchSampler` that continues in the epoch in which the run was, after the batches that it had. What
    an epoch's samples depend on is told before the first of them is read, in this process.

    Reason: the loop begins a new epoch when it is resumed, and numbers them from 0, so that the orders of the first
    ones come back. And it tells nobody that an epoch begins.
    """

    class Sampler(original):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            start = run.monitor.start
            run.place = Place.resumed(run.place, start, max(len(self), 1), run.share)
            self.skip = start - run.place.begin
            self.epoch = run.place.epoch

        def __iter__(self) -> Iterator[Any]:  # called when the loader starts, before it reads ahead or forks workers
            skip, self.skip = self.skip, 0
            if skip >= run.place.steps:  # the checkpoint is at the end of an epoch
                self.epoch, skip = self.epoch + 1, 0
            if not skip:
                done = run.monitor.steps
                run.place = Place(self.epoch, done, run.share(done), run.place.steps)
            run.monitor.epoch = self.epoch + 1
            run.begin_epoch(run.place.share)
            if getattr(self.dataset, "draws", None) is not None:
                self.dataset.draws.epoch = self.epoch
            return itertools.islice(super().__iter__(), skip, None)

    return Sampler
