"""Maps that stay in oneDNN's layout from one layer to the next, as tensors of (N, C / b, H, W, b) in place of
(N, C, H, W): what a backbone of fused convolutions, concatenations and average pooling hands on within itself.

b is what the library computes in: 16 channels with AVX-512, 8 with AVX2, C where it puts channels last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from ctypes import c_int
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.fused.block import FORWARD_TRAINING, Built, block, computing
from ppliteseg_paddle.models.fused.onednn import Handles
from ppliteseg_paddle.models.fused.primitives import (
    ARG_DIFF_DST,
    ARG_DIFF_SRC,
    ARG_DST,
    ARG_SRC,
    BLOCKED_TAGS,
    Bridge,
    Memory,
    Primitive,
    blocked_layout,
    dimensions,
    tensor_shape,
)

AVERAGE_WITHOUT_PADDING = 0x3FF  # of `dnnl_types.h`: the padding does not count

_keeping: ContextVar[bool] = ContextVar("keeping_blocked", default=False)


@paddle.jit.not_to_static  # its conversion warns of the context manager
@contextlib.contextmanager
def keep_blocked(layer: nn.Layer, x: Tensor, types: Sequence[type]) -> Iterator[None]:
    """Within, `conv_bn` gives maps in oneDNN's layout where it computes on the CPU by oneDNN.

    Args: layer: whose layers will see those maps; x: its input; types: those that know what to do with them. Where
        there is another one, or one with hooks or another `forward`, nothing changes.
    """
    token = _keeping.set(_fits(layer, x, types))
    try:
        yield
    finally:
        _keeping.reset(token)


def kept_blocked() -> bool:
    """Whether `keep_blocked` is at work."""
    return _keeping.get()


def _fits(layer: nn.Layer, x: Tensor, types: Sequence[type]) -> bool:
    if not paddle.in_dynamic_mode() or not x.place.is_cpu_place() or onednn.library() is None:
        return False
    return all(type(one) in types and is_untouched(one) for one in layer.sublayers())


def is_untouched(layer: nn.Layer) -> bool:
    """Whether a call of the layer is one of its class's `forward`, without hooks."""
    return not (layer._forward_pre_hooks or layer._forward_post_hooks or "forward" in vars(layer))


def is_blocked(x: Tensor) -> bool:
    """Whether x is a map in the form of (N, C / b, H, W, b)."""
    return x.ndim == 5


