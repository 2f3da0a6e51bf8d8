"""ONNX Runtime behind `interface.Backend`: on the CPU, or on a GPU through its CUDA provider."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.interface import (
    Backend,
    Options,
    check_output,
    check_ports,
    default_threads,
    split_device,
    trial_input,
)
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxRuntimeBackend(Backend):
    """An ONNX graph on ONNX Runtime.

    Args: options: without a device it takes the first GPU if this ONNX Runtime can use one.
    Raises: DependencyError: for a GPU that this ONNX Runtime is not built for, or whose libraries are missing.
        ArtifactError: if it cannot run the graph.
    """

    name = "onnxruntime"
    graph = "onnx"

    def __init__(self, artifact: Artifact, options: Options):
        self._runtime = importlib.import_module("onnxruntime")
        self.version = self._runtime.__version__
        self.num_threads = options.num_threads or default_threads()
        self._path = artifact.path_of("onnx", "model")
        kind, number = split_device(options.device)
        has_cuda = _CUDA in self._runtime.get_available_providers()
        if kind == "gpu" and not has_cuda:
            raise DependencyError(
                f"device '{options.device}' needs ONNX Runtime's CUDA provider, which the installed onnxruntime "
                f"{self.version} does not have. Install onnxruntime-gpu in its place, or give --device cpu."
            )
        if has_cuda and kind != "cpu":
            try:
                self._open(f"gpu:{number:d}", artifact)
                return
            except (ArtifactError, ConfigError, DependencyError):
                if kind == "gpu":
                    raise
        self._open("cpu", artifact)

    def _open(self, device: str, artifact: Artifact) -> None:
        self.device = device
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.num_threads
        options.inter_op_num_threads = 1  # the graph is nearly one chain
        options.log_severity_level = 4  # its errors come as exceptions, too
        providers: list[Any] = [_CPU]
        if device != "cpu":
            providers = [(_CUDA, {"device_id": int(device.split(":")[1])}), _CPU]
            with contextlib.suppress(AttributeError):  # before 1.21 there was no such function
                self._runtime.preload_dlls()  # CUDA libraries that pip installed
        try:
            self._session = self._runtime.InferenceSession(self._path, options, providers=providers)
            if device != "cpu" and _CUDA not in self._session.get_providers():  # it falls back without an error
                raise DependencyError(
                    f"ONNX Runtime {self.version} cannot use {device}: CUDA 12 or cuDNN 9 is missing, or there is no "
                    "such GPU. Install them, or give --device cpu."
                )
            inputs = self._session.get_inputs()
            self._outputs = [output.name for output in self._session.get_outputs()]
            check_ports(artifact, self.graph, len(inputs), len(self._outputs))
            self._input = inputs[0].name
            trial = trial_input(artifact, self.graph)
            check_output(artifact, self.graph, trial, self.run(trial))
        except runtime_errors() as error:
            raise ArtifactError(
                f"ONNX Runtime {self.version} cannot run {self._path} on {device}: {first_line(error)}. Install the "
                "newest onnxruntime, or export the model again."
            ) from error

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(0, batch)

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(1, batch)

    def _run(self, number: int, batch: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = self._session.run([self._outputs[number]], {self._input: batch})[0]
        return output

    def describe(self) -> dict[str, Any]:
        values = {"name": self.name, "runtime": "ONNX Runtime", "version": self.version, "device": self.device}
        if self.device == "cpu":
            values["num_threads"] = self.num_threads
        return values


def may_use_gpu() -> bool:
    """Whether the installed ONNX Runtime is a CUDA build: loads the package, no more."""
    return _CUDA in importlib.import_module("onnxruntime").get_available_providers()


def first_line(error: BaseException) -> str:
    """The first line of a runtime's error text, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300].rstrip(". ")


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes of its own, which share no base but Exception, and the usual ones."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = tuple(value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return own + (RuntimeError, ValueError, NotImplementedError, OSError)
