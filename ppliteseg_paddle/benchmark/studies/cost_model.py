"""What a training step is predicted to cost, from what it computes and keeps, and how measured costs grow.

Time: a part that is always the same, one for the multiply-adds of the convolutions, and one for the values that the
losses compare. Memory: a part that is always the same, one for the maps that are kept for the backward pass, and one
for what the losses hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

COUNTED_SIDE = 128  # pixels of the image that is counted; what grows with the image grows in proportion
FLOAT = 4  # bytes
# of a cost: what it is made of, the constant part first (see `work`)
TERMS = {"seconds": ("fixed", "macs", "loss_values"), "mib": ("fixed", "map_mib", "loss_mib")}


class Point(NamedTuple):
    """A training step of PP-LiteSeg-T with this many levels, on images of (height, width)."""

    size: tuple[int, int] = (256, 384)
    batch: int = 2
    classes: int = 11
    levels: int = 3

    @property
    def pixels(self) -> int:
        """Of one image."""
        return self.size[0] * self.size[1]


def work(point: Point, counted: Mapping[str, int], threads: int) -> dict[str, float]:
    """What a step computes and keeps, by the names in `TERMS`.

    macs: of all convolutions, forward, and for the gradients of weights and maps; loss_values: pixels times classes, of
    all outputs; map_mib: results of convolutions and of batch norm; loss_mib: an upsampled image of all classes in each
    thread, and for each output the gradient at full width (see `losses.upsampled_softmax`) and the logits.

    Args: counted: `complexity.in_training` of an image of `COUNTED_SIDE`.
    """
    scale = point.batch * point.pixels / COUNTED_SIDE**2
    height, width = point.size
    strides = [2**n for n in range(6 - point.levels, 6)]  # the deepest is 32
    small = sum(height // stride * (width + 2 * (width // stride)) for stride in strides)
    upsampled = min(threads, point.batch) * point.pixels
    return {
        "fixed": 1.0,
        "macs": 3.0 * counted["macs"] * scale,
        "loss_values": float(point.batch * point.pixels * point.classes * point.levels),
        "map_mib": FLOAT * counted["outputs"] * scale / 2**20,
        "loss_mib": FLOAT * point.classes * (upsampled + point.batch * small) / 2**20,
    }


def fit(parts: Sequence[Sequence[float]], costs: Sequence[float]) -> list[float]:
    """Factors, none below 0, whose sums of `parts` are closest to `costs`, in proportion to these.

    Shape: parts (points, terms).
    """
    values, wanted = np.asarray(parts, float), np.asarray(costs, float)
    relative = values / wanted[:, None]
    terms = values.shape[1]
    best, smallest = np.zeros(terms), np.inf
    # The best of the sets of terms that need no factor below 0: there are few terms.
    for count in range(1, terms + 1):
        for chosen in itertools.combinations(range(terms), count):
            scale = relative[:, chosen].max(axis=0) + 1e-300  # terms are of very different sizes
            found, *_ = np.linalg.lstsq(relative[:, chosen] / scale, np.ones(len(wanted)), rcond=None)
            factors = np.zeros(terms)
            factors[list(chosen)] = found / scale
            distance = float(((relative @ factors - 1) ** 2).sum())
            if (found >= 0).all() and distance < smallest:
                best, smallest = factors, distance
    return [float(factor) for factor in best]


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """p of the y = c * x ** p that fits best: 1 is in proportion, below 1 slower."""
    slope: float = np.polyfit(np.log(xs), np.log(ys), 1)[0]
    return float(slope)


def growth(xs: Sequence[float], ys: Sequence[float]) -> dict[str, float]:
    """`exponent` over all points, and between the two largest, where the constant part matters little."""
    return {"overall": exponent(xs, ys), "last": exponent(xs[-2:], ys[-2:])}


def predicted(rows: Sequence[Mapping[str, Any]], cost: str, fitted: Sequence[bool]) -> tuple[dict[str, float], list]:
    """Fit `cost` ("seconds" or "mib") to some of the rows, and predict all.

    Args: rows: with "work" and `cost`; fitted: whether a row takes part in the fit.
    Returns: the factor of each term; the prediction for each row.
    """
    names = TERMS[cost]
    parts = [[row["work"][name] for name in names] for row in rows]
    chosen = [i for i, used in enumerate(fitted) if used]
    factors = fit([parts[i] for i in chosen], [rows[i][cost] for i in chosen])
    return dict(zip(names, factors)), [float(np.dot(part, factors)) for part in parts]
