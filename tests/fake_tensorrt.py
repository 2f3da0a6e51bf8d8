"""TensorRT's Python interface and NVIDIA's driver, as far as we call them, on the CPU: each version has what the real
one has and nothing that it lacks (names and signatures as in the bindings 8.6.1, 10.13, 11.4 and TensorRT for RTX 1.7),
and an exported folder for them."""

import ctypes
import enum
import importlib.machinery
import json
import sys
import types

import numpy as np

from ppliteseg_paddle.deploy import cuda
from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

HALF = {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}
RANGE = ShapeRange((1, 3, 8, 8), (1, 3, 16, 24), (4, 3, 32, 48))
NETWORK_FLAGS = {
    8: ("EXPLICIT_BATCH", "EXPLICIT_PRECISION"),
    10: ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    11: ("STRONGLY_TYPED",),
}
BUILDER_FLAGS = {8: ("FP16", "INT8", "DEBUG", "TF32"), 10: ("FP16", "INT8", "DEBUG", "TF32"), 11: ("DEBUG", "TF32")}


def fake_tensorrt(version, rtx=False):
    """A module; `module.calls` records (name, arguments) of what is asked of it."""
    era = 11 if rtx else int(version.split(".")[0])
    module = types.ModuleType("tensorrt_rtx" if rtx else "tensorrt")
    calls = []

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self):
            pass

    class Tensor:
        name = "x"

    class Network:
        def __init__(self, flags):
            self.flags = flags

        def get_input(self, index):
            return Tensor()

    class Profile:
        def set_shape(self, input, min, opt, max):
            calls.append(("set_shape", (input, min, opt, max)))

    class TimingCache:
        def __init__(self, content):
            self.content = content

        def serialize(self):
            return b"timings" + self.content

    class Config:
        def set_memory_pool_limit(self, pool, pool_size):
            calls.append(("workspace", (pool.name, pool_size)))

        def set_flag(self, flag):
            calls.append(("set_flag", flag.name))

        def clear_flag(self, flag):
            calls.append(("clear_flag", flag.name))

        def add_optimization_profile(self, profile):
            return 0

        def create_timing_cache(self, serialized_timing_cache):
            return TimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache, ignore_mismatch):
            self.cache = cache
            calls.append(("timing_cache", cache.content))
            return cache.content in (b"", b"timings")

        def get_timing_cache(self):
            return self.cache

    class Builder:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)

        def create_network(self, flags=0):
            calls.append(("create_network", flags))
            return Network(flags)

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            calls.append(("build", None))
            return memoryview(json.dumps({"version": version, "graph": network.graph.decode("latin1")}).encode())

    class OnnxParser:
        def __init__(self, network, logger):
            self.network, self.logger = network, logger

        num_errors = 1

        def parse(self, model, path=None):
            self.network.graph = bytes(model)
            return b"broken" not in model

        def get_error(self, index):
            return "In node 0: it is\nbroken."

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine):
            try:
                graph = json.loads(bytes(serialized_engine))["graph"]
            except ValueError:
                self.logger.log(ILogger.ERROR, "Magic tag does not match")
                return None
            return Engine(("logits", "mask", "x") if "logits" in graph else ("mask", "x"))

    class Engine:
        def __init__(self, names):
            self.names, self.num_io_tensors = names, len(names)

        def get_tensor_name(self, index):
            return self.names[index]

        def get_tensor_mode(self, name):
            return module.TensorIOMode.INPUT if name == "x" else module.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            return module.DataType.UINT8 if name == "mask" else module.DataType.FLOAT

        def create_execution_context(self):
            return Context()

    class Context:
        """Computes where the largest of the three channels is; logits are the channels themselves, halved."""

        def __init__(self):
            self.addresses, self.shape = {}, None

        def set_input_shape(self, name, shape):
            self.shape = tuple(shape)
            return True

        def get_tensor_shape(self, name):
            return self.shape if name == "logits" else self.shape[:1] + self.shape[2:]

        def set_tensor_address(self, name, memory):
            self.addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle):
            x = _array(self.addresses["x"], self.shape, np.float32)
            _array(self.addresses["mask"], self.get_tensor_shape("mask"), np.uint8)[...] = x.argmax(axis=1)
            if "logits" in self.addresses:
                _array(self.addresses["logits"], self.shape, np.float32)[...] = x / 2
            return True

    module.__version__, module.calls = version, calls
    for kind in (ILogger, Builder, OnnxParser, Runtime):
        setattr(module, kind.__name__, kind)
    module.NetworkDefinitionCreationFlag = enum.IntEnum(
        "NetworkDefinitionCreationFlag", {name: i for i, name in enumerate(NETWORK_FLAGS[era])}
    )
    module.BuilderFlag = enum.IntEnum("BuilderFlag", {name: i for i, name in enumerate(BUILDER_FLAGS[era])})
    module.MemoryPoolType = enum.IntEnum("MemoryPoolType", {"WORKSPACE": 0})
    module.TensorIOMode = enum.IntEnum("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})
    module.DataType = enum.IntEnum("DataType", {"FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4, "UINT8": 5})
    return module


def _array(address, shape, dtype):
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * count).from_address(address), dtype).reshape(shape)


def install(monkeypatch, driver, version="10.13.0.35", rtx=False):
    """Put a version of TensorRT, or of TensorRT for RTX, and a GPU's driver in place. Returns both."""
    module = fake_tensorrt(version, rtx)
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, module if name == module.__name__ else None)
    monkeypatch.setattr(cuda, "load_driver", lambda: driver)
    return module, driver


