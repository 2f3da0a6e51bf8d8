"""What oneDNN's path holds in the library: how much, for how long, and that results do not depend on it."""

import copy
import gc

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.models.fused import block as blocks
from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.layers import ConvBNReLU


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(blocks, "_blocks", type(blocks._blocks)())
    gc.collect()


def live():
    gc.collect()
    return len(onednn.library().live)


def step(made, height, width):
    """Result and weight gradient of a training step on a map of this size."""
    paddle.seed(height * 100 + width)
    x = paddle.randn([1, 16, height, width])
    x.stop_gradient = False
    result = made(x)
    (result**2).sum().backward()
    gradient = made.conv.weight.grad.numpy()
    made.clear_gradients()
    return result.numpy(), gradient, x.grad.numpy()


def assert_close(found, expected):
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


@pytest.mark.slow
def test_a_thousand_shapes_hold_no_more_than_the_cache_and_stay_right(monkeypatch, by_paddle):
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 16)
    made = ConvBNReLU(16, 16, 3)
    other, before, largest = copy.deepcopy(made), live(), 0
    sizes = [(height, width) for height in range(3, 35) for width in range(3, 35)]
    for i, (height, width) in enumerate(sizes):
        found = step(made, height, width)
        if i % 16 == 0:
            assert_close(found, by_paddle(step, other, height, width))
        handles = len(onednn.library().live) - before
        largest = max(largest, handles)
        if i == 15:
            full = handles
    assert len(sizes) > 1000 and len(blocks._blocks) == 16
    assert 0 < largest <= 1.5 * full
    blocks._blocks.clear()
    assert live() == before


def test_the_longest_unused_shape_is_the_one_that_goes(monkeypatch):
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 2)
    made = ConvBNReLU(16, 16, 3)
    for size in (5, 6, 5, 7):
        step(made, size, size)
    assert [case.x_shape[2] for _, case in blocks._blocks] == [5, 7]


def test_a_block_that_a_gradient_still_needs_outlives_its_place_in_the_cache(monkeypatch, by_paddle):
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 1)

    def two(made):
        x = paddle.ones([1, 16, 6, 6]) * paddle.arange(6, dtype="float32")
        first, _ = (made(x) ** 2).sum(), made(paddle.ones([1, 16, 5, 5]))
        first.backward()
        return [made.conv.weight.grad.numpy()]

    made, before = ConvBNReLU(16, 16, 3), live()
    other = copy.deepcopy(made)
    assert_close(two(made), by_paddle(two, other))
    blocks._blocks.clear()
    assert live() == before


@pytest.mark.parametrize("failing", range(1, 8))
def test_what_was_built_before_a_refusal_is_destroyed_and_paddle_computes(failing, monkeypatch):
    built, primitive, before = [0], blocks.Primitive, live()

    def refuse_one(*arguments):
        built[0] += 1
        if built[0] == failing:
            raise RuntimeError("oneDNN: refused")
        return primitive(*arguments)

    monkeypatch.setattr(blocks, "Primitive", refuse_one)
    made = ConvBNReLU(16, 16, 3)
    result, gradient, _ = step(made, 6, 6)
    if failing <= 5:  # a block has five operations of its own
        assert list(blocks._blocks.values()) == [None] and live() == before
    else:
        assert live() > before
    assert np.isfinite(result).all() and gradient.any()
