"""oneDNN's memory, its layouts, and the operations on it, over Paddle's CPU tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.models.fused.onednn import Handles

if TYPE_CHECKING:
    import paddle

# Values of the interface's enumerations (`dnnl_types.h`), named as there without `dnnl_`.
BFLOAT16, FLOAT32, FORMAT_ANY = 2, 3, 1
# Tags of the layouts (N, C / b, H, W, b), by b: aBcd16b, aBcd8b.
BLOCKED_TAGS = {16: 78, 8: 102}
ARG_SRC, ARG_DST, ARG_WEIGHTS, ARG_BIAS = 1, 17, 33, 41
ARG_MEAN, ARG_VARIANCE, ARG_SCALE, ARG_SHIFT, ARG_WORKSPACE = 49, 50, 51, 52, 64
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
ALIGNMENT = 64  # bytes of a cache line, and of the widest register


class _Argument(ctypes.Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


def dimensions(values: Sequence[int]) -> ctypes.Array[c_int64]:
    """Numbers as the interface takes shapes, strides and paddings."""
    return (c_int64 * MAX_DIMENSIONS)(*values)


def plain_layout(handles: Handles, shape: Sequence[int]) -> c_void_p:
    """Layout of a Paddle tensor: float32, last axis fastest."""
    strides = [1] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return _with_strides(handles, shape, FLOAT32, strides)


def any_layout(handles: Handles, shape: Sequence[int], number_type: int = FLOAT32) -> c_void_p:
    """A layout that the library chooses when a primitive is made."""
    return _with_tag(handles, shape, number_type, FORMAT_ANY)


def blocked_layout(handles: Handles, shape: Sequence[int], channels: int, number_type: int = FLOAT32) -> c_void_p:
    """Layout of a map of `shape` (N, C, H, W) whose values are in the order of (N, C / channels, H, W, channels).

    Args: channels: 1 (plain), a number of `BLOCKED_TAGS`, or C (channels last); C is a multiple of it.
    """
    _, depth, height, width = shape
    if channels in BLOCKED_TAGS:
        return _with_tag(handles, shape, number_type, BLOCKED_TAGS[channels])
    size = height * width
    strides = (depth * size, size, width, 1) if channels == 1 else (depth * size, 1, width * depth, depth)
    return _with_strides(handles, shape, number_type, strides)


def block_of(handles: Handles, shape: Sequence[int], layout: c_void_p, number_type: int = FLOAT32) -> int:
    """The `channels` by which `blocked_layout` gives this layout; 1 for one that it does not give, too."""
    for channels in (*BLOCKED_TAGS, shape[1]):
        if shape[1] % channels == 0:
            candidate = blocked_layout(handles, shape, channels, number_type)
            if handles.lib.functions.dnnl_memory_desc_equal(candidate, layout):
                return channels
    return 1


def tensor_shape(shape: Sequence[int], channels: int) -> list[int]:
    """Of the Paddle tensor that holds a map of `shape` (N, C, H, W): that, or (N, C / channels, H, W, channels)."""
    if channels == 1:
        return list(shape)
    batch, depth, height, width = shape
    return [batch, depth // channels, height, width, channels]


def _with_strides(handles: Handles, shape: Sequence[int], number_type: int, strides: Sequence[int]) -> c_void_p:
    axes = c_int(len(shape)), dimensions(shape), c_int(number_type), dimensions(strides)
    return handles.create("memory_desc", "dnnl_memory_desc_create_with_strides", *axes)


def _with_tag(handles: Handles, shape: Sequence[int], number_type: int, tag: int) -> c_void_p:
    axes = c_int(len(shape)), dimensions(shape), c_int(number_type), c_int(tag)
    return handles.create("memory_desc", "dnnl_memory_desc_create_with_tag", *axes)


class Memory:
    """An operand: memory of a layout, wherever it is at the moment."""

    def __init__(self, handles: Handles, layout: c_void_p):
        self.lib = handles.lib
        self.size = int(self.lib.functions.dnnl_memory_desc_get_size(layout))  # bytes
        self.handle = handles.create("memory", "dnnl_memory_create", layout, self.lib.engine, None)

    def at(self, address: int) -> Memory:
        self.lib.call("dnnl_memory_set_data_handle", self.handle, address)
        return self

    def room(self) -> paddle.Tensor:
        """A new tensor that is large enough for its values, of whatever type they are."""
        import paddle

        return paddle.empty([-(-self.size // 4)])


class Primitive:
    """An operation on certain shapes.

    Raises: RuntimeError: if the library refuses them, or has only its reference implementation for them, which is slow.
    """

    def __init__(self, handles: Handles, kind: str, *arguments: Any):
        self.lib = handles.lib
        self.description = handles.create("primitive_desc", f"dnnl_{kind}_primitive_desc_create", *arguments)
        implementation = ctypes.c_char_p()
        self.lib.call(
            "dnnl_primitive_desc_query",
            self.description,
            c_int(QUERY_IMPLEMENTATION),
            c_int(0),
            ctypes.byref(implementation),
        )
        if (implementation.value or b"").startswith(b"ref"):
            raise RuntimeError(f"oneDNN has only a reference implementation of this {kind}.")
        self.handle = handles.create("primitive", "dnnl_primitive_create", self.description)

    def layout(self, query: int) -> c_void_p:
        """Of an operand, as the library has chosen it; belongs to this primitive."""
        return c_void_p(self.lib.functions.dnnl_primitive_desc_query_md(self.description, query, 0))

    def __call__(self, operands: dict[int, Memory]) -> None:
        arguments = (_Argument * len(operands))(
            *(_Argument(number, memory.handle) for number, memory in operands.items())
        )
        self.lib.call("dnnl_primitive_execute", self.handle, self.lib.stream, len(operands), arguments)


class Scratch:
    """Memory for what does not outlive a call, by its role; grows to the largest that was asked for."""

    def __init__(self) -> None:
        self.buffers: dict[str, ctypes.Array[ctypes.c_char]] = {}

    def address(self, role: str, size: int) -> int:
        if role not in self.buffers or len(self.buffers[role]) < size + ALIGNMENT:
            self.buffers[role] = (ctypes.c_char * (size + ALIGNMENT))()
        return -(-ctypes.addressof(self.buffers[role]) // ALIGNMENT) * ALIGNMENT


scratch = Scratch()  # one for the process: a call at a time computes (see `block`)


class Bridge:
    """Between a Paddle tensor and the layout that a primitive wants.

    Args: channels: how the tensor holds a map (see `tensor_shape`).
    """

    def __init__(self, handles: Handles, shape: Sequence[int], layout: c_void_p, channels: int = 1):
        lib = handles.lib
        outer = plain_layout(handles, shape) if channels == 1 else blocked_layout(handles, shape, channels)
        self.inner = Memory(handles, layout)
        self.same = bool(lib.functions.dnnl_memory_desc_equal(outer, layout))
        if not self.same:
            self.outer = Memory(handles, outer)
            self._bring_in = Primitive(handles, "reorder", outer, lib.engine, layout, lib.engine, None)
            self._bring_out = Primitive(handles, "reorder", layout, lib.engine, outer, lib.engine, None)

    def scratch(self, role: str) -> Memory:
        """Place for the inner form, until the role is needed again."""
        return self.inner.at(scratch.address(role, self.inner.size))

    def read(self, tensor: paddle.Tensor, role: str, into: paddle.Tensor | None = None) -> Memory:
        """The tensor's values in the inner form: in the tensor `into`, or else in scratch memory."""
        if self.same:
            return self.inner.at(tensor.data_ptr())
        target = self.scratch(role) if into is None else self.inner.at(into.data_ptr())
        self._bring_in({ARG_SRC: self.outer.at(tensor.data_ptr()), ARG_DST: target})
        return target

    def place(self, tensor: paddle.Tensor, role: str) -> Memory:
        """Where a result for this tensor is to be written, before `write`."""
        return self.inner.at(tensor.data_ptr()) if self.same else self.scratch(role)

    def write(self, tensor: paddle.Tensor) -> None:
        """Bring the result from its place to the tensor."""
        if not self.same:
            self._bring_out({ARG_SRC: self.inner, ARG_DST: self.outer.at(tensor.data_ptr())})