class FakeDriver:
    """NVIDIA's driver with GPUs whose memory is the machine's own."""

    def __init__(self, gpus=("NVIDIA A10",)):
        self.gpus, self.memory, self.fails = gpus, {}, ()

    def _allocate(self, pointer, count):
        buffer = ctypes.create_string_buffer(count.value)
        self.memory[ctypes.addressof(buffer)] = buffer
        pointer._obj.value = ctypes.addressof(buffer)
        return 0

    def _free(self, pointer):
        del self.memory[pointer.value]
        return 0

    cuMemAlloc_v2 = cuMemAllocHost_v2 = _allocate
    cuMemFree_v2 = cuMemFreeHost = _free

    def cuMemcpyHtoDAsync_v2(self, to, source, count, stream):
        ctypes.memmove(to.value, source.value, count.value)
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2

    def cuInit(self, flags):
        return 100 if "cuInit" in self.fails else 0

    def cuGetErrorString(self, code, text):
        text._obj.value = b"no CUDA-capable device is detected"
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name, count, device):
        name.value = self.gpus[device.value].encode()
        return 0

    def cuDeviceGetAttribute(self, value, which, device):
        value._obj.value = {75: 8, 76: 6}[which]
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 1
        return 0

    def cuCtxSetCurrent(self, context):
        return 0

    def cuStreamCreate(self, stream, flags):
        stream._obj.value = 7
        return 0

    def cuStreamSynchronize(self, stream):
        assert stream.value == 7
        return 0


def an_artifact(folder, shape=(-1, 3, -1, -1), dynamic_shape=RANGE, content=b"a graph", **more):
    """A folder whose graph has a producer's name and nothing else: what runs it here does not look."""
    folder.mkdir(exist_ok=True)
    roles = {"model": "tensorrt.onnx", "fp16": "tensorrt_fp16.onnx"}
    for name in roles.values():
        (folder / name).write_bytes(b"\x12" + bytes([len(content)]) + content)
    artifact = Artifact(
        str(folder),
        {"type": "PPLiteSegNet"},
        LABEL_SETS["camvid"],
        Preprocess([{**HALF, "mean": [0.5] * shape[1], "std": [0.5] * shape[1]}], channels=shape[1]),
        Tensor("x", "float32", "NCHW", shape, color_order="RGB"),
        Tensor("mask", "uint8", "NHW", (shape[0],) + shape[2:], op="argmax"),
        {"tensorrt": roles},
        {},
        dynamic_shape=dynamic_shape,
        image_form=ImageForm(shape[1]),
        **more,
    )
    artifact.write()
    return Artifact.read(str(folder))
