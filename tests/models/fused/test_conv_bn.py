"""Convolution, batch norm and ReLU by oneDNN against Paddle's own layers: values, gradients, statistics, and who
computes when."""

import copy
import threading

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from one_block import SHAPES, assert_close, layer
from paddle import nn

import ppliteseg_paddle
from ppliteseg_paddle.losses.cross_entropy import CELoss
from ppliteseg_paddle.models.fused import conv_bn as convolution
from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.layers import ConvBN, ConvBNReLU


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


@pytest.mark.parametrize("cls", [ConvBNReLU, ConvBN])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_gradients_and_statistics_are_those_of_paddles_layers(shape, cls, counted, by_paddle):
    made, batch = layer(cls, shape)
    expected = by_paddle(everything, copy.deepcopy(made), batch)
    assert counted == [0]
    found = everything(made, batch)
    assert counted == [1]
    assert_close(found, expected, 2e-5)


def training_step(network, image, label):
    """Losses, gradients by name, and the state after it."""
    losses = network.loss_computation(network(image), {"types": [CELoss()] * 3, "coef": [1, 1, 1]}, {"label": label})
    sum(losses).backward()
    gradients = {name: p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None}
    return [float(loss) for loss in losses], gradients, {name: t.numpy() for name, t in network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["pp_liteseg_t", "pp_liteseg_b"])
def test_a_whole_network_has_the_losses_statistics_and_gradients_of_float64(preset, counted, by_paddle):
    paddle.seed(1)
    network = getattr(ppliteseg_paddle, preset)(num_classes=5)
    image, label = paddle.randn([3, 3, 96, 128]), paddle.randint(0, 5, [3, 96, 128])
    precise = copy.deepcopy(network).to(dtype="float64")
    losses, gradients, state = by_paddle(training_step, precise, image.astype("float64"), label)
    found_losses, found_gradients, found_state = training_step(network, image, label)
    assert counted[0] > 20
    assert np.allclose(found_losses, losses, atol=1e-4)
    for name, value in state.items():
        assert np.allclose(found_state[name], value, rtol=1e-3, atol=1e-4), name
    # Fifty layers are normalised by few numbers, so that float32's last bit moves the gradient by some percent, with
    # Paddle's own layers as well. The sharp tests are those of single blocks.
    found, expected = (np.concatenate([g[name].ravel() for name in gradients]) for g in (found_gradients, gradients))
    assert np.linalg.norm(found - expected) <= 0.2 * np.linalg.norm(expected)


def float64_gradients(block, x, z, grad_z):
    """Of x, weight, scale and shift, by the definitions; where ReLU passes is taken from z."""
    x, weight, scale, shift = tensors = [
        one.detach().astype("float64") for one in (x, block.conv.weight, block.bn.weight, block.bn.bias)
    ]
    for tensor in tensors:
        tensor.stop_gradient = False
    conv = block.conv
    y = F.conv2d(x, weight, stride=conv._stride, padding=conv._padding, groups=conv._groups)
    y = (y - y.mean([0, 2, 3], keepdim=True)) / (y.var([0, 2, 3], unbiased=False, keepdim=True) + 1e-5).sqrt()
    result = y * scale.reshape([1, -1, 1, 1]) + shift.reshape([1, -1, 1, 1])
    passed = z > 0 if isinstance(block, ConvBNReLU) else paddle.ones_like(z, dtype="bool")
    return paddle.grad((result * passed.astype("float64") * grad_z.astype("float64")).sum(), tensors)


@pytest.mark.slow
def test_every_block_of_a_network_has_float64s_gradients_for_what_it_was_given(counted):
    """One block's own scratch memory and primitives serve many others: no gradient may be another block's."""
    network = ppliteseg_paddle.pp_liteseg_b(num_classes=5)
    given = {}

    def before(name, inputs):
        x = inputs[0].clone()  # so that its gradient is that of this block alone
        x.stop_gradient = False
        x.retain_grads()
        given[name] = [x]
        return (x,)

    def after(name, z):
        given[name].append(z)
        z.register_hook(lambda grad: given[name].append(grad.clone()))

    for name, part in network.named_sublayers():
        if (
            isinstance(part, ConvBN)
            and part.conv.weight.shape[0] >= convolution.MIN_CHANNELS
            and part.conv.bias is None
        ):
            part.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs))
            part.register_forward_post_hook(lambda _, inputs, z, name=name: after(name, z))
    sum((logits**2).mean() for logits in network(paddle.randn([2, 3, 96, 128]))).backward()
    assert len(given) >= counted[0] > 40
    for name, part in network.named_sublayers():
        if name in given:
            x, z, grad_z = given[name]
            tensors = (x, part.conv.weight, part.bn.weight, part.bn.bias)
            for tensor, expected in zip(tensors, float64_gradients(part, x, z, grad_z)):
                assert_close({name: tensor.grad.numpy()}, {name: expected.numpy()}, 5e-5)


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


class Doubled(nn.Conv2D):
    def forward(self, x):
        return 2 * super().forward(x) + 1


def a_convolution_of_another_class(made):
    made.conv.__class__ = Doubled


def a_forward_of_its_own(made):
    forward = made.bn.forward
    made.bn.forward = lambda y: 2 * forward(y)


@pytest.mark.parametrize(
    "change",
    [evaluating, global_statistics, a_bias, padding_by_name, a_convolution_of_another_class, a_forward_of_its_own],
    ids=lambda change: change.__name__,
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


def test_without_the_library_paddle_computes(counted, monkeypatch):
    made, batch = layer(shape=(16, 32, 3, 1, 1, 10, 13))
    monkeypatch.setattr(onednn, "library", lambda: None)
    assert list(made(batch).shape) == [3, 32, 10, 13] and counted == [0]


def test_a_variable_turns_it_off(monkeypatch):
    onednn.library.cache_clear()
    try:
        monkeypatch.setenv("PPLITESEG_ONEDNN", "0")
        assert onednn.library() is None
    finally:
        onednn.library.cache_clear()


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
