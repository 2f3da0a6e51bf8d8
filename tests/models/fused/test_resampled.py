"""Bilinear resizing by oneDNN in evaluations, against a plain computation of it and against Paddle's kernel."""

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.fused.folded import Folded
from ppliteseg_paddle.models.fused.resampled import Resampled, resampled
from ppliteseg_paddle.models.layers import resize


@pytest.fixture
def computed(monkeypatch):
    """[how many maps oneDNN has resized]"""
    count, forward = [0], Resampled.forward

    def counting(self, x):
        count[0] += 1
        return forward(self, x)

    monkeypatch.setattr(Resampled, "forward", counting)
    return count


def bilinear(values, size):
    """With half-pixel centres, in float64; positions beyond the outermost centres take their values."""
    for axis, n in zip((2, 3), size):
        length = values.shape[axis]
        position = np.clip((np.arange(n) + 0.5) * length / n - 0.5, 0, length - 1)
        low = np.floor(position).astype(int)
        share = (position - low).reshape([-1, 1] if axis == 2 else [-1])
        high = np.minimum(low + 1, length - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 11, 12, 15), [96, 120]), ((2, 64, 23, 30), [45, 60]), ((1, 3, 5, 1), [7, 4]), ((1, 2, 6, 9), [6, 4])],
    ids=str,
)
def test_values_are_bilinear(shape, size, computed):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with Folded(), paddle.no_grad():
        found = resize(paddle.to_tensor(values), size)
    assert computed == [1] and found.shape == [*shape[:2], *size]
    np.testing.assert_allclose(found.numpy(), bilinear(values.astype(np.float64), size), atol=1e-4)


@pytest.mark.parametrize(("shape", "size"), [((2, 11, 12, 15), [96, 120]), ((1, 3, 23, 30), [45, 60])], ids=str)
def test_gradients_are_those_of_paddles_kernel(shape, size, computed):
    x, upstream = paddle.randn(shape), paddle.randn([*shape[:2], *size])
    x.stop_gradient = False
    results = [resize(x, size, by_onednn=by_onednn) for by_onednn in (False, True)]
    assert computed == [1]
    expected, found = (paddle.grad(result, x, upstream)[0].numpy() for result in results)
    np.testing.assert_allclose(results[1].numpy(), results[0].numpy(), atol=2e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_view_with_strides_is_resized_as_its_values_are(computed):
    whole = paddle.rand([1, 4, 8, 10])
    view = whole.transpose([0, 1, 3, 2])
    with Folded(), paddle.no_grad():
        found = resize(view, [30, 24])
    assert computed == [1]
    np.testing.assert_allclose(found.numpy(), resize(paddle.to_tensor(view.numpy()), [30, 24]).numpy(), atol=1e-5)


def test_paddle_resizes_outside_with_gradients_and_by_nearest(computed, monkeypatch):
    x = paddle.rand([1, 2, 4, 4])
    with paddle.no_grad():
        expected = resize(x, [8, 8])
        assert resampled(x, [8, 8]) is None
        with Folded():
            resize(x, [8, 8], "nearest")
            assert resampled(x.astype("float64"), [8, 8]) is None
            monkeypatch.setattr(onednn, "library", lambda: None)
            np.testing.assert_array_equal(resize(x, [9, 9]).numpy(), resize(x.clone(), [9, 9]).numpy())
        np.testing.assert_array_equal(resize(x, [8, 8], by_onednn=True).numpy(), expected.numpy())
    with Folded():
        np.testing.assert_array_equal(resize(x, [8, 8]).numpy(), expected.numpy())
    assert computed == [0]
