import threading
from dataclasses import replace

import numpy as np
import pytest
from stand_in import image, softmax, stand_in

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.smooth_option import SMOOTH
from ppliteseg_paddle.deploy.smoothing import Smoother, small_gray
from ppliteseg_paddle.deploy.views import ViewPlan
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.synth.film import film

GRAY = np.zeros((24, 32), np.float32)  # nothing to follow: no motion


def test_the_blend_is_that_of_its_formula():
    random = np.random.default_rng(0)
    base = random.normal(0, 3, (5, 6, 8)).astype(np.float32)
    frames = [base + random.normal(0, 0.5, base.shape).astype(np.float32) for _ in range(4)]
    smoother, past = Smoother(0.7), None
    for now in frames:
        expected = now.astype(np.float64)
        if past is not None:
            differing = np.abs(softmax(past, 0) - softmax(expected, 0)).max(axis=0)
            share = 0.7 * (1 - differing)
            expected = (1 - share) * expected + share * past
        np.testing.assert_allclose(smoother.scores(now.copy(), GRAY, "softmax"), expected, atol=1e-4)
        past = expected
    assert smoother.cuts == 0


def test_class_ids_vote_and_earlier_votes_count_less():
    """A pixel's votes for the shown class, less those against it, counted one by one."""
    smoother, shown = Smoother(0.65), []
    for value in (1, 1, 2, 1, 2, 2):
        ids = np.ones((24, 32), np.uint8)
        ids[3, 4] = value
        shown.append(int(smoother.ids(ids, GRAY)[3, 4]))
    lead, expected, kept = 0.0, [], 1
    for value in (1, 1, 2, 1, 2, 2):
        lead = 0.65 * lead + (0.35 if value == kept else -0.35)
        if lead < 0:
            kept, lead = value, -lead
        expected.append(kept)
    assert shown == expected == [1, 1, 1, 1, 2, 2]


def test_a_cut_starts_anew():
    smoother = Smoother(0.9)
    first, second = (np.full((3, 6, 8), -5, np.float32) for _ in range(2))
    first[0], second[1] = 5, 5
    smoother.scores(first.copy(), GRAY, "softmax")
    assert smoother.disagreement is None
    assert np.array_equal(smoother.scores(second.copy(), GRAY, "softmax"), second) and smoother.cuts == 1
    assert smoother.disagreement == pytest.approx(1, abs=1e-3)  # one class, then another, both nearly certain
    ids = Smoother(0.9)
    ids.ids(np.zeros((24, 32), np.uint8), GRAY)
    assert (ids.ids(np.ones((24, 32), np.uint8), GRAY) == 1).all() and ids.cuts == 1


def test_the_past_follows_a_moving_picture():
    """Ids that move with the picture stay in place on it: voting changes none of them far from the border."""
    wide = np.random.default_rng(1).integers(0, 255, (12, 20)).astype(np.uint8)
    wide = np.kron(wide, np.ones((8, 8), np.uint8))
    smoother = Smoother(0.8)
    for shift in range(0, 12, 3):
        seen = np.ascontiguousarray(wide[:, shift : shift + 128])
        ids = (seen > 200).astype(np.uint8)
        found = smoother.ids(ids, small_gray(seen, channels_first=False))
        assert (found != ids)[8:-8, 16:-16].mean() < 0.02
    still = Smoother(0.8)  # without the motion it is not so
    for shift in range(0, 12, 3):
        ids = (np.ascontiguousarray(wide[:, shift : shift + 128]) > 200).astype(np.uint8)
        found = still.ids(ids, GRAY)
    assert (found != ids)[8:-8, 16:-16].mean() > 0.05


