"""Checks of arguments that several transforms take. Each raises ConfigError, in one line, for what is not allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.errors import ConfigError


def pair(size) -> tuple[int, int]:
    good = (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in size)
    )
    if not good:
        raise ConfigError(f"crop_size is {size!r}: give [width, height] in pixels.")
    return int(size[0]), int(size[1])


def later_sizes(later) -> list[tuple[float, tuple[int, int]]]:
    steps = list(later) if isinstance(later, (list, tuple)) else [later]
    if any(not isinstance(step, (list, tuple)) or len(step) != 2 for step in steps):
        raise ConfigError(f"later_crop_sizes is {later!r}: give pairs such as [[0.75, [480, 360]]].")
    sizes = [(share("the share in later_crop_sizes", begin), pair(size)) for begin, size in steps]
    if sizes != sorted(sizes, key=lambda step: step[0]):
        raise ConfigError(f"later_crop_sizes is {later!r}: give the shares in rising order.")
    return sizes


def share(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value!r}: give a number from 0 to 1.")
    return float(value)


def scales(low, high, step) -> tuple[float, float, np.ndarray | None]:
    """(lowest, highest, the steps between them or None). The steps are PaddleSeg's, end points included."""
    if not 0 < low <= high or step < 0:
        raise ConfigError(
            f"scales from {low!r} to {high!r} in steps of {step!r}: 0 < min_scale_factor <= max_scale_factor, and no "
            "negative step."
        )
    if low == high:
        return low, high, np.array([low])
    return low, high, np.linspace(low, high, int((high - low) / step + 1)) if step else None


def class_ids(ids: Sequence[Any]) -> tuple[int, ...]:
    good = isinstance(ids, (list, tuple)) and all(
        isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in ids
    )
    if not good:
        raise ConfigError(f"rare_classes is {ids!r}: give a list of class ids.")
    return tuple(ids)
