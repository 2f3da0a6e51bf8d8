"""Maps that stay in oneDNN's layout between layers: what they hold, who gives them to whom, and that nothing else
changes."""

import copy
import subprocess
import sys

import numpy as np
import paddle
import pytest
from one_block import assert_close, layer
from paddle import nn

import ppliteseg_paddle
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.fused import block as blocks
from ppliteseg_paddle.models.fused import blocked
from ppliteseg_paddle.models.fused.folded import Folded
from ppliteseg_paddle.models.layers import ConvBNReLU
from ppliteseg_paddle.models.stdc import STDCBlock, STDCNet813
from ppliteseg_paddle.models.uafm import SpatialAttentionFusion

CHANNELS = 32
FORMS = [8, 16, CHANNELS]  # the channels that lie together


def in_blocks(array, b):
    n, c, h, w = array.shape
    return np.ascontiguousarray(array.reshape(n, c // b, b, h, w).transpose(0, 1, 3, 4, 2))


def random_map(*shape, b=1):
    """Values as (N, C, H, W), and the tensor that holds them in blocks of b."""
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    tensor = paddle.to_tensor(values if b == 1 else in_blocks(values, b))
    tensor.stop_gradient = False
    return values, tensor


@pytest.fixture
def forms(monkeypatch):
    """Of each block that oneDNN computed in training: the channels that lay together in x and in z."""
    seen, forward = [], blocks.Block.forward

    def noted(self, x, *tensors):
        result = forward(self, x, *tensors)
        seen.append((blocked.block_size(x), blocked.block_size(result[0])))
        return result

    monkeypatch.setattr(blocks.Block, "forward", noted)
    return seen


# --------------------------------------------------------------------------------------------
# The form itself
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
@pytest.mark.parametrize("b", FORMS)
def test_a_map_and_its_gradient_are_arranged_and_not_changed(b, size):
    values, x = random_map(2, CHANNELS, *size, b=b)
    assert blocked.is_blocked(x) and blocked.map_shape(x) == values.shape and blocked.block_size(x) == b
    result = blocked.plain(x)
    assert np.array_equal(result.numpy(), values)
    weight, _ = random_map(2, CHANNELS, *size)
    (result * paddle.to_tensor(weight)).sum().backward()
    assert np.array_equal(x.grad.numpy(), in_blocks(weight, b))


@pytest.mark.parametrize("size", [(8, 12), (9, 13), (1, 2)])
@pytest.mark.parametrize("b", FORMS)
def test_average_pooling_has_paddles_values_and_gradients(b, size):
    pool = nn.AvgPool2D(3, stride=2, padding=1)
    values, x = random_map(2, CHANNELS, *size, b=b)
    _, reference = random_map(2, CHANNELS, *size)
    found, expected = blocked.average_pool(pool, x), pool(reference)
    assert blocked.block_size(found) in (b, 1)  # Paddle computes what the library has slow reference code for
    (blocked.plain(found).sin() * 3).sum().backward()
    (expected.sin() * 3).sum().backward()
    assert np.allclose(blocked.plain(found).numpy(), expected.numpy(), atol=1e-6)
    assert np.allclose(x.grad.numpy(), in_blocks(reference.grad.numpy(), b), atol=1e-6)


@pytest.mark.parametrize("options", [{"exclusive": False}, {"ceil_mode": True}, {"divisor_override": 5}], ids=str)
def test_pools_of_another_kind_are_computed_by_paddle(options):
    pool = nn.AvgPool2D(3, stride=2, padding=1, **options)
    values, x = random_map(2, CHANNELS, 8, 12, b=16)
    assert np.array_equal(blocked.average_pool(pool, x).numpy(), pool(paddle.to_tensor(values)).numpy())


@pytest.mark.parametrize(
    "parts, result",
    [
        ([(32, 8), (16, 8)], 8),
        ([(32, 16), (32, 16), (16, 16)], 16),
        ([(32, 32), (32, 32)], 64),
        ([(32, 32), (16, 16), (24, 24)], 72),  # all of them with their channels last
        ([(32, 8), (32, 16)], 1),
        ([(32, 16), (24, 1)], 1),
        ([(32, 1), (24, 1)], 1),
    ],
)
def test_maps_are_joined_along_their_channels(parts, result):
    pairs = [random_map(2, channels, 3, 5, b=b) for channels, b in parts]
    joined = blocked.concat([x for _, x in pairs])
    assert blocked.block_size(joined) == result
    assert np.array_equal(blocked.plain(joined).numpy(), np.concatenate([values for values, _ in pairs], axis=1))


@pytest.mark.parametrize("kernel, stride, groups", [(3, 1, 1), (1, 1, 1), (3, 2, CHANNELS)])
@pytest.mark.parametrize("b", FORMS)
def test_a_blocks_values_and_gradients_do_not_depend_on_the_form_of_its_input(b, kernel, stride, groups, forms):
    made, _ = layer(ConvBNReLU, (CHANNELS, CHANNELS, kernel, stride, groups, 9, 12))
    _, plain = random_map(2, CHANNELS, 9, 12)
    _, x = random_map(2, CHANNELS, 9, 12, b=b)
    found = {}
    for name, given in (("plain", plain), ("blocked", x)):
        copied = copy.deepcopy(made)
        result = copied(given)
        assert not blocked.is_blocked(result)
        (result * result.sin()).sum().backward()
        found[name] = {name: p.grad.numpy() for name, p in copied.named_parameters() if p.grad is not None}
        found[name]["result"] = result.numpy()
    assert [given for given, _ in forms] == [1, b]
    assert_close(found["blocked"], found["plain"], 1e-6)
    assert np.allclose(x.grad.numpy(), in_blocks(plain.grad.numpy(), b), atol=1e-5)


def test_a_gradient_of_the_gradient_is_refused_in_words():
    _, x = random_map(2, CHANNELS, 8, 8, b=16)
    with pytest.raises((RuntimeError, OSError), match="no gradient of a gradient"):
        paddle.grad(blocked.plain(x).sum(), x, create_graph=True)


# --------------------------------------------------------------------------------------------
# In a network
# --------------------------------------------------------------------------------------------
def features_and_gradients(backbone, image):
    backbone.clear_gradients()
    features = backbone(image)
    sum((feature * feature).mean() for feature in features).backward()
    return features, {name: p.grad.numpy() for name, p in backbone.named_parameters() if p.grad is not None}


def without(monkeypatch):
    return monkeypatch.setattr(blocked, "_fits", lambda *_: False)


def test_a_backbone_keeps_its_maps_and_returns_the_same_features_and_gradients(forms, monkeypatch):
    backbone, image = STDCNet813(), paddle.rand([2, 3, 100, 132])
    before = copy.deepcopy(backbone)
    features, gradients = features_and_gradients(backbone, image)
    kept = list(forms)
    assert kept[0][0] == 1 and all(x > 1 for x, _ in kept[1:]) and all(z > 1 for _, z in kept)
    without(monkeypatch)
    expected, expected_gradients = features_and_gradients(before, image)
    assert set(forms[len(kept) :]) == {(1, 1)}
    for found, wanted in zip(features, expected):
        assert found.shape == wanted.shape and np.allclose(found.numpy(), wanted.numpy(), atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    found, wanted = (np.concatenate([g[name].ravel() for name in gradients]) for g in (gradients, expected_gradients))
    assert np.linalg.norm(found - wanted) <= 1e-3 * np.linalg.norm(wanted)


def test_evaluation_with_folded_batch_norm_keeps_them_too(monkeypatch):
    network, image = ppliteseg_paddle.pp_liteseg_t(num_classes=5), paddle.rand([1, 3, 100, 132])
    network(image)  # statistics
    network.eval()
    sizes, arranged = [], blocked.Arranged.forward
    monkeypatch.setattr(blocked.Arranged, "forward", lambda self, x: sizes.append(x.shape) or arranged(self, x))
    with paddle.no_grad():
        with Folded():
            (found,) = network(image)
        assert [blocked_shape[2:4] for blocked_shape in sizes] == [
            [4, 5]
        ]  # for the neck; the head's convolutions take all
        (expected,) = network(image)
    assert np.allclose(found.numpy(), expected.numpy(), atol=1e-4)


def plain_skip(maps):
    return lambda layer, inputs: maps.append(inputs[0] if isinstance(inputs[0], paddle.Tensor) else inputs[0][0])


class OwnFusion(SpatialAttentionFusion):
    def forward(self, skip, deep):
        self.seen.append(skip)
        return super().forward(skip, deep)


class OwnHead(FLDHead):
    def forward(self, skips, context):
        self.seen.append(skips[0])
        return super().forward(skips, context)


def own_fusion(head, seen):
    head.fusions[0].__class__ = OwnFusion
    head.fusions[0].seen = seen


class Foreign(nn.Layer):
    """A fusion of the user's that has none of our fusions' methods."""

    def __init__(self, fusion, seen):
        super().__init__()
        self.inside, self.seen = fusion, seen

    def forward(self, skip, deep):
        self.seen.append(skip)
        return self.inside(skip, deep)


def foreign_fusion(head, seen):
    head.fusions[0] = Foreign(head.fusions[0], seen)


def own_head(head, seen):
    head.__class__, head.seen = OwnHead, seen


@pytest.mark.parametrize(
    "change",
    [
        lambda head, seen: head.register_forward_pre_hook(plain_skip(seen)),
        lambda head, seen: head.fusions[0].register_forward_pre_hook(plain_skip(seen)),
        lambda head, seen: head.fusions[0].conv_skip.register_forward_pre_hook(plain_skip(seen)),
        lambda head, seen: head.fusions[0].conv_skip.conv.register_forward_pre_hook(plain_skip(seen)),
        own_fusion,
        foreign_fusion,
        own_head,
    ],
    ids=[
        "hook of the head",
        "of a fusion",
        "of a layer",
        "of a convolution",
        "own fusion",
        "foreign fusion",
        "own head",
    ],
)
def test_what_is_not_ours_in_the_head_gets_plain_maps(change):
    network, image, seen = ppliteseg_paddle.pp_liteseg_t(num_classes=5), paddle.rand([1, 3, 64, 96]), []
    network.full_size_logits = False
    expected = [logits.numpy() for logits in copy.deepcopy(network)(image)]
    change(network.head, seen)
    found = [logits.numpy() for logits in network(image)]
    assert [x.shape for x in seen] == [[1, 256, 8, 12]]
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(found, expected))


class Doubled(nn.Layer):
    def forward(self, x):
        assert x.ndim == 4
        return x * 2


def hooked(backbone):
    backbone.stages[3][0].register_forward_post_hook(lambda layer, inputs, output: output * 2)


def replaced(backbone):
    backbone.stages[3] = nn.Sequential(backbone.stages[3], Doubled())


def overridden(backbone):
    block = backbone.stages[3][0]
    block.forward = lambda x: STDCBlock.forward(block, x) * 2


@pytest.mark.parametrize("change", [hooked, replaced, overridden])
def test_where_something_of_the_users_is_inside_all_maps_are_plain(change, forms, by_paddle):
    backbone, image = STDCNet813(), paddle.rand([2, 3, 100, 132])
    change(backbone)
    found = backbone(image)
    assert set(forms) == {(1, 1)}
    for one, expected in zip(found, by_paddle(backbone, image)):
        assert np.allclose(one.numpy(), expected.numpy(), atol=1e-3)


def test_hooks_on_the_backbone_itself_are_called_with_plain_features():
    network, shapes = ppliteseg_paddle.pp_liteseg_t(num_classes=5), []
    network.backbone.register_forward_post_hook(lambda layer, inputs, output: shapes.extend(x.shape for x in output))
    network(paddle.rand([2, 3, 64, 96]))
    assert shapes == [[2, 32, 32, 48], [2, 64, 16, 24], [2, 256, 8, 12], [2, 512, 4, 6], [2, 1024, 2, 3]]


def test_a_subclass_that_changes_the_features_is_asked_for_them():
    class Doubling(STDCNet813):
        def forward(self, x):
            return [feature * 2 for feature in super().forward(x)]

    network, image = ppliteseg_paddle.pp_liteseg_t(num_classes=5), paddle.rand([1, 3, 64, 96])
    network.eval()
    with paddle.no_grad():
        features = network.backbone(image)
        expected = network.head([f * 2 for f in features[2:]], network.neck(features[4] * 2))[0]
        network.backbone.__class__ = Doubling
        assert np.allclose(network.seg_heads[0](expected).numpy(), network.small_logits(image)[0].numpy(), atol=1e-5)


def test_layers_with_frozen_statistics_in_between_are_computed_by_paddle(monkeypatch):
    backbone, image = STDCNet813(), paddle.rand([2, 3, 64, 96])
    backbone(image)
    backbone.stages[3].eval()  # as `freeze` does
    found, _ = features_and_gradients(backbone, image)
    without(monkeypatch)
    expected, _ = features_and_gradients(backbone, image)
    for one, wanted in zip(found, expected):
        assert np.allclose(one.numpy(), wanted.numpy(), atol=1e-3)


TOLD = """
import warnings
from ppliteseg_paddle.models.stdc import STDCNet813
import paddle
network = STDCNet813()
network.eval()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    size = paddle.static.InputSpec([1, 3, 64, 64], "float32")
    paddle.jit.to_static(network, input_spec=[size], full_graph=True).forward.concrete_program
print("told:", [str(each.message) for each in told if "Dy2Static" in str(each.message)])
"""


def test_paddle_warns_of_nothing_when_it_makes_a_graph():
    # In a process of its own: Paddle converts a function once.
    done = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True)
    assert done.stdout.endswith("told: []\n"), done.stdout + done.stderr
