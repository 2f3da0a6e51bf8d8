"""The fused training transform, against PaddleSeg's own transforms with the same draws, and the distribution of its
draws."""

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from ppliteseg_paddle.data import jitter
from ppliteseg_paddle.data.resample import resize_label_window, resize_window
from ppliteseg_paddle.data.transforms import Choices, FusedAugment
from ppliteseg_paddle.errors import ConfigError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def photo():
    """A photograph of 480x360, RGB."""
    return cv2.resize(load_sample_image("china.jpg"), (480, 360), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def label():
    """Classes in patches, with ignored ones."""
    ids = np.random.default_rng(3).integers(0, 12, (45, 60)).astype(np.uint8)
    ids[ids == 11] = 255
    return cv2.resize(ids, (480, 360), interpolation=cv2.INTER_NEAREST)


def paddlesegs_way(image, label, choices, crop_size, monkeypatch, distort=True):
    """PaddleSeg's own classes on an RGB image, made to draw `choices`."""
    from paddleseg.transforms import (
        Normalize,
        RandomDistort,
        RandomHorizontalFlip,
        RandomPaddingCrop,
        ResizeStepScaling,
        functional,
    )

    scale = choices.size[0] / image.shape[1]
    crop = RandomPaddingCrop(crop_size)
    monkeypatch.setattr(
        crop,
        "_get_crop_coordinates",
        lambda size: (
            choices.offset[0],
            choices.offset[1],
            choices.offset[0] + crop_size[0],
            choices.offset[1] + crop_size[1],
        ),
    )
    data = {"img": image.astype("float32"), "label": label, "gt_fields": ["label"]}
    for transform in (ResizeStepScaling(scale, scale), crop, RandomHorizontalFlip(1.0 if choices.flip else 0.0)):
        data = transform(data)
    if distort:
        for name, factor in choices.operations:
            data["img"] = np.asarray(
                getattr(functional, name)(Image.fromarray(data["img"].astype("uint8")), factor, factor)
            ).astype("float32")
        data = RandomDistort(brightness_prob=0, contrast_prob=0, saturation_prob=0, hue_prob=0)(
            data
        )  # the cut to integers
    data = Normalize(MEAN, STD)(data)
    return data["img"].transpose(2, 0, 1), data["label"]


def levels(sample):
    """Normalised planes as 8-bit levels again."""
    return sample * np.reshape(STD, (3, 1, 1)) * 255 + np.reshape(MEAN, (3, 1, 1)) * 255


CASES = [  # scaled size, offset, crop size, flip
    ((480, 360), (100, 90), (240, 180), False),  # as it is
    ((480, 360), (0, 0), (480, 360), True),
    ((600, 450), (201, 133), (240, 180), True),  # 1.25
    ((840, 630), (311, 17), (240, 180), False),  # 1.75
    ((300, 225), (60, 45), (240, 180), True),  # 0.625: the last possible corner
    ((240, 180), (0, 0), (480, 360), False),  # 0.5: padded at the right and below
    ((240, 180), (0, 0), (480, 360), True),
    ((60, 45), (0, 0), (97, 31), True),  # padded on one side only
    ((617, 463), (211, 70), (200, 300), False),  # a scale that is no simple fraction
]


# --- equality with PaddleSeg's classes -----------------------------------------------------------


@pytest.mark.parametrize("size, offset, crop_size, flip", CASES)
def test_without_jitter_a_sample_equals_paddlesegs_to_the_rounding_of_a_level(
    photo, label, monkeypatch, size, offset, crop_size, flip
):
    choices = Choices(size, offset, flip, [])
    ours, ids = FusedAugment(crop_size, mean=MEAN, std=STD).apply(
        np.ascontiguousarray(photo[..., ::-1]), label, choices
    )
    theirs, their_ids = paddlesegs_way(photo, label, choices, crop_size, monkeypatch, distort=False)
    assert (
        ours.shape == theirs.shape == (3, crop_size[1], crop_size[0])
        and ours.dtype == np.float32
        and ours.flags.c_contiguous
    )
    difference = np.abs(levels(ours) - levels(theirs))
    # OpenCV scales 8-bit pixels to the nearest or next level; where it has the window's phase to 1/256 only, half a
    # level more.
    assert difference.max() < (1e-4 if size == (480, 360) else 1.3 if size == (617, 463) else 0.8)
    assert abs((levels(ours) - levels(theirs)).mean()) < 0.15
    np.testing.assert_array_equal(ids, their_ids)
    assert ids.dtype == their_ids.dtype and ids.flags.c_contiguous


def test_unscaled_pixels_are_the_same_to_the_last_bit(photo, label, monkeypatch):
    choices = Choices((480, 360), (13, 17), True, [])
    ours, _ = FusedAugment((240, 180), mean=MEAN, std=STD).apply(np.ascontiguousarray(photo[..., ::-1]), label, choices)
    theirs, _ = paddlesegs_way(photo, label, choices, (240, 180), monkeypatch, distort=False)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("crop_size", [(200, 150), (700, 500)])
@pytest.mark.parametrize(
    "operations",
    [
        [],
        [("brightness", 1.4)],
        [("contrast", 0.6)],
        [("contrast", 1.5)],
        [("saturation", 0.5)],
        [("sharpness", 1.5)],
        [("brightness", 0.7), ("contrast", 1.3), ("saturation", 1.4)],
        [("saturation", 0.6), ("contrast", 1.4), ("brightness", 1.5)],
    ],
)
def test_with_jitter_a_sample_equals_paddlesegs(photo, label, monkeypatch, crop_size, operations):
    # Unscaled, so that only the jitter differs. The padding is jittered with the image and counts in the mean of
    # contrast.
    choices = Choices((480, 360), (0, 0), False, operations)
    ours, _ = FusedAugment(crop_size, distort={}, mean=MEAN, std=STD).apply(
        np.ascontiguousarray(photo[..., ::-1]), label, choices
    )
    theirs, _ = paddlesegs_way(photo, label, choices, crop_size, monkeypatch)
    # Sharpness treats the edge between image and padding as the image's edge.
    inside = (
        (slice(None), slice(0, min(crop_size[1], 359)), slice(0, min(crop_size[0], 479)))
        if operations[:1] == [("sharpness", 1.5)]
        else ...
    )
    difference = np.abs(levels(ours)[inside] - levels(theirs)[inside])
    assert difference.max() < (
        0.01 if all(name in ("brightness", "contrast") for name, _ in operations) else 3.01
    )  # a level, times the factors after it
    assert difference.mean() < 0.05


@pytest.mark.parametrize("shift", [-18.0, -7.3, 0.0, 2.6, 18.0])
def test_hue_equals_pillows_within_its_rounding(photo, shift):
    from paddleseg.transforms import functional

    theirs = np.asarray(functional.hue(Image.fromarray(photo), shift, shift)).astype(int)
    ours = jitter.OPERATIONS["hue"](np.ascontiguousarray(photo[..., ::-1]), shift)[..., ::-1].astype(int)
    difference = np.abs(ours - theirs)
    assert difference.mean() < 0.5 and np.percentile(difference, 99) <= 3 and difference.max() <= 12
    assert abs((ours - theirs).mean()) < 0.15


def test_gray_images_are_jittered_without_color(photo, label):
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    augment = FusedAugment(
        (64, 48), distort={name + "_prob": 1 for name in ("brightness", "contrast", "saturation", "hue", "sharpness")}
    )
    choices = augment.draw(gray.shape, np.random.default_rng(0), channels=1)
    assert {name for name, _ in choices.operations} == {"brightness", "contrast", "saturation", "sharpness"}
    sample, ids = augment.apply(gray, label, choices)
    assert sample.shape == (1, 48, 64) and ids.shape == (48, 64)


def test_image_and_label_are_left_as_they_were(photo, label):
    image, ids = photo.copy(), label.copy()
    augment = FusedAugment((240, 180), 0.5, 2.0, 0.25, distort={"sharpness_prob": 0.5})
    for seed in range(20):
        augment.sample(image, ids, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, photo)
    np.testing.assert_array_equal(ids, label)


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, height", [(480, 360), (512, 256), (250, 187), (321, 213)])
def test_a_window_equals_the_same_part_of_the_resized_whole(photo, rng, width, height):
    images = [cv2.resize(photo, (width, height)), rng.integers(0, 256, (height, width, 3)).astype(np.uint8)]
    ids = rng.integers(0, 11, (height, width)).astype(np.uint8)
    for turn in range(60):
        scale = rng.choice(np.arange(0.125, 2.01, 0.125)) if turn % 2 else rng.uniform(0.1, 2.2)
        size = round(width * scale), round(height * scale)
        corner = [int(rng.integers(n)) for n in size]
        window = (*corner, *(int(rng.integers(c, n)) + 1 for c, n in zip(corner, size)))
        part = (slice(window[1], window[3]), slice(window[0], window[2]))
        for image in images:
            whole = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[part].astype(int)
            exact = turn % 2 and (width, height) in ((480, 360), (512, 256))  # eighths of these sizes are whole pixels
            assert np.abs(resize_window(image, size, window) - whole).max() <= (1 if exact else 2)
        np.testing.assert_array_equal(
            resize_label_window(ids, size, window), cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)[part]
        )


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (dict(crop_size=512), "crop_size is 512: give [width, height] in pixels."),
        (dict(crop_size=[512, 0]), "crop_size is [512, 0]"),
        (dict(min_scale_factor=2.0, max_scale_factor=0.5), "scales from 2.0 to 0.5"),
        (dict(flip_prob=1.5), "flip_prob is 1.5: give a number from 0 to 1."),
        (dict(rare_class_crops=0.5), "rare_classes names no class"),
        (dict(std=[0.5, 0, 0.5]), "std is [0.5, 0, 0.5]: no channel can have 0."),
        (dict(rare_classes=["pole"]), "rare_classes is ['pole']: give a list of class ids."),
        (dict(mean=[]), "mean is []: give one number, or one for each channel."),
        (
            dict(distort={"brightness": 0.4}),
            "distort takes no argument 'brightness'. Did you mean 'brightness_prob' or 'brightness_range'?",
        ),
        (dict(distort=0.5), "distort is 0.5: give the arguments of RandomDistort"),
        (dict(distort={"hue_range": 300}), "hue_range is 300: allowed are numbers from 0 to 127."),
        (dict(distort={"contrast_prob": 2}), "contrast_prob is 2: allowed are numbers from 0 to 1."),
    ],
)
def test_wrong_arguments_are_reported(arguments, expected):
    with pytest.raises(ConfigError) as caught:
        FusedAugment(**{"crop_size": [64, 48], **arguments})
    assert expected in str(caught.value) and "\n" not in str(caught.value)


