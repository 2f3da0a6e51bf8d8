"""ONNX Runtime as a measurement wants it: tensors bound to the device, CUDA graphs, TF32 on and off, times by
operator."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import tempfile
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.deploy.interface import Backend, split_device
from ppliteseg_paddle.errors import ArtifactError, DependencyError


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

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        device: str,
        threads: int | None,
        tf32: bool = False,
        recorded: bool = False,
    ):
        from ppliteseg_paddle.deploy.onnx_runtime import first_line, runtime_errors

        self._runtime = runtime = importlib.import_module("onnxruntime")
        self.version, self.device, self.recorded = runtime.__version__, device, recorded
        kind, number = split_device(device)
        self._place = ("cuda", number) if kind == "gpu" else ("cpu", 0)
        if kind == "gpu" and "CUDAExecutionProvider" not in runtime.get_available_providers():
            raise DependencyError(
                f"ONNX Runtime {runtime.__version__} has no CUDA provider; install onnxruntime-gpu in its place."
            )
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        if threads:
            options.intra_op_num_threads = threads
        providers: list = ["CPUExecutionProvider"]
        if kind == "gpu":
            with contextlib.suppress(AttributeError):  # before 1.21 there was no such function
                runtime.preload_dlls()
            providers = [
                (
                    "CUDAExecutionProvider",
                    {
                        "device_id": number,
                        "use_tf32": int(tf32),
                        "enable_cuda_graph": int(recorded),
                        "cudnn_conv_algo_search": "EXHAUSTIVE",
                    },
                )
            ]
            providers += [] if recorded else ["CPUExecutionProvider"]  # a recorded graph must lie on the GPU whole
        try:
            self._session = runtime.InferenceSession(path, options, providers=providers)
            if kind == "gpu" and "CUDAExecutionProvider" not in self._session.get_providers():
                raise DependencyError(
                    f"ONNX Runtime {self.version} cannot use {device}: CUDA or cuDNN is missing, or there is no such "
                    "GPU."
                )
            self._bind(np.zeros(shape, np.float32))
            for _ in range(3):  # a graph is recorded in the first runs
                self.launch()
        except runtime_errors() as error:
            raise ArtifactError(
                f"ONNX Runtime {self.version} cannot run {path}{(' as a CUDA graph' if recorded else '')}: "
                f"{first_line(error)}."
            ) from error

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

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "runtime": "ONNX Runtime", "version": self.version, "device": self.device}


_ORT_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(int16)": np.int16,
    "tensor(float16)": np.float16,
}


def profile(path: str, batch: np.ndarray, device: str, threads: int | None, calls: int = 10) -> list[tuple[str, float]]:
    """Milliseconds of each kind of operator in one call."""
    runtime = importlib.import_module("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.enable_profiling, options.log_severity_level = True, 4
        options.profile_file_prefix = os.path.join(folder, "ort")
        if threads:
            options.intra_op_num_threads = threads
        gpu = split_device(device)[0] == "gpu"
        session = runtime.InferenceSession(
            path, options, providers=["CUDAExecutionProvider"] * gpu + ["CPUExecutionProvider"]
        )
        for _ in range(calls):
            session.run(None, {session.get_inputs()[0].name: batch})
        with open(session.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    times: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            kind = event["args"]["op_name"]
            times[kind] = times.get(kind, 0.0) + event["dur"] / 1000.0 / calls
    return slowest_first(times)


def slowest_first(times: dict[str, float]) -> list[tuple[str, float]]:
    """Names and times in falling order."""
    return sorted(times.items(), key=lambda item: -item[1])
