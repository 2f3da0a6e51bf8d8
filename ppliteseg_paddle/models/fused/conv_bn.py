"""Convolution, batch norm and ReLU together: layer after layer by Paddle, or in training on the CPU in one go by
oneDNN."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from ppliteseg_paddle.models.fused import onednn

# Of the result. With fewer than the library's layouts have in a group, as in the attention, most of what it computes is
# padding.
LEAST_CHANNELS = 8


def conv_bn(conv, bn, x, relu: bool = False):
    """`bn(conv(x))`, with ReLU after it if wanted; in training on the CPU by oneDNN.

    Evaluation, graphs, other devices and types are computed by Paddle's layers, and so are layers with hooks, which
    would not be
    called otherwise, convolutions with a bias, and batch norm of other kinds. oneDNN's gradients have no gradients of
    their own.

    Shape: (N, C, H, W) -> as `conv`'s.
    """
    block = _block(conv, bn, x, relu) if bn.training and paddle.in_dynamic_mode() else None
    if block is None:
        y = bn(conv(x))
        return F.relu(y) if relu else y
    z, mean, variance = _ConvBN.apply(x, conv.weight, bn.weight, bn.bias, block)
    with paddle.no_grad():
        for running, of_batch in ((bn._mean, mean), (bn._variance, variance)):
            running.scale_(bn._momentum)
            running.add_(of_batch.scale(1 - bn._momentum))
    return z


def _block(conv, bn, x, relu: bool):
    """The `onednn.Block` that computes this; None where Paddle is to do it."""
    if not x.place.is_cpu_place() or x.ndim != 4 or type(bn) is not nn.BatchNorm2D or bn._use_global_stats:
        return None
    if conv.weight.shape[0] < LEAST_CHANNELS or conv.bias is not None:
        return None
    if any(tensor is None or tensor.dtype != paddle.float32 for tensor in (x, conv.weight, bn.weight, bn.bias)):
        return None
    if conv._padding_mode != "zeros" or conv._data_format != "NCHW" or bn._data_format != "NCHW":
        return None
    if any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in (conv, bn)):
        return None
    padding = _pair(conv._padding)
    if padding is None:
        return None
    return onednn.block(
        tuple(x.shape),
        tuple(conv.weight.shape),
        _pair(conv._stride),
        padding,
        _pair(conv._dilation),
        conv._groups,
        bn._epsilon,
        relu,
        not x.stop_gradient,
    )


def _pair(value):
    """Both axes' number; None for what is no number for each, such as padding by name."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(one, int) for one in value):
        return tuple(value)
    return None


class _ConvBN(PyLayer):
    @staticmethod
    def forward(ctx, x, weight, scale, shift, block):
        ctx.block, ctx.wanted = block, [not one.stop_gradient for one in (x, weight, scale, shift)]
        z, mean, variance, kept = block.forward(_contiguous(x), weight, scale, shift)
        if any(ctx.wanted):
            ctx.save_for_backward(weight, scale, *kept)
        return z, mean, variance

    @staticmethod
    def backward(ctx, grad_z, grad_mean, grad_variance):
        weight, scale, *kept = ctx.saved_tensor()
        gradients = ctx.block.backward(kept, weight, scale, _contiguous(grad_z))
        return tuple(gradient if wanted else None for gradient, wanted in zip(gradients, ctx.wanted))


def _contiguous(tensor):
    return tensor if tensor.is_contiguous() else tensor.contiguous()