# --- inside PaddleSeg's own Compose --------------------------------------------------------------


def test_it_works_in_paddlesegs_compose_and_draws_from_numpys_seed(photo, label):
    from paddleseg.cvlibs import manager
    from paddleseg.transforms import Compose

    from ppliteseg_paddle import register

    register()
    compose = Compose(
        [
            manager.TRANSFORMS["FusedAugment"](
                crop_size=[240, 180], min_scale_factor=0.5, max_scale_factor=2.0, distort={}
            )
        ]
    )
    bgr = np.ascontiguousarray(photo[..., ::-1]).astype("float32")
    samples = []
    for _ in range(2):
        np.random.seed(4)
        samples.append(compose({"img": bgr, "label": label, "gt_fields": ["label"]}))
    assert samples[0]["img"].shape == (3, 180, 240) and samples[0]["label"].shape == (180, 240)
    np.testing.assert_array_equal(samples[0]["img"], samples[1]["img"])
    other = compose({"img": bgr, "label": label, "gt_fields": ["label"]})
    assert not np.array_equal(other["img"], samples[0]["img"])


def test_the_training_crop_is_told_in_the_order_of_the_configuration():
    from types import SimpleNamespace

    from paddleseg.transforms import RandomPaddingCrop

    from ppliteseg_paddle.data.check import crop_size_of

    for step in (FusedAugment([240, 180]), RandomPaddingCrop([240, 180])):
        assert crop_size_of(SimpleNamespace(transforms=SimpleNamespace(transforms=[step]))) == (240, 180)


@pytest.mark.parametrize("mode", ["val", "test"])
def test_images_to_be_judged_are_not_augmented(tmp_path, mode):
    from tiny_data import make_data

    from ppliteseg_paddle.data.dataset import StreetScenes

    with pytest.raises(ConfigError, match=f"FusedAugment draws at random and is for mode 'train'; mode is '{mode}'"):
        StreetScenes(transforms=[FusedAugment([32, 24])], dataset_root=str(make_data(tmp_path / "d")), mode=mode)
