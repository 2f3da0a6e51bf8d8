"""Convolutions in bfloat16: near float32's results, and everything but maps and products stays float32."""

import copy

import numpy as np
import paddle
import pytest
from one_block import SHAPES, layer

import ppliteseg_paddle
from ppliteseg_paddle.losses.cross_entropy import CELoss
from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.fused.conv_bn import convolutions_in
from ppliteseg_paddle.models.layers import ConvBN, ConvBNReLU


@pytest.fixture(autouse=True)
def bf16_processor(onednn_computes):
    if not onednn.library().bf16:
        pytest.skip("this processor has neither AVX512_BF16 nor AMX")


def results(made, batch, upstream):
    """The output, the running statistics and all gradients of one step."""
    x = batch.clone().detach()
    x.stop_gradient = x.shape[1] == 3  # an image needs no gradient
    z = made(x)
    (z * upstream).sum().backward()
    gradients = {name: parameter.grad for name, parameter in made.named_parameters() if not parameter.stop_gradient}
    if x.grad is not None:
        gradients["x"] = x.grad
    return {"z": z, "mean": made.bn._mean, "variance": made.bn._variance, **gradients}


@pytest.mark.parametrize("cls", [ConvBN, ConvBNReLU])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[5] > 1 and shape[1] % 8 == 0])
def test_a_block_is_within_bf16s_rounding_of_float32(shape, cls, counted):
    made, batch = layer(cls, shape)
    other, upstream = copy.deepcopy(made), paddle.randn(copy.deepcopy(made)(batch).shape)
    counted[0] = 0
    expected = results(made, batch, upstream)
    with convolutions_in("bf16"):
        found = results(other, batch, upstream)
    assert counted == [2] and not np.array_equal(found["z"].numpy(), expected["z"].numpy())
    for name, value in expected.items():
        value, near = value.numpy(), found[name].numpy()
        assert near.dtype == np.float32
        # ReLU opens or closes for single values by the rounding; the norm tells whether the whole is right.
        assert np.linalg.norm(near - value) <= 0.1 * max(np.linalg.norm(value), 1e-3), name


def test_nothing_is_rounded_outside_of_the_context():
    made, batch = layer()
    expected = copy.deepcopy(made)(batch).numpy()
    with convolutions_in("bf16"):
        rounded = copy.deepcopy(made)(batch).numpy()
        with convolutions_in("fp32"):
            inside = copy.deepcopy(made)(batch).numpy()
    assert np.array_equal(inside, expected) and np.array_equal(made(batch).numpy(), expected)
    assert not np.array_equal(rounded, expected)


def test_evaluation_is_float32():
    made, batch = layer()
    made.eval()
    expected = made(batch).numpy()
    with convolutions_in("bf16"):
        assert np.array_equal(made(batch).numpy(), expected)


def test_the_weights_that_an_optimizer_moves_are_float32():
    """A step far below bf16's resolution of the weight must not be lost."""
    made, batch = layer()
    before = made.conv.weight.numpy()
    optimizer = paddle.optimizer.SGD(1e-6, parameters=made.parameters())
    with convolutions_in("bf16"):
        (made(batch) ** 2).mean().backward()
    optimizer.step()
    moved = np.abs(made.conv.weight.numpy() - before)
    assert made.conv.weight.dtype == paddle.float32 and 0 < moved.max() < 1e-4


@pytest.mark.slow
def test_a_network_learns_a_tiny_set_as_in_float32():
    image, label = paddle.randn([2, 3, 64, 96]), np.zeros([2, 64, 96], "int64")
    label[:, 20:40, 30:70], label[:, 45:] = 1, 2
    image = image * 0.3 + paddle.to_tensor(label).astype("float32").unsqueeze(1)

    def losses(precision):
        paddle.seed(3)
        network = ppliteseg_paddle.pp_liteseg_t(num_classes=3)
        optimizer = paddle.optimizer.Momentum(0.02, parameters=network.parameters())
        loss, seen = CELoss(), []
        with convolutions_in(precision):
            for _ in range(25):
                total = sum(loss(logits, paddle.to_tensor(label)) for logits in network(image))
                total.backward()
                optimizer.step()
                optimizer.clear_grad()
                seen.append(float(total))
        return seen

    exact, rounded = losses("fp32"), losses("bf16")
    assert rounded[0] != exact[0] and abs(rounded[0] - exact[0]) < 0.03 * exact[0]
    assert exact[-1] < 0.4 * exact[0] and abs(rounded[-1] - exact[-1]) < 0.1 * exact[0]
