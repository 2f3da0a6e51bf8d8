import numpy as np
import paddle
import pytest
from reference import adaptive_average, randomise

from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.sppm import SPPM, averaging_matrix
from ppliteseg_paddle.models.stdc import STDCBlock, STDCNet813, STDCNet1446
from ppliteseg_paddle.models.uafm import build_fusion


@pytest.mark.parametrize("cls, blocks", [(STDCNet813, [2, 2, 2]), (STDCNet1446, [4, 5, 3])])
def test_the_backbones_are_those_of_the_papers_table_2(cls, blocks):
    backbone = cls()
    assert [len(stage) for stage in list(backbone.stages)[2:]] == blocks
    assert backbone.feat_channels == [32, 64, 256, 512, 1024] and backbone.feat_strides == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "arguments, text",
    [((8, 16, 3), "stride must be 1 or 2, but is 3"), ((8, 12, 1), "out_channels must be a multiple of 8, but is 12")],
)
def test_a_block_that_cannot_be_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        STDCBlock(*arguments)


@pytest.mark.parametrize("size", [(23, 30), (12, 15), (16, 32), (3, 5), (1, 1)])
@pytest.mark.parametrize("bins", [1, 2, 4])
def test_the_constant_windows_equal_adaptive_pooling_at_any_size(size, bins, rng):
    x = rng.standard_normal(size).astype(np.float32)
    expected = adaptive_average(x, bins)
    found = averaging_matrix(size[0], bins) @ x @ averaging_matrix(size[1], bins).T
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(23, 30), (16, 32), (3, 5)])
def test_the_necks_static_form_equals_the_flexible_one(size):
    neck = SPPM(in_channels=6, out_channels=4, bin_sizes=(1, 2, 4))
    randomise(neck)
    neck.eval()
    x = paddle.randn([2, 6, *size])
    expected = neck(x).numpy()
    neck.fix_input_size(*size)
    np.testing.assert_allclose(neck(x).numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_spatial_attention_mixes_by_one_weight_a_position():
    fusion = build_fusion("spatial_mean_max", 4, 4, 4)
    final_norm = fusion.attention[-1].bn
    final_norm.weight.set_value(paddle.zeros([1]))  # so attention is the norm's bias, 0, and its sigmoid one half
    skip, deep = paddle.rand([1, 4, 2, 2]), paddle.rand([1, 4, 2, 2])
    np.testing.assert_allclose(fusion.fuse(skip, deep).numpy(), (skip.numpy() + deep.numpy()) / 2, rtol=1e-6)


def test_spatial_statistics_are_the_mean_and_maximum_of_skip_then_deep():
    fusion = build_fusion("spatial_mean_max", 4, 4, 4)
    skip, deep = paddle.randn([2, 4, 3, 5]), paddle.randn([2, 4, 3, 5])
    expected = np.stack([f(x.numpy(), axis=1) for x in (skip, deep) for f in (np.mean, np.max)], axis=1)
    for mode in (fusion.train, fusion.eval):
        mode()
        np.testing.assert_allclose(fusion.statistics(skip, deep).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_maximum_gives_its_gradient_to_the_largest_channel_alone():
    fusion = build_fusion("spatial_mean_max", 4, 4, 4)
    x = paddle.to_tensor(np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1), stop_gradient=False)
    fusion._channel_max(x).backward()
    np.testing.assert_array_equal(x.grad.numpy().ravel(), [0, 0, 0, 1])


def test_without_ties_the_maximums_gradient_is_that_of_paddles_max(rng):
    values = rng.permutation(2 * 6 * 5 * 7).reshape(2, 6, 5, 7).astype(np.float32)
    upstream = paddle.to_tensor(rng.standard_normal((2, 1, 5, 7)).astype(np.float32))
    gradients = []
    for largest in (
        build_fusion("spatial_mean_max", 4, 4, 4)._channel_max,
        lambda x: paddle.max(x, axis=1, keepdim=True),
    ):
        x = paddle.to_tensor(values, stop_gradient=False)
        (largest(x) * upstream).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_array_equal(*gradients)


def test_among_tied_channels_the_first_gets_the_maximums_gradient():
    x = paddle.to_tensor(np.array([0, 3, 1, 3], np.float32).reshape(1, 4, 1, 1), stop_gradient=False)
    build_fusion("spatial_mean_max", 4, 4, 4)._channel_max(x).backward()
    np.testing.assert_array_equal(x.grad.numpy().ravel(), [0, 1, 0, 0])


def test_the_head_returns_one_feature_a_level_from_shallow_to_deep():
    head = FLDHead([6, 7, 8], neck_channels=5, out_channels=[2, 3, 4])
    skips = [paddle.randn([1, c, n, n]) for c, n in ((6, 16), (7, 8), (8, 4))]
    fused = head(skips, paddle.randn([1, 5, 4, 4]))
    assert [list(f.shape) for f in fused] == [[1, 2, 16, 16], [1, 3, 8, 8], [1, 4, 4, 4]]
