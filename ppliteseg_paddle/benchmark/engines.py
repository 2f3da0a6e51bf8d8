"""Networks on the runtimes of `benchmark.gpu`: their steps apart, and the bare network on data that lies on the device already.

Most runtimes are those of `deploy.backends`. What only a measurement needs is here: recorded CUDA graphs (one launch in place
of one for every kernel), TF32 on and off, ONNX Runtime with its tensors bound to the device, PyTorch as a peer.
"""
from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import json
import os
import tempfile
from dataclasses import replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import Backend, Options, open_backend, split_device
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.deploy.tensorrt import TensorRtBackend
from ppliteseg_paddle.deploy.tensorrt_plan import Plan
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, suggest

_CAPTURE_THREAD_LOCAL = 1  # of CUstreamCaptureMode
Shape = Tuple[int, ...]
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
    profile: Optional[Callable[[np.ndarray], List[Tuple[str, float]]]] = None


class Runtime(NamedTuple):
    """A row of `RUNTIMES`: where it runs, which packages it needs, its precisions, and what opens it with (artifact, precision,
    device, threads, input shape)."""

    devices: Tuple[str, ...]
    packages: Tuple[str, ...]
    precisions: Tuple[str, ...]
    open: Callable[[Artifact, str, str, Optional[int], Shape], Engine]


# --------------------------------------------------------------------------------------------
# Runtimes of `deploy.backends`
# --------------------------------------------------------------------------------------------
def _backend(name: str) -> Callable[..., Engine]:
    def open_it(artifact: Artifact, precision: str, device: str, threads: Optional[int], shape: Shape) -> Engine:
        if name == "openvino":  # it reads the ONNX file that the others read, too
            artifact = replace(artifact, graphs={"onnx": artifact.graphs["onnx"]}) if "onnx" in artifact.graphs else artifact
        more = {"precision": precision} if name == "paddle-trt" else {}
        backend = open_backend(name, artifact, device, threads, **more)
        profile = (lambda batch: _ort_profile(artifact.path_of("onnx", "model"), batch, device, threads)) if name == "onnxruntime" else None
        return Engine(backend, profile=profile)
    return open_it


# --------------------------------------------------------------------------------------------
# TensorRT
# --------------------------------------------------------------------------------------------
class _RecordingTensorRt(TensorRtBackend):
    """TensorRT that records its work as a CUDA graph. `tf32`: whether FP32 may round to 10 bits."""

    tf32 = False

    def _open(self, artifact: Artifact, plan: Plan, cache_dir: Optional[str]) -> None:
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
            raise ArtifactError("TensorRT %s cannot be recorded as a CUDA graph." % self.version)
        gpu._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))

        def replay() -> None:
            gpu._call("cuGraphLaunch", executable, stream)
            gpu.wait_for(self._stream)
        return replay

    def launch(self) -> None:
        """Compute once more, kernel by kernel, and wait."""
        self._context.execute_async_v3(self._stream)
        self._gpu.wait_for(self._stream)

    def profile(self, batch: np.ndarray) -> List[Tuple[str, float]]:
        """Milliseconds of each layer of the engine."""
        trt, times = self._trt, {}

        class Profiler(trt.IProfiler):
            def __init__(self):
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name, milliseconds):
                times.setdefault(layer_name, []).append(milliseconds)

        context = self._context
        self._context = self._engine.create_execution_context()
        try:
            self._context.profiler = Profiler()
            for _ in range(20):
                self.run(batch)
        finally:
            self._context = context
        return _sorted({name: sum(values) / len(values) for name, values in times.items()})


