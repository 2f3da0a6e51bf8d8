"""Write PyTorch checkpoints without PyTorch, in both forms, to test that they are read without it, too."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from contextlib import contextmanager

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@contextmanager
def stand_in_torch():
    """Modules named torch and torch._utils that pickle finds the names of classes and functions in."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_arguments):
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = torch._utils = _rebuild_tensor_v2
    torch._utils = utils
    for name in list(STORAGES.values()) + ["BFloat16Storage"]:
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


class Tensor:
    """A tensor to be pickled as torch does: (storage, offset, size, stride); `data` is the whole storage."""

    def __init__(self, data, offset=0, shape=None, strides=None, storage=None):
        self.data = np.ascontiguousarray(data)
        self.offset, self.shape = offset, tuple(self.data.shape if shape is None else shape)
        self.strides = tuple(n // self.data.itemsize for n in self.data.strides) if strides is None else tuple(strides)
        self.storage = storage or STORAGES[str(self.data.dtype)]


class _Storage:
    def __init__(self, tensor, key):
        self.tensor, self.key = tensor, key


def _pickler(file, torch, storages, legacy):
    class TensorPickler(pickle.Pickler):
        def reducer_override(self, value):
            if not isinstance(value, Tensor):
                return NotImplemented
            key = str(len(storages))
            storages.append(value)
            return torch._utils._rebuild_tensor_v2, (
                _Storage(value, key),
                value.offset,
                value.shape,
                value.strides,
                False,
                collections.OrderedDict(),
            )

        def persistent_id(self, value):
            if not isinstance(value, _Storage):
                return None
            pid = ("storage", getattr(torch, value.tensor.storage), value.key, "cpu", int(value.tensor.data.size))
            return pid + (None,) if legacy else pid

    return TensorPickler(file, protocol=2)


def _tensors(content):
    if isinstance(content, dict):
        return collections.OrderedDict((key, _tensors(value)) for key, value in content.items())
    return Tensor(content) if isinstance(content, np.ndarray) else content


def write_zip(path, content, root="archive"):
    """As torch.save since 1.6."""
    storages, buffer = [], io.BytesIO()
    with stand_in_torch() as torch:
        _pickler(buffer, torch, storages, legacy=False).dump(_tensors(content))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(root + "/data.pkl", buffer.getvalue())
        archive.writestr(root + "/byteorder", "little")
        for key, tensor in enumerate(storages):
            archive.writestr(f"{root}/data/{key:d}", tensor.data.tobytes())
        archive.writestr(root + "/version", "3\n")


def write_legacy(path, content):
    """As torch.save before 1.6."""
    storages = []
    with open(path, "wb") as file, stand_in_torch() as torch:
        for head in (MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}}):
            pickle.dump(head, file, protocol=2)
        _pickler(file, torch, storages, legacy=True).dump(_tensors(content))
        pickle.dump([str(key) for key in range(len(storages))], file, protocol=2)
        for tensor in storages:
            file.write(struct.pack("<q", tensor.data.size) + tensor.data.tobytes())


WRITERS = {"zip": write_zip, "legacy": write_legacy}


def authors_state(state):
    """A state dict of PaddleSeg's STDC under the STDC authors' names, with what their checkpoints have besides."""
    renamed = collections.OrderedDict()
    for name, array in state.items():
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        renamed[name] = array
        if name.endswith(".running_var"):
            renamed[name.replace("running_var", "num_batches_tracked")] = np.array(7, np.int64)
    renamed["conv_last.conv.weight"] = np.ones((4, 4, 1, 1), np.float32)
    renamed["fc.weight"] = renamed["linear.weight"] = np.ones((4, 4), np.float32)
    renamed["bn.running_mean"] = np.zeros(4, np.float32)
    return renamed
