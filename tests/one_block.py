"""A block of convolution, batch norm and ReLU with uneven numbers, for the tests of oneDNN's path."""

import numpy as np
import paddle

from ppliteseg_paddle.models.layers import ConvBNReLU

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


def layer(cls=ConvBNReLU, shape=SHAPES[0], seed=0):
    """A block with numbers of its own everywhere, and a batch for it."""
    paddle.seed(seed)
    in_channels, out_channels, kernel, stride, groups, height, width = shape
    made = cls(in_channels, out_channels, kernel, stride=stride, groups=groups)
    made.bn.weight.set_value(paddle.rand([out_channels]) + 0.5)
    made.bn.bias.set_value(paddle.randn([out_channels]) * 0.3)
    return made, paddle.randn([3, in_channels, height, width]) + 0.2


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= tolerance * max(np.abs(value).max(), 1e-3), name
