"""Training steps of convolution, batch norm and ReLU in one go, by oneDNN, and the cache of what was built for them.

A map is brought into the library's layout once, goes through all three, and is brought back once, or stays in it for
the next block (`blocked`). Values differ from Paddle's in the order of sums only.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from ctypes import c_float, c_int, c_int64, c_uint
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ppliteseg_paddle.models.fused import onednn
from ppliteseg_paddle.models.fused.onednn import Handles
from ppliteseg_paddle.models.fused.primitives import (
    ARG_DIFF_DST,
    ARG_DIFF_SCALE,
    ARG_DIFF_SHIFT,
    ARG_DIFF_SRC,
    ARG_DIFF_WEIGHTS,
    ARG_DST,
    ARG_MEAN,
    ARG_SCALE,
    ARG_SHIFT,
    ARG_SRC,
    ARG_VARIANCE,
    ARG_WEIGHTS,
    ARG_WORKSPACE,
    BFLOAT16,
    FLOAT32,
    QUERY_DIFF_WEIGHTS,
    QUERY_DST,
    QUERY_SRC,
    QUERY_WEIGHTS,
    QUERY_WORKSPACE,
    Bridge,
    Memory,
    Primitive,
    any_layout,
    block_of,
    dimensions,
    plain_layout,
    scratch,
    tensor_shape,
)

if TYPE_CHECKING:
    from paddle import Tensor

FORWARD_TRAINING, BACKWARD, CONVOLUTION_DIRECT = 64, 128, 1
USE_SCALE, USE_SHIFT, FUSE_NORM_RELU = 2, 4, 8

# Scratch memory and the addresses of a block's operands belong to one call at a time.
computing = threading.Lock()


class Case(NamedTuple):
    """What a `Block` is built for.

    x_shape: (N, C, H, W); weight_shape: (K, C / groups, kH, kW); stride, padding (on both sides), dilation: of both
    axes; epsilon: of batch norm; for_x: whether the gradient of x will be asked for; bf16: whether maps, and weights in
    products, are rounded to bfloat16. Sums, statistics and the gradients of parameters are float32 even then;
    x_block: the channels that lie together in x's tensor (see `primitives.tensor_shape`); keep_blocked: whether the
    result's tensor may have such a form, too: the one that the library computes in.
    """

    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    epsilon: float
    relu: bool
    for_x: bool
    bf16: bool = False
    x_block: int = 1
    keep_blocked: bool = False


def geometry(case: Case) -> tuple[list[int], tuple[int, ...], list[ctypes.Array[c_int64]]]:
    """Shapes of a convolution's result and of its weights by group, and how its window moves: strides, dilations less
    one, paddings before and after, as the interface takes them."""
    spans = [d * (k - 1) + 1 for k, d in zip(case.weight_shape[2:], case.dilation)]
    size = [(n + 2 * p - span) // s + 1 for n, p, span, s in zip(case.x_shape[2:], case.padding, spans, case.stride)]
    grouped = case.weight_shape
    if case.groups > 1:
        grouped = (case.groups, case.weight_shape[0] // case.groups, *case.weight_shape[1:])
    # What the last window reaches beyond the map, which is less than `padding` where windows leave a rest.
    after = [
        (o - 1) * s + span - n - p for o, s, span, n, p in zip(size, case.stride, spans, case.x_shape[2:], case.padding)
    ]
    window = [dimensions(values) for values in (case.stride, [d - 1 for d in case.dilation], case.padding, after)]
    return [case.x_shape[0], case.weight_shape[0], *size], grouped, window


Kind = TypeVar("Kind", bound=tuple)


class Built(Generic[Kind]):
    """What is built in the library for a case, and destroyed with this object.

    Raises: RuntimeError: if the library refuses the case.
    """

    def __init__(self, lib: onednn.Library, case: Kind):
        self.case = case
        handles = Handles(lib)
        destroy = weakref.finalize(self, handles.destroy)
        destroy.atexit = False  # the process ends with the library
        try:
            self._build(handles)
        except BaseException:
            destroy()
            raise

    def _build(self, handles: Handles) -> None:
        """Create all that is needed, in `handles`."""
        raise NotImplementedError


class Block(Built[Case]):
    """Convolution without bias, batch norm by the batch's statistics, and ReLU or none; get it from `block`.

    Tensors are Paddle's: on the CPU, float32, contiguous; maps are of (N, C, H, W) or (N, C / b, H, W, b).
    """

    def _build(self, handles: Handles) -> None:
        case, engine = self.case, handles.lib.engine
        self.y_shape, grouped, window = geometry(case)
        direct, number_type = c_int(CONVOLUTION_DIRECT), BFLOAT16 if case.bf16 else FLOAT32
        x, weight, y = (any_layout(handles, shape, number_type) for shape in (case.x_shape, grouped, self.y_shape))
        training = c_int(FORWARD_TRAINING)
        self._convolve = Primitive(
            handles, "convolution_forward", engine, training, direct, x, weight, None, y, *window, None
        )
        # What the forward pass has chosen for the maps holds for all that follows: each is brought in and out once.
        x, y, hint = self._convolve.layout(QUERY_SRC), self._convolve.layout(QUERY_DST), self._convolve.description
        grad_weight = any_layout(handles, grouped)
        self._to_weight = Primitive(
            handles, "convolution_backward_weights", engine, direct, x, grad_weight, None, y, *window, hint, None
        )
        z_block = block_of(handles, self.y_shape, y, number_type) if case.keep_blocked else 1
        self._x_shape, self._z_shape = tensor_shape(case.x_shape, case.x_block), tensor_shape(self.y_shape, z_block)
        self._x, self._z = Bridge(handles, case.x_shape, x, case.x_block), Bridge(handles, self.y_shape, y, z_block)
        self._y, self._grad_y = Memory(handles, y), Memory(handles, y)
        # Each pass wants the weight in a form of its own.
        self._weight = Bridge(handles, grouped, self._convolve.layout(QUERY_WEIGHTS))
        self._grad_weight = Bridge(handles, grouped, self._to_weight.layout(QUERY_DIFF_WEIGHTS))
        self._to_x = None
        if case.for_x:
            self._to_x = Primitive(
                handles, "convolution_backward_data", engine, direct, x, weight, y, *window, hint, None
            )
            self._weight_to_x = Bridge(handles, grouped, self._to_x.layout(QUERY_WEIGHTS))

        epsilon = c_float(case.epsilon)
        flags = c_uint(USE_SCALE | USE_SHIFT | (FUSE_NORM_RELU if case.relu else 0))
        self._normalize = Primitive(
            handles, "batch_normalization_forward", engine, training, y, y, epsilon, flags, None
        )
        hint = self._normalize.description
        self._to_y = Primitive(
            handles, "batch_normalization_backward", engine, c_int(BACKWARD), y, y, y, epsilon, flags, hint, None
        )
        channels = plain_layout(handles, case.weight_shape[:1])
        self._per_channel = {
            number: Memory(handles, channels)
            for number in (ARG_MEAN, ARG_VARIANCE, ARG_SCALE, ARG_SHIFT, ARG_DIFF_SCALE, ARG_DIFF_SHIFT)
        }
        # Which values ReLU has let through.
        self._workspace = Memory(handles, self._normalize.layout(QUERY_WORKSPACE)) if case.relu else None

    def forward(
        self, x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Returns: z, the batch's mean and (biased) variance, and a list of tensors for `backward`."""
        import paddle

        z = paddle.empty(self._z_shape)
        mean, variance = (paddle.empty(self.case.weight_shape[:1]) for _ in range(2))
        kept_x = x if self._x.same else self._x.inner.room()
        kept_y = self._y.room()
        kept = [kept_x, kept_y, mean, variance]
        with computing:
            y = self._y.at(kept_y.data_ptr())
            self._convolve(
                {
                    ARG_SRC: self._x.read(x, "x", into=kept_x),
                    ARG_WEIGHTS: self._weight.read(weight, "weight"),
                    ARG_DST: y,
                }
            )
            operands = {
                ARG_SRC: y,
                ARG_DST: self._z.place(z, "z"),
                **self._channels({ARG_MEAN: mean, ARG_VARIANCE: variance, ARG_SCALE: scale, ARG_SHIFT: shift}),
            }
            if self._workspace is not None:
                kept.append(self._workspace.room())
                operands[ARG_WORKSPACE] = self._workspace.at(kept[-1].data_ptr())
            self._normalize(operands)
            self._z.write(z)
        return z, mean, variance, kept

    def backward(
        self, kept: Sequence[Tensor], weight: Tensor, scale: Tensor, grad_z: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """Returns: the gradients of x (None where it was not to be asked for), weight, scale and shift."""
        import paddle

        kept_x, kept_y, mean, variance = kept[:4]
        grad_x = paddle.empty(self._x_shape) if self._to_x else None
        grad_weight, grad_scale, grad_shift = (
            paddle.empty(shape) for shape in (self.case.weight_shape, scale.shape, scale.shape)
        )
        with computing:
            y, grad_y = self._y.at(kept_y.data_ptr()), self._grad_y.at(scratch.address("grad_y", self._grad_y.size))
            statistics = {ARG_MEAN: mean, ARG_VARIANCE: variance, ARG_SCALE: scale}
            operands = {
                ARG_SRC: y,
                ARG_DIFF_DST: self._z.read(grad_z, "z"),
                ARG_DIFF_SRC: grad_y,
                **self._channels({**statistics, ARG_DIFF_SCALE: grad_scale, ARG_DIFF_SHIFT: grad_shift}),
            }
            if self._workspace is not None:
                operands[ARG_WORKSPACE] = self._workspace.at(kept[4].data_ptr())
            self._to_y(operands)
            self._to_weight(
                {
                    ARG_SRC: self._x.inner.at(kept_x.data_ptr()),
                    ARG_DIFF_DST: grad_y,
                    ARG_DIFF_WEIGHTS: self._grad_weight.place(grad_weight, "weight"),
                }
            )
            self._grad_weight.write(grad_weight)
            if self._to_x:
                self._to_x(
                    {
                        ARG_DIFF_DST: grad_y,
                        ARG_WEIGHTS: self._weight_to_x.read(weight, "weight"),
                        ARG_DIFF_SRC: self._x.place(grad_x, "x"),
                    }
                )
                self._x.write(grad_x)
        return grad_x, grad_weight, grad_scale, grad_shift

    def _channels(self, tensors: dict[int, Tensor]) -> dict[int, Memory]:
        return {number: self._per_channel[number].at(tensor.data_ptr()) for number, tensor in tensors.items()}


# --------------------------------------------------------------------------------------------
# The cache
# --------------------------------------------------------------------------------------------
# A network has some fifty cases, times the sizes of its crops. A block is built in 3 to 9 ms and takes 0.4 MB, so the
# full cache takes 100 MB; where maps change their size at every step, blocks are built anew, the longest unused first
# destroyed.
MAX_BLOCKS = 256
_blocks: OrderedDict[tuple[type, tuple], Any] = OrderedDict()
_caching = threading.Lock()


def block(case: tuple, kind: type = Block) -> Any:
    """The block of this case, built by `kind` unless it is in the cache; None where the library is missing or refuses
    it."""
    lib = onednn.library()
    if lib is None:
        return None
    key = kind, case
    with _caching:
        if key not in _blocks:
            try:
                built = kind(lib, case)
            except RuntimeError:
                built = None
            _blocks[key] = built
            while len(_blocks) > MAX_BLOCKS:
                _blocks.popitem(last=False)
        _blocks.move_to_end(key)
        return _blocks[key]
