"""Convolution, batch norm and ReLU by oneDNN against Paddle's own layers: values, gradients, statistics, and who
computes when."""

import copy
import threading

import numpy as np
import paddle
import pytest
from paddle import nn

import ppliteseg_paddle
from ppliteseg_paddle.losses.cross_entropy import CELoss
from ppliteseg_paddle.models.fused import conv_bn as convolution
from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.layers import ConvBN, ConvBNReLU

# in, out, kernel, stride, groups, height, width
SHAPES = [
    (16, 32, 3, 1, 1, 9, 12),
    (3, 32, 3, 2, 1, 33, 47),
    (32, 64, 3, 2, 1, 12, 15),
    (64, 32, 1, 1, 1, 7, 5),
    (40, 24, 3, 1, 1, 8, 8),
    (32, 32, 3, 2, 32, 11, 14),
    (1024, 128, 1, 1, 1, 1, 1),
    (64, 11, 3, 1, 1, 6, 8),
]


@pytest.fixture
def counted(monkeypatch):
    """How often oneDNN computed forward, in a list of one."""
    calls, forward = [0], onednn.Block.forward
    monkeypatch.setattr(onednn.Block, "forward", lambda *args: calls.__setitem__(0, calls[0] + 1) or forward(*args))
    return calls


def layer(cls=ConvBNReLU, shape=SHAPES[0], seed=0):
    """A block with numbers of its own everywhere, and a batch for it."""
    paddle.seed(seed)
    in_channels, out_channels, kernel, stride, groups, height, width = shape
    made = cls(in_channels, out_channels, kernel, stride=stride, groups=groups)
    made.bn.weight.set_value(paddle.rand([out_channels]) + 0.5)
    made.bn.bias.set_value(paddle.randn([out_channels]) * 0.3)
    return made, paddle.randn([3, in_channels, height, width]) + 0.2


def everything(made, batch):
    """name -> array: the result, all gradients, and the statistics after one step."""
    batch = batch.clone().detach()
    batch.stop_gradient = batch.shape[1] == 3  # an image has no gradient
    result = made(batch)
    (result * paddle.arange(result.size, dtype="float32").reshape(result.shape).sin()).sum().backward()
    values = {"result": result, "mean": made.bn._mean, "variance": made.bn._variance}
    values.update(
        (name, parameter.grad)
        for name, parameter in made.named_parameters()
        if "_mean" not in name and "_variance" not in name
    )
    if not batch.stop_gradient:
        values["x"] = batch.grad
    return {name: value.numpy() for name, value in values.items()}


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= tolerance * max(np.abs(value).max(), 1e-3), name


