"""Multi-label data: which files are read, what is said of others, and planes through transforms, caches and counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
import tifffile
from multilabel import CLASSES, make_multilabel, multilabel_config, planes_of

from ppliteseg_paddle.data.check import check_datasets
from ppliteseg_paddle.data.stats import dataset_stats
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.metrics import areas_on_device, scores_of_areas
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.planes import read_planes, side_by_side
from ppliteseg_paddle.visual.draw import colorize, overlay
from ppliteseg_paddle.visual.png import write_mask
from ppliteseg_paddle.visual.tiff import write_geo_mask

PLANES = planes_of(0)


def save(path, pixels):
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        cv2.imwrite(str(path), pixels)
    return str(path)


@pytest.mark.parametrize(
    "name, pixels",
    [
        ("beside.png", side_by_side(PLANES)),
        ("below.png", np.concatenate(list(PLANES.transpose(2, 0, 1)))),
        ("channels.png", PLANES[..., ::-1]),  # OpenCV writes BGR
        ("channels.npy", PLANES),
        ("first.npy", PLANES.transpose(2, 0, 1).astype(bool)),
        ("pages.tif", PLANES.transpose(2, 0, 1)),
        ("beside.tif", side_by_side(PLANES).astype(np.uint16)),
    ],
)
def test_planes_are_read_in_every_arrangement(name, pixels, tmp_path):
    found = read_planes(save(tmp_path / name, pixels), 3, (64, 96))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PLANES)


@pytest.mark.parametrize(
    "pixels, said",
    [
        (PLANES[..., 0], "as its image, so it holds one class a pixel: remove use_multilabel"),
        (side_by_side(PLANES)[:, :200], "is 200x64 pixels, but 3 classes of its image (96x64) take 288x64"),
        (side_by_side(PLANES) * 7, r"holds the value 7"),
        (PLANES[..., :2].repeat(2, axis=-1), "of 4 channels, but 3 classes"),
    ],
)
def test_other_files_are_named_with_what_to_do(pixels, said, tmp_path):
    with pytest.raises(DataError, match="l.npy") as caught:
        read_planes(save(tmp_path / "l.npy", pixels), 3, (64, 96))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def config(tmp_path):
    make_multilabel(tmp_path / "data", 4)
    return build.load_config(multilabel_config(tmp_path / "data", tmp_path / "c.yml"))


def test_samples_have_the_planes_first(config):
    train, val = build.build_train_dataset(config), build.build_val_dataset(config)
    assert train[0]["label"].shape == (3, 64, 64)
    np.testing.assert_array_equal(val[0]["label"], PLANES.transpose(2, 0, 1))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_caches_keep_planes(where, config, tmp_path):
    from ppliteseg_paddle.engine.data_tools import cache_config

    if where == "folder":
        where = str(tmp_path / "cache")
        assert cache_config(config, where, num_workers=0, progress=False)["written"] == 4
    dataset = build.build_val_dataset(config)
    dataset.use_cache(where)
    for _ in range(2):
        image, label = dataset.read(2)
        np.testing.assert_array_equal(label, planes_of(2))
        assert image.shape == (64, 64, 3)


def test_checks_and_statistics_count_each_class_by_itself(config):
    dataset = build.build_train_dataset(config)
    expected = np.mean(np.concatenate([planes_of(i).reshape(-1, 3) for i in range(4)]), axis=0)
    checked = check_datasets({"train": dataset}, CLASSES, num_workers=0, progress=False)
    assert checked["errors"] == 0
    np.testing.assert_allclose([row["share"] for row in checked["splits"]["train"]["classes"]], expected)
    stats = dataset_stats(dataset, CLASSES, num_workers=0, progress=False)
    np.testing.assert_allclose([row["share"] for row in stats["classes"]], expected)


@pytest.mark.parametrize("value, said", [(255, "0 and 255 (ignored): write 1"), (0, "only 0: write 1")])
def test_labels_without_a_1_are_an_error(value, said, tmp_path):
    def write(path, planes):
        return save(path, side_by_side(planes) * value) and path

    make_multilabel(tmp_path / "data", 4, write)
    config = build.load_config(multilabel_config(tmp_path / "data", tmp_path / "c.yml"))
    found = check_datasets({"train": build.build_train_dataset(config)}, CLASSES, num_workers=0, progress=False)
    errors = [row for row in found["findings"] if row["severity"] == "error"]
    assert [row["kind"] for row in errors] == ["no_labels"] and said in errors[0]["first"][0]


def test_class_ids_are_an_error_of_the_check(tmp_path):
    make_multilabel(tmp_path / "data", 4, lambda path, planes: save(path, planes[..., 0]) and path)
    config = build.load_config(multilabel_config(tmp_path / "data", tmp_path / "c.yml"))
    for images in (True, False):
        found = check_datasets(
            {"train": build.build_train_dataset(config)}, CLASSES, images=images, num_workers=0, progress=False
        )
        assert [(row["kind"], row["count"]) for row in found["findings"] if row["severity"] == "error"] == [
            ("planes", 4)
        ]


def test_transforms_that_fill_in_one_plane_only_are_refused(tmp_path):
    make_multilabel(tmp_path / "data", 4)
    config = build.load_config(multilabel_config(tmp_path / "data", tmp_path / "c.yml"))
    config.dic["train_dataset"]["transforms"] = [{"type": "RandomPaddingCrop", "crop_size": [32, 32]}]
    with pytest.raises(ConfigError, match="RandomPaddingCrop fills in the first plane of a multi-label file only"):
        build.build_train_dataset(config)


def test_each_plane_is_augmented_as_a_label_of_its_own():
    step = FusedAugment([80, 72], 0.5, 2.0, 0.25, rare_class_crops=0.5, rare_classes=[2])
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    for seed in range(12):
        choices = step.draw((64, 96), np.random.default_rng(seed), PLANES)
        _, planes = step.apply(image, PLANES, choices)
        for i in range(3):
            np.testing.assert_array_equal(
                planes[..., i], step.apply(image, np.ascontiguousarray(PLANES[..., i]), choices)[1]
            )


def test_a_crop_is_laid_around_a_rare_plane():
    label = np.zeros((200, 200, 3), np.uint8)
    label[150:155, 20:25, 2] = 1
    step = FusedAugment([32, 32], 1.0, 1.0, rare_class_crops=1.0, rare_classes=[2])
    image = np.zeros((200, 200, 3), np.uint8)
    for seed in range(5):
        assert step.sample(image, label, np.random.default_rng(seed))[1][..., 2].any()


def test_scores_are_paddlesegs_and_ignored_pixels_do_not_count():
    rng = np.random.default_rng(0)
    label, pred = rng.integers(0, 2, (2, 3, 8, 9)), rng.integers(0, 2, (2, 3, 8, 9))
    areas = areas_on_device(paddle.to_tensor(pred), paddle.to_tensor(label)).numpy()
    sums = [values.sum(axis=(0, 2, 3)) for values in (pred * label, pred, label)]  # as PaddleSeg 2.9 counts
    np.testing.assert_array_equal(areas, sums)
    scores = scores_of_areas(*areas)
    assert scores["mIoU"] == pytest.approx(np.mean(sums[0] / (sums[1] + sums[2] - sums[0])))
    label[:, :, :2] = 255
    np.testing.assert_array_equal(
        areas_on_device(paddle.to_tensor(pred), paddle.to_tensor(label)).numpy(),
        [values[:, :, 2:].sum(axis=(0, 2, 3)) for values in (pred * label, pred, label)],
    )


def test_colors_of_several_classes_mix_and_pixels_of_none_stay():
    palette = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    planes = np.zeros((1, 4, 3), np.uint8)
    planes[0, 1, 0] = planes[0, 2, :2] = planes[0, 3] = 1
    assert colorize(planes, palette)[0, :, ::-1].tolist() == [[0, 0, 0], [200, 0, 0], [100, 100, 0], [67, 67, 67]]
    image = np.full((1, 4, 3), 50, np.uint8)
    assert (overlay(image, planes, palette)[0] == 50).all(axis=-1).tolist() == [True, False, False, False]


def test_written_masks_are_labels_again(tmp_path):
    write_mask(str(tmp_path / "m.png"), PLANES, [])
    np.testing.assert_array_equal(read_planes(str(tmp_path / "m.png"), 3, (64, 96)), PLANES)
    tag = (33550, 12, 3, (10.0, 10.0, 0.0), True)
    write_geo_mask(str(tmp_path / "m.tif"), PLANES, [], [tag], lambda path, content: Path(path).write_bytes(content))
    np.testing.assert_array_equal(read_planes(str(tmp_path / "m.tif"), 3, (64, 96)), PLANES)
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert (file.pages[0].samplesperpixel, file.pages[0].tags[33550].value) == (3, (10.0, 10.0, 0.0))
