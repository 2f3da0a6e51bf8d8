"""Read pickles without executing code in them: arrays, numbers, texts and containers only.

`.pdparams` files and PyTorch checkpoints are pickles, and a pickle may name any function to be called. Here each name
is looked up in a table; whatever is not in it is refused before anything is called.
"""

from __future__ import annotations

import codecs
import collections
import pickle
from dataclasses import dataclass
from typing import Any, Callable, Literal

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import WeightsError

# What malformed bytes make the unpickler and numpy raise.
PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    UnicodeDecodeError,
    AssertionError,
)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Python 2 wrote bytes as latin1 text. Looking up any other codec would import a module that the file names.
    if encoding != "latin1":
        raise WeightsError(f"the file asks for the text encoding '{encoding}', which arrays do not need")
    return codecs.latin_1_encode(text)[0]


def _scalar(dtype: np.dtype[Any], *data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise WeightsError("the file holds Python objects where numbers are expected")
    return np.frombuffer(data[0], dtype)[0] if data else dtype.type()


def _numpy_names() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for package in ("numpy.core.", "numpy._core."):  # before and since numpy 2
        for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer")):
            names[(package + module, name)] = getattr(getattr(np.core, module), name)
        names[(package + "multiarray", "scalar")] = _scalar
    return names


PLAIN_NAMES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
    **_numpy_names(),
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays in plain containers.

    Raises: WeightsError: for any other class or function, without calling it.
    """

    names: dict[tuple[str, str], Any] = PLAIN_NAMES

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.names:
            return self.names[(module, name)]
        raise WeightsError(
            f"the file asks for '{module}.{name}', which arrays do not need; it was not read, as it may run "
            "commands. Use a file from a source that you trust."
        )


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


@dataclass(frozen=True)
class Storage:
    """A run of numbers that lies elsewhere in the file, `start` numbers after the begin of storage `key`."""

    key: str
    dtype: str
    count: int
    start: int = 0


@dataclass(frozen=True)
class TensorView:
    """A tensor as PyTorch pickles it: a view into a storage. Offset and strides in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, read: Callable[[Storage], NDArray[Any]]) -> NDArray[Any]:
        """The tensor's own copy of its numbers.

        Args: read: gives all numbers of a storage, as a flat array.
        Raises: WeightsError: if the view reaches outside its storage.
        """
        flat = read(self.storage)
        offset = self.offset + self.storage.start
        last = offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides))
        empty = 0 in self.shape
        if (
            len(self.shape) != len(self.strides)
            or min((offset,) + self.shape + self.strides) < 0
            or (not empty and last >= flat.size)
        ):
            raise WeightsError(f"a tensor of shape {list(self.shape)} lies outside its {flat.size:d} stored numbers")
        if empty:
            return np.zeros(self.shape, flat.dtype)
        steps = [stride * flat.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(flat[offset:], self.shape, steps, writeable=False)
        return np.array(view, order="C")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> TensorView:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or any(not isinstance(n, int) or isinstance(n, bool) for n in numbers):
        raise WeightsError("the file describes a tensor in a form that PyTorch does not write")
    return TensorView(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_unused: Any) -> Any:
    return tensor


class _StorageType(str):
    """Stands for torch.FloatStorage and its like; the text is the numpy type. Calling it is an error, as of any
    text."""


class TorchUnpickler(ArrayUnpickler):
    """Unpickles a PyTorch state dict without PyTorch; tensors come out as `TensorView`s."""

    names = {
        **PLAIN_NAMES,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("torch", "Size"): tuple,
        **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
    }

    def persistent_load(self, pid: Any) -> Storage:
        """('storage', type, key, device, count[, view]), view being None or (key, start, count), as PyTorch 0.4
        wrote."""
        if (
            not isinstance(pid, tuple)
            or len(pid) not in (5, 6)
            or pid[0] != "storage"
            or not isinstance(pid[1], _StorageType)
        ):
            raise WeightsError("the file refers to something other than stored numbers")
        start = pid[5][1] if len(pid) == 6 and pid[5] is not None else 0
        return Storage(str(pid[2]), str(pid[1]), int(pid[4]), int(start))


def numbers_from_bytes(data: bytes, storage_dtype: str, byte_order: Literal["<", ">"] = "<") -> NDArray[Any]:
    """The flat array that a storage's bytes stand for; bfloat16 as float32."""
    if storage_dtype == "bfloat16":
        return (np.frombuffer(data, byte_order + "u2").astype(np.uint32) << 16).view(np.float32)
    dtype = np.dtype(storage_dtype)
    return np.frombuffer(data, dtype.newbyteorder(byte_order)).astype(dtype, copy=False)
