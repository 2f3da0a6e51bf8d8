"""UAFM: the Unified Attention Fusion Module, with the attention chosen by name.

Source: arXiv 2204.02681, section 3.2 and figure 4; PaddleSeg `models/layers/tensor_fusion.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.models.fused import weighed
from ppliteseg_paddle.models.fused.blocked import is_untouched
from ppliteseg_paddle.models.layers import RESIZE_MODES, ConvBN, ConvBNLeakyReLU, ConvBNReLU, resize, spatial_size


class AddFusion(nn.Layer):
    """Fuse a skip feature of the backbone with the deeper, smaller one by addition.

    Subclasses weigh the two by attention: `fuse` is all that differs.

    Args:
        skip_channels, deep_channels, out_channels: channels of the two inputs and of the result.
        resize_mode: how the deep feature is brought to the skip feature's size.
    Shape: skip (N, skip_channels, H, W), deep (N, deep_channels, h, w), h <= H and w <= W;
        returns (N, out_channels, H, W).
    Raises: ConfigError: if `resize_mode` is unknown. ValueError: if `deep` is larger than `skip`.
    """

    def __init__(self, skip_channels: int, deep_channels: int, out_channels: int, resize_mode: str = "bilinear"):
        super().__init__()
        if resize_mode not in RESIZE_MODES:
            raise ConfigError(f"resize_mode '{resize_mode}' is unknown.{suggest(resize_mode, RESIZE_MODES)}")
        self.resize_mode = resize_mode
        self.conv_skip = ConvBNReLU(skip_channels, deep_channels, 3)
        self.conv_out = ConvBNReLU(deep_channels, out_channels, 3)

    def takes_blocked(self) -> bool:
        """Whether `skip` may be in oneDNN's layout."""
        ours = type(self).forward is AddFusion.forward and type(self.conv_skip) is ConvBNReLU
        return ours and is_untouched(self) and is_untouched(self.conv_skip)

    def forward(self, skip, deep):
        if paddle.in_dynamic_mode():  # sizes may be unknown while a graph is exported
            _check_sizes(skip, deep)
        skip = self.conv_skip(skip)
        deep = resize(deep, spatial_size(skip), self.resize_mode)
        return self.conv_out(self.fuse(skip, deep))

    def fuse(self, skip, deep):
        return skip + deep


class AttentionFusion(AddFusion):
    """skip * a + deep * (1 - a), where a = sigmoid(`attention`(statistics of skip and deep)).

    Args: reductions: the statistics, "mean" alone or "mean" and "max".
    """

    def __init__(
        self,
        skip_channels: int,
        deep_channels: int,
        out_channels: int,
        resize_mode: str = "bilinear",
        reductions: Sequence[str] = ("mean", "max"),
    ):
        super().__init__(skip_channels, deep_channels, out_channels, resize_mode)
        self.reductions = tuple(reductions)

    def fuse(self, skip, deep):
        weight = F.sigmoid(self.attention(self.statistics(skip, deep)))
        mixed = weighed.mix(skip, deep, weight)
        return deep + weight * (skip - deep) if mixed is None else mixed


class SpatialAttentionFusion(AttentionFusion):
    """One weight per position, from statistics over channels."""

    def __init__(self, skip_channels: int, deep_channels: int, out_channels: int, **options: Any):
        super().__init__(skip_channels, deep_channels, out_channels, **options)
        self.attention = nn.Sequential(ConvBNReLU(2 * len(self.reductions), 2, 3), ConvBN(2, 1, 3))

    def statistics(self, skip, deep):
        """(N, 2 * len(reductions), H, W): skip's statistics, then deep's."""
        found = weighed.over_channels((skip, deep), self.reductions)
        if found is not None:
            return found
        reduce = {"mean": lambda x: paddle.mean(x, axis=1, keepdim=True), "max": self._channel_max}
        return paddle.concat([reduce[name](x) for x in (skip, deep) for name in self.reductions], axis=1)

    def _channel_max(self, x):
        # In training `maxout` gives the maximum's gradient to one winner, as `max` did until Paddle 3.0; since then
        # `max` shares it among ties, at hundreds of times the cost on CPU. Values are the same.
        if self.training:
            return F.maxout(x, groups=x.shape[1], axis=1)
        return paddle.max(x, axis=1, keepdim=True)


class ChannelAttentionFusion(AttentionFusion):
    """One weight per channel, from statistics over positions."""

    def __init__(self, skip_channels: int, deep_channels: int, out_channels: int, **options: Any):
        super().__init__(skip_channels, deep_channels, out_channels, **options)
        self.attention = nn.Sequential(
            ConvBNLeakyReLU(2 * len(self.reductions) * deep_channels, deep_channels // 2, 1),
            ConvBN(deep_channels // 2, deep_channels, 1),
        )

    def statistics(self, skip, deep):
        """(N, 2 * len(reductions) * deep_channels, 1, 1): both means, then both maxima."""
        reduce = {"mean": lambda x: F.adaptive_avg_pool2d(x, 1), "max": self._spatial_max}
        return paddle.concat([reduce[name](x) for name in self.reductions for x in (skip, deep)], axis=1)

    def _spatial_max(self, x):
        # Adaptive pooling has the faster gradient, the reduction the simpler graph.
        return F.adaptive_max_pool2d(x, 1) if self.training else paddle.max(x, axis=[2, 3], keepdim=True)


def _check_sizes(skip, deep) -> None:
    if any(deep.shape[axis] > skip.shape[axis] for axis in (2, 3)):
        raise ValueError(
            f"the deep feature {list(deep.shape)} is larger than the skip feature {list(skip.shape)}; pass (skip, "
            "deep) in this order."
        )


# name in configs -> (class, options beyond the channels and resize_mode)
FUSIONS: dict[str, tuple[type[AddFusion], dict[str, Any]]] = {
    "spatial_mean_max": (SpatialAttentionFusion, {"reductions": ("mean", "max")}),
    "spatial_mean": (SpatialAttentionFusion, {"reductions": ("mean",)}),
    "channel_mean_max": (ChannelAttentionFusion, {"reductions": ("mean", "max")}),
    "channel_mean": (ChannelAttentionFusion, {"reductions": ("mean",)}),
    "add": (AddFusion, {}),
}

# PaddleSeg's `arm_type` -> our name; also what weight files of PaddleSeg's model mean.
PADDLESEG_ARM_TYPES = {
    "UAFM_SpAtten": "spatial_mean_max",
    "UAFM_SpAtten_S": "spatial_mean",
    "UAFM_ChAtten": "channel_mean_max",
    "UAFM_ChAtten_S": "channel_mean",
    "UAFM": "add",
}


def build_fusion(name: str, skip_channels: int, deep_channels: int, out_channels: int, resize_mode: str = "bilinear"):
    """The fusion module called `name` in `FUSIONS`.

    Raises: ConfigError: for another name; the text lists the names.
    """
    if name not in FUSIONS:
        if name in PADDLESEG_ARM_TYPES:
            raise ConfigError(f"fusion '{name}' is PaddleSeg's name; write '{PADDLESEG_ARM_TYPES[name]}'.")
        raise ConfigError(f"fusion '{name}' is unknown.{suggest(name, FUSIONS)}")
    cls, options = FUSIONS[name]
    return cls(skip_channels, deep_channels, out_channels, resize_mode=resize_mode, **options)
