"""TensorRT inside Paddle Inference, behind the interface of `backends`.

Two ways, by what the graph is:
    model.pdmodel  `enable_tensorrt_engine`, with the shapes of all tensors collected in a run before ("tuned" shapes)
    model.json     `paddle.tensorrt.convert`, which Paddle 3 has in its place
Either way Paddle keeps what is not TensorRT's to compute, and what was built is kept in the folder for engines.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact, file_record
from ppliteseg_paddle.deploy.engines import engine_name, engines_folder
from ppliteseg_paddle.deploy.interface import Backend, Options, split_device
from ppliteseg_paddle.deploy.paddle_inference import (
    Session,
    check_readable,
    import_paddle,
    paddle_device,
    reason,
    silent_stdout,
)
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.deploy.tensorrt import DEFAULT_RANGE
from ppliteseg_paddle.deploy.tensorrt_plan import DEFAULT_WORKSPACE
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError, PPLiteSegError

log = logging.getLogger("ppliteseg_paddle")

# precision -> its name in `paddle.inference.PrecisionType`, and in `paddle.tensorrt.PrecisionMode` ("": it has no
# calibration).
PRECISION_NAMES = {"fp32": ("Float32", "FP32"), "fp16": ("Half", "FP16"), "int8": ("Int8", "")}
_MIN_SUBGRAPH = 3  # operators; smaller pieces stay Paddle's
_GPU_MEMORY_MB = 256  # to start with; it grows


@dataclass(frozen=True)
class PaddleTrtPlan:
    """What Paddle is told.

    Args: folder: for all that is built; shape_file: where the collected shapes are, of `.pdmodel` graphs.
    """

    precision: str
    shapes: ShapeRange
    folder: str
    workspace: int = DEFAULT_WORKSPACE

    @property
    def shape_file(self) -> str:
        return os.path.join(self.folder, "shapes.pbtxt")

    @property
    def calibrated(self) -> bool:
        """Whether Paddle has written its table of ranges for INT8."""
        return any("calib" in name for name in os.listdir(self.folder))


class PaddleTrtBackend(Backend):
    """Paddle Inference on a GPU, with TensorRT for what it can compute.

    Args: options: `precision` and `dynamic_shape` replace what the artifact says; INT8 of a `.pdmodel` graph needs
        `calibration` once.
    Raises: DependencyError: without a GPU, a GPU build of Paddle, or TensorRT. ArtifactError: if Paddle cannot run the
        graph.
    """

    name = "paddle-trt"
    graph = "paddle"

    def __init__(self, artifact: Artifact, options: Options):
        self._paddle = paddle = import_paddle()
        self.version, self.precision = paddle.__version__, options.precision or artifact.precision
        self._model, self._params = artifact.path_of("paddle", "model"), artifact.path_of("paddle", "params")
        writer = artifact.versions.get("paddle", "unknown")
        check_readable(self.version, self._model, writer)
        self.device = _device(paddle, options.device)
        self._is_json = self._model.endswith(".json")
        _check_converts(paddle, self._is_json)
        tensorrt_version(paddle)
        if self._is_json and not PRECISION_NAMES[self.precision][1]:
            raise ArtifactError(
                f"paddle.tensorrt of Paddle {self.version} does not calibrate, so the backend 'paddle-trt' has no INT8 "
                f"for {self._model}; take the "
                "backend 'tensorrt', or precision fp16."
            )
        shapes = options.dynamic_shape or artifact.dynamic_shape or _shapes_of(artifact)
        name = engine_name(
            "paddle-trt",
            self.version,
            self._paddle.device.cuda.get_device_name(self._number),
            self.precision,
            {"model": file_record(self._model), "params": file_record(self._params), "shapes": shapes},
        )
        self._plan = PaddleTrtPlan(
            self.precision, shapes, os.path.join(engines_folder(artifact.folder, options.cache_dir), name)
        )
        try:
            with silent_stdout():
                self._session = self._build(options.calibration)
                self._session.run(np.zeros(shapes.opt, np.float32))
        except PPLiteSegError:
            raise
        except (RuntimeError, ValueError, NotImplementedError, OSError, TypeError) as error:  # what Paddle's C++ raises
            raise ArtifactError(
                f"Paddle {self.version} cannot run {self._model} with TensorRT: {reason(error)}. Take another backend, "
                "or export with the installed Paddle "
                f"(it was written by {writer})."
            ) from error

    @property
    def _number(self) -> int:
        return int(self.device.split(":")[1])

    def _build(self, calibration: Sequence[np.ndarray]) -> Session:
        from paddle import inference

        if self._is_json:
            prefix = self._converted()
            return Session(
                inference.create_predictor(
                    plain_config(inference, prefix + ".json", prefix + ".pdiparams", self._number)
                )
            )
        if not os.path.isdir(self._plan.folder):
            log.warning(
                "Paddle %s builds TensorRT engines in %s, once; this takes minutes.", self.version, self.precision
            )
        os.makedirs(self._plan.folder, exist_ok=True)
        if not os.path.isfile(self._plan.shape_file):
            collect_shapes(inference, self._model, self._params, self._plan, self._number)

        def make() -> Session:
            config = tensorrt_config(inference, self._model, self._params, self._plan, self._number)
            return Session(inference.create_predictor(config))

        if self.precision == "int8" and not self._plan.calibrated:
            if not len(calibration):
                raise ConfigError(
                    "INT8 with the backend 'paddle-trt' needs inputs to calibrate with, once: give `calibration`."
                )
            session = make()
            for batch in calibration:
                session.run(np.ascontiguousarray(batch))
            del session  # writes the table
            gc.collect()
        return make()

    def _converted(self) -> str:
        """Path of the converted graph without its ending; it is converted if that was not done before."""
        if not os.path.isdir(self._plan.folder):
            log.warning(
                "Paddle %s converts the graph for TensorRT in %s, once; this takes minutes.",
                self.version,
                self.precision,
            )
            with tempfile.TemporaryDirectory(dir=os.path.dirname(self._plan.folder)) as aside:
                convert(self._paddle, self._model, self._plan, os.path.join(aside, "model"))
                shutil.copytree(aside, self._plan.folder)
        return os.path.join(self._plan.folder, "model")

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self._run(batch, lambda step: None)

    def run_in_steps(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        def done_on_device(step: str) -> None:
            self._paddle.device.synchronize()
            done(step)

        return self._run(batch, done_on_device)

    def _run(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        if not self._plan.shapes.contains(batch.shape):
            raise DataError(
                "TensorRT's engines take inputs from {} to {}, and this one is {}; resize it, or export with a "
                "--dynamic_shape that holds it.".format(
                    *tuple(
                        "x".join(map(str, each)) for each in (self._plan.shapes.min, self._plan.shapes.max, batch.shape)
                    )
                )
            )
        return self._session.run(np.ascontiguousarray(batch), done)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runtime": "Paddle Inference with TensorRT",
            "version": self.version,
            "device": self.device,
            "precision": self.precision,
            "engine": os.path.basename(self._plan.folder),
        }


# --------------------------------------------------------------------------------------------
# What Paddle is told
# --------------------------------------------------------------------------------------------
def plain_config(inference, model: str, params: str, gpu: int | None):
    """A configuration for a GPU, or for the CPU where `gpu` is None (shapes can be collected there, too)."""
    config = inference.Config(model, params)
    config.disable_glog_info()
    if gpu is None:
        config.disable_gpu()
    else:
        config.enable_use_gpu(_GPU_MEMORY_MB, gpu)
    if model.endswith(".json"):
        config.enable_new_ir(True)
        config.enable_new_executor(True)
    return config


def collect_shapes(inference, model: str, params: str, plan: PaddleTrtPlan, gpu: int | None) -> None:
    """Run the smallest, the usual and the largest input and write the shapes of all tensors to the plan's shape
    file."""
    config = plain_config(inference, model, params, gpu)
    temporary = plan.shape_file + ".part"
    config.collect_shape_range_info(temporary)
    session = Session(inference.create_predictor(config))
    for shape in (
        plan.shapes.min,
        plan.shapes.max,
        plan.shapes.opt,
        plan.shapes.opt,
    ):  # what is met most counts as usual
        session.run(np.zeros(shape, np.float32))
    del session  # writes the file
    gc.collect()
    os.replace(temporary, plan.shape_file)


def tensorrt_config(inference, model: str, params: str, plan: PaddleTrtPlan, gpu: int):
    """A configuration that gives TensorRT what it can compute, at the collected shapes."""
    config = plain_config(inference, model, params, gpu)
    config.enable_tensorrt_engine(
        workspace_size=plan.workspace,
        max_batch_size=plan.shapes.max[0],
        min_subgraph_size=_MIN_SUBGRAPH,
        precision_mode=getattr(inference.PrecisionType, PRECISION_NAMES[plan.precision][0]),
        use_static=True,
        use_calib_mode=plan.precision == "int8",
    )
    config.set_optim_cache_dir(plan.folder)
    config.enable_tuned_tensorrt_dynamic_shape(plan.shape_file, True)
    return config


def convert(paddle, model: str, plan: PaddleTrtPlan, prefix: str) -> None:
    """Convert a `.json` graph with `paddle.tensorrt` and save it as `prefix`.json and `prefix`.pdiparams."""
    from paddle import tensorrt

    inputs = tensorrt.Input(
        min_input_shape=plan.shapes.min, optim_input_shape=plan.shapes.opt, max_input_shape=plan.shapes.max
    )
    config = tensorrt.TensorRTConfig(inputs=[inputs])
    config.min_subgraph_size, config.workspace_size = _MIN_SUBGRAPH, plan.workspace
    config.precision_mode = getattr(tensorrt.PrecisionMode, PRECISION_NAMES[plan.precision][1])
    config.save_model_dir = prefix
    paddle.enable_static()
    try:
        tensorrt.convert(model, config)
    finally:
        paddle.disable_static()


def _device(paddle, device: str | None) -> str:
    if split_device(device)[0] == "cpu":
        raise DependencyError(
            "the backend 'paddle-trt' runs on GPUs only, not on the CPU; give --device gpu or another backend."
        )
    _check_gpu(paddle)
    return paddle_device(paddle, device or "gpu:0")


def check_usable(paddle) -> str:
    """See that this Paddle can use TensorRT on this machine. Returns: TensorRT's version.

    Raises: DependencyError: if it is built for the CPU or without TensorRT, or if a GPU or TensorRT is missing.
    """
    _check_gpu(paddle)
    return tensorrt_version(paddle)


def _check_gpu(paddle) -> None:
    if not paddle.is_compiled_with_cuda():
        raise DependencyError(
            f"the backend 'paddle-trt' needs a GPU build of Paddle, and the installed {paddle.__version__} is for the "
            "CPU. Install paddlepaddle-gpu, or take another backend."
        )
    if paddle.device.cuda.device_count() == 0:
        raise DependencyError(
            "the backend 'paddle-trt' needs an NVIDIA GPU, and Paddle finds none; take another backend."
        )


def _check_converts(paddle, is_json: bool) -> None:
    if is_json and not hasattr(paddle, "tensorrt"):
        raise DependencyError(
            f"Paddle {paddle.__version__} has no paddle.tensorrt, so it cannot run a .json graph with TensorRT; "
            "install a build with it, or take the backend 'tensorrt'."
        )


def tensorrt_version(paddle) -> str:
    """The version of the TensorRT library that Paddle finds.

    Raises: DependencyError: if it was built without, or finds none.
    """
    from paddle import inference

    try:
        compiled, found = inference.get_trt_compile_version(), inference.get_trt_runtime_version()
    except (RuntimeError, OSError):  # the library is not on the path
        compiled, found = (1, 0, 0), (0, 0, 0)
    if not any(compiled):
        raise DependencyError(
            f"the installed Paddle {paddle.__version__} was built without TensorRT; install a build with it, or take "
            "the backend 'tensorrt'."
        )
    if not any(found):
        raise DependencyError(
            f"Paddle {paddle.__version__} finds no TensorRT library (libnvinfer); install TensorRT and add its folder "
            "to LD_LIBRARY_PATH."
        )
    return ".".join(map(str, found))


def _shapes_of(artifact: Artifact) -> ShapeRange:
    height, width, batch = (artifact.input.size_of(side) for side in "HWN")
    found = DEFAULT_RANGE if height < 0 else ShapeRange(*((max(batch, 1), 3, height, width),) * 3)
    return found if batch < 0 else ShapeRange(*((batch,) + shape[1:] for shape in found))
