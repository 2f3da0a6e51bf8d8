"""Points of time against accuracy: which of them nothing beats, which fits a budget best, which need no measurement.

Accuracy is known in part only: published figures of some input scales in FP32. A point is as accurate as another where
that follows from what is known: the same network with an input that is no smaller, or a published figure that is no
lower. INT8 counts as one mIoU point less than FP32, the most that `export` lets it lose, and BF16 as a fifth of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ppliteseg_paddle.export.int8.accuracy import MAX_LOST_POINTS

# A point so many times slower than the budget ends its series: larger inputs are not measured.
LIMIT = 3.0
# A runtime so many times slower than another on a smaller input is not measured on larger ones.
MARGIN = 1.3

# mIoU points that a precision may lose. What was measured of BF16 (docs/performance.md) is well below.
LOST = {"fp32": 0.0, "bf16": 0.2, "int8": MAX_LOST_POINTS}

# Network -> scale of the input -> mIoU in percent.
Figures = Mapping[str, Mapping[float, float]]


@dataclass(frozen=True)
class Point:
    """A network at an input size, in a precision, on a runtime.

    Args: scale: the input's share of the image's sides; size: (height, width) of the input.
    """

    network: str
    scale: float
    size: tuple[int, int]
    precision: str
    backend: str

    @property
    def name(self) -> str:
        """Its input is told as width x height."""
        return f"{self.network} {self.size[1]}x{self.size[0]} {self.precision} {self.backend}"

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


@dataclass(frozen=True)
class Ranking:
    """Compares measured points.

    Args:
        ms: milliseconds of each measured point; figures: what is published; networks: from the smallest to the largest.
    """

    ms: Mapping[Point, float]
    figures: Figures
    networks: Sequence[str]

    def front(self) -> list[Point]:
        """The points that no other beats, the fastest first."""
        kept = [point for point in self.ms if not any(self.beats(other, point) for other in self.ms)]
        return sorted(kept, key=lambda point: self.ms[point])

    def best(self, budget: float) -> Point | None:
        """The most accurate point of the front within the budget, in ms; None if nothing fits.

        Points without a figure come after those with one, in the order of their input's size; then the larger network,
        the precision that loses less, and the faster point come first.
        """
        within = [point for point in self.front() if self.ms[point] <= budget]
        return max(within, key=self._rank, default=None)

    def fastest(self) -> Point:
        return min(self.ms, key=lambda point: self.ms[point])

    def beats(self, one: Point, other: Point) -> bool:
        """Whether `one` is no slower and as accurate, and better in one of the two."""
        if self.ms[one] > self.ms[other] or not self.as_accurate(one, other):
            return False
        return self.ms[one] < self.ms[other] or not self.as_accurate(other, one)

    def as_accurate(self, one: Point, other: Point) -> bool:
        """Whether it is known that `one` is at least as accurate as `other`."""
        loses = LOST[one.precision] > LOST[other.precision]
        if one.network == other.network and one.pixels >= other.pixels and not loses:
            return True
        lowest, highest = self._bounds(one)[0], self._bounds(other)[1]
        return lowest - (LOST[one.precision] if loses else 0.0) >= highest

    def _bounds(self, point: Point) -> tuple[float, float]:
        """Between which figures the network's mIoU in FP32 lies: it grows with the input."""
        known = self.figures.get(point.network, {})
        below = [miou for scale, miou in known.items() if scale <= point.scale]
        above = [miou for scale, miou in known.items() if scale >= point.scale]
        return max(below, default=-math.inf), min(above, default=math.inf)

    def _rank(self, point: Point) -> tuple[float, int, int, float, float]:
        lost = LOST[point.precision]
        miou = self._bounds(point)[0] - lost
        return miou, point.pixels, self.networks.index(point.network), -lost, -self.ms[point]


def reason_to_skip(point: Point, ms: Mapping[Point, float], budget: float, networks: Sequence[str]) -> str | None:
    """Why a point needs no measurement, by those that were measured; None if it does.

    Args: budget: in ms; networks: from the smallest to the largest.
    """
    smaller = [other for other in ms if other.precision == point.precision and _is_smaller(other, point, networks)]
    for other in smaller:
        if other.backend == point.backend and ms[other] > LIMIT * budget:
            return f"{other.name} took {ms[other]:.0f} ms already"
    for other in smaller:
        rivals = [
            rival
            for rival in smaller
            if (rival.network, rival.size) == (other.network, other.size) and MARGIN * ms[rival] < ms[other]
        ]
        if other.backend == point.backend and rivals:
            fastest = min(rivals, key=lambda rival: ms[rival])
            return f"{fastest.name} was {ms[other] / ms[fastest]:.1f} times as fast as {other.backend}"
    return None


def _is_smaller(one: Point, other: Point, networks: Sequence[str]) -> bool:
    """Whether `one` takes less time than `other` on the same runtime, in the same precision."""
    if networks.index(one.network) > networks.index(other.network) or one.pixels > other.pixels:
        return False
    return (one.network, one.pixels) != (other.network, other.pixels)
