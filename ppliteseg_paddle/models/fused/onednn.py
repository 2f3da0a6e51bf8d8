"""Training steps of convolution, batch norm and ReLU in one go, by the oneDNN that Paddle's CPU builds carry along.

Paddle uses that library for inference only: in training, its CPU convolutions copy each image's windows into a matrix
(im2col) and multiply, image by image, and batch norm and ReLU walk through memory with one thread. Here the library's
own C
interface is called on the tensors' memory: a map is brought into the library's layout once, goes through all three, and
is
brought back once. Values differ from Paddle's in the order of sums only.

The library is the one file `libs/libdnnl.so.3` of the installed Paddle (oneDNN 3.2 in Paddle 2.6, 3.6 in 3.2 and 3.3);
its C
interface is stable within version 3. Where there is none, `block` returns None.

Source: oneDNN's C interface, https://uxlfoundation.github.io/oneDNN/ (`dnnl.h`, `dnnl_types.h`).
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from ctypes import c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from functools import lru_cache

VERSION = 3  # of the C interface
AVX2 = 0x7  # what a processor must have: without it, most of the library is written plainly, and slow
# Values of the interface's enumerations (`dnnl_types.h`), named as there without `dnnl_`.
CPU, IN_ORDER, FLOAT32, FORMAT_ANY = 1, 1, 3, 1
FORWARD_TRAINING, BACKWARD, CONVOLUTION_DIRECT = 64, 128, 1
USE_SCALE, USE_SHIFT, FUSE_NORM_RELU = 2, 4, 8
ARG_SRC, ARG_DST, ARG_WEIGHTS, ARG_MEAN, ARG_VARIANCE, ARG_SCALE, ARG_SHIFT, ARG_WORKSPACE = (
    1,
    17,
    33,
    49,
    50,
    51,
    52,
    64,
)
ARG_DIFF_SRC, ARG_DIFF_DST, ARG_DIFF_WEIGHTS, ARG_DIFF_SCALE, ARG_DIFF_SHIFT = 129, 145, 161, 255, 256
QUERY_IMPLEMENTATION, QUERY_SRC, QUERY_WEIGHTS, QUERY_DIFF_WEIGHTS, QUERY_DST, QUERY_WORKSPACE = (
    8,
    129,
    131,
    132,
    133,
    135,
)
MAX_DIMENSIONS = 12

# Memory of `_Scratch` and the handles of `_Memory` belong to one call at a time.
_lock = threading.Lock()


class _Argument(ctypes.Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


class _Version(ctypes.Structure):
    _fields_ = [("major", c_int), ("minor", c_int), ("patch", c_int), ("hash", ctypes.c_char_p)]


@lru_cache(maxsize=1)
def library() -> _Library | None:
    """The oneDNN of the installed Paddle; None where it has none of version 3, the processor is too old for it, or
    PPLITESEG_ONEDNN=0 leaves it out."""
    if os.environ.get("PPLITESEG_ONEDNN") == "0":
        return None
    import paddle

    path = os.path.join(os.path.dirname(paddle.__file__), "libs", f"libdnnl.so.{VERSION:d}")
    try:
        return _Library(ctypes.CDLL(path))  # the one that Paddle has loaded: same file, same threads
    except (OSError, AttributeError, RuntimeError):  # no file, or another interface
        return None


class _Library:
    """Engine, stream, and the functions of the interface with their status checked."""

    def __init__(self, functions: ctypes.CDLL):
        self.functions = functions
        functions.dnnl_version.restype = ctypes.POINTER(_Version)
        version = functions.dnnl_version().contents
        self.version = f"{version.major:d}.{version.minor:d}.{version.patch:d}"
        if version.major != VERSION or functions.dnnl_get_effective_cpu_isa() & AVX2 != AVX2:
            raise RuntimeError(f"oneDNN is of another version than {VERSION:d}, or the processor has no AVX2.")
        for name, result, arguments in (
            ("dnnl_primitive_desc_query_md", c_void_p, [c_void_p, c_int, c_int]),
            ("dnnl_memory_desc_get_size", c_size_t, [c_void_p]),
            ("dnnl_memory_desc_equal", c_int, [c_void_p, c_void_p]),
            ("dnnl_memory_set_data_handle", c_int, [c_void_p, c_void_p]),
            ("dnnl_primitive_execute", c_int, [c_void_p, c_void_p, c_int, c_void_p]),
        ):
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments
        self.engine = self.create("dnnl_engine_create", c_int(CPU), c_size_t(0))
        self.stream = self.create("dnnl_stream_create", self.engine, c_int(IN_ORDER))

    def call(self, name: str, *arguments) -> None:
        """Raises: RuntimeError: if the library refuses."""
        status = getattr(self.functions, name)(*arguments)
        if status:
            raise RuntimeError(f"oneDNN: {name} ended with status {status:d}.")

    def create(self, name: str, *arguments) -> c_void_p:
        """What a function writes into its first argument."""
        handle = c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return handle


# --------------------------------------------------------------------------------------------
# Memory, its layouts, and what works on it
# --------------------------------------------------------------------------------------------
def _numbers(values: Sequence[int]):
    return (c_int64 * MAX_DIMENSIONS)(*values)


def _plain(lib: _Library, shape: Sequence[int]) -> c_void_p:
    """Layout of a Paddle tensor: float32, last axis fastest."""
    strides = [1] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return lib.create(
        "dnnl_memory_desc_create_with_strides", c_int(len(shape)), _numbers(shape), c_int(FLOAT32), _numbers(strides)
    )


def _any(lib: _Library, shape: Sequence[int]) -> c_void_p:
    """A layout that the library chooses when a primitive is made."""
    return lib.create(
        "dnnl_memory_desc_create_with_tag", c_int(len(shape)), _numbers(shape), c_int(FLOAT32), c_int(FORMAT_ANY)
    )


class _Primitive:
    """An operation on certain shapes.

    Raises: RuntimeError: if the library refuses them, or has only its reference implementation for them, which is slow.
    """

    def __init__(self, lib: _Library, kind: str, *arguments):
        self.lib = lib
        self.description = lib.create(f"dnnl_{kind}_primitive_desc_create", *arguments)
        implementation = ctypes.c_char_p()
        lib.call(
            "dnnl_primitive_desc_query",
            self.description,
            c_int(QUERY_IMPLEMENTATION),
            c_int(0),
            ctypes.byref(implementation),
        )
        if (implementation.value or b"").startswith(b"ref"):
            raise RuntimeError(f"oneDNN has only a reference implementation of this {kind}.")
        self.handle = lib.create("dnnl_primitive_create", self.description)

    def layout(self, query: int) -> c_void_p:
        """Of an operand, as the library has chosen it."""
        return c_void_p(self.lib.functions.dnnl_primitive_desc_query_md(self.description, query, 0))

    def __call__(self, operands: dict[int, _Memory]) -> None:
        arguments = (_Argument * len(operands))(*((number, memory.handle) for number, memory in operands.items()))
        self.lib.call("dnnl_primitive_execute", self.handle, self.lib.stream, len(operands), arguments)


class _Memory:
    """An operand: memory of a layout, wherever it is at the moment."""

    def __init__(self, lib: _Library, layout: c_void_p):
        self.lib, self.layout = lib, layout
        self.size = lib.functions.dnnl_memory_desc_get_size(layout)  # bytes
        self.handle = lib.create("dnnl_memory_create", layout, lib.engine, None)

    def at(self, address: int) -> _Memory:
        self.lib.call("dnnl_memory_set_data_handle", self.handle, address)
        return self


class _Scratch:
    """Memory for what does not outlive a call, by its role; grows to the largest that was asked for."""

    def __init__(self):
        self.buffers: dict[str, ctypes.Array] = {}

    def address(self, role: str, size: int) -> int:
        if role not in self.buffers or len(self.buffers[role]) < size + 64:
            self.buffers[role] = (ctypes.c_char * (size + 64))()
        return -(-ctypes.addressof(self.buffers[role]) // 64) * 64


_scratch = _Scratch()


class _Bridge:
    """Between a Paddle tensor and the layout that a primitive wants."""

    def __init__(self, lib: _Library, shape: Sequence[int], layout: c_void_p):
        plain = _plain(lib, shape)
        self.inner = _Memory(lib, layout)
        self.same = bool(lib.functions.dnnl_memory_desc_equal(plain, layout))
        if not self.same:
            self.outer = _Memory(lib, plain)
            self._bring_in = _Primitive(lib, "reorder", plain, lib.engine, layout, lib.engine, None)
            self._bring_out = _Primitive(lib, "reorder", layout, lib.engine, plain, lib.engine, None)

    def scratch(self, role: str) -> _Memory:
        """Place for the inner form, until the role is needed again."""
        return self.inner.at(_scratch.address(role, self.inner.size))

    def read(self, tensor, role: str, into=None) -> _Memory:
        """The tensor's values in the inner form: in the tensor `into`, or else in scratch memory."""
        if self.same:
            return self.inner.at(tensor.data_ptr())
        target = self.scratch(role) if into is None else self.inner.at(into.data_ptr())
        self._bring_in({ARG_SRC: self.outer.at(tensor.data_ptr()), ARG_DST: target})
        return target

    def place(self, tensor, role: str) -> _Memory:
        """Where a result for this tensor is to be written, before `write`."""
        return self.inner.at(tensor.data_ptr()) if self.same else self.scratch(role)

    def write(self, tensor) -> None:
        """Bring the result from its place to the tensor."""
        if not self.same:
            self._bring_out({ARG_SRC: self.inner, ARG_DST: self.outer.at(tensor.data_ptr())})


