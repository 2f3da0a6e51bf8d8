"""Read PyTorch checkpoints without PyTorch: the zip form (since 1.6) and the run of pickles before it.

The STDC authors publish theirs under names that end in .tar; what a file is, its content tells.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from typing import Any, BinaryIO, Callable, Literal

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.pickles import ArrayUnpickler, Storage, TensorView, TorchUnpickler, numbers_from_bytes

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def is_torch_zip(path: str) -> bool:
    """Whether a zip archive is a PyTorch checkpoint."""
    with zipfile.ZipFile(path) as archive:
        return _pickle_member(archive) is not None


def _pickle_member(archive: zipfile.ZipFile) -> str | None:
    return next((name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")), None)


def read_torch_zip(path: str) -> Any:
    """The content of a zip checkpoint, tensors as numpy arrays.

    Raises: WeightsError, and what `pickles.PICKLE_ERRORS` and zipfile raise for damaged files.
    """
    with zipfile.ZipFile(path) as archive:
        member = _pickle_member(archive)
        if member is None:
            raise WeightsError("it is a zip file without PyTorch's data.pkl")
        root = member[: -len("data.pkl")]
        names = set(archive.namelist())
        order = archive.read(root + "byteorder") if root + "byteorder" in names else b"little"
        cache: dict[str, NDArray[Any]] = {}

        def read(storage: Storage) -> NDArray[Any]:
            if storage.key not in cache:
                name = root + "data/" + storage.key
                if name not in names:
                    raise WeightsError(f"the checkpoint lacks its part {name}")
                cache[storage.key] = numbers_from_bytes(
                    archive.read(name), storage.dtype, ">" if order == b"big" else "<"
                )
            return cache[storage.key]

        with archive.open(member) as file:
            return _with_arrays(TorchUnpickler(file).load(), read)


def read_torch_legacy(file: BinaryIO) -> Any:
    """The content of a checkpoint from before PyTorch 1.6: magic number, protocol, system, object, keys, numbers.

    Args: file: positioned after the magic number.
    Raises: WeightsError, and what `pickles.PICKLE_ERRORS` says for damaged files.
    """
    protocol = ArrayUnpickler(file).load()
    system = ArrayUnpickler(file).load()
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        raise WeightsError(f"it is a PyTorch checkpoint of an unknown protocol ({protocol!r})")
    unpickler = _RecordingUnpickler(file)
    content = unpickler.load()
    keys = ArrayUnpickler(file).load()
    order: Literal["<", ">"] = "<" if system.get("little_endian", True) else ">"
    storages = {}
    for key in keys:
        (count,) = struct.unpack(order + "q", _exactly(file, 8))
        dtype = unpickler.dtypes.get(str(key))
        if dtype is None or count < 0:
            raise WeightsError(f"storage {key} of the checkpoint is used nowhere")
        width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        storages[str(key)] = numbers_from_bytes(_exactly(file, count * width), dtype, order)
    return _with_arrays(content, lambda storage: storages[storage.key])


class _RecordingUnpickler(TorchUnpickler):
    """Notes the type of each storage: in this form the numbers follow, without their type."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.dtypes: dict[str, str] = {}

    def persistent_load(self, pid: Any) -> Storage:
        storage = super().persistent_load(pid)
        self.dtypes[storage.key] = storage.dtype
        return storage


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise pickle.UnpicklingError(f"{(count - len(data)):d} bytes are missing at its end")
    return data


def _with_arrays(value: Any, read: Callable[[Storage], NDArray[Any]]) -> Any:
    if isinstance(value, TensorView):
        return value.array(read)
    if isinstance(value, dict):
        return {key: _with_arrays(item, read) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_arrays(item, read) for item in value]
    return value
