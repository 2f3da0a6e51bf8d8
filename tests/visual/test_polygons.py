"""Polygons enclose exactly the pixels of their regions; run lengths are those of pycocotools."""

import json

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pycocotools import mask as official
from pycocotools.coco import COCO

from ppliteseg_paddle.visual.areas import class_areas
from ppliteseg_paddle.visual.coco import bounding_box, coco_image, join_coco, rle
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


@pytest.mark.parametrize("density", [0, 0.02, 0.5, 0.98, 1])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (31, 57), (700, 900)])
def test_run_lengths_are_those_of_pycocotools(shape, density):
    region = np.random.default_rng(0).random(shape) < density
    theirs = official.encode(np.asfortranarray(region.astype(np.uint8)))
    assert rle(region) == {"size": list(shape), "counts": theirs["counts"].decode()}
    if region.any():
        assert bounding_box(region) == official.toBbox(theirs).tolist()


def test_coco_files_open_in_pycocotools(tmp_path):
    masks = {name: np.random.default_rng(i).integers(0, 4, (9 + i, 12)).astype(np.uint8) for i, name in enumerate("ab")}
    masks["c"] = np.full((5, 5), 255, np.uint8)
    paths = []
    for name, mask in masks.items():
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(coco_image(f"{name}.jpg", mask, ["void", "cat", "dög"], omitted=[0])), "utf-8")
    join_coco(map(str, paths), ["void", "cat", "dög"], str(tmp_path / "all.json"))
    coco = COCO(str(tmp_path / "all.json"))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == ["void", "cat", "dög"]
    assert [row["file_name"] for row in coco.loadImgs(coco.getImgIds())] == ["a.jpg", "b.jpg", "c.jpg"]
    for number, mask in enumerate(masks.values(), 1):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [row["category_id"] for row in found] == [value for value in (1, 2) if (mask == value).any()]
        for row in found:
            np.testing.assert_array_equal(coco.annToMask(row), mask == row["category_id"])
            assert row["area"] == (mask == row["category_id"]).sum()
    assert coco.loadRes(coco.dataset["annotations"]).getAnnIds() == [1, 2, 3, 4]


def test_areas_count_classes_and_nothing_else():
    mask = np.random.default_rng(0).choice([0, 1, 2, 255], (1100, 7)).astype(np.uint8)
    assert class_areas(mask, 3).tolist() == [(mask == value).sum() for value in range(3)]
    planes = np.stack([mask == 0, mask < 2], axis=-1).astype(np.uint8)
    assert class_areas(planes, 2).tolist() == [(mask == 0).sum(), (mask < 2).sum()]
