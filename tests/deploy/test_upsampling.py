"""Logits on their way to the image's size: as Paddle resizes them, without a full-size map."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppliteseg_paddle.deploy import upsampling
from ppliteseg_paddle.deploy.upsampling import Undo, classes, piece, strips, upsampled
from ppliteseg_paddle.deploy.views import View, ViewPlan
from ppliteseg_paddle.errors import ConfigError

# What was done to an image, in order; the network's own step, of its small map, comes last.
WAYS = {
    "the network's alone": [Undo("resize", (96, 128))],
    "up": [Undo("resize", (173, 331)), Undo("resize", (96, 128))],
    "down": [Undo("resize", (23, 17)), Undo("resize", (96, 128))],
    "padded": [Undo("resize", (200, 333)), Undo("padding", (90, 121)), Undo("resize", (96, 128))],
    "scaled and flipped": [Undo("resize", (75, 100)), Undo("flip", (True, True)), Undo("resize", (96, 128))],
    "one side": [Undo("flip", (False, True)), Undo("resize", (96, 128))],
    "nothing": [],
}


def by_paddle(logits, undo):
    values = paddle.to_tensor(logits[np.newaxis])
    for kind, size in reversed(undo):
        if kind == "resize":
            values = F.interpolate(values, list(size), mode="bilinear")
        elif kind == "padding":
            values = values[:, :, : size[0], : size[1]]
        else:
            values = paddle.flip(values, [axis for axis, flipped in zip((2, 3), size) if flipped])
    return values.numpy()[0]


def logits_of(rng, channels=7, height=12, width=16):
    """Smooth, so that classes have areas, with some noise."""
    coarse = paddle.to_tensor(rng.standard_normal((1, channels, 3, 4)).astype(np.float32))
    smooth = F.interpolate(coarse, [height, width], mode="bicubic").numpy()[0]
    return smooth + 0.1 * rng.standard_normal(smooth.shape).astype(np.float32)


@pytest.mark.parametrize("name", WAYS)
def test_scores_and_classes_are_those_of_paddle_step_by_step(name, rng, monkeypatch):
    logits, undo = logits_of(rng), WAYS[name]
    expected = by_paddle(logits, undo)
    monkeypatch.setattr(upsampling, "_STRIP_VALUES", 7 * expected.shape[2] * 10)
    parts = list(strips([piece(logits, undo)]))
    assert max(part.shape[1] for part in parts) <= 10  # rows of pixels that are held at once
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=1e-5)
    found = classes(piece(logits, undo), np.uint8)
    assert found.dtype == np.uint8 and np.array_equal(found, expected.argmax(axis=0))


def test_coordinates_are_rounded_as_paddle_rounds_them(rng):
    """At sizes without a common factor, coordinates in float64 would change nearly every value by more than sums in
    another order do. Builds of Paddle that fuse two operations differ in a few rows or columns."""
    logits = rng.standard_normal((2, 333, 517)).astype(np.float32)
    undo = [Undo("resize", (720, 960))]
    difference = np.abs(upsampled(logits, undo) - by_paddle(logits, undo))
    assert np.mean(difference > 2e-6) < 0.005 and difference.max() < 2e-4


def test_several_pieces_are_averaged(rng):
    logits = [logits_of(rng, height=12), logits_of(rng, height=9)]
    ways = [WAYS["up"], [Undo("resize", (173, 331)), Undo("flip", (False, True)), Undo("resize", (72, 128))]]
    found = np.concatenate(list(strips([piece(*pair) for pair in zip(logits, ways)])), axis=1)
    expected = sum(by_paddle(*pair) for pair in zip(logits, ways)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("flip", [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.75, 1.3])
def test_a_view_is_what_paddlesegs_augmented_inference_makes_of_the_input(scale, flip, rng):
    batch = rng.standard_normal((1, 3, 85, 121)).astype(np.float32)
    size = [int(side * scale + 0.5) for side in batch.shape[2:]]
    expected = paddle.flip(
        F.interpolate(paddle.to_tensor(batch), size, mode="bilinear"), [a for a, f in zip((2, 3), flip) if f]
    )
    found, undo = View(scale, flip).of(batch)
    assert found.flags["C_CONTIGUOUS"] and found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)
    assert [step.kind for step in undo] == ["resize"] * (scale != 1) + ["flip"] * any(flip)


def test_a_test_config_becomes_views_in_paddlesegs_order_and_survives_being_written():
    from paddleseg.core.infer import flip_combination

    test_config = {"aug_eval": True, "scales": [0.5, 1], "flip_horizontal": True, "flip_vertical": True}
    plan = ViewPlan.of({**test_config, "is_slide": True, "crop_size": [64, 48], "stride": [32, 24], "auc_roc": True})
    flips = [tuple(reversed(flip)) for flip in flip_combination(True, True)]  # PaddleSeg's is (horizontal, vertical)
    assert plan.views == [View(scale, flip) for scale in (0.5, 1.0) for flip in flips]
    assert ViewPlan.of(plan.to_dict()) == plan and plan.windows.crop_size == (64, 48)
    for plain in ({}, {"scales": 0.5}, {"aug_eval": True, "scales": 1.0}, {"flip_horizontal": True}):
        assert ViewPlan.of(plain).plain and ViewPlan.of(plain).to_dict() == {}
    assert ViewPlan.of({"aug_eval": True, "scales": 0.5}).single == View(0.5)


@pytest.mark.parametrize(
    "test_config, words",
    [
        ({"aug_eval": True, "scales": [0]}, "scales is .0.: give numbers above 0"),
        ({"aug_eval": True, "scales": []}, "give numbers above 0"),
        ({"aug_eval": True, "scales": "half"}, "give numbers above 0"),
        ({"is_slide": True, "crop_size": [64, 48]}, "is_slide needs test_config.stride"),
        ({"is_slide": True, "crop_size": [64, 48], "stride": [65, 48]}, "would skip pixels"),
    ],
)
def test_a_test_config_that_no_evaluation_takes_is_refused(test_config, words):
    with pytest.raises(ConfigError, match=words):
        ViewPlan.of(test_config)
