import numpy as np
import pytest

from ppliteseg_paddle.deploy.windows import Box, Windows, averaged, stitched
from ppliteseg_paddle.errors import ConfigError


def cut(array, rows):
    return [array[..., box.top : box.bottom, box.left : box.right] for row in rows for box in row]


SIZES = [(333, 517), (64, 64), (40, 200), (200, 40), (64, 65)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [(64, 64), (40, 50), (7, 64), (13, 11)], ids=str)
def test_windows_cover_the_image_and_have_one_size(size, stride):
    rows = Windows((64, 64), stride).rows(*size)
    covered = np.zeros(size, int)
    for row in rows:
        for box in row:
            covered[box.top : box.bottom, box.left : box.right] += 1
            assert (box.bottom - box.top, box.right - box.left) == (min(64, size[0]), min(64, size[1]))
    assert covered.min() >= 1


def test_windows_step_by_the_stride_and_the_last_one_ends_at_the_border():
    rows = Windows((64, 32), (40, 32)).rows(50, 130)
    assert [(box.left, box.right) for box in rows[0]] == [(0, 64), (40, 104), (66, 130)]
    assert [(row[0].top, row[0].bottom) for row in rows] == [(0, 32), (18, 50)]
    assert Windows((64, 32), (40, 32)).rows(20, 30) == [[Box(0, 20, 0, 30)]]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [(64, 64), (40, 50), (13, 11)], ids=str)
def test_scores_that_agree_are_joined_to_what_was_cut(size, stride, rng):
    scores = rng.standard_normal((3,) + size).astype(np.float32)
    rows = Windows((64, 64), stride).rows(*size)
    joined = np.concatenate(list(averaged(rows, cut(scores, rows))), axis=1)
    np.testing.assert_allclose(joined, scores, rtol=1e-5)
    assert np.array_equal(stitched(rows, cut(scores[0], rows)), scores[0])


def test_scores_that_differ_are_averaged_where_windows_overlap(rng):
    rows = Windows((30, 20), (13, 9)).rows(57, 71)
    boxes = [box for row in rows for box in row]
    pieces = [rng.standard_normal((2, 20, 30)).astype(np.float32) for _ in boxes]
    total, count = np.zeros((2, 57, 71)), np.zeros((57, 71))
    for box, piece in zip(boxes, pieces):
        total[:, box.top : box.bottom, box.left : box.right] += piece
        count[box.top : box.bottom, box.left : box.right] += 1
    strips = list(averaged(rows, pieces))
    np.testing.assert_allclose(np.concatenate(strips, axis=1), total / count, atol=1e-5)
    assert len(strips) == len(rows)


def test_masks_are_joined_in_the_middle_of_overlaps():
    rows = Windows((6, 4), (4, 4)).rows(4, 10)
    assert [(box.left, box.right) for box in rows[0]] == [(0, 6), (4, 10)]
    joined = stitched(rows, [np.full((4, 6), 1, np.uint8), np.full((4, 6), 2, np.uint8)])
    assert joined.dtype == np.uint8 and joined.tolist() == [[1] * 5 + [2] * 5] * 4


def test_windows_stand_where_paddleseg_puts_them(rng):
    """Each window is answered with its place, so that a wrong place or a wrong average would show."""
    import paddle
    from paddleseg.core.infer import slide_inference

    image = paddle.to_tensor(rng.standard_normal((1, 3, 61, 83)).astype(np.float32))
    calls = []

    def model(crop):
        calls.append(crop.numpy()[0])
        return [crop * float(len(calls))]

    expected = slide_inference(model, image, (32, 24), (21, 17)).numpy()[0]
    rows = Windows((32, 24), (21, 17)).rows(61, 83)
    pieces = cut(image.numpy()[0], rows)
    assert len(pieces) == len(calls) and all(np.array_equal(ours, theirs) for ours, theirs in zip(pieces, calls))
    found = np.concatenate(list(averaged(rows, [piece * (i + 1) for i, piece in enumerate(pieces)])), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_stride_is_two_thirds_of_the_window_by_default():
    assert Windows.checked([96, 64]) == Windows((96, 64), (64, 42))


@pytest.mark.parametrize(
    "crop_size, stride, words",
    [
        ((64, 64), (65, 10), "stride 65 10 is larger than crop_size 64 64 and would skip pixels"),
        ((64,), None, r"crop_size is \(64,\); give width and height"),
        ((64, 0), None, "crop_size"),
        ((64, 64), (32, 2.5), "stride"),
    ],
)
def test_a_window_that_cannot_be_is_refused(crop_size, stride, words):
    with pytest.raises(ConfigError, match=words):
        Windows.checked(crop_size, stride)
