"""Random choices at the price of a list look-up.

A scene makes several thousand small choices. A call of `numpy.random.Generator` costs about as much
as drawing a polygon, so the numbers are drawn in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 2048


class Rng:
    """A stream of choices. The same generator state gives the same choices."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._block: list = []

    def unit(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(_BLOCK).tolist()
        return self._block.pop()

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def bell(self, mean: float, spread: float) -> float:
        """Near-normal: the mean of three uniform numbers, never further than 3 * `spread` from `mean`."""
        return mean + spread * 2.0 * (self.unit() + self.unit() + self.unit() - 1.5)

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self.unit() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.unit() * len(items))]

    def weighted(self, table: dict[T, float]) -> T:
        """A key of `table`, with odds in proportion to its values."""
        rest = self.unit() * sum(table.values())
        for key, weight in table.items():
            rest -= weight
            if rest < 0:
                return key
        return key

    def side(self) -> int:
        return 1 if self.unit() < 0.5 else -1

    def color(self, base: Sequence[float] | np.ndarray, spread: float) -> np.ndarray:
        """`base` (BGR, 0-255) with a change of brightness and a smaller one of hue."""
        gain = 1.0 + self.between(-spread, spread)
        return np.array([min(255.0, max(3.0, c * gain * (1.0 + self.between(-spread, spread) * 0.35))) for c in base])
