"""Run lengths are those of pycocotools, which opens the files, too."""

import json

import numpy as np
import pytest

from ppliteseg_paddle.visual.coco import bounding_box, coco_image, join_coco, rle

official = pytest.importorskip("pycocotools.mask", reason="comes with the extra 'data'")


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
    from pycocotools.coco import COCO

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


def test_planes_have_an_annotation_each_that_may_overlap():
    planes = np.random.default_rng(0).integers(0, 2, (9, 12, 3)).astype(np.uint8)
    planes[..., 1] = 0
    found = coco_image("a.png", planes, ["sky", "empty", "tree"])["annotations"]
    assert [(row["id"], row["category_id"], row["area"]) for row in found] == [
        (1, 0, planes[..., 0].sum()),
        (2, 2, planes[..., 2].sum()),
    ]
    for row in found:
        np.testing.assert_array_equal(official.decode(row["segmentation"]), planes[..., row["category_id"]])
