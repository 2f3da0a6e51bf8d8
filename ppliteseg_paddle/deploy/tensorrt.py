"""TensorRT behind `interface.Backend`. The module's name does not hide the package: imports are absolute.

An engine is built once for a graph, GPU, version and precision, and kept; see `engines`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.cuda import Buffer, Gpu
from ppliteseg_paddle.deploy.engines import engine_name, engines_folder, read_bytes
from ppliteseg_paddle.deploy.folder import file_record
from ppliteseg_paddle.deploy.interface import Backend, Options, check_output, check_ports, split_device
from ppliteseg_paddle.deploy.shapes import Shape, ShapeRange
from ppliteseg_paddle.deploy.tensorrt_plan import Plan, build_engine, make_logger, make_plan
from ppliteseg_paddle.errors import ArtifactError, DataError, DependencyError
from ppliteseg_paddle.files import write_bytes

log = logging.getLogger("ppliteseg_paddle")

_PACKAGES = ("tensorrt", "tensorrt_rtx")
# For graphs whose sizes are open and which were exported without --dynamic_shape.
DEFAULT_RANGE = ShapeRange((1, 3, 64, 64), (1, 3, 512, 1024), (1, 3, 1024, 2048))
_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
}


class Output(NamedTuple):
    """Where an output of an engine goes to on the GPU, and its type."""

    buffer: Buffer
    dtype: Any


class TensorRtBackend(Backend):
    """An ONNX graph as a TensorRT engine on one GPU.

    Args: options: `precision` and `dynamic_shape` replace what the artifact says.
    Raises: DependencyError: if there is no GPU, or no TensorRT that can be used. ArtifactError: if TensorRT cannot take
        the graph. ConfigError: for a GPU that does not exist, or if engines cannot be kept.
    """

    name = graph = "tensorrt"
    packages = _PACKAGES

    def __init__(self, artifact: Artifact, options: Options, gpu: Gpu | None = None):
        kind, number = split_device(options.device)
        if kind == "cpu":
            raise DependencyError(
                "the backend 'tensorrt' runs on GPUs only, not on the CPU; give --device gpu or another backend."
            )
        self._trt, for_rtx = import_tensorrt(self.packages)
        self.version = self._trt.__version__
        self._gpu = gpu or Gpu(number)
        self.device, self.gpu_name = f"gpu:{self._gpu.number:d}", self._gpu.name
        self.precision = options.precision or artifact.precision
        roles = artifact.graphs[self.graph]
        shapes = shapes_of(artifact, self.graph, options.dynamic_shape)
        quantised = b"QuantizeLinear" in read_bytes(artifact.path_of(self.graph, "model"))
        self._shapes = shapes
        self._open(
            artifact,
            make_plan(self.version, for_rtx, self.precision, list(roles), shapes, quantised),
            options.cache_dir,
        )
        self._stream = self._gpu.stream()
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ArtifactError(f"TensorRT {self.version} cannot run the engine: {_last(self._logger)}.")
        self._input = Buffer(self._gpu)
        tensor = artifact.input_of(self.graph)
        trial = np.zeros(shapes.opt if shapes else tensor.shape, tensor.dtype)
        check_output(artifact, self.graph, trial, self.run(trial))

    def _open(self, artifact: Artifact, plan: Plan, cache_dir: str | None) -> None:
        trt, self._logger = self._trt, make_logger(self._trt)
        folder, path = engines_folder(artifact.folder, cache_dir), artifact.path_of(self.graph, plan.role)
        gpu = f"{self._gpu.name}-{self._gpu.capability}"
        made_of = {"graph": file_record(path)["sha256"], "plan": vars(plan)}
        self.engine_path = os.path.join(
            folder, engine_name("tensorrt", self.version, gpu, self.precision, made_of) + ".engine"
        )
        self._runtime = trt.Runtime(self._logger)
        kept = read_bytes(self.engine_path)
        self._engine: Any = self._runtime.deserialize_cuda_engine(kept) if kept else None
        self.built = self._engine is None
        if self._engine is None:
            log.warning(
                "TensorRT %s builds an engine for %s in %s, once; this takes minutes.",
                self.version,
                self._gpu.name,
                self.precision,
            )
            timing_path = os.path.join(folder, engine_name("tensorrt", self.version, gpu, "timing", {}) + ".cache")
            engine, timing = build_engine(trt, plan, read_bytes(path), read_bytes(timing_path), self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(engine)
            if self._engine is None:
                raise ArtifactError(
                    f"TensorRT {self.version} cannot load the engine that it built: {_last(self._logger)}."
                )
            write_bytes(self.engine_path, engine)
            if timing:
                write_bytes(timing_path, timing)
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        check_ports(artifact, self.graph, len(inputs), len(names) - len(inputs))
        self._input_name = inputs[0]
        second = artifact.logits.name if artifact.logits is not None else ""
        self._outputs = {
            name: Output(Buffer(self._gpu), _TYPES[self._engine.get_tensor_dtype(name).name])
            for name in sorted(names, key=lambda name: name == second)
            if name != self._input_name
        }

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(0, batch, None)

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(1, batch, None)

    def run_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        return self._run(0, batch, self._waiting(done))

    def run_logits_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        return self._run(1, batch, self._waiting(done))

    def _waiting(self, done: Callable[[str], None]) -> Callable[[str], None]:
        def done_on_device(step: str) -> None:
            self._gpu.wait_for(self._stream)
            done(step)

        return done_on_device

    def _run(self, number: int, batch: NDArray[Any], done: Callable[[str], None] | None) -> NDArray[Any]:
        tell = done or (lambda step: None)
        self._gpu.use()  # the caller may be in another thread than the one before
        context, batch = self._context, np.ascontiguousarray(batch)
        self._check(batch.shape)
        context.set_input_shape(self._input_name, batch.shape)
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        for name, output in self._outputs.items():
            output.buffer.reserve(int(np.prod(shapes[name])) * np.dtype(output.dtype).itemsize)
        self._input.copy_in(batch, self._stream)
        tell("copy_in")
        context.set_tensor_address(self._input_name, self._input.address)
        for name, output in self._outputs.items():
            context.set_tensor_address(name, output.buffer.address)
        if not context.execute_async_v3(self._stream):
            raise RuntimeError(f"TensorRT {self.version} failed: {_last(self._logger)}")
        tell("forward")
        name, wanted = list(self._outputs.items())[number]
        result = wanted.buffer.copy_out(shapes[name], wanted.dtype, self._stream)
        tell("copy_out")
        return result

    def _check(self, shape: tuple[int, ...]) -> None:
        if self._shapes is not None and not self._shapes.contains(shape):
            raise DataError(
                "the TensorRT engine takes inputs from {} to {}, and this one is {}; resize it, or export with a "
                "--dynamic_shape that holds it.".format(
                    *tuple("x".join(map(str, each)) for each in (self._shapes.min, self._shapes.max, shape))
                )
            )

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runtime": "TensorRT",
            "version": self.version,
            "device": self.device,
            "gpu": self.gpu_name,
            "precision": self.precision,
            "graph": self.graph,
            "engine": os.path.basename(self.engine_path),
        }


def import_tensorrt(packages: Sequence[str] = _PACKAGES) -> tuple[Any, bool]:
    """Import TensorRT, or TensorRT for RTX: the first of the packages that is installed.

    Returns: the package, and whether it is the latter.
    Raises: DependencyError: if it is missing or does not load.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            continue
        try:
            return importlib.import_module(package), package == "tensorrt_rtx"
        except (ImportError, OSError, RuntimeError) as error:  # its libraries, or the stub that should fetch them
            raise DependencyError(
                f"the package {package} is installed but does not load: {' '.join(str(error).split())[:200]}; install "
                "TensorRT's libraries for this machine, or take another backend."
            ) from error
    raise DependencyError(
        "the backend 'tensorrt' needs tensorrt, which is not installed. Install it with: pip install tensorrt"
    )


def shapes_of(artifact: Artifact, graph: str, given: ShapeRange | None = None) -> ShapeRange | None:
    """Smallest, usual and largest input of a graph in its own layout; None where the graph fixes them."""
    tensor = artifact.input_of(graph)
    if -1 not in tensor.shape:
        return None
    found = given or artifact.dynamic_shape
    if found is None:
        height, width = artifact.input.size_of("H"), artifact.input.size_of("W")
        found = DEFAULT_RANGE if height < 0 or tensor.layout == "NHWC" else ShapeRange(*((1, 3, height, width),) * 3)
    batch = artifact.input.size_of("N")
    if batch > 0:
        found = ShapeRange(*((batch,) + shape[1:] for shape in found))
    if tensor.layout == "NHWC":
        found = found.channels_last()

    def fixed(shape: Shape) -> Shape:  # sizes that the graph fixes are the same in all three
        n, c, h, w = (own if own > 0 else size for own, size in zip(tensor.shape, shape))
        return n, c, h, w

    return ShapeRange(*map(fixed, found))


def _last(logger: Any) -> str:
    return " ".join((logger.errors or ["no reason is given"])[-1].split())[:300].rstrip(". ")
