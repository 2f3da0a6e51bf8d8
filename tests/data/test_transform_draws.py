"""What `FusedAugment` draws, and how often."""

import random

import numpy as np

from ppliteseg_paddle.data import jitter
from ppliteseg_paddle.data.transforms import FusedAugment

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def drawn_by_paddleseg(count, shape=(60, 80), crop=(40, 30)):
    """Scaled width, corner and flip of PaddleSeg's classes, and the jitter's operations, read off an image of
    coordinates."""
    from paddleseg.transforms import RandomHorizontalFlip, RandomPaddingCrop, ResizeStepScaling

    scaling, cropping, flipping = ResizeStepScaling(0.5, 2.0, 0.25), RandomPaddingCrop(crop), RandomHorizontalFlip()
    rows = []
    for _ in range(count):
        data = scaling({"img": np.zeros(shape + (3,), np.float32)})
        size = data["img"].shape[1::-1]
        corners = []

        def record(size, corners=corners):
            corners.append(RandomPaddingCrop._get_crop_coordinates(cropping, size))
            return corners[-1]

        cropping._get_crop_coordinates = record
        data = cropping(data)
        data["img"] = np.arange(2.0)[None, :, None]
        rows.append((size[0], *(corners[-1][:2] if corners else (0, 0)), flipping(data)["img"][0, 0, 0]))
    return np.array(rows)


def test_scales_corners_and_flips_are_distributed_as_paddlesegs():
    random.seed(1)
    np.random.seed(1)
    count = 4000
    theirs = drawn_by_paddleseg(count)
    generator = np.random.default_rng(2)
    augment = FusedAugment((40, 30), 0.5, 2.0, 0.25)
    drawn = [augment.draw((60, 80), generator) for _ in range(count)]
    ours = np.array([(c.size[0], *c.offset, c.flip) for c in drawn])
    assert {c.size for c in drawn} == {(round(80 * s), round(60 * s)) for s in np.arange(0.5, 2.01, 0.25)}
    for width in np.unique(theirs[:, 0]):
        a, b = ours[ours[:, 0] == width], theirs[theirs[:, 0] == width]
        assert abs(len(a) - count / 7) < 100 and abs(len(b) - count / 7) < 100  # 4.5 standard deviations of 22
        for axis, margin in ((1, max(width - 40, 0)), (2, max(width * 3 // 4 - 30, 0))):
            assert a[:, axis].min() == 0 and a[:, axis].max() <= margin
            if margin > 20:
                assert abs(a[:, axis].mean() - b[:, axis].mean()) < margin * 0.09
                assert abs(a[:, axis].std() - b[:, axis].std()) < margin * 0.05
    assert abs(ours[:, 3].mean() - theirs[:, 3].mean()) < 0.05


def test_jitter_draws_each_operation_with_its_probability_its_range_and_in_any_order():
    color = jitter.ColorJitter(brightness_range=0.4, contrast_prob=0.25, hue_range=10, sharpness_prob=0.1)
    generator = np.random.default_rng(0)
    drawn = [color.draw(generator) for _ in range(4000)]
    wanted = {
        "brightness": (0.5, 0.6, 1.4),
        "contrast": (0.25, 0.5, 1.5),
        "saturation": (0.5, 0.5, 1.5),
        "hue": (0.5, -10, 10),
        "sharpness": (0.1, 0.5, 1.5),
    }
    for name, (probability, low, high) in wanted.items():
        factors = np.array([factor for operations in drawn for kind, factor in operations if kind == name])
        assert abs(len(factors) / 4000 - probability) < 0.04
        assert low <= factors.min() < low + 0.05 * (high - low) and high - 0.05 * (high - low) < factors.max() <= high
        assert abs(factors.mean() - (low + high) / 2) < 0.05 * (high - low)
    both = [[name for name, _ in operations] for operations in drawn]
    both = [names for names in both if {"brightness", "hue"} <= set(names)]
    assert abs(np.mean([names.index("hue") < names.index("brightness") for names in both]) - 0.5) < 0.06


def test_a_step_of_zero_draws_any_scale_between_the_two():
    augment, generator = FusedAugment((40, 30), 0.5, 1.5, 0), np.random.default_rng(0)
    widths = [augment.draw((600, 800), generator).size[0] for _ in range(500)]
    assert 400 <= min(widths) < 420 and 1180 < max(widths) <= 1200 and len(set(widths)) > 300


def test_rare_classes_lie_in_the_share_of_crops_that_was_asked_for():
    ids = np.zeros((360, 480), np.uint8)
    ids[200:204, 50:54], ids[20:25, 400:402] = 6, 9
    holds = {}
    for share in (0.0, 0.5, 1.0):
        augment, generator = (
            FusedAugment((60, 60), 1.0, 1.0, rare_class_crops=share, rare_classes=[2, 6, 9]),
            np.random.default_rng(0),
        )
        crops = [augment.sample(np.zeros((360, 480, 3), np.uint8), ids, generator)[1] for _ in range(400)]
        holds[share] = [np.mean([(crop == c).any() for crop in crops]) for c in (6, 9)]
    assert max(holds[0.0]) < 0.1
    assert min(holds[0.5]) > 0.19 and max(holds[0.5]) < 0.37
    assert min(holds[1.0]) > 0.42 and max(holds[1.0]) < 0.58 and sum(holds[1.0]) >= 0.999


def test_a_label_without_rare_classes_is_cropped_as_usual():
    augment = FusedAugment((60, 60), 1.0, 1.0, rare_class_crops=1.0, rare_classes=[6])
    corners = [
        augment.draw((360, 480), np.random.default_rng(seed), np.zeros((360, 480), np.uint8)).offset
        for seed in range(50)
    ]
    assert len(set(corners)) > 45
