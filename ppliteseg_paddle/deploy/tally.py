"""How many pixels of predictions each class has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.visual.areas import class_areas


class Tally:
    """Counts the pixels of each class, and those that are called unknown.

    Args: predictor: a `Predictor`, or what has its `label_set`, `backend` and `predict`.
    """

    def __init__(self, predictor: Any) -> None:
        self._classes = predictor.label_set.classes
        self._value = predictor.unknown_id if getattr(predictor, "unknown_below", None) is not None else None
        self._unknown = self._pixels = 0
        self._areas = np.zeros(len(self._classes), np.int64)

    def add(self, mask: NDArray[Any]) -> dict[str, float]:
        """Count a mask (H, W), or planes (H, W, classes).

        Returns: the share of its pixels that each class has that is there, by name.
        """
        pixels, areas = mask.shape[0] * mask.shape[1], class_areas(mask, len(self._classes))
        self._pixels += pixels
        self._areas += areas
        if self._value is not None:
            self._unknown += int((mask == self._value).sum())
        return {self._classes[number]: round(int(areas[number]) / pixels, 6) for number in np.flatnonzero(areas)}

    def unknown(self) -> dict[str, Any] | None:
        """The value of unknown pixels and their share; None where every pixel has a class."""
        if self._value is None:
            return None
        return {"id": self._value, "share": round(self._unknown / max(self._pixels, 1), 6)}

    def area(self) -> dict[str, dict[str, Any]]:
        """Pixels of each class, and their share of all."""
        return {
            name: {"pixels": pixels, "share": round(pixels / max(self._pixels, 1), 6)}
            for name, pixels in zip(self._classes, self._areas.tolist())
        }
