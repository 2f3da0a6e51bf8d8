"""What may happen between a block's forward and its backward, and what may be asked of its gradients."""

import copy
import os
import subprocess
import sys
import weakref

import paddle
import pytest
from one_block import assert_close, layer

from ppliteseg_paddle.models.fused import conv_bn as convolution


@pytest.mark.parametrize("changed", ["input", "conv.weight", "bn.weight", "bn.bias"])
def test_what_was_changed_in_place_since_is_an_error_as_with_paddles_layers(changed, counted, by_paddle):
    def change_between(made):
        x = batch.clone()
        z = made(x)
        tensor = x if changed == "input" else dict(made.named_parameters())[changed]
        with paddle.no_grad():
            tensor.scale_(1.5)
        with pytest.raises((RuntimeError, OSError), match="modified by an inplace operation"):
            z.sum().backward()
        assert paddle.is_grad_enabled()

    made, batch = layer()
    batch.stop_gradient = False
    by_paddle(change_between, copy.deepcopy(made))
    assert counted == [0]
    change_between(made)
    assert counted == [1]


def test_an_input_of_which_a_copy_is_kept_is_not_kept_itself():
    made, batch = layer()
    x = batch * 1
    same, reference = convolution._block(made.conv, made.bn, x, True)._x.same, weakref.ref(x)
    z = made(x)
    del x
    assert (reference() is not None) == same
    z.sum().backward()


@pytest.mark.parametrize(
    "asked", [["x"], ["conv.weight"], ["x", "conv.weight"], ["conv.weight", "bn.weight", "bn.bias"]]
)
def test_paddle_grad_gives_the_gradients_that_it_is_asked_for(asked, counted, by_paddle):
    """Through two blocks, of which the first may have none that is asked for."""

    def gradients(first, second):
        x = batch.clone().detach()
        x.stop_gradient = False
        tensors = [x if name == "x" else dict(second.named_parameters())[name] for name in asked]
        found = paddle.grad((second(first(x)) ** 2).sum(), tensors)
        return {name: gradient.numpy() for name, gradient in zip(asked, found)}

    (first, batch), (second, _) = layer(), layer(shape=(32, 16, 3, 1, 1, 9, 12))
    expected = by_paddle(gradients, copy.deepcopy(first), copy.deepcopy(second))
    if convolution._PADDLE_2:  # it cannot be told which gradients it is to drop
        with pytest.raises(ValueError, match="should return None"):
            gradients(first, second)
        return
    assert_close(gradients(first, second), expected, 1e-4)
    assert counted == [2]


def test_a_gradient_of_the_gradient_is_refused_in_words():
    """In a process of its own, which a fault of this kind has ended before."""
    code = """
import paddle
from ppliteseg_paddle.models.layers import ConvBNReLU
x = paddle.randn([2, 16, 9, 9])
x.stop_gradient = False
try:
    paddle.grad((ConvBNReLU(16, 32, 3)(x) ** 2).sum(), [x], create_graph=True)
except Exception as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PPLITESEG_ONEDNN": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    assert "no gradient of a gradient (create_graph=True): set PPLITESEG_ONEDNN=0" in ended.stdout
