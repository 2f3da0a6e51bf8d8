"""Building blocks that backbone, neck and head share."""

from __future__ import annotations

import weakref
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppliteseg_paddle.models.fused.conv_bn import conv_bn
from ppliteseg_paddle.models.fused.resampled import resampled

RESIZE_MODES = ("bilinear", "nearest")


class ConvBN(nn.Layer):
    """Convolution with "same" padding for odd kernels at stride 1, then batch normalisation.

    Args:
        bias: whether the convolution has a bias too. Normalisation cancels it; the released SPPM has
            one all the same, and so do its weight files.
    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias_attr=None if bias else False,
        )
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x):
        return conv_bn(self.conv, self.bn, x)


# `to_static` of Paddle 2.6 cannot convert a `super()` without arguments, hence no super().forward(x) here.
class ConvBNReLU(ConvBN):
    """`ConvBN` with ReLU after it."""

    def forward(self, x):
        return conv_bn(self.conv, self.bn, x, relu=True)


class ConvBNLeakyReLU(ConvBN):
    """`ConvBN` with leaky ReLU (slope 0.01) after it."""

    def forward(self, x):
        return F.leaky_relu(conv_bn(self.conv, self.bn, x))


def spatial_size(x):
    """Height and width of (N, C, H, W): two ints where they are known, else a tensor (dynamic export)."""
    size = list(x.shape[2:])
    return size if all(isinstance(n, int) and n > 0 for n in size) else paddle.shape(x)[2:]


def resize(x, size, mode: str = "bilinear", by_onednn: bool = False):
    """Resize (N, C, h, w) to (N, C, *size) with half-pixel centres; returns `x` itself if it has that size.

    Args: by_onednn: whether oneDNN may do it in training, too; see `resampled`.
    """
    if isinstance(size, list) and list(x.shape[2:]) == size:
        return x
    if mode != "bilinear":
        return F.interpolate(x, size, mode=mode)
    found = resampled(x, size, by_onednn) if isinstance(size, list) else None
    return F.interpolate(x, size, mode=mode, align_corners=False) if found is None else found


# id of upsampled logits, for as long as they live -> they, what they were made of, and how often they had been changed
# in place. Not an attribute of theirs: a tensor of Paddle 2.6 takes none.
_small: dict[int, tuple[weakref.ref[Any], paddle.Tensor, int]] = {}


def upsample_logits(logits, size, training: bool):
    """`resize` of logits to the image's size. On a CPU, losses that upsample by themselves, at a fraction of the cost,
    find those given here by `small_logits`."""
    upsampled = resize(logits, size, by_onednn=training)
    if training and upsampled is not logits and paddle.in_dynamic_mode() and upsampled.place.is_cpu_place():
        key = id(upsampled)
        reference = weakref.ref(upsampled, lambda _: _small.pop(key, None))
        _small[key] = reference, logits, upsampled.inplace_version
    return upsampled


def small_logits(logits):
    """What `logits` were upsampled from by `upsample_logits` in training; themselves if that is unknown, or they have
    been changed in place or set to take no gradient since."""
    if id(logits) not in _small:
        return logits
    reference, small, version = _small[id(logits)]
    unchanged = version == logits.inplace_version and logits.stop_gradient == small.stop_gradient
    return small if unchanged and id(reference()) == id(logits) else logits
