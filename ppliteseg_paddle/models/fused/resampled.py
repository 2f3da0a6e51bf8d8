"""Bilinear resizing on all cores, by oneDNN, where a model is evaluated within `Folded`: Paddle's kernel has one
thread."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int
from typing import NamedTuple

import paddle
from paddle import Tensor

from ppliteseg_paddle.models.fused import folded
from ppliteseg_paddle.models.fused.block import Built, block, computing
from ppliteseg_paddle.models.fused.blocked import contiguous
from ppliteseg_paddle.models.fused.onednn import Handles
from ppliteseg_paddle.models.fused.primitives import ARG_DST, ARG_SRC, Memory, Primitive, plain_layout

RESAMPLING_LINEAR = 0x2FFF1  # of `dnnl_types.h`


def resampled(x: Tensor, size: Sequence[int]) -> Tensor | None:
    """(N, C, h, w) resized to (N, C, *size) with half-pixel centres, within `Folded` on the CPU; None where Paddle is
    to do it. Values differ from Paddle's by the rounding of positions, some 1e-5 of a step between neighbors."""
    if folded.active() is None or paddle.is_grad_enabled() or not paddle.in_dynamic_mode():
        return None
    if not x.place.is_cpu_place() or x.ndim != 4 or x.dtype != paddle.float32:
        return None
    computed = block(ResampledCase(tuple(x.shape), tuple(size)), Resampled)
    return None if computed is None else computed.forward(contiguous(x))


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
        kind, linear = c_int(folded.FORWARD_INFERENCE), c_int(RESAMPLING_LINEAR)
        self._resample = Primitive(handles, "resampling_forward", handles.lib.engine, kind, linear, None, x, y, None)
        self._x, self._y = Memory(handles, x), Memory(handles, y)

    def forward(self, x: Tensor) -> Tensor:
        y = paddle.empty(self._y_shape)
        with computing:
            self._resample({ARG_SRC: self._x.at(x.data_ptr()), ARG_DST: self._y.at(y.data_ptr())})
        return y
