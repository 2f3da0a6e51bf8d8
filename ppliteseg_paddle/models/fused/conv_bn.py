"""Convolution, batch norm and ReLU together: layer after layer by Paddle, or on the CPU in one go by oneDNN: in
training, and in evaluations of a model whose weights do not change meanwhile (`folded`)."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppliteseg_paddle.models.fused import folded
from ppliteseg_paddle.models.fused.block import Block, Case, block
from ppliteseg_paddle.models.fused.blocked import (
    block_size,
    contiguous,
    is_untouched,
    kept_blocked,
    map_shape,
    plain,
    refuse_second_gradient,
)

# Of the result, in training. With fewer than the library's layouts have in a group, as in the attention, most of what
# it computes is padding; in evaluation even that costs less than the calls of Paddle's three layers.
MIN_CHANNELS = 8

_bf16: ContextVar[bool] = ContextVar("bf16", default=False)


@contextlib.contextmanager
def convolutions_in(precision: str) -> Iterator[None]:
    """Within, training on the CPU computes convolutions that oneDNN does in "bf16" or "fp32" (the default).

    bf16 rounds the maps between convolutions to bfloat16, and the weights in products. Weights, statistics, sums and
    their gradients stay float32, and so does what Paddle computes: the attention, the classifiers, the losses.
    """
    token = _bf16.set(precision == "bf16")
    try:
        yield
    finally:
        _bf16.reset(token)


def conv_bn(conv: nn.Conv2D, bn: nn.BatchNorm2D, x: Tensor, relu: bool = False) -> Tensor:
    """`bn(conv(x))`, with ReLU after it if wanted; on the CPU by oneDNN, in training and within `Folded`.

    Other evaluations, graphs, other devices and types are computed by Paddle's layers, and so are layers with hooks or
    another `forward`, which would not be called otherwise, in training convolutions with a bias, and other classes than
    `nn.Conv2D` and `nn.BatchNorm2D`.

    Shape: (N, C, H, W), or (N, C / b, H, W, b) as `blocked` has it -> as `conv`'s; blocked within `keep_blocked`.
    Raises: an error of Paddle's in the backward pass: if x, a weight or a bias was changed in place since, as Paddle's
        layers do; if a gradient of the gradient is asked for (`create_graph=True`), which oneDNN does not have.
    """
    if not bn.training:
        return _evaluated(conv, bn, x, relu)
    fused = _block(conv, bn, x, relu) if paddle.in_dynamic_mode() and conv.bias is None else None
    if fused is None:
        return _by_paddle(conv, bn, x, relu)
    step = _Step(fused, bn, x, conv.weight)
    differentiable = [tensor for tensor in (x, *step.parameters) if not tensor.stop_gradient]
    if not differentiable:
        return step.forward(x)[0]
    # As a list, each takes part by itself where `paddle.grad` asks for some of them. Paddle 2.6 follows the last of a
    # list only; there, it ends such a call with a ValueError.
    tensors = differentiable if _PADDLE_2 else [differentiable]
    return _ConvBN.apply(*tensors, step, partial(step.forward, x))


def _by_paddle(conv: nn.Layer, bn: nn.Layer, x: Tensor, relu: bool) -> Tensor:
    y = bn(conv(plain(x)))
    return F.relu(y) if relu else y


def _evaluated(conv: nn.Layer, bn: nn.Layer, x: Tensor, relu: bool) -> Tensor:
    weights = folded.active()
    if weights is None or paddle.is_grad_enabled() or not paddle.in_dynamic_mode():
        return _by_paddle(conv, bn, x, relu)
    # What `_block` looks at and may be another thing in the next call.
    key = tuple(x.shape), x.dtype, x.place.is_cpu_place(), relu, kept_blocked(), is_untouched(conv), is_untouched(bn)
    step = weights.latest(conv, key)
    if step is None:
        block = _block(conv, bn, x, relu, folded.Evaluated)
        if block is None:
            return _by_paddle(conv, bn, x, relu)
        step = weights.step(conv, bn, block, key)
    return step(contiguous(x))


_PADDLE_2 = paddle.__version__.startswith("2.")


def _block(conv: nn.Layer, bn: nn.Layer, x: Tensor, relu: bool, kind: type = Block) -> Any:
    """The block that computes this; None where Paddle is to do it."""
    if not x.place.is_cpu_place() or x.ndim not in (4, 5):
        return None
    if type(conv) is not nn.Conv2D or type(bn) is not nn.BatchNorm2D or bn._use_global_stats:
        return None
    if kind is Block and conv.weight.shape[0] < MIN_CHANNELS:
        return None
    if any(tensor is None or tensor.dtype != paddle.float32 for tensor in (x, conv.weight, bn.weight, bn.bias)):
        return None
    if conv._padding_mode != "zeros" or conv._data_format != "NCHW" or bn._data_format != "NCHW":
        return None
    if not (is_untouched(conv) and is_untouched(bn)):
        return None
    padding, stride, dilation = _pair(conv._padding), _pair(conv._stride), _pair(conv._dilation)
    if padding is None or stride is None or dilation is None:
        return None
    return block(
        Case(
            x_shape=map_shape(x),
            weight_shape=tuple(conv.weight.shape),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=conv._groups,
            epsilon=bn._epsilon,
            relu=relu,
            for_x=kind is Block and not x.stop_gradient,
            bf16=kind is Block and _bf16.get(),
            x_block=block_size(x),
            keep_blocked=kept_blocked(),
        ),
        kind,
    )


def _pair(value: Any) -> tuple[int, int] | None:
    """Both axes' number; None for what is no number for each, such as padding by name."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(one, int) for one in value):
        return value[0], value[1]
    return None


