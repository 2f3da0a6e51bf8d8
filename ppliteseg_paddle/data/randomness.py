"""Random numbers that depend on the seed, the image and how often it has been read, and on nothing else."""

from __future__ import annotations

import random
from multiprocessing.sharedctypes import RawArray

import numpy as np


class Draws:
    """One stream of random numbers for each reading of each image of a data set.

    The n-th reading of image i draws from a generator seeded with (seed, i, n). So the numbers are the same with any
    number of worker processes and in any order of reading, workers never repeat each other's, and each epoch has
    numbers of its own.
    The counters lie in memory that worker processes share: the data loader starts new ones in every epoch, and what a
    worker keeps for itself is lost.

    Args: size: images; seed: None takes it from Python's `random`, which `train --seed` seeds before it builds a data
        set.
    """

    def __init__(self, size: int, seed: int | None = None):
        self.seed = random.getrandbits(32) if seed is None else seed
        self._readings = RawArray("I", max(size, 1))

    def generator(self, index: int) -> np.random.Generator:
        """The generator of the next reading of an image."""
        reading = self._readings[index]
        self._readings[index] = reading + 1
        return np.random.Generator(np.random.PCG64((self.seed, index, reading)))

    def resume_from(self, epochs: int) -> None:
        """Count on as if every image had been read `epochs` times: for a run that is resumed."""
        for index in range(len(self._readings)):
            self._readings[index] = epochs


def seed_globals(generator: np.random.Generator) -> None:
    """Seed `random` and `numpy.random`, from which PaddleSeg's own transforms draw."""
    random.seed(int(generator.integers(2**63)))
    np.random.seed(int(generator.integers(2**32)))
