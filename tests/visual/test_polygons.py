"""Polygons enclose exactly the pixels of their regions; areas count them."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from ppliteseg_paddle.visual.areas import class_areas
from ppliteseg_paddle.visual.polygons import polygons


def filled(rings, shape):
    """Pixels whose centers lie within an odd number of rings, by matplotlib. Returns (H, W) bool."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    centers = np.stack([columns.ravel(), rows.ravel()], axis=1)
    inside = np.zeros(len(centers), bool)
    for ring in rings:
        inside ^= Outline([*ring, ring[0]]).contains_points(centers)
    return inside.reshape(shape)


def area(ring):
    """Signed, by the trapezoid formula."""
    x, y = np.array([*ring, ring[0]], float).T
    return float(np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2))


def parts(region):
    """How many parts of a region are connected by sides, by filling one after the other."""
    left, count = set(map(tuple, np.argwhere(region))), 0
    while left:
        count, way = count + 1, [left.pop()]
        while way:
            row, column = way.pop()
            for beside in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if beside in left:
                    left.remove(beside)
                    way.append(beside)
    return count


@pytest.mark.parametrize("seed", range(40))
def test_polygons_drawn_again_give_the_mask(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 15, 2))
    mask = rng.integers(0, 2 + seed % 3, shape).astype(np.uint8)
    if seed % 4 == 0:
        mask = np.kron(mask, np.ones((2, 3), np.uint8))
    drawn = np.full(mask.shape, 9, np.uint8)
    found = polygons(mask, [0, 1, 3])
    for value, outline, holes, pixels in found:
        region = filled([outline, *holes], mask.shape)
        assert (drawn[region] == 9).all() and region.sum() == pixels  # no overlap
        drawn[region] = value
        assert area(outline) > 0 and all(area(hole) < 0 for hole in holes)
        assert area(outline) + sum(map(area, holes)) == pixels
        for ring in (outline, *holes):
            assert len(set(ring)) == len(ring) >= 4
    np.testing.assert_array_equal(drawn, np.where(mask == 2, 9, mask))
    assert [sum(polygon.value == value for polygon in found) for value in (0, 1, 3)] == [
        parts(mask == value) for value in (0, 1, 3)
    ]


def test_a_hole_that_touches_the_outline_in_a_vertex_is_a_hole():
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0]], np.uint8)
    (region,) = polygons(mask, [1])
    assert [sorted(hole) for hole in region.holes] == [[(1, 1), (1, 2), (2, 1), (2, 2)]]
    assert sorted(region.outline) == [(0, 0), (0, 3), (2, 2), (2, 3), (4, 0), (4, 2)]


def test_a_mask_without_the_values_has_no_polygons():
    assert polygons(np.zeros((2, 3), np.uint8), [1]) == []
    assert [region.pixels for region in polygons(np.full((1, 1), 299, np.uint16), [299])] == [1]


def test_areas_count_classes_and_nothing_else():
    mask = np.random.default_rng(0).choice([0, 1, 2, 255], (1100, 7)).astype(np.uint8)
    for values in (mask, mask.astype(np.uint16), mask[:, ::-1]):
        assert class_areas(values, 3).tolist() == [(mask == value).sum() for value in range(3)]
    assert class_areas(mask, 300).tolist() == [(mask == value).sum() for value in range(300)]
    planes = np.stack([mask == 0, mask < 2], axis=-1).astype(np.uint8)
    assert class_areas(planes, 2).tolist() == [(mask == 0).sum(), (mask < 2).sum()]
