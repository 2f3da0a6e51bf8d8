"""Bilinear resizing on all cores, by oneDNN, where a model is evaluated within `Folded`, and of logits in training:
Paddle's kernel has one thread."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int
from typing import NamedTuple

import paddle
from paddle import Tensor

from ppliteseg_paddle.models.fused import folded
from ppliteseg_paddle.models.fused.block import FORWARD_TRAINING, Built, block, computing
from ppliteseg_paddle.models.fused.blocked import apply_linear
from ppliteseg_paddle.models.fused.onednn import Handles
from ppliteseg_paddle.models.fused.primitives import (
    ARG_DIFF_DST,
    ARG_DIFF_SRC,
    ARG_DST,
    ARG_SRC,
    Memory,
    Primitive,
    plain_layout,
)

RESAMPLING_LINEAR = 0x2FFF1  # of `dnnl_types.h`


def resampled(x: Tensor, size: Sequence[int], training: bool = False) -> Tensor | None:
    """(N, C, h, w) resized to (N, C, *size) with half-pixel centres, on the CPU; None where Paddle is to do it.

    Values differ from Paddle's by the rounding of positions, some 1e-5 of a step between neighbors, and 1e-7 where
    `size` is a multiple of (h, w).

    Args: training: whether to compute with gradients, and not within `Folded` alone.
    """
    if not paddle.in_dynamic_mode() or not x.place.is_cpu_place() or x.ndim != 4 or x.dtype != paddle.float32:
        return None
    if not training if paddle.is_grad_enabled() else folded.active() is None:
        return None
    computed = block(ResampledCase(tuple(x.shape), tuple(size)), Resampled)
    return None if computed is None else apply_linear(computed, x)


class ResampledCase(NamedTuple):
    """x_shape: (N, C, h, w); size: (H, W) of the result."""

    x_shape: tuple[int, ...]
    size: tuple[int, ...]


class Resampled(Built[ResampledCase]):
    """Bilinear resizing; get it from `block.block`."""

    def _build(self, handles: Handles) -> None:
        x_shape, size = self.case
        self._y_shape = [*x_shape[:2], *size]
        x, y = plain_layout(handles, x_shape), plain_layout(handles, self._y_shape)
        engine, training, linear = handles.lib.engine, c_int(FORWARD_TRAINING), c_int(RESAMPLING_LINEAR)
        self._forward = Primitive(handles, "resampling_forward", engine, training, linear, None, x, y, None)
        hint = self._forward.description
        self._backward = Primitive(handles, "resampling_backward", engine, linear, None, x, y, hint, None)
        self._x, self._y = Memory(handles, x), Memory(handles, y)

    def forward(self, x: Tensor) -> Tensor:
        y = paddle.empty(self._y_shape)
        with computing:
            self._forward({ARG_SRC: self._x.at(x.data_ptr()), ARG_DST: self._y.at(y.data_ptr())})
        return y

    def backward(self, grad: Tensor) -> Tensor:
        result = paddle.empty(list(self.case.x_shape))
        with computing:
            self._backward({ARG_DIFF_DST: self._y.at(grad.data_ptr()), ARG_DIFF_SRC: self._x.at(result.data_ptr())})
        return result