class _Step:
    """One call of a block, and what must hold when its gradients are computed.

    Where oneDNN has another layout for x, its copy is kept and x is not: hence the weak reference.
    """

    def __init__(self, fused: Block, bn: nn.BatchNorm2D, x: Tensor, weight: Tensor):
        self.block, self.bn, self.x = fused, bn, weakref.ref(x)
        self.parameters = (weight, bn.weight, bn.bias)
        tensors = (x, *self.parameters)
        self.versions = [tensor.inplace_version for tensor in tensors]
        self.wanted = [not tensor.stop_gradient for tensor in tensors]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns: z, and what `backward` needs. Updates the running statistics."""
        with paddle.no_grad():
            z, mean, variance, kept = self.block.forward(contiguous(x), *self.parameters)
            for running, of_batch in ((self.bn._mean, mean), (self.bn._variance, variance)):
                running.scale_(self.bn._momentum)
                running.add_(of_batch.scale(1 - self.bn._momentum))
        return z, kept

    def backward(self, kept: Sequence[Tensor], grad_z: Tensor) -> list[Tensor | None]:
        """Gradients of those tensors that want one.

        Raises: RuntimeError: if they are to be differentiated again, or a tensor was changed in place.
        """
        refuse_second_gradient()
        for name, tensor, version in zip(_NAMES, (self.x(), *self.parameters), self.versions):
            if tensor is not None and tensor.inplace_version != version:
                raise RuntimeError(
                    f"{name} has been modified by an inplace operation before its gradient was computed. Its version "
                    f"is {tensor.inplace_version:d} but the expected version is {version:d}."
                )
        weight, scale, _ = self.parameters
        gradients = self.block.backward(kept, weight, scale, contiguous(grad_z))
        return [gradient for gradient, wanted in zip(gradients, self.wanted) if wanted]


_NAMES = ("the input of a convolution", "a convolution's weight", "a batch norm's weight", "a batch norm's bias")


class _ConvBN(PyLayer):
    """Called with the tensors that want a gradient, for Paddle to see, the `_Step`, and its `forward` for an input."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *_, ctx.step, compute = arguments
        z, kept = compute()
        ctx.save_for_backward(*kept)
        return z

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> Any:
        gradients = ctx.step.backward(ctx.saved_tensor(), grad_z)
        return tuple(gradients) if _PADDLE_2 else gradients
