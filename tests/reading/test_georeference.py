"""Where pixels lie on Earth, by a TIFF's tags."""

import numpy as np
import pytest
from rasters import GEO_TAGS, save, values

from ppliteseg_paddle.reading.georeference import georeference

SCALE = (33550, "d", 3, (0.5, 0.25, 0.0), True)
TIE = (33922, "d", 6, (2.0, 4.0, 0.0, 10.0, 50.0, 0.0), True)  # pixel (2, 4) is at 10 E, 50 N
TURNED = (34264, "d", 16, (0.0, -2.0, 0.0, 100.0, -2.0, 0.0, 0.0, 200.0, *(0.0,) * 7, 1.0), True)


def keys(*rows):
    numbers = (1, 1, 0, len(rows), *(number for key, value in rows for number in (key, 0, 1, value)))
    return (34735, "H", len(numbers), numbers, True)


def place(tmp_path, *tags):
    return georeference(save(tmp_path / "a.tif", values(3, "8"), extratags=list(tags)))


@pytest.mark.parametrize(
    "tags, epsg, corner, other",
    [
        (GEO_TAGS, 32633, (500000, 4600000), (500030, 4599980)),
        ([SCALE, TIE, keys((1024, 2), (2048, 4326))], 4326, (9, 51), (10.5, 50.5)),
        ([SCALE, TIE, keys((1024, 2), (1025, 2), (2048, 4326))], 4326, (8.75, 51.125), (10.25, 50.625)),
        ([TURNED, keys((1024, 1), (3072, 2056))], 2056, (100, 200), (96, 194)),
        ([SCALE, TIE, keys((1024, 1), (3072, 32767))], None, (9, 51), (10.5, 50.5)),
        ([SCALE, TIE], None, (9, 51), (10.5, 50.5)),
    ],
    ids=["projected", "geographic", "pixels are points", "turned", "user-defined", "no keys"],
)
def test_pixels_get_the_coordinates_that_the_tags_say(tmp_path, tags, epsg, corner, other):
    found = place(tmp_path, *tags)
    assert found.epsg == epsg and found.is_wgs84 == (epsg == 4326)
    np.testing.assert_array_equal(found.coordinates(np.array([(0, 0), (3, 2)])), [corner, other])


@pytest.mark.parametrize(
    "tags",
    [[], [TIE], [(33550, "d", 3, (0.0, 0.0, 0.0), True), TIE], [(33550, "d", 3, (float("nan"), 1.0, 0.0), True), TIE]],
    ids=["none", "only a tie point", "no extent", "no number"],
)
def test_tags_without_a_transformation_give_none(tmp_path, tags):
    assert place(tmp_path, *tags) is None
    assert georeference(save(tmp_path / "a.png", values(3, "8"))) is None


def test_coordinates_are_as_fine_as_pixels_need(tmp_path):
    fine = place(tmp_path, (33550, "d", 3, (1 / 3e7, 1 / 3e7, 0.0), True), TIE)
    columns = fine.coordinates(np.stack([np.arange(9), np.zeros(9)], axis=1))[:, 0]
    np.testing.assert_allclose(np.diff(columns) * 3e7, 1, atol=3e-6)
    assert place(tmp_path, *GEO_TAGS).coordinates(np.array([(1, 1)])).tolist() == [[500010.0, 4599990.0]]
