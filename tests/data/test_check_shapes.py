"""Images of several sizes: what cannot be batched, or whose predictions do not come back to their label's size,
is named before a training or an evaluation starts."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.data.check_shapes import extreme_images, shape_problems
from ppliteseg_paddle.engine import build, data_checks
from ppliteseg_paddle.engine.val import val
from ppliteseg_paddle.errors import DataError

SIZES = {"train": [(48, 64), (40, 80), (96, 64), (48, 64)], "val": [(48, 64), (50, 100), (90, 60)]}
NORMALIZE = {"type": "Normalize"}
CROP = {"type": "RandomPaddingCrop", "crop_size": [64, 48]}


@pytest.fixture
def config_of(tmp_path):
    """A configuration on images of several sizes, with these transforms."""
    root = make_data(tmp_path / "data", train=4, val=3)
    names = sorted((root / "images").iterdir())
    for path, (height, width) in zip(names, SIZES["train"] + SIZES["val"]):
        for folder in ("images", "labels"):
            file = str(root / folder / path.name)
            pixels = cv2.imread(file, cv2.IMREAD_UNCHANGED)
            cv2.imwrite(file, cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST))

    def make(train=(CROP, NORMALIZE), evaluation=(NORMALIZE,), batch_size=4):
        content = values(root, batch_size=batch_size)
        content["train_dataset"]["transforms"] = list(train)
        content["val_dataset"]["transforms"] = list(evaluation)
        return build.load_config(write_config(tmp_path / "c.yml", content))

    return make


FAULTS = {
    "no crop": (
        {"train": [NORMALIZE]},
        "train",
        ["(64x48) becomes 64x48", "(64x96) 64x96", "a batch of 4 takes images of one size", "crop"],
    ),
    "a padding alone": (
        {"train": [{"type": "Padding", "target_size": [70, 60]}, NORMALIZE]},
        "train",
        ["Padding fails", "is larger than", "train_dataset.transforms"],
    ),
    "random sizes of equal images": (
        {"train": [{"type": "Resize", "target_size": [64, 48]}, {"type": "ResizeStepScaling"}, NORMALIZE]},
        "train",
        ["a batch of 4 takes images of one size"],
    ),
    "a padding smaller than an image": (
        {"evaluation": [{"type": "Padding", "target_size": [64, 64]}, NORMALIZE]},
        "val",
        ["Padding fails", "(60x90)", "val_dataset.transforms"],
    ),
    "a crop in the validation": (
        {"evaluation": [{"type": "RandomPaddingCrop", "crop_size": [32, 32]}, NORMALIZE]},
        "val",
        ["its label is 64x48, but the prediction comes back as 32x32", "no crop"],
    ),
    "random sizes in the validation": (
        {"evaluation": [{"type": "ResizeStepScaling", "min_scale_factor": 0.5, "max_scale_factor": 0.5}, NORMALIZE]},
        "val",
        ["its label is", "nothing random"],
    ),
}


def words_in(text, words):
    return all(word in text for word in words) and "\n" not in text


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_found_by_the_check_and_before_the_start(config_of, fault):
    changes, split, words = FAULTS[fault]
    config = config_of(**changes)
    [row] = [row for row in data_checks.check_config(config, num_workers=0)["findings"] if row["kind"] == "shapes"]
    assert (row["split"], row["severity"]) == (split, "error") and words_in(row["first"][0], words)
    datasets = {"train": build.build_train_dataset(config), "val": build.build_val_dataset(config)}
    with pytest.raises(DataError) as error:
        data_checks.check_before_training(config, datasets)
    assert words_in(str(error.value), words)
    if split == "val":
        with pytest.raises(DataError) as error:
            val(config, device="cpu")
        assert words_in(str(error.value), words)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train": [NORMALIZE], "batch_size": 1},
        {"train": [{"type": "Resize", "target_size": [64, 48]}, NORMALIZE]},
        {"evaluation": [{"type": "Padding", "target_size": [128, 128]}, NORMALIZE]},
        {"evaluation": [{"type": "ResizeByShort", "short_size": 40, "max_size": 60}, NORMALIZE]},
        {"evaluation": [{"type": "ResizeByLong", "long_size": 64}, {"type": "Padding", "target_size": [64, 64]}]},
    ],
    ids=str,
)
def test_what_fits_has_no_finding(config_of, changes):
    config = config_of(**changes)
    assert shape_problems(build.build_train_dataset(config), config.batch_size) == []
    assert shape_problems(build.build_val_dataset(config), config.batch_size) == []


def test_the_images_that_are_tried_are_those_of_extreme_sizes(config_of):
    dataset = build.build_train_dataset(config_of())
    assert {tuple(SIZES["train"][i]) for i in extreme_images(dataset.file_list)} == {(48, 64), (40, 80), (96, 64)}
    assert extreme_images([("nowhere.png", None)]) == []


def test_trying_draws_none_of_the_runs_random_numbers(config_of):
    dataset = build.build_train_dataset(config_of())
    state, numpy, draws = random.getstate(), np.random.get_state()[1].copy(), dataset.draws
    shape_problems(dataset, 4)
    assert random.getstate() == state and np.array_equal(np.random.get_state()[1], numpy)
    assert dataset.draws is draws and not any(draws._readings)


def test_an_unreadable_image_is_left_to_the_reading_check(config_of):
    dataset = build.build_val_dataset(config_of())
    path = Path(dataset.file_list[1][0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert shape_problems(dataset, 1) == []
