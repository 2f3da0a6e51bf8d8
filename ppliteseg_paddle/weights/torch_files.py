"""Read PyTorch checkpoints without PyTorch: the zip form (since 1.6) and the run of pickles before it.

The STDC authors publish theirs under names that end in .tar; what a file is, its content tells.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from typing import Any, BinaryIO, Callable, Literal

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.archives import allowed_bytes
from ppliteseg_paddle.weights.pickles import ArrayUnpickler, TorchUnpickler, numbers_from_bytes, resolved
from ppliteseg_paddle.weights.stand_ins import Storage, TensorView

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_REPEATS = 8  # by how much all tensors of a file may exceed the numbers stored in it: few share their numbers


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
        declared, allowed = sum(info.file_size for info in archive.infolist()), allowed_bytes(path)
        if declared > allowed:  # zipfile reads no more of a member than the size that it declares
            raise WeightsError(f"it would unpack to {declared:d} bytes, more than the {allowed:d} that are allowed")
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
        number = protocol if type(protocol) is int else type(protocol).__name__
        raise WeightsError(f"it is a PyTorch checkpoint of an unknown protocol ({number})")
    unpickler = _RecordingUnpickler(file)
    content = unpickler.load()
    keys = ArrayUnpickler(file).load()
    order: Literal["<", ">"] = "<" if system.get("little_endian", True) else ">"
    storages: dict[str, NDArray[Any]] = {}
    for key in keys if isinstance(keys, list) else ():
        if type(key) not in (str, int):
            raise WeightsError("a storage of the checkpoint has no name")
        (count,) = struct.unpack(order + "q", _exactly(file, 8))
        dtype = unpickler.dtypes.get(str(key))
        if dtype is None or count < 0:
            raise WeightsError(f"storage {key} of the checkpoint is used nowhere")
        width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        storages[str(key)] = numbers_from_bytes(_exactly(file, count * width), dtype, order)
    return _with_arrays(content, lambda storage: _stored(storages, storage))


def _stored(storages: dict[str, NDArray[Any]], storage: Storage) -> NDArray[Any]:
    if storage.key not in storages:
        raise WeightsError(f"the checkpoint lacks the numbers of its storage {storage.key}")
    return storages[storage.key]


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
    here = file.tell()
    missing = here + count - file.seek(0, os.SEEK_END)
    if missing > 0:  # read() would reserve the memory first
        raise pickle.UnpicklingError(f"{missing:d} bytes are missing at its end")
    file.seek(here)
    return file.read(count)


def _with_arrays(value: Any, read: Callable[[Storage], NDArray[Any]]) -> Any:
    stored: dict[str, int] = {}
    copied = 0

    def array(leaf: Any) -> Any:
        nonlocal copied
        if not isinstance(leaf, TensorView):
            return leaf
        flat = read(leaf.storage)
        stored[leaf.storage.key] = flat.nbytes
        numbers = leaf.array(flat)
        copied += numbers.nbytes
        if copied > MAX_REPEATS * sum(stored.values()):
            raise WeightsError("its tensors repeat the same numbers again and again; they would fill the memory")
        return numbers

    return resolved(value, array)
