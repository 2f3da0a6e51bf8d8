"""Evaluation of convolution, batch norm and ReLU in one go, by oneDNN: batch norm is folded into the weights.

In evaluation, batch norm multiplies and shifts each channel by fixed numbers, so that the convolution can do it with
other weights: w * scale / sqrt(variance + epsilon). They are computed once, which is right as long as nobody changes
the model; Paddle does not tell when somebody does. So it is done only within `Folded`, by who knows.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from contextvars import ContextVar, Token
from ctypes import c_float, c_int
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn

from ppliteseg_paddle.models.fused.block import CONVOLUTION_DIRECT, Built, Case, computing, geometry
from ppliteseg_paddle.models.fused.onednn import Handles
from ppliteseg_paddle.models.fused.primitives import (
    ARG_BIAS,
    ARG_DST,
    ARG_SRC,
    ARG_WEIGHTS,
    QUERY_DST,
    QUERY_SRC,
    QUERY_WEIGHTS,
    Bridge,
    Memory,
    Primitive,
    any_layout,
    block_of,
    plain_layout,
    tensor_shape,
)

FORWARD_INFERENCE, ELTWISE_RELU = 96, 0x20  # of `dnnl_types.h`

_active: ContextVar[Folded | None] = ContextVar("folded", default=None)


class Folded:
    """The folded weights of a model in evaluation, for as long as its weights and statistics stay what they are.

        folded = Folded()
        with folded, paddle.no_grad():
            model(x)

    It may be entered again, also by several threads; what was folded is kept. Without oneDNN, on other devices, with
    gradients and in training it changes nothing.
    """

    def __init__(self) -> None:
        self._layers: weakref.WeakKeyDictionary[nn.Layer, _Layer] = weakref.WeakKeyDictionary()
        self._tokens: ContextVar[tuple[Token[Folded | None], ...]] = ContextVar("tokens", default=())

    def __enter__(self) -> Folded:
        self._tokens.set((*self._tokens.get(), _active.set(self)))
        return self

    def __exit__(self, *_: object) -> None:
        *rest, token = self._tokens.get()
        self._tokens.set(tuple(rest))
        _active.reset(token)

    def latest(self, conv: nn.Layer, key: Hashable) -> Step | None:
        """The latest step of `conv`, if it was for `key`: most often the next image's, too, and found at once."""
        layer = self._layers.get(conv)
        return layer.latest[1] if layer is not None and layer.latest is not None and layer.latest[0] == key else None

    def step(self, conv: nn.Conv2D, bn: nn.BatchNorm2D, block: Evaluated, key: Hashable) -> Step:
        """That of a pair of layers by a block; the layers are folded now unless they are.

        Args: key: of `latest`: all that the choice of the block depends on.
        """
        layer = self._layers.get(conv)
        if layer is None:
            layer = self._layers[conv] = _Layer(conv, bn)
        step = layer.step(block)
        layer.latest = key, step
        return step


def active() -> Folded | None:
    """The one that is entered."""
    return _active.get()


class Step(NamedTuple):
    """One layer's computation; `weight` in the layout that the block takes."""

    block: Evaluated
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.block.forward(x, self.weight, self.bias)


class _Layer:
    """A convolution's weight and bias with batch norm in them, and that weight in the layouts that blocks want."""

    def __init__(self, conv: nn.Conv2D, bn: nn.BatchNorm2D) -> None:
        factor = bn.weight / (bn._variance + bn._epsilon).sqrt()
        self.weight = (conv.weight * factor.reshape([-1, 1, 1, 1])).detach()
        offset = -bn._mean if conv.bias is None else conv.bias - bn._mean
        self.bias = (bn.bias + offset * factor).detach()
        self._inner: weakref.WeakKeyDictionary[Evaluated, Tensor] = weakref.WeakKeyDictionary()
        self.latest: tuple[Hashable, Step] | None = None  # what it was for, and what was computed

    def step(self, block: Evaluated) -> Step:
        """This layer's computation by a block."""
        found = self._inner.get(block)
        if found is None:
            found = self._inner[block] = block.arranged(self.weight)
        return Step(block, found, self.bias)


class Evaluated(Built[Case]):
    """Convolution with bias, and ReLU or none; get it from `block.block`.

    Tensors are Paddle's: on the CPU, float32, contiguous; maps are of (N, C, H, W) or (N, C / b, H, W, b).
    """

    def _build(self, handles: Handles) -> None:
        self.y_shape, grouped, window = geometry(self.case)
        x, weight, y = (any_layout(handles, shape) for shape in (self.case.x_shape, grouped, self.y_shape))
        bias = plain_layout(handles, self.case.weight_shape[:1])
        self._convolve = Primitive(
            handles,
            "convolution_forward",
            handles.lib.engine,
            c_int(FORWARD_INFERENCE),
            c_int(CONVOLUTION_DIRECT),
            *(x, weight, bias, y),
            *window,
            _with_relu(handles) if self.case.relu else None,
        )
        layout = self._convolve.layout(QUERY_DST)
        y_block = block_of(handles, self.y_shape, layout) if self.case.keep_blocked else 1
        self._y_shape = tensor_shape(self.y_shape, y_block)
        self._x = Bridge(handles, self.case.x_shape, self._convolve.layout(QUERY_SRC), self.case.x_block)
        self._y = Bridge(handles, self.y_shape, layout, y_block)
        self._weight = Bridge(handles, grouped, self._convolve.layout(QUERY_WEIGHTS))
        self._bias = Memory(handles, bias)

    def arranged(self, weight: Tensor) -> Tensor:
        """A weight in the layout that `forward` takes."""
        if self._weight.same:
            return weight
        into = self._weight.inner.room()
        with computing:
            self._weight.read(weight, "weight", into=into)
        return into

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Args: weight: as `arranged` returns it."""
        y = paddle.empty(self._y_shape)
        with computing:
            self._convolve(
                {
                    ARG_SRC: self._x.read(x, "x"),
                    ARG_WEIGHTS: self._weight.inner.at(weight.data_ptr()),
                    ARG_BIAS: self._bias.at(bias.data_ptr()),
                    ARG_DST: self._y.place(y, "y"),
                }
            )
            self._y.write(y)
        return y


def _with_relu(handles: Handles) -> Any:
    """Attributes of a primitive that ends with ReLU."""
    operations = handles.create("post_ops", "dnnl_post_ops_create")
    handles.lib.call("dnnl_post_ops_append_eltwise", operations, c_int(ELTWISE_RELU), c_float(0), c_float(0))
    attributes = handles.create("primitive_attr", "dnnl_primitive_attr_create")
    handles.lib.call("dnnl_primitive_attr_set_post_ops", attributes, operations)
    return attributes