def map_shape(x: Tensor) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a map in either form."""
    if not is_blocked(x):
        return tuple(x.shape)
    batch, groups, height, width, channels = x.shape
    return batch, groups * channels, height, width


def block_size(x: Tensor) -> int:
    """b of a map in the form of (N, C / b, H, W, b); 1 for one of (N, C, H, W)."""
    return x.shape[4] if is_blocked(x) else 1


@paddle.jit.not_to_static
def plain(x: Tensor) -> Tensor:
    """The map as (N, C, H, W)."""
    if not is_blocked(x):
        return x
    if x.shape[2] * x.shape[3] == 1:
        return x.reshape(list(map_shape(x)))  # the same values in the same order
    arranged = block(ArrangedCase(map_shape(x), block_size(x)), Arranged)
    return apply_linear(arranged, x)


@paddle.jit.not_to_static  # its conversion takes the variable of a comprehension for nonlocal
def concat(maps: Sequence[Tensor]) -> Tensor:
    """`paddle.concat` of maps along their channels. It stays blocked if all are, by the same number of channels, or
    have their channels last."""
    sizes = {block_size(x) for x in maps}
    if len(sizes) == 1 and sizes <= {1, *BLOCKED_TAGS}:
        return paddle.concat(maps, axis=1)
    if all(is_blocked(x) and x.shape[1] == 1 for x in maps):
        return paddle.concat(maps, axis=4)
    return paddle.concat([plain(x) for x in maps], axis=1)


@paddle.jit.not_to_static
def average_pool(pool: nn.AvgPool2D, x: Tensor) -> Tensor:
    """`pool(x)` for a pool with numbers of its own, that leaves padding out of its mean."""
    if not is_blocked(x):
        return pool(x)
    case = PooledCase(map_shape(x), block_size(x), pool.ksize, pool.stride, pool.padding)
    pooled = block(case, Pooled) if pool.exclusive and not pool.ceil_mode and pool.divisor is None else None
    return pool(plain(x)) if pooled is None else apply_linear(pooled, x)


def apply_linear(computed: Any, x: Tensor) -> Tensor:
    """What `computed` makes of x, by its `forward`, with its `backward` for the gradient, which needs nothing of x."""
    if x.stop_gradient or not paddle.is_grad_enabled():
        return computed.forward(contiguous(x))
    return _Linear.apply(x, computed)


class _Linear(PyLayer):
    """What needs nothing of its input for the gradient: `computed` has `forward` and `backward`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, computed: Any) -> Tensor:
        ctx.computed = computed
        return computed.forward(contiguous(x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        refuse_second_gradient()
        return ctx.computed.backward(contiguous(grad))


def contiguous(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def refuse_second_gradient() -> None:
    """Raises: RuntimeError: in a backward pass that is to be differentiated again."""
    if paddle.is_grad_enabled():
        raise RuntimeError(
            "oneDNN computes no gradient of a gradient (create_graph=True): set PPLITESEG_ONEDNN=0 before the "
            "start, so that Paddle's layers do."
        )


# --------------------------------------------------------------------------------------------
# What the library does with them
# --------------------------------------------------------------------------------------------
class ArrangedCase(NamedTuple):
    """shape: (N, C, H, W); channels: b of (N, C / b, H, W, b)."""

    shape: tuple[int, int, int, int]
    channels: int


class Arranged(Built[ArrangedCase]):
    """The plain form of a map that is blocked; get it from `block.block`."""

    def _build(self, handles: Handles) -> None:
        shape, channels = self.case
        self._bridge = Bridge(handles, shape, blocked_layout(handles, shape, channels))

    def forward(self, x: Tensor) -> Tensor:
        result = paddle.empty(list(self.case.shape))
        with computing:
            self._bridge.inner.at(x.data_ptr())
            self._bridge.write(result)
        return result

    def backward(self, grad: Tensor) -> Tensor:
        result = paddle.empty(tensor_shape(*self.case))
        with computing:
            self._bridge.read(grad, "map", into=result)
        return result


class PooledCase(NamedTuple):
    """shape: (N, C, H, W); channels: b of (N, C / b, H, W, b); window, stride, padding: of both axes."""

    shape: tuple[int, int, int, int]
    channels: int
    window: int
    stride: int
    padding: int


class Pooled(Built[PooledCase]):
    """Average pooling of a blocked map that leaves padding out of its mean; get it from `block.block`."""

    def _build(self, handles: Handles) -> None:
        shape, channels, window, stride, padding = self.case
        engine, algorithm = handles.lib.engine, c_int(AVERAGE_WITHOUT_PADDING)
        size = [(n + 2 * padding - window) // stride + 1 for n in shape[2:]]
        after = [(o - 1) * stride + window - n - padding for o, n in zip(size, shape[2:])]
        y_shape = (*shape[:2], *size)
        self._shapes = tensor_shape(shape, channels), tensor_shape(y_shape, channels)
        x, y = (blocked_layout(handles, one, channels) for one in (shape, y_shape))
        moves = [dimensions(values) for values in ([stride] * 2, [window] * 2, [0, 0], [padding] * 2, after)]
        self._forward = Primitive(
            handles, "pooling_forward", engine, c_int(FORWARD_TRAINING), algorithm, x, y, *moves, None
        )
        self._backward = Primitive(
            handles, "pooling_backward", engine, algorithm, x, y, *moves, self._forward.description, None
        )
        self._x, self._y = Memory(handles, x), Memory(handles, y)

    def forward(self, x: Tensor) -> Tensor:
        result = paddle.empty(self._shapes[1])
        with computing:
            self._forward({ARG_SRC: self._x.at(x.data_ptr()), ARG_DST: self._y.at(result.data_ptr())})
        return result

    def backward(self, grad: Tensor) -> Tensor:
        result = paddle.empty(self._shapes[0])
        with computing:
            self._backward({ARG_DIFF_DST: self._y.at(grad.data_ptr()), ARG_DIFF_SRC: self._x.at(result.data_ptr())})
        return result
