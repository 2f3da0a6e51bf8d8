"""Networks on the runtimes of `studies.gpu`: their steps apart, and the bare network on data that lies on the device
already.

Most runtimes are those of `deploy.runtimes`. What only a measurement needs is here: recorded CUDA graphs (one launch in
place of one for every kernel), TF32 on and off, ONNX Runtime with its tensors bound to the device, PyTorch.
"""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import replace
from typing import Any, Callable, NamedTuple, Optional, cast

import numpy as np

from ppliteseg_paddle.benchmark.studies.onnx_bound import BoundOnnxRuntime, slowest_first
from ppliteseg_paddle.benchmark.studies.onnx_bound import profile as profile_of
from ppliteseg_paddle.benchmark.studies.torch_baseline import TorchBackend
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.interface import Backend, Options, split_device
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.deploy.shapes import Shape, ShapeRange
from ppliteseg_paddle.deploy.tensorrt import TensorRtBackend
from ppliteseg_paddle.deploy.tensorrt_plan import Plan
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, suggest

_CAPTURE_THREAD_LOCAL = 1  # of CUstreamCaptureMode
Launch = Optional[Callable[[], Any]]


class Engine(NamedTuple):
    """An opened network.

    Args:
        backend: runs it in steps.
        launch: computes once more on what lies on the device and waits; None where the runtime cannot do that apart.
        graphed: whether `launch` replays a recorded CUDA graph.
        profile: milliseconds by kind of operator, the slowest first; None where the runtime does not tell.
    """

    backend: Backend
    launch: Launch = None
    graphed: bool = False
    profile: Callable[[np.ndarray], list[tuple[str, float]]] | None = None


class EngineSpec(NamedTuple):
    """A row of `ENGINES`: where it runs, which packages it needs, its precisions, and what opens it with (artifact,
    precision, device, threads, input shape)."""

    devices: tuple[str, ...]
    packages: tuple[str, ...]
    precisions: tuple[str, ...]
    open: Callable[[Artifact, str, str, int | None, Shape], Engine]


# --------------------------------------------------------------------------------------------
# Runtimes of `deploy.runtimes`
# --------------------------------------------------------------------------------------------
def _backend(name: str) -> Callable[..., Engine]:
    def open_it(artifact: Artifact, precision: str, device: str, threads: int | None, shape: Shape) -> Engine:
        if name == "openvino":  # it reads the ONNX file that the others read, too
            artifact = (
                replace(artifact, graphs={"onnx": artifact.graphs["onnx"]}) if "onnx" in artifact.graphs else artifact
            )
        more = {"precision": precision} if name == "paddle-trt" else {}
        backend = open_backend(name, artifact, device, threads, **more)
        profile = (
            (lambda batch: profile_of(artifact.path_of("onnx", "model"), batch, device, threads))
            if name == "onnxruntime"
            else None
        )
        return Engine(backend, profile=profile)

    return open_it


# --------------------------------------------------------------------------------------------
# TensorRT
# --------------------------------------------------------------------------------------------
class _RecordingTensorRt(TensorRtBackend):
    """TensorRT that records its work as a CUDA graph. `tf32`: whether FP32 may round to 10 bits."""

    tf32 = False

    def _open(self, artifact: Artifact, plan: Plan, cache_dir: str | None) -> None:
        super()._open(artifact, replace(plan, cleared_flags=() if self.tf32 else plan.cleared_flags), cache_dir)

    def record(self, batch: np.ndarray) -> Callable[[], None]:
        """Record one inference of the batch's shape. Returns: what replays it and waits."""
        self.run(batch)  # shapes and addresses are set, lazy work is done
        gpu, stream = self._gpu, ctypes.c_void_p(self._stream)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        gpu._call("cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)
        enqueued = self._context.execute_async_v3(self._stream)
        gpu._call("cuStreamEndCapture", stream, ctypes.byref(graph))
        if not enqueued:
            raise ArtifactError(f"TensorRT {self.version} cannot be recorded as a CUDA graph.")
        gpu._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))

        def replay() -> None:
            gpu._call("cuGraphLaunch", executable, stream)
            gpu.wait_for(self._stream)

        return replay

    def launch(self) -> None:
        """Compute once more, kernel by kernel, and wait."""
        self._context.execute_async_v3(self._stream)
        self._gpu.wait_for(self._stream)

    def profile(self, batch: np.ndarray) -> list[tuple[str, float]]:
        """Milliseconds of each layer of the engine."""
        trt: Any = self._trt
        times: dict[str, list[float]] = {}

        class Profiler(trt.IProfiler):
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, milliseconds: float) -> None:
                times.setdefault(layer_name, []).append(milliseconds)

        context, engine = self._context, cast("Any", self._engine)
        self._context = engine.create_execution_context()
        try:
            self._context.profiler = Profiler()
            for _ in range(20):
                self.run(batch)
        finally:
            self._context = context
        return slowest_first({name: sum(values) / len(values) for name, values in times.items()})