# --------------------------------------------------------------------------------------------
# Convolution, batch norm, ReLU
# --------------------------------------------------------------------------------------------
class Block:
    """Convolution without bias, batch norm by the batch's statistics, and ReLU or none, for one shape; get it from
    `block`.

    Tensors are Paddle's: on the CPU, float32, contiguous.

    Args:
        x_shape: (N, C, H, W); weight_shape: (K, C / groups, kH, kW); stride, padding (on both sides), dilation: of both
            axes.
        epsilon: of batch norm.
        for_x: whether the gradient of x will be asked for.
    Raises: RuntimeError: if the library refuses the shape.
    """

    def __init__(
        self,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        epsilon: float,
        relu: bool,
        for_x: bool,
    ):
        lib = library()
        spans = [d * (k - 1) + 1 for k, d in zip(weight_shape[2:], dilation)]
        size = [(n + 2 * p - span) // s + 1 for n, p, span, s in zip(x_shape[2:], padding, spans, stride)]
        self.x_shape, self.weight_shape, self.y_shape = (
            list(x_shape),
            list(weight_shape),
            [x_shape[0], weight_shape[0], *size],
        )
        grouped = weight_shape if groups == 1 else (groups, weight_shape[0] // groups, *weight_shape[1:])
        # What the last window reaches beyond the map, which is less than `padding` where windows leave a rest.
        after = [(o - 1) * s + span - n - p for o, s, span, n, p in zip(size, stride, spans, x_shape[2:], padding)]
        window = [_numbers(values) for values in (stride, [d - 1 for d in dilation], padding, after)]
        direct, weight = c_int(CONVOLUTION_DIRECT), _any(lib, grouped)
        self._convolve = _Primitive(
            lib,
            "convolution_forward",
            lib.engine,
            c_int(FORWARD_TRAINING),
            direct,
            _any(lib, x_shape),
            weight,
            None,
            _any(lib, self.y_shape),
            *window,
            None,
        )
        # What the forward pass has chosen for the maps holds for all that follows, so that each is brought in and out
        # once.
        x, y, hint = self._convolve.layout(QUERY_SRC), self._convolve.layout(QUERY_DST), self._convolve.description
        self._to_weight = _Primitive(
            lib, "convolution_backward_weights", lib.engine, direct, x, weight, None, y, *window, hint, None
        )
        self._to_x = (
            _Primitive(lib, "convolution_backward_data", lib.engine, direct, x, weight, y, *window, hint, None)
            if for_x
            else None
        )
        self._x, self._z = _Bridge(lib, x_shape, x), _Bridge(lib, self.y_shape, y)
        self._y, self._grad_y = _Memory(lib, y), _Memory(lib, y)
        # Each pass wants the weight in a form of its own.
        self._weight = _Bridge(lib, grouped, self._convolve.layout(QUERY_WEIGHTS))
        self._weight_to_x = _Bridge(lib, grouped, self._to_x.layout(QUERY_WEIGHTS)) if for_x else None
        self._grad_weight = _Bridge(lib, grouped, self._to_weight.layout(QUERY_DIFF_WEIGHTS))

        flags = c_uint(USE_SCALE | USE_SHIFT | (FUSE_NORM_RELU if relu else 0))
        self._normalize = _Primitive(
            lib, "batch_normalization_forward", lib.engine, c_int(FORWARD_TRAINING), y, y, c_float(epsilon), flags, None
        )
        self._to_y = _Primitive(
            lib,
            "batch_normalization_backward",
            lib.engine,
            c_int(BACKWARD),
            y,
            y,
            y,
            c_float(epsilon),
            flags,
            self._normalize.description,
            None,
        )
        self._per_channel = {
            number: _Memory(lib, _plain(lib, weight_shape[:1]))
            for number in (ARG_MEAN, ARG_VARIANCE, ARG_SCALE, ARG_SHIFT, ARG_DIFF_SCALE, ARG_DIFF_SHIFT)
        }
        self._workspace = (
            _Memory(lib, self._normalize.layout(QUERY_WORKSPACE)) if relu else None
        )  # which values ReLU has let through

    def forward(self, x, weight, scale, shift):
        """Returns: z, the batch's mean and (biased) variance, and a list of tensors for `backward`."""
        import paddle

        z, mean, variance = (
            paddle.empty(self.y_shape),
            paddle.empty(self.weight_shape[:1]),
            paddle.empty(self.weight_shape[:1]),
        )
        kept_x = x if self._x.same else paddle.empty([self._x.inner.size // 4])
        kept_y = paddle.empty([self._y.size // 4])
        kept = [kept_x, kept_y, mean, variance]
        with _lock:
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
                kept.append(paddle.empty([-(-self._workspace.size // 4)]))
                operands[ARG_WORKSPACE] = self._workspace.at(kept[-1].data_ptr())
            self._normalize(operands)
            self._z.write(z)
        return z, mean, variance, kept

    def backward(self, kept, weight, scale, grad_z):
        """Returns: the gradients of x (None where it was not to be asked for), weight, scale and shift."""
        import paddle

        kept_x, kept_y, mean, variance = kept[:4]
        grad_x = paddle.empty(self.x_shape) if self._to_x else None
        grad_weight, grad_scale, grad_shift = (
            paddle.empty(shape) for shape in (self.weight_shape, scale.shape, scale.shape)
        )
        with _lock:
            y, grad_y = self._y.at(kept_y.data_ptr()), self._grad_y.at(_scratch.address("grad_y", self._grad_y.size))
            operands = {
                ARG_SRC: y,
                ARG_DIFF_DST: self._z.read(grad_z, "z"),
                ARG_DIFF_SRC: grad_y,
                **self._channels(
                    {
                        ARG_MEAN: mean,
                        ARG_VARIANCE: variance,
                        ARG_SCALE: scale,
                        ARG_DIFF_SCALE: grad_scale,
                        ARG_DIFF_SHIFT: grad_shift,
                    }
                ),
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

    def _channels(self, tensors) -> dict[int, _Memory]:
        return {number: self._per_channel[number].at(tensor.data_ptr()) for number, tensor in tensors.items()}


_blocks: dict[tuple, Block | None] = {}
# A network has some fifty shapes, times the sizes of its crops. Where maps change their size from step to step, making
# primitives
# anew each time would cost more than it brings, and memory without end.
MOST_BLOCKS = 1000


def block(*arguments) -> Block | None:
    """`Block` of these arguments, made once; None where the library is missing, refuses them, or has been asked for too
    many shapes."""
    if arguments not in _blocks:
        if library() is None or len(_blocks) >= MOST_BLOCKS:
            return None
        try:
            _blocks[arguments] = Block(*arguments)
        except RuntimeError:
            _blocks[arguments] = None
    return _blocks[arguments]