def _tensorrt(package: str, name: str) -> Callable[..., Engine]:
    def open_it(artifact: Artifact, precision: str, device: str, threads: Optional[int], shape: Shape) -> Engine:
        kind = type("TensorRt", (_RecordingTensorRt,), {"packages": (package,), "name": name, "tf32": precision == "tf32"})
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
# ONNX Runtime, with its tensors on the device
# --------------------------------------------------------------------------------------------
class BoundOnnxRuntime(Backend):
    """ONNX Runtime whose input and output stay on the device between the copies.

    Args:
        path: the ONNX file; its sizes are fixed.
        device: "cpu" or "gpu:N".
        tf32: whether FP32 may round to 10 bits; recorded: whether it records a CUDA graph.
    Raises: DependencyError: if the device cannot be used. ArtifactError: if the graph cannot be run so.
    """

    name = "onnxruntime-bound"
    graph = "onnx"

    def __init__(self, path: str, shape: Tuple[int, ...], device: str, threads: Optional[int], tf32: bool = False, recorded: bool = False):
        from ppliteseg_paddle.deploy.onnx_runtime import first_line, runtime_errors
        self._runtime = runtime = importlib.import_module("onnxruntime")
        self.version, self.device, self.recorded = runtime.__version__, device, recorded
        kind, number = split_device(device)
        self._place = ("cuda", number) if kind == "gpu" else ("cpu", 0)
        if kind == "gpu" and "CUDAExecutionProvider" not in runtime.get_available_providers():
            raise DependencyError("ONNX Runtime %s has no CUDA provider; install onnxruntime-gpu in its place." % runtime.__version__)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        if threads:
            options.intra_op_num_threads = threads
        providers: list = ["CPUExecutionProvider"]
        if kind == "gpu":
            with contextlib.suppress(AttributeError):  # before 1.21 there was no such function
                runtime.preload_dlls()
            providers = [("CUDAExecutionProvider", {"device_id": number, "use_tf32": int(tf32), "enable_cuda_graph": int(recorded),
                                                    "cudnn_conv_algo_search": "EXHAUSTIVE"})]
            providers += [] if recorded else ["CPUExecutionProvider"]  # a recorded graph must lie on the GPU whole
        try:
            self._session = runtime.InferenceSession(path, options, providers=providers)
            if kind == "gpu" and "CUDAExecutionProvider" not in self._session.get_providers():
                raise DependencyError("ONNX Runtime %s cannot use %s: CUDA or cuDNN is missing, or there is no such GPU."
                                      % (self.version, device))
            self._bind(np.zeros(shape, np.float32))
            for _ in range(3):  # a graph is recorded in the first runs
                self.launch()
        except runtime_errors() as error:
            raise ArtifactError("ONNX Runtime %s cannot run %s%s: %s." % (
                self.version, path, " as a CUDA graph" if recorded else "", first_line(error))) from error

    def _bind(self, batch: np.ndarray) -> None:
        session, value = self._session, self._runtime.OrtValue
        output = session.get_outputs()[0]
        self._input = value.ortvalue_from_numpy(batch, *self._place)
        found = session.run(None, {session.get_inputs()[0].name: batch})[0] if not self.recorded else None
        shape = found.shape if found is not None else [batch.shape[0], *output.shape[1:]]
        self._output = value.ortvalue_from_shape_and_type(list(shape), _ORT_TYPES[output.type], *self._place)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._input)
        self._binding.bind_ortvalue_output(output.name, self._output)

    def launch(self) -> None:
        """Compute once more on what lies on the device, and wait."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.run_in_steps(batch, lambda step: None)

    def run_in_steps(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        self._input.update_inplace(np.ascontiguousarray(batch))
        done("copy_in")
        self.launch()
        done("forward")
        result = np.array(self._output.numpy())
        done("copy_out")
        return result

    def describe(self) -> Dict[str, Any]:
        return {"name": self.name, "runtime": "ONNX Runtime", "version": self.version, "device": self.device}


_ORT_TYPES = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32,
              "tensor(int16)": np.int16, "tensor(float16)": np.float16}


def _onnxruntime_bound(artifact: Artifact, precision: str, device: str, threads: Optional[int], shape: Shape) -> Engine:
    graph = "tensorrt" if split_device(device)[0] == "gpu" and "tensorrt" in artifact.graphs else "onnx"
    role = "half" if precision == "fp16" else "model"
    if role not in artifact.graphs.get(graph, {}):
        raise ArtifactError("%s holds no %s graph in %s." % (artifact.folder, graph, precision))
    path = artifact.path_of(graph, role)
    recorded = split_device(device)[0] == "gpu"
    try:
        backend = BoundOnnxRuntime(path, shape, device, threads, precision == "tf32", recorded)
    except ArtifactError:  # operators that stay on the CPU: then it cannot be recorded
        if not recorded:
            raise
        recorded = False
        backend = BoundOnnxRuntime(path, shape, device, threads, precision == "tf32", False)
    return Engine(backend, backend.launch, recorded, lambda batch: _ort_profile(path, batch, device, threads))


def _ort_profile(path: str, batch: np.ndarray, device: str, threads: Optional[int], calls: int = 10) -> List[Tuple[str, float]]:
    """Milliseconds of each kind of operator in one call."""
    runtime = importlib.import_module("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.enable_profiling, options.log_severity_level = True, 4
        options.profile_file_prefix = os.path.join(folder, "ort")
        if threads:
            options.intra_op_num_threads = threads
        gpu = split_device(device)[0] == "gpu"
        session = runtime.InferenceSession(path, options, providers=["CUDAExecutionProvider"] * gpu + ["CPUExecutionProvider"])
        for _ in range(calls):
            session.run(None, {session.get_inputs()[0].name: batch})
        with open(session.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    times: Dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            kind = event["args"]["op_name"]
            times[kind] = times.get(kind, 0.0) + event["dur"] / 1000.0 / calls
    return _sorted(times)


def _sorted(times: Dict[str, float]) -> List[Tuple[str, float]]:
    return sorted(times.items(), key=lambda item: -item[1])


# --------------------------------------------------------------------------------------------
# PyTorch, a peer: the ONNX file through onnx2torch
# --------------------------------------------------------------------------------------------
class TorchBackend(Backend):
    """An ONNX file as PyTorch runs it, recorded as a CUDA graph on a GPU.

    Raises: ArtifactError: if onnx2torch cannot convert it. DependencyError: without the GPU that is asked for.
    """

    name = "torch"
    graph = "onnx"

    def __init__(self, path: str, shape: Tuple[int, ...], device: str, threads: Optional[int], precision: str):
        torch = self._torch = importlib.import_module("torch")
        onnx2torch = importlib.import_module("onnx2torch")
        kind, number = split_device(device)
        self.version, self.device, self.precision = torch.__version__, device, precision
        if kind == "gpu" and not torch.cuda.is_available():
            raise DependencyError("PyTorch %s sees no GPU." % torch.__version__)
        if threads:
            torch.set_num_threads(threads)
        self._on_gpu = kind == "gpu"
        place = torch.device("cuda", number) if self._on_gpu else torch.device("cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True
        self._type = torch.float16 if precision == "fp16" else torch.float32
        try:
            self._module = onnx2torch.convert(path).eval().to(place, self._type)
            self._input = torch.zeros(shape, dtype=self._type, device=place)
            with torch.inference_mode():
                for _ in range(3):
                    self._output = self._module(self._input)
            self._graph = self._record() if self._on_gpu else None
        except (RuntimeError, NotImplementedError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError("PyTorch %s cannot run %s through onnx2torch: %s." % (
                self.version, path, " ".join(str(error).split())[:200])) from error

    def _record(self):
        torch = self._torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(3):
                self._module(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self._output = self._module(self._input)
        return graph

    def launch(self) -> None:
        """Compute once more on what lies on the device, and wait."""
        if self._graph is not None:
            self._graph.replay()
            self._torch.cuda.synchronize()
        else:
            with self._torch.inference_mode():
                self._output = self._module(self._input)

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.run_in_steps(batch, lambda step: None)

    def run_in_steps(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        self._input.copy_(self._torch.from_numpy(np.ascontiguousarray(batch)))
        if self._on_gpu:
            self._torch.cuda.synchronize()
        done("copy_in")
        self.launch()
        done("forward")
        result = self._output.cpu().numpy().copy()
        done("copy_out")
        return result

    def describe(self) -> Dict[str, Any]:
        return {"name": self.name, "runtime": "PyTorch (onnx2torch)", "version": self.version, "device": self.device,
                "precision": self.precision}


def _torch(artifact: Artifact, precision: str, device: str, threads: Optional[int], shape: Shape) -> Engine:
    graph = "tensorrt" if "tensorrt" in artifact.graphs else "onnx"  # the plainer of the two
    backend = TorchBackend(artifact.path_of(graph, "model"), shape, device, threads, precision)
    return Engine(backend, backend.launch, backend.device != "cpu")


_GPU_PRECISIONS = ("fp32", "tf32", "fp16", "int8")
RUNTIMES: Dict[str, Runtime] = {
    "tensorrt": Runtime(("gpu",), ("tensorrt",), _GPU_PRECISIONS, _tensorrt("tensorrt", "tensorrt")),
    "tensorrt-rtx": Runtime(("gpu",), ("tensorrt_rtx",), _GPU_PRECISIONS, _tensorrt("tensorrt_rtx", "tensorrt-rtx")),
    "onnxruntime-bound": Runtime(("gpu", "cpu"), ("onnxruntime",), _GPU_PRECISIONS, _onnxruntime_bound),
    "torch": Runtime(("gpu", "cpu"), ("torch", "onnx2torch"), ("fp32", "tf32", "fp16"), _torch),
    "paddle": Runtime(("gpu", "cpu"), ("paddle",), ("fp32",), _backend("paddle")),
    "paddle-trt": Runtime(("gpu",), ("paddle",), ("fp32", "fp16"), _backend("paddle-trt")),
    "onnxruntime": Runtime(("cpu",), ("onnxruntime",), ("fp32", "int8"), _backend("onnxruntime")),
    "openvino": Runtime(("cpu",), ("openvino",), ("fp32", "int8"), _backend("openvino")),
}


def check_runtime(name: str, precision: str, device: str) -> None:
    """Raises: ConfigError: for an unknown runtime, or one that does not run on the device or at the precision. DependencyError:
    if it is not installed."""
    if name not in RUNTIMES:
        raise ConfigError("unknown runtime '%s'.%s" % (name, suggest(name, RUNTIMES)))
    runtime, kind = RUNTIMES[name], split_device(device)[0]
    if kind not in runtime.devices:
        raise ConfigError("the runtime '%s' is not for the %s." % (name, kind))
    if precision not in runtime.precisions or (kind == "cpu" and precision in ("tf32", "fp16")):
        raise ConfigError("the runtime '%s' has no %s on the %s." % (name, precision, kind))
    missing = [package for package in runtime.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise DependencyError("%s is not installed." % missing[0])


def open_engine(name: str, artifact: Artifact, precision: str, device: str, threads: Optional[int] = None, batch: int = 1) -> Engine:
    """Open a network for one size of input: height and width that the artifact fixes, and `batch` images.

    Raises: as `check_runtime`; ArtifactError: if the runtime cannot run the graph.
    """
    check_runtime(name, precision, device)
    return RUNTIMES[name].open(artifact, precision, device, threads, (batch, *artifact.input.shape[1:]))
