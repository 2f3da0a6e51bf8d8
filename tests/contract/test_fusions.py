"""What every fusion of `FUSIONS` owes the head."""

import numpy as np
import paddle
import pytest
from reference import randomise
from registered import without_gradient

from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.uafm import FUSIONS, build_fusion

every_fusion = pytest.mark.parametrize("name", list(FUSIONS))


@every_fusion
@pytest.mark.parametrize("deep", [(5, 7), (9, 13), (1, 1)])
def test_the_result_has_the_skips_size_and_the_channels_asked_for(name, deep):
    out = build_fusion(name, 6, 8, 5)(paddle.randn([3, 6, 9, 13]), paddle.randn([3, 8, *deep]))
    assert list(out.shape) == [3, 5, 9, 13]


@every_fusion
def test_every_parameter_and_both_inputs_get_a_gradient(name):
    fusion = build_fusion(name, 6, 8, 5)
    skip, deep = paddle.randn([3, 6, 9, 13]), paddle.randn([3, 8, 5, 7])
    skip.stop_gradient = deep.stop_gradient = False
    out = fusion(skip, deep)
    (out * paddle.randn(out.shape)).sum().backward()
    assert without_gradient(fusion) == []
    assert np.abs(skip.grad.numpy()).max() > 0 and np.abs(deep.grad.numpy()).max() > 0


@every_fusion
def test_a_deep_feature_that_is_larger_than_the_skip_is_refused(name):
    with pytest.raises(ValueError, match="larger than the skip feature"):
        build_fusion(name, 4, 4, 4)(paddle.randn([2, 4, 4, 4]), paddle.randn([2, 4, 8, 8]))


@every_fusion
def test_the_state_dict_of_one_makes_another_the_same(name):
    one, other = build_fusion(name, 6, 8, 5), build_fusion(name, 6, 8, 5)
    randomise(one)
    other.set_state_dict(one.state_dict())
    one.eval(), other.eval()
    skip, deep = paddle.randn([2, 6, 9, 13]), paddle.randn([2, 8, 5, 7])
    np.testing.assert_array_equal(one(skip, deep).numpy(), other(skip, deep).numpy())


@every_fusion
@pytest.mark.parametrize("resize_mode", ["bilinear", "nearest"])
def test_the_head_builds_it_by_name(name, resize_mode):
    head = FLDHead([6, 7, 8], 5, [2, 3, 4], fusion=name, resize_mode=resize_mode)
    fused = head([paddle.randn([2, c, n, n]) for c, n in ((6, 16), (7, 8), (8, 4))], paddle.randn([2, 5, 4, 4]))
    assert [list(feature.shape) for feature in fused] == [[2, 2, 16, 16], [2, 3, 8, 8], [2, 4, 4, 4]]
