"""What the names in weight files stand for: NumPy's and PyTorch's types and functions, rebuilt so that a file can
neither call anything else nor change what has been checked.

Nothing here has a `__dict__` or a `__setstate__`. `DType` and `Array` take the state that NumPy's pickles give them
once, checked; storages and tensors are tuples, which nothing can change.
"""

from __future__ import annotations

import codecs
import collections
import math
import re
from typing import Any, Callable, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import WeightsError

MAX_DIMENSIONS = 32  # NumPy's limit
_TYPE_CODE = re.compile(r"([<>=|]?)(\?|[fiubcSUO]\d{0,9})")


class Name(NamedTuple):
    """A name that a file asked for and may have. It stands for the function without giving access to it."""

    module: str
    name: str


class DType:
    """numpy.dtype: plain types only, none with fields."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_align_and_copy: Any):
        match = _TYPE_CODE.fullmatch(code) if type(code) is str else None
        if match is None:
            raise WeightsError("the file holds values of a type that is no plain number")
        self.order, self.code = match.group(1), match.group(2)

    def build(self, state: Any) -> None:
        """Take the byte order from (3, order, subtype, names, fields, size, alignment, flags)."""
        if self.order or type(state) is not tuple or len(state) != 8 or state[1] not in ("<", ">", "=", "|"):
            raise WeightsError("the file describes a type of numbers in a form that NumPy does not write")
        if any(item is not None for item in state[2:5]):
            raise WeightsError("the file holds values of a type with fields, which weights do not have")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        order = self.order if self.order in ("<", ">") else "="
        return np.dtype(self.code).newbyteorder(order)  # type: ignore[arg-type]


class Array:
    """A numpy.ndarray whose state follows."""

    __slots__ = ("value",)

    def __init__(self, kind: Any, *_shape_and_code: Any):
        if kind != Name("numpy", "ndarray"):
            raise WeightsError("the file describes an array in a form that NumPy does not write")
        self.value: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        """Take (version, shape, type, whether in Fortran's order, bytes)."""
        if self.value is not None or type(state) is not tuple or len(state) != 5:
            raise WeightsError("the file describes an array in a form that NumPy does not write")
        _version, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran is True or fortran == 1 else "C")


def is_shape(value: Any) -> bool:
    """Whether `value` is a tuple of Python's integers that NumPy can count with."""
    return (
        type(value) is tuple
        and len(value) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < 1 << 63 for size in value)
    )


