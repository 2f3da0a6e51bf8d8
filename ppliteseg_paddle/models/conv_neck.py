"""The neck of a model without SPPM, to measure what SPPM brings.

Source: arXiv 2204.02681, table 3. The paper does not say what stands in SPPM's place; the least that can is one
    projection.
"""

from __future__ import annotations

from paddle import nn

from ppliteseg_paddle.models.layers import ConvBNReLU


class ConvNeck(nn.Layer):
    """Bring the deepest feature to the decoder's channels by a 1x1 convolution, without any pooling.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int = 128):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv = ConvBNReLU(in_channels, out_channels, 1)

    def forward(self, x):
        return self.conv(x)
