"""Random numbers of a training sample: by the seed, the image and the epoch, and by nothing else."""

from __future__ import annotations

import random
from multiprocessing.sharedctypes import RawArray

import numpy as np


class Draws:
    """One stream of random numbers for each reading of each image of a data set.

    In epoch n, image i draws from a generator seeded with (seed, i, n). So the numbers are the same with any number of
    worker processes, on any rank, in any order of reading and after a resume; workers never repeat each other's, and
    each epoch has numbers of its own.

    Our training tells the `epoch`. Under another loop it is None, and the n-th reading of an image counts as epoch n;
    the counters lie in memory that worker processes share, as the data loader starts new ones in every epoch.

    Args: size: images; seed: None takes it from Python's `random`, which `train --seed` seeds before it builds a data
        set.
    """

    def __init__(self, size: int, seed: int | None = None):
        self.seed = random.getrandbits(32) if seed is None else seed
        self.epoch: int | None = None  # from 0; set before an epoch's loader starts its workers
        self._readings = RawArray("I", max(size, 1))

    def generator(self, index: int) -> np.random.Generator:
        """The generator of the next reading of an image."""
        reading = self.epoch
        if reading is None:
            reading = self._readings[index]
            self._readings[index] = reading + 1
        return np.random.Generator(np.random.PCG64((self.seed, index, reading)))


def seed_globals(generator: np.random.Generator) -> None:
    """Seed `random` and `numpy.random`, from which PaddleSeg's own transforms draw."""
    random.seed(int(generator.integers(2**63)))
    np.random.seed(int(generator.integers(2**32)))


def generator_of_globals() -> np.random.Generator:
    """A generator seeded by NumPy's global one: how our transforms draw where PaddleSeg's `Compose` calls them."""
    return np.random.Generator(np.random.PCG64(np.random.randint(0, 2**31, 4).tolist()))