def _array(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(dtype, DType) or not is_shape(shape):
        raise WeightsError("the file describes an array in a form that NumPy does not write")
    if dtype.code.startswith("O"):
        return np.empty(0, object)  # its name and type are told; what it holds is not read
    if type(data) is str:
        data = data.encode("latin1")  # as Python 2 wrote bytes
    numpy_type, count = dtype.numpy(), math.prod(shape)
    if not isinstance(data, (bytes, bytearray)) or len(data) != count * numpy_type.itemsize:
        raise WeightsError(f"an array of shape {list(shape)} does not have the bytes of that many numbers")
    if count == 0:
        return np.zeros(shape, numpy_type)
    array = np.frombuffer(data, numpy_type).reshape(shape, order="F" if order == "F" else "C")
    return array.copy(order="K")  # one that can be written to


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    if axes is not None and not is_shape(axes):
        raise WeightsError("the file describes an array in a form that NumPy does not write")
    array = _array(data, dtype, shape, order)
    return array if axes is None else array.transpose(axes)


def _scalar(dtype: Any, data: Any) -> Any:
    if isinstance(dtype, DType) and dtype.code.startswith("O"):
        raise WeightsError("the file holds Python objects where numbers are expected")
    return _array(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    # Python 2 wrote bytes as latin1 text. Looking up any other codec would import a module that the file names.
    if encoding != "latin1" or type(text) is not str:
        asked = encoding if type(encoding) is str else type(encoding).__name__
        raise WeightsError(f"the file asks for the text encoding '{asked}', which arrays do not need")
    return codecs.latin_1_encode(text)[0]


def _tuple(items: Any) -> tuple[Any, ...]:
    if type(items) not in (tuple, list):
        raise WeightsError("the file makes a tuple of something that is no list")
    return tuple(items)


def _no_bytes() -> bytes:
    return b""


def is_key(value: Any) -> bool:
    """Whether a dict may have this key. Hashing tuples nested in tuples can exhaust the stack."""
    return value is None or type(value) in (str, int, float, bool, bytes)


def _ordered_dict(pairs: Any = ()) -> collections.OrderedDict[Any, Any]:
    if type(pairs) not in (tuple, list) or any(
        type(pair) not in (tuple, list) or len(pair) != 2 or not is_key(pair[0]) for pair in pairs
    ):
        raise WeightsError("the file makes a dict of something other than names and values")
    return collections.OrderedDict(pairs)


def _not_called(*_arguments: Any) -> Any:
    raise WeightsError("the file calls a type as no weight file does")


def _numpy_names() -> dict[Name, Callable[..., Any]]:
    names: dict[Name, Callable[..., Any]] = {Name("numpy", "ndarray"): _not_called, Name("numpy", "dtype"): DType}
    for package in ("numpy.core.", "numpy._core."):  # before and since numpy 2
        names[Name(package + "multiarray", "_reconstruct")] = Array
        names[Name(package + "multiarray", "scalar")] = _scalar
        names[Name(package + "numeric", "_frombuffer")] = _from_buffer
    return names


# What a file may ask for, and what is called in its place.
PLAIN_NAMES: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("_codecs", "encode"): _encode,
    Name("builtins", "tuple"): _tuple,
    Name("__builtin__", "tuple"): _tuple,
    Name("__builtin__", "bytes"): _no_bytes,  # the content of an empty array, up to protocol 2
    **_numpy_names(),
}


# --------------------------------------------------------------------------------------------
# PyTorch
# --------------------------------------------------------------------------------------------
# torch.<name> -> numpy's type. numpy has no bfloat16: its 16 bits are the upper half of a float32.
STORAGE_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Storage(NamedTuple):
    """A run of numbers that lies elsewhere in the file, `start` numbers after the begin of storage `key`."""

    key: str
    dtype: str
    start: int = 0


class TensorView(NamedTuple):
    """A tensor as PyTorch pickles it: a view into a storage. Offset and strides in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, flat: NDArray[Any]) -> NDArray[Any]:
        """The tensor's own copy of its numbers.

        Args: flat: all numbers of its storage.
        Raises: WeightsError: if the view reaches outside of them, or has more numbers than they are.
        """
        # All of these are Python's integers, which do not wrap.
        offset = self.offset + self.storage.start
        last = offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides))
        empty = 0 in self.shape
        if len(self.shape) != len(self.strides) or offset < 0 or (not empty and last >= flat.size):
            raise WeightsError(f"a tensor of shape {list(self.shape)} lies outside its {flat.size:d} stored numbers")
        if empty:
            return np.zeros(self.shape, flat.dtype)
        if math.prod(self.shape) > flat.size:
            raise WeightsError(f"a tensor of shape {list(self.shape)} repeats its {flat.size:d} stored numbers")
        steps = [stride * flat.itemsize if n > 1 else 0 for n, stride in zip(self.shape, self.strides)]
        view = np.lib.stride_tricks.as_strided(flat[offset:], self.shape, steps, writeable=False)
        return np.array(view, order="C")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> TensorView:
    if type(storage) is not Storage or type(offset) is not int or not all(map(_is_integers, (shape, strides))):
        raise WeightsError("the file describes a tensor in a form that PyTorch does not write")
    if offset < 0 or not is_shape(shape) or not is_shape(strides):
        raise WeightsError(f"a tensor of shape {list(shape)[:MAX_DIMENSIONS]} lies outside its stored numbers")
    return TensorView(storage, offset, shape, strides)


def _is_integers(value: Any) -> bool:
    return type(value) is tuple and all(type(item) is int for item in value)


def _rebuild_parameter(tensor: Any, *_unused: Any) -> Any:
    return tensor


TORCH_NAMES: dict[Name, Callable[..., Any]] = {
    **PLAIN_NAMES,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    Name("torch", "Size"): _tuple,
    **{Name("torch", name): _not_called for name in STORAGE_TYPES},
}


def storage_of(pid: Any) -> Storage:
    """What a persistent id refers to: ('storage', type, key, device, count[, view]), view being None or
    (key, start, count), as PyTorch 0.4 wrote."""
    wrong = WeightsError("the file refers to something other than stored numbers")
    if type(pid) is not tuple or len(pid) not in (5, 6) or type(pid[0]) is not str or pid[0] != "storage":
        raise wrong
    kind, key, view = pid[1], pid[2], pid[5] if len(pid) == 6 else None
    if type(kind) is not Name or kind.module != "torch" or kind.name not in STORAGE_TYPES:
        raise wrong
    if type(key) not in (str, int) or not (view is None or (type(view) is tuple and len(view) == 3)):
        raise wrong
    start = 0 if view is None else view[1]
    if type(start) is not int or not 0 <= start < 1 << 63:
        raise wrong
    return Storage(str(key), STORAGE_TYPES[kind.name], start)