@pytest.mark.parametrize("op", ["none", "softmax", "argmax"])
def test_a_stream_is_smoothed_in_order_and_as_without_where_smooth_is_0(op):
    frames = [image(seed=i // 3) for i in range(9)]
    plain = [found.mask for found in stand_in(op).stream(frames)]
    assert all(np.array_equal(a.mask, b) for a, b in zip(stand_in(op).stream(frames, smooth=0), plain))
    nearly = [found.mask for found in stand_in(op).stream(frames, smooth=1e-6)]
    assert all(np.array_equal(a, b) for a, b in zip(nearly, plain))
    alone, batched = (
        [found.mask for found in stand_in(op, batch_size=size).stream(frames, smooth=SMOOTH)] for size in (1, 4)
    )
    assert len(alone) == 9 and all(np.array_equal(a, b) for a, b in zip(alone, batched))


def test_an_unreadable_frame_is_told_and_the_others_follow(tmp_path):
    frames = [image(), tmp_path / "missing.png", image()]
    found = list(stand_in().stream(frames, smooth=SMOOTH, keep_going=True))
    assert [each.error is None for each in found] == [True, False, True]


def test_an_interrupted_stream_leaves_no_thread():
    before = threading.active_count()
    stream = stand_in().stream((image(seed=i) for i in range(1000)), smooth=SMOOTH)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def flickering():
    """Frames of one picture that is a little brighter once; it is too low to have a motion."""
    base = image(12, 64)
    return [np.clip(base.astype(int) + shift, 0, 255).astype(np.uint8) for shift in (0, 0, 0, 5, 0)]


@pytest.mark.parametrize("op", ["none", "argmax"])
def test_windows_give_masks_and_these_vote(op):
    how = {"is_slide": True, "crop_size": (40, 12)}
    plain = [found.mask for found in stand_in(op, **how).stream(flickering())]
    votes = Smoother(SMOOTH)
    expected = [votes.ids(mask, small_gray(frame, False)) for frame, mask in zip(flickering(), plain)]
    found = [found.mask for found in stand_in(op, **how).stream(flickering(), smooth=SMOOTH)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    assert any(not np.array_equal(a, b) for a, b in zip(found, plain))


def of_several_classes(**options):
    """A predictor whose pixels may be of several classes: class by class, where the logit is above 0."""
    one = stand_in(num_classes=3)
    one.backend.run = lambda batch: np.concatenate([batch[:, :1] + shift for shift in (0.2, 0.0, -0.2)], axis=1) * 4
    return Predictor.of(replace(one.artifact, views=ViewPlan(use_multilabel=True)), one.backend, **options)


def test_where_a_pixel_may_be_of_several_classes_each_ones_probability_is_its_own():
    frames = flickering()
    found = [found.mask for found in of_several_classes().stream(frames, smooth=0.6)]
    past = None
    for frame, planes in zip(frames, found):
        now = np.stack([(frame[..., 0].astype(float) / 127.5 - 1 + shift) * 4 for shift in (0.2, 0.0, -0.2)])
        if past is not None:
            differing = np.abs(1 / (1 + np.exp(-past)) - 1 / (1 + np.exp(-now))).max(axis=0)
            share = 0.6 * (1 - differing)
            now = (1 - share) * now + share * past
        past = now
        assert np.array_equal(planes.transpose(2, 0, 1)[np.abs(now) > 1e-3], (now > 0)[np.abs(now) > 1e-3])
    plain = [found.mask for found in of_several_classes().stream(frames)]
    assert any(not np.array_equal(a, b) for a, b in zip(found, plain))


def test_windows_of_a_model_of_several_classes_are_refused_in_one_line():
    predictor = of_several_classes(is_slide=True, crop_size=(40, 12))
    with pytest.raises(ConfigError, match="leave smooth out, or is_slide"):
        list(predictor.stream(flickering(), smooth=SMOOTH))


@pytest.mark.parametrize("value", [1, -0.1, True, "0.5", float("nan")])
def test_a_value_that_is_not_possible_is_refused_before_a_frame_is_read(value):
    with pytest.raises(ConfigError, match="give a number from 0"):
        stand_in().stream([image()], smooth=value)


def test_a_films_labels_move_as_it_says():
    frames = list(film(3, (96, 72), 3, 2.0, crossing=0))
    again = list(film(3, (96, 72), 3, 2.0, crossing=0))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, again))
    rows, columns = np.mgrid[8:64, 8:88]
    for last, frame in zip(frames, frames[1:]):
        x, y = np.rint(frame.before @ np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])).astype(int)
        inside = (x >= 0) & (x < 96) & (y >= 0) & (y < 72)
        same = last.label[y[inside], x[inside]] == frame.label[rows.ravel()[inside], columns.ravel()[inside]]
        assert same.mean() > 0.9
