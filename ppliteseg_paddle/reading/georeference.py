"""Where a TIFF's pixels lie on Earth, by its tags: a transformation of pixels into coordinates, and what these are.

Source: OGC GeoTIFF 1.1, sections 7.2 (pixels are areas or points) and 7.4 (tie points, scale, transformation).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.reading.rasters import geo_tags

_SCALE, _TIE_POINTS, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072
_PIXEL_IS_POINT, _MODEL_GEOGRAPHIC = 2, 2
_USER_DEFINED = 32767
WGS84 = 4326


class Georeference(NamedTuple):
    """Args: matrix: (2, 3) float64, brings (x, y, 1) in pixels from the image's upper left corner, y downwards, to
    coordinates: easting and northing, or longitude and latitude; epsg: the code of their reference system, None if the
    file does not say it by a code."""

    matrix: NDArray[np.float64]
    epsg: int | None

    @property
    def is_wgs84(self) -> bool:
        return self.epsg == WGS84

    @property
    def name(self) -> str:
        return "an unnamed reference system" if self.epsg is None else f"EPSG:{self.epsg:d}"

    def coordinates(self, vertices: NDArray[Any]) -> NDArray[np.float64]:
        """Coordinates, rounded to about a millionth of a pixel. Shape: vertices (N, 2), x and y; returns (N, 2)."""
        pixel = np.abs(self.matrix[:, :2]).max()
        decimals = max(0, int(np.ceil(6 - np.log10(pixel))))
        exact: NDArray[np.float64] = vertices @ self.matrix[:, :2].T + self.matrix[:, 2]
        return exact.round(decimals)


def georeference(path: str) -> Georeference | None:
    """What an image's tags say; None for an image that is no TIFF, or whose tags give no transformation: only control
    points, or damaged values."""
    try:
        tags = {tag[0]: np.ravel(tag[3]) for tag in geo_tags(path) if tag[0] in (_SCALE, _TIE_POINTS, _TRANSFORMATION)}
        keys = _keys(next((np.ravel(tag[3]) for tag in geo_tags(path) if tag[0] == _KEYS), np.zeros(0, int)))
        matrix = _matrix(tags)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    if matrix is None or not np.isfinite(matrix).all() or not np.linalg.det(matrix[:, :2]):
        return None
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # tags count from the center of the first pixel
        matrix[:, 2] -= matrix[:, :2].sum(axis=1) / 2
    code = keys.get(_GEOGRAPHIC if keys.get(_MODEL_TYPE) == _MODEL_GEOGRAPHIC else _PROJECTED, 0)
    return Georeference(matrix, code if 0 < code < _USER_DEFINED else None)


def _matrix(tags: dict[int, NDArray[Any]]) -> NDArray[np.float64] | None:
    if _TRANSFORMATION in tags:
        whole = tags[_TRANSFORMATION].astype(np.float64).reshape(4, 4)
        return whole[:2][:, [0, 1, 3]].copy()
    if _SCALE in tags and _TIE_POINTS in tags:
        right, down = tags[_SCALE].astype(np.float64)[:2]
        column, row, _, x, y, _ = tags[_TIE_POINTS].astype(np.float64)[:6]
        return np.array([[right, 0, x - column * right], [0, -down, y + row * down]])
    return None


def _keys(directory: NDArray[Any]) -> dict[int, int]:
    """Keys whose values stand in the directory itself."""
    rows = directory[4 : 4 + 4 * int(directory[3])].reshape(-1, 4) if len(directory) >= 4 else np.zeros((0, 4), int)
    return {int(key): int(value) for key, place, _, value in rows if place == 0}