def _tensorrt(package: str, name: str) -> Callable[..., Engine]:
    def open_it(artifact: Artifact, precision: str, device: str, threads: int | None, shape: Shape) -> Engine:
        kind = type(
            "TensorRt", (_RecordingTensorRt,), {"packages": (package,), "name": name, "tf32": precision == "tf32"}
        )
        shapes = ShapeRange(shape, shape, shape) if -1 in artifact.input.shape else None
        options = Options(device=device, precision="fp32" if precision == "tf32" else precision, dynamic_shape=shapes)
        backend = kind(artifact, options)
        batch = np.zeros(shape, artifact.input.dtype)
        try:
            return Engine(backend, backend.record(batch), True, backend.profile)
        except (ArtifactError, DependencyError):  # some graphs cannot be recorded
            return Engine(backend, backend.launch, False, backend.profile)

    return open_it


# --------------------------------------------------------------------------------------------
# ONNX Runtime and PyTorch
# --------------------------------------------------------------------------------------------
def _onnxruntime_bound(artifact: Artifact, precision: str, device: str, threads: int | None, shape: Shape) -> Engine:
    graph = "tensorrt" if split_device(device)[0] == "gpu" and "tensorrt" in artifact.graphs else "onnx"
    role = "fp16" if precision == "fp16" else "model"
    if role not in artifact.graphs.get(graph, {}):
        raise ArtifactError(f"{artifact.folder} holds no {graph} graph in {precision}.")
    path = artifact.path_of(graph, role)
    recorded = split_device(device)[0] == "gpu"
    try:
        backend = BoundOnnxRuntime(path, shape, device, threads, precision == "tf32", recorded)
    except ArtifactError:  # operators that stay on the CPU: then it cannot be recorded
        if not recorded:
            raise
        recorded = False
        backend = BoundOnnxRuntime(path, shape, device, threads, precision == "tf32", False)
    return Engine(backend, backend.launch, recorded, lambda batch: profile_of(path, batch, device, threads))


def _torch(artifact: Artifact, precision: str, device: str, threads: int | None, shape: Shape) -> Engine:
    graph = "tensorrt" if "tensorrt" in artifact.graphs else "onnx"  # the plainer of the two
    backend = TorchBackend(artifact.path_of(graph, "model"), shape, device, threads, precision)
    return Engine(backend, backend.launch, backend.device != "cpu")


def _of_table(name: str, devices: tuple[str, ...] | None = None, without: tuple[str, ...] = ()) -> EngineSpec:
    """A runtime of `deploy.runtimes`, as its row there says.

    Args: devices: those that are measured here, all by default; without: precisions that are not.
    """
    spec = RUNTIMES[name]
    devices = devices or spec.devices
    precisions = [p for p in dict.fromkeys(p for device in devices for p in spec.precisions[device]) if p != "bf16"]
    return EngineSpec(devices, spec.packages[:1], tuple(p for p in precisions if p not in without), _backend(name))


_GPU_PRECISIONS = ("fp32", "tf32", "fp16", "int8")
ENGINES: dict[str, EngineSpec] = {
    "tensorrt": EngineSpec(("gpu",), ("tensorrt",), _GPU_PRECISIONS, _tensorrt("tensorrt", "tensorrt")),
    "tensorrt-rtx": EngineSpec(("gpu",), ("tensorrt_rtx",), _GPU_PRECISIONS, _tensorrt("tensorrt_rtx", "tensorrt-rtx")),
    "onnxruntime-bound": EngineSpec(("gpu", "cpu"), ("onnxruntime",), _GPU_PRECISIONS, _onnxruntime_bound),
    "torch": EngineSpec(("gpu", "cpu"), ("torch", "onnx2torch"), ("fp32", "tf32", "fp16"), _torch),
    "paddle": _of_table("paddle"),
    "paddle-trt": _of_table("paddle-trt", without=("int8",)),  # which needs images to calibrate with
    "onnxruntime": _of_table("onnxruntime", devices=("cpu",)),  # on a GPU its tensors are bound, above
    "openvino": _of_table("openvino"),
}


def check_runtime(name: str, precision: str, device: str) -> None:
    """Raises: ConfigError: for an unknown runtime, or one that does not run on the device or at the precision.
    DependencyError: if it is not installed."""
    if name not in ENGINES:
        raise ConfigError(f"unknown runtime '{name}'.{suggest(name, ENGINES)}")
    runtime, kind = ENGINES[name], split_device(device)[0]
    if kind not in runtime.devices:
        raise ConfigError(f"the runtime '{name}' is not for the {kind}.")
    if precision not in runtime.precisions or (kind == "cpu" and precision in ("tf32", "fp16")):
        raise ConfigError(f"the runtime '{name}' has no {precision} on the {kind}.")
    missing = [package for package in runtime.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise DependencyError(f"{missing[0]} is not installed.")


def open_engine(
    name: str, artifact: Artifact, precision: str, device: str, threads: int | None = None, batch: int = 1
) -> Engine:
    """Open a network for one size of input: height and width that the artifact fixes, and `batch` images.

    Raises: as `check_runtime`; ArtifactError: if the runtime cannot run the graph.
    """
    check_runtime(name, precision, device)
    shape = cast("Shape", (batch, *artifact.input.shape[1:]))
    return ENGINES[name].open(artifact, precision, device, threads, shape)
