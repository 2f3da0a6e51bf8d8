"""STDC, the backbone: short-term dense concatenate networks.

Source: Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation" (arXiv 2104.13188),
section 3.1 and table 2; PaddleSeg `models/backbones/stdcnet.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddle import nn

from ppliteseg_paddle.models.fused import blocked
from ppliteseg_paddle.models.layers import ConvBN, ConvBNReLU

BASE_CHANNELS = 64


class STDCBlock(nn.Layer):
    """Four convolutions, each fed by the one before, whose outputs are concatenated: 1/2 + 1/4 + 1/8 + 1/8.

    With stride 2, a depthwise convolution halves the size after the first convolution, and average
    pooling halves the first convolution's own contribution. The pooling leaves padding out of its mean,
    as PaddleSeg's does; the STDC authors' PyTorch code counts it.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    Raises: ValueError: if `stride` is neither 1 nor 2, or `out_channels` is no multiple of 8.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, but is {stride!r}.")
        if out_channels % 8:
            raise ValueError(f"out_channels must be a multiple of 8, but is {out_channels!r}.")
        half, quarter, eighth = out_channels // 2, out_channels // 4, out_channels // 8
        self.convs = nn.LayerList(
            [
                ConvBNReLU(in_channels, half, 1),
                ConvBNReLU(half, quarter, 3),
                ConvBNReLU(quarter, eighth, 3),
                ConvBNReLU(eighth, eighth, 3),
            ]
        )
        self.downsample = ConvBN(half, half, 3, stride=2, groups=half) if stride == 2 else None
        self.pool = nn.AvgPool2D(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x):
        first, *others = self.convs
        half = first(x)
        x = half
        if self.downsample is not None and self.pool is not None:
            x, half = self.downsample(half), blocked.average_pool(self.pool, half)
        outputs = [half]
        for conv in others:
            x = conv(x)
            outputs.append(x)
        return blocked.concat(outputs)


class STDCNet(nn.Layer):
    """Five stages that halve the size each: two plain convolutions, then three stages of `STDCBlock`s.

    Args:
        blocks: number of `STDCBlock`s in the stages 3, 4 and 5.
        in_channels: channels of the image.
        pretrained: path or URL of weights for this backbone (see `weights.load`).

    Attributes: `feat_channels`, `feat_strides`: channels and stride of each feature that `forward` returns.
    Shape: (N, in_channels, H, W) -> five maps (N, feat_channels[i], ceil(H / s), ceil(W / s)), s = feat_strides[i].
    """

    def __init__(self, blocks: Sequence[int], in_channels: int = 3, pretrained: str | None = None):
        super().__init__()
        base = BASE_CHANNELS
        self.feat_channels = [base // 2, base, base * 4, base * 8, base * 16]
        self.feat_strides = [2, 4, 8, 16, 32]
        stages = [ConvBNReLU(in_channels, base // 2, 3, stride=2), ConvBNReLU(base // 2, base, 3, stride=2)]
        for count, before, after in zip(blocks, self.feat_channels[1:], self.feat_channels[2:]):
            stages.append(
                nn.Sequential(STDCBlock(before, after, 2), *[STDCBlock(after, after, 1) for _ in range(count - 1)])
            )
        self.stages = nn.LayerList(stages)
        if pretrained is not None:
            from ppliteseg_paddle.weights.load import load_weights

            load_weights(self, pretrained)

    def forward(self, x):
        return self.selected(x, range(len(self.stages)))

    def selected(self, x, indices: Sequence[int], may_be_blocked: bool = False):
        """Those features alone, which spares bringing the others into Paddle's layout.

        Args: may_be_blocked: whether these, too, may stay in oneDNN's layout (see `blocked`).
        """
        with blocked.keep_blocked(self, x, LAYERS):
            features = self._stages(x)
        return [features[i] if may_be_blocked else blocked.plain(features[i]) for i in indices]

    def _stages(self, x):  # by itself, as `to_static` cannot convert a loop within a `with`
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


# What a backbone is made of: these take maps in oneDNN's layout, or hand them on.
LAYERS = (ConvBN, ConvBNReLU, STDCBlock, nn.AvgPool2D, nn.BatchNorm2D, nn.Conv2D, nn.LayerList, nn.Sequential)

# As the authors name them, by their multiply-adds in millions (at 224x224, with the classifier).
VARIANTS = {"STDCNet813": (2, 2, 2), "STDCNet1446": (4, 5, 3)}


class STDCNet813(STDCNet):
    """STDC1, the backbone of PP-LiteSeg-T."""

    def __init__(self, in_channels: int = 3, pretrained: str | None = None):
        super().__init__(VARIANTS["STDCNet813"], in_channels, pretrained)


class STDCNet1446(STDCNet):
    """STDC2, the backbone of PP-LiteSeg-B."""

    def __init__(self, in_channels: int = 3, pretrained: str | None = None):
        super().__init__(VARIANTS["STDCNet1446"], in_channels, pretrained)