@pytest.mark.parametrize("cls", [ConvBNReLU, ConvBN])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_gradients_and_statistics_are_those_of_paddles_layers(shape, cls, counted, by_paddle):
    made, batch = layer(cls, shape)
    expected = by_paddle(everything, copy.deepcopy(made), batch)
    assert counted == [0]
    found = everything(made, batch)
    assert counted == [1]
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("preset", ["pp_liteseg_t", "pp_liteseg_b"])
def test_a_whole_network_has_the_same_loss_and_gradients(preset, counted, by_paddle):
    paddle.seed(1)
    network = getattr(ppliteseg_paddle, preset)(num_classes=5)
    image, label = paddle.randn([3, 3, 96, 128]), paddle.randint(0, 5, [3, 96, 128])

    def step(network, image):
        losses = network.loss_computation(
            network(image), {"types": [CELoss()] * 3, "coef": [1, 1, 1]}, {"label": label}
        )
        sum(losses).backward()
        gradient = np.concatenate(
            [parameter.grad.numpy().ravel() for parameter in network.parameters() if parameter.grad is not None]
        )
        return (
            [float(loss) for loss in losses],
            gradient,
            {name: value.numpy() for name, value in network.state_dict().items()},
        )

    losses, gradient, state = by_paddle(step, copy.deepcopy(network), image)
    rounded = by_paddle(step, copy.deepcopy(network), image * (1 + 1e-6 * paddle.randn(image.shape)))[1]
    found_losses, found_gradient, found_state = step(network, image)
    assert counted[0] > 20
    assert np.allclose(found_losses, losses, atol=1e-5)
    # Fifty layers are normalised by few numbers: an image that is rounded otherwise changes the gradient as much.
    assert (
        np.linalg.norm(found_gradient - gradient)
        <= 3 * np.linalg.norm(rounded - gradient)
        < 0.3 * np.linalg.norm(gradient)
    )
    for name, value in state.items():
        assert np.allclose(found_state[name], value, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("frozen", ["conv", "bn"])
def test_frozen_parts_get_no_gradient(frozen, by_paddle):
    def step(made):
        for parameter in getattr(made, frozen).parameters():
            parameter.stop_gradient = True
        (made(batch) ** 2).sum().backward()
        assert all(parameter.grad is None for parameter in getattr(made, frozen).parameters())
        return (made.bn if frozen == "conv" else made.conv).weight.grad.numpy()

    made, batch = layer()
    assert_close({"gradient": step(copy.deepcopy(made))}, {"gradient": by_paddle(step, made)}, 1e-4)


def test_momentum_zero_leaves_the_statistics_of_the_last_batch(counted):
    made, batch = layer(ConvBN)
    made.bn._momentum = 0.0  # as precise batch norm has it
    with paddle.no_grad():
        made(batch)
        y = made.conv(batch).numpy()
    assert counted == [1]
    assert np.allclose(made.bn._mean.numpy(), y.mean((0, 2, 3)), atol=1e-5)
    assert np.allclose(made.bn._variance.numpy(), y.var((0, 2, 3)), rtol=1e-4)


def evaluating(made):
    made.eval()


def global_statistics(made):
    made.bn._use_global_stats = True


def a_bias(made):
    made.conv.bias = made.conv.create_parameter([made.conv.weight.shape[0]], is_bias=True)


def padding_by_name(made):
    made.conv._padding = "SAME"


@pytest.mark.parametrize(
    "change", [evaluating, global_statistics, a_bias, padding_by_name], ids=lambda change: change.__name__
)
def test_paddle_computes_what_onednn_does_not(change, counted, by_paddle):
    made, batch = layer()
    change(made)
    expected = by_paddle(lambda: copy.deepcopy(made)(batch).numpy())
    assert np.array_equal(made(batch).numpy(), expected) and counted == [0]


def test_layers_with_hooks_are_called(counted):
    made, batch = layer()
    seen = []
    made.conv.register_forward_post_hook(lambda layer, inputs, output: seen.append(output.shape))
    made(batch)
    assert seen == [[3, 32, 9, 12]] and counted == [0]


def test_the_attentions_few_channels_are_left_to_paddle(counted):
    made, batch = layer(shape=(4, 2, 3, 1, 1, 6, 8))
    made(batch)
    assert counted == [0]


@pytest.mark.parametrize("missing", [True, False], ids=["no library", "too many shapes"])
def test_without_the_library_or_after_too_many_shapes_paddle_computes(missing, counted, monkeypatch):
    made, batch = layer(shape=(16, 32, 3, 1, 1, 10, 13))
    monkeypatch.setattr(onednn, "_blocks", {})
    if missing:
        monkeypatch.setattr(onednn, "library", lambda: None)
    else:
        monkeypatch.setattr(onednn, "MOST_BLOCKS", 0)
    assert list(made(batch).shape) == [3, 32, 10, 13] and counted == [0]


def test_a_variable_leaves_it_out(monkeypatch):
    onednn.library.cache_clear()
    try:
        monkeypatch.setenv("PPLITESEG_ONEDNN", "0")
        assert onednn.library() is None
    finally:
        onednn.library.cache_clear()


def test_a_shape_that_the_library_refuses_goes_to_paddle(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("oneDNN: refused")

    monkeypatch.setattr(onednn, "Block", refuse)
    monkeypatch.setattr(onednn, "_blocks", {})
    made, batch = layer()
    assert list(made(batch).shape) == [3, 32, 9, 12]


def test_inputs_that_are_views_are_read_in_their_own_order(by_paddle):
    made, batch = layer()
    turned = paddle.transpose(paddle.transpose(batch, [0, 1, 3, 2]).contiguous(), [0, 1, 3, 2])
    expected = by_paddle(lambda: copy.deepcopy(made)(batch).numpy())
    assert np.allclose(made(turned).numpy(), expected, atol=1e-4)


def test_two_threads_do_not_disturb_each_other():
    pairs = [layer(seed=seed) for seed in range(4)]
    expected = [made(batch).numpy() for made, batch in pairs]
    wrong = []

    def repeat(index):
        made, batch = pairs[index]
        for _ in range(30):
            if not np.array_equal(made(batch).numpy(), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_second_step_uses_the_new_weights(by_paddle):
    made, batch = layer()
    other = copy.deepcopy(made)

    def steps(made):
        optimizer = paddle.optimizer.SGD(0.1, parameters=made.parameters())
        for _ in range(3):
            (made(batch) ** 2).mean().backward()
            optimizer.step()
            optimizer.clear_grad()
        return made.conv.weight.numpy()

    assert np.allclose(steps(made), by_paddle(steps, other), rtol=1e-4, atol=1e-6)


def test_synchronised_batch_norm_is_left_to_paddle():
    made, batch = layer()
    made.bn = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(made.bn))[0]
    assert convolution._block(made.conv, made.bn, batch, True) is None
