"""LabelMe's and COCO's annotations become masks of class ids."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny_data import save_pixels

from ppliteseg_paddle.data.prepare.annotations import Coco, labelme_label
from ppliteseg_paddle.data.prepare.folder import Sources, plan_folder
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading import limits
from ppliteseg_paddle.reading.images import read_image

QUIET = dict(num_workers=0, progress=False)


def folder_of_images(tmp_path, names, size=(40, 30)):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in names:
        save_pixels(folder / name, np.zeros((size[1], size[0], 3), np.uint8))
    return folder


def test_labelme_shapes_are_drawn_in_their_order(tmp_path):
    images = folder_of_images(tmp_path, ["a.png"])
    stored = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)).save(stored, "PNG")
    shapes = [
        {"label": "car", "points": [[5, 5], [20, 5], [20, 20], [5, 20]], "shape_type": "polygon"},
        {"label": "road", "points": [[10, 10], [12, 12]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[30, 20], [33, 20]], "shape_type": "circle"},
        {
            "label": "car",
            "points": [[0, 0], [1, 1]],
            "shape_type": "mask",
            "mask": base64.b64encode(stored.getvalue()).decode(),
        },
    ]
    (images / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    plan = plan_folder(Sources(str(images), str(images)), **QUIET)
    assert plan.names == ("background", "car", "road")
    label = plan.make(plan.pairing.pairs[0])
    assert label.shape == (30, 40)
    assert (label[5, 5], label[20, 20], label[21, 21], label[11, 11], label[20, 30], label[29, 39]) == (
        1,
        1,
        0,
        2,
        255,
        0,
    )
    assert label[:2, :2].tolist() == [[1, 0], [0, 1]]
    assert (label == 2).sum() == 9


def test_labelme_labels_of_a_rotated_photograph_fit_the_image_as_training_reads_it(tmp_path):
    images, exif = folder_of_images(tmp_path, []), Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: stored 40x30, shown 30x40
    Image.new("RGB", (40, 30)).save(images / "a.png", exif=exif)
    shape = {"label": "car", "points": [[0, 0], [10, 35]], "shape_type": "rectangle"}
    (images / "a.json").write_text(json.dumps({"shapes": [shape]}))
    plan = plan_folder(Sources(str(images), str(images)), **QUIET)
    label = plan.make(plan.pairing.pairs[0])
    assert label.shape == read_image(str(images / "a.png")).shape[:2] == (40, 30)
    assert label[35, 10] == 1 and label[36, 10] == 0


@pytest.mark.parametrize(
    "shape, words",
    [
        ({"label": "a", "points": [[0, 0]], "shape_type": "polygon"}, "a polygon of 'a' has 1 points; it needs 3"),
        ({"label": "a", "points": [], "shape_type": "star"}, "unknown shape type 'star'"),
        (
            {"label": "a", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "!"},
            "the stored mask of 'a' cannot be decoded",
        ),
    ],
)
def test_broken_labelme_shapes_are_reported_with_their_file(tmp_path, shape, words):
    images = folder_of_images(tmp_path, ["a.png"])
    (images / "a.json").write_text(json.dumps({"shapes": [shape]}))
    plan = plan_folder(Sources(str(images), str(images)), **QUIET)
    with pytest.raises(DataError) as caught:
        plan.make(plan.pairing.pairs[0])
    assert words in str(caught.value) and "a.json" in str(caught.value)


def coco(tmp_path, annotations, **more):
    path = tmp_path / "coco.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 5, "file_name": "a.png", "width": 40, "height": 30}],
                "annotations": annotations,
                "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
                **more,
            }
        )
    )
    return str(path)


def test_coco_instances_lie_on_a_background_smaller_ones_on_top(tmp_path):
    images = folder_of_images(tmp_path, ["a.png", "b.png"])
    square = lambda x, y, side: [[x, y, x + side, y, x + side, y + side, x, y + side]]  # noqa: E731
    annotations = [
        {
            "id": 1,
            "image_id": 5,
            "category_id": 18,
            "segmentation": square(8, 8, 4),
            "area": 16,
            "iscrowd": 0,
            "bbox": [8, 8, 4, 4],
        },
        {
            "id": 2,
            "image_id": 5,
            "category_id": 3,
            "segmentation": square(4, 4, 16),
            "area": 256,
            "iscrowd": 0,
            "bbox": [4, 4, 16, 16],
        },
        {
            "id": 3,
            "image_id": 5,
            "category_id": 3,
            "segmentation": {"size": [30, 40], "counts": [0, 60, 1140]},
            "area": 60,
            "iscrowd": 1,
            "bbox": [0, 0, 2, 30],
        },
    ]
    plan = plan_folder(Sources(str(images), annotations=coco(tmp_path, annotations)), **QUIET)
    assert plan.names == ("background", "car", "dog")
    label = plan.make(plan.pairing.pairs[0])
    assert (label[10, 10], label[5, 5], label[29, 39]) == (2, 1, 0)
    assert ((label == 255).sum(), (label == 2).sum(), (label == 1).sum()) == (60, 16, 240)
    assert [path.split("/")[-1] for path in plan.pairing.images_alone] == ["b.png"]


def test_coco_panoptic_segments_become_their_categories(tmp_path):
    images, masks = folder_of_images(tmp_path, ["a.png"], (2, 2)), tmp_path / "masks"
    masks.mkdir()
    segment = 7 + 256 * 2 + 65536
    save_pixels(masks / "a_pan.png", np.array([[[7, 2, 1], [0, 0, 0]], [[9, 0, 0], [9, 0, 0]]], np.uint8))
    annotations = [
        {
            "image_id": 5,
            "file_name": "a_pan.png",
            "segments_info": [{"id": segment, "category_id": 18}, {"id": 9, "category_id": 3}],
        }
    ]
    plan = plan_folder(Sources(str(images), str(masks), coco(tmp_path, annotations)), **QUIET)
    assert (plan.names, plan.palette) == (("car", "dog"), ())
    assert plan.make(plan.pairing.pairs[0]).tolist() == [[1, 255], [0, 0]]

    content = json.loads((tmp_path / "coco.json").read_text())
    for category in content["categories"]:
        category["color"] = [category["id"], 0, 255]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    plan = plan_folder(Sources(str(images), str(masks), str(tmp_path / "coco.json")), **QUIET)
    assert plan.palette == ((3, 0, 255), (18, 0, 255))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"annotations": [1.5]}, "annotations.0 is no COCO annotation"),
        (
            {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "area": "x", "segmentation": []}]},
            "see its 'area'",
        ),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 60000, "width": 60000}]}, "pixels allowed"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 10**30, "width": 1}]}, "see its 'height'"),
    ],
)
def test_coco_files_of_another_form_are_refused_with_the_place(tmp_path, change, words):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}],
        "annotations": [],
        "categories": [{"id": 1, "name": "car"}],
        **change,
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        Coco(str(tmp_path / "c.json"))


@pytest.mark.parametrize("points", [None, [[1]], [["a", 2]], [[float("nan"), 1]] * 3, [[1e300, 2]] * 3])
def test_labelme_points_of_another_form_are_refused(tmp_path, points):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": [{"label": "car", "points": points}]}))
    with pytest.raises(DataError, match="the points of 'car' are no list"):
        labelme_label(str(path), (8, 8), ["car"])


def _labelme_with_mask(tmp_path, content):
    shape = {"label": "car", "points": [[0, 0], [1, 1]], "shape_type": "mask"}
    shape["mask"] = base64.b64encode(content).decode()
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [shape]}))
    return str(tmp_path / "a.json")


def test_a_stored_mask_that_memory_does_not_hold_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    stored = io.BytesIO()
    Image.new("L", (64, 48)).save(stored, "PNG")
    path = _labelme_with_mask(tmp_path, stored.getvalue())
    monkeypatch.setattr(limits, "_ALWAYS", 0)
    monkeypatch.setattr(limits, "free_memory", lambda: 64 * 48 * limits.READ_BYTES)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("pixels were decoded"))
    with pytest.raises(limits.TooLargeError, match="the stored mask of 'car' in .*a.json claims 64x48 pixels"):
        labelme_label(path, (40, 30), ["car"])


def test_a_stored_mask_is_of_the_formats_that_images_may_have(tmp_path):
    stored = io.BytesIO()
    Image.new("L", (4, 4)).save(stored, "PCX")
    with pytest.raises(DataError, match="the stored mask of 'car' cannot be decoded"):
        labelme_label(_labelme_with_mask(tmp_path, stored.getvalue()), (40, 30), ["car"])
