"""Masks as GeoJSON (RFC 7946): the outlines of their regions, in the image's coordinates on Earth, or in pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from ppliteseg_paddle.reading.georeference import Georeference
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.visual.polygons import Polygon, polygons


def geojson(mask: np.ndarray, labels: LabelSet, omitted: Iterable[int] = (), place: Georeference | None = None) -> str:
    """A feature for each region of a class, connected by sides of pixels: a Polygon with `class_id`, `class`, `pixels`.

    RFC 7946 knows WGS 84 only. For anything else the member `crs` of GeoJSON 2008 says what coordinates are, as GDAL
    and QGIS write and read it: null for pixels (x to the right and y downwards from the upper left corner), and where
    the image does not name its reference system; GDAL takes these for WGS 84. `coordinates_in` says it in words.

    Args: omitted: class ids without features; place: of a georeferenced image.
    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes) of 0 and 1.
    Returns: the file's text, a feature a line.
    """
    hidden = set(omitted)
    ids = [number for number in range(labels.num_classes) if number not in hidden]
    if mask.ndim == 2:
        found = [(polygon.value, polygon) for polygon in polygons(mask, ids)]
    else:
        found = [(number, polygon) for number in ids for polygon in polygons(mask[..., number], [1])]
    features = [
        {
            "type": "Feature",
            "properties": {"class_id": number, "class": labels.classes[number], "pixels": polygon.pixels},
            "geometry": {"type": "Polygon", "coordinates": _coordinates(polygon, place)},
        }
        for number, polygon in found
    ]
    start = {"type": "FeatureCollection", **_system(place)}
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    return f'{json.dumps(start)[:-1]}, "features": [\n{lines}\n]}}\n'


def _system(place: Georeference | None) -> dict[str, Any]:
    """What the coordinates are."""
    if place is None:
        return {"crs": None, "coordinates_in": "pixels"}
    if place.is_wgs84:
        return {"coordinates_in": place.name}
    if place.epsg is None:
        return {"crs": None, "coordinates_in": place.name}
    name = f"urn:ogc:def:crs:EPSG::{place.epsg:d}"
    return {"crs": {"type": "name", "properties": {"name": name}}, "coordinates_in": place.name}


def _coordinates(polygon: Polygon, place: Georeference | None) -> list[Any]:
    """Closed rings, the outline counterclockwise and holes clockwise in the coordinates, as RFC 7946 has it."""
    rings = []
    for ring in (polygon.outline, *polygon.holes):
        closed = np.array([*ring, ring[0]])
        if place is not None:
            mirrored = np.linalg.det(place.matrix[:, :2]) < 0
            closed = place.coordinates(closed)[:: -1 if mirrored else 1]
        rings.append(closed.tolist())
    return rings
