"""TensorRT inside Paddle Inference, behind `interface.Backend`.

Two ways, by what the graph is:
    .pdmodel  `enable_tensorrt_engine`, with the shapes of all tensors collected in a run before ("tuned" shapes)
    .json     `paddle.tensorrt.convert`, which Paddle 3 has in its place
Either way Paddle keeps what is not TensorRT's to compute, and what was built is kept in the folder for engines.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy import paddle_trt_plan
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.engines import engine_name, engines_folder
from ppliteseg_paddle.deploy.folder import file_record
from ppliteseg_paddle.deploy.graph_files import check_paddle_graph
from ppliteseg_paddle.deploy.interface import Backend, Options, check_output, check_ports, split_device
from ppliteseg_paddle.deploy.paddle_inference import Session, check_readable, paddle_device, reason, silent_stdout
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.deploy.tensorrt import DEFAULT_RANGE
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError, PPLiteSegError

log = logging.getLogger("ppliteseg_paddle")


class PaddleTrtBackend(Backend):
    """Paddle Inference on a GPU, with TensorRT for what it can compute.

    Args: options: `precision` and `dynamic_shape` replace what the artifact says; INT8 of a `.pdmodel` graph needs
        `calibration` once.
    Raises: DependencyError: without a GPU, a GPU build of Paddle, or TensorRT. ArtifactError: if Paddle cannot run the
        graph.
    """

    name = "paddle-trt"
    graph = "paddle"
    opens_in_fork = False

    def __init__(self, artifact: Artifact, options: Options):
        self._paddle = paddle = environment.import_paddle()
        self.version, self.precision = paddle.__version__, options.precision or artifact.precision
        self._model, self._params = artifact.path_of("paddle", "model"), artifact.path_of("paddle", "params")
        writer = artifact.versions.get("paddle", "unknown")
        check_readable(self.version, self._model, writer)
        self.device = _device(paddle, options.device)
        self._is_json = self._model.endswith(".json")
        _check_converts(paddle, self._is_json)
        tensorrt_version(paddle)
        if self._is_json and not paddle_trt_plan.PRECISION_NAMES[self.precision][1]:
            raise ArtifactError(
                f"paddle.tensorrt of Paddle {self.version} does not calibrate, so the backend 'paddle-trt' has no INT8 "
                f"for {self._model}; take the backend 'tensorrt', or precision fp16."
            )
        shapes = options.dynamic_shape or artifact.dynamic_shape or _shapes_of(artifact)
        name = engine_name(
            "paddle-trt",
            self.version,
            self._paddle.device.cuda.get_device_name(self._number),
            self.precision,
            {"model": file_record(self._model), "params": file_record(self._params), "shapes": shapes},
        )
        self._plan = paddle_trt_plan.PaddleTrtPlan(
            self.precision, shapes, os.path.join(engines_folder(artifact.folder, options.cache_dir), name)
        )
        try:
            check_paddle_graph(self._model, self._params)
            with silent_stdout():
                self._session = self._build(options.calibration)
                check_ports(artifact, self.graph, *self._session.ports)
                trial = np.zeros(shapes.opt, np.float32)
                check_output(artifact, self.graph, trial, self._session.run(trial))
        except PPLiteSegError:
            raise
        except (RuntimeError, ValueError, NotImplementedError, OSError, TypeError) as error:  # what Paddle's C++ raises
            raise ArtifactError(
                f"Paddle {self.version} cannot run {self._model} with TensorRT: {reason(error)}. Take another backend, "
                f"or export with the installed Paddle (it was written by {writer})."
            ) from error

    @property
    def _number(self) -> int:
        return int(self.device.split(":")[1])

    def _build(self, calibration: Sequence[NDArray[Any]]) -> Session:
        from paddle import inference

        if self._is_json:
            prefix = self._converted()
            files = prefix + ".json", prefix + ".pdiparams"
            return Session(inference.create_predictor(paddle_trt_plan.plain_config(inference, *files, self._number)))
        if not os.path.isdir(self._plan.folder):
            log.warning(
                "Paddle %s builds TensorRT engines in %s, once; this takes minutes.", self.version, self.precision
            )
        os.makedirs(self._plan.folder, exist_ok=True)
        if not os.path.isfile(self._plan.shape_file):
            paddle_trt_plan.collect_shapes(inference, self._model, self._params, self._plan, self._number)

        def make() -> Session:
            config = paddle_trt_plan.tensorrt_config(inference, self._model, self._params, self._plan, self._number)
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
        """Path of the converted graph without its extension; it is converted if that was not done before."""
        if not os.path.isdir(self._plan.folder):
            log.warning(
                "Paddle %s converts the graph for TensorRT in %s, once; this takes minutes.",
                self.version,
                self.precision,
            )
            with tempfile.TemporaryDirectory(dir=os.path.dirname(self._plan.folder)) as aside:
                paddle_trt_plan.convert(self._paddle, self._model, self._plan, os.path.join(aside, "model"))
                shutil.copytree(aside, self._plan.folder)
        return os.path.join(self._plan.folder, "model")

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(0, batch, lambda step: None)

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(1, batch, lambda step: None)

    def run_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        return self._run(0, batch, self._waiting(done))

    def run_logits_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        return self._run(1, batch, self._waiting(done))

    def _waiting(self, done: Callable[[str], None]) -> Callable[[str], None]:
        def done_on_device(step: str) -> None:
            self._paddle.device.synchronize()
            done(step)

        return done_on_device

    def _run(self, number: int, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        if not self._plan.shapes.contains(batch.shape):
            raise DataError(
                "TensorRT's engines take inputs from {} to {}, and this one is {}; resize it, or export with a "
                "--dynamic_shape that holds it.".format(
                    *tuple(
                        "x".join(map(str, each)) for each in (self._plan.shapes.min, self._plan.shapes.max, batch.shape)
                    )
                )
            )
        return self._session.run(np.ascontiguousarray(batch), done, number)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runtime": "Paddle Inference with TensorRT",
            "version": self.version,
            "device": self.device,
            "precision": self.precision,
            "engine": os.path.basename(self._plan.folder),
        }


def _device(paddle: Any, device: str | None) -> str:
    if split_device(device)[0] == "cpu":
        raise DependencyError(
            "the backend 'paddle-trt' runs on GPUs only, not on the CPU; give --device gpu or another backend."
        )
    _check_gpu(paddle)
    return paddle_device(paddle, device or "gpu:0")


def check_usable(paddle: Any) -> str:
    """See that this Paddle can use TensorRT on this machine. Returns: TensorRT's version.

    Raises: DependencyError: if it is built for the CPU or without TensorRT, or if a GPU or TensorRT is missing.
    """
    _check_gpu(paddle)
    return tensorrt_version(paddle)


def _check_gpu(paddle: Any) -> None:
    if not paddle.is_compiled_with_cuda():
        raise DependencyError(
            f"the backend 'paddle-trt' needs a GPU build of Paddle, and the installed {paddle.__version__} is for the "
            "CPU. Install paddlepaddle-gpu, or take another backend."
        )
    if paddle.device.cuda.device_count() == 0:
        raise DependencyError(
            "the backend 'paddle-trt' needs an NVIDIA GPU, and Paddle finds none; take another backend."
        )


def _check_converts(paddle: Any, is_json: bool) -> None:
    if is_json and not hasattr(paddle, "tensorrt"):
        raise DependencyError(
            f"Paddle {paddle.__version__} has no paddle.tensorrt, so it cannot run a .json graph with TensorRT; "
            "install a build with it, or take the backend 'tensorrt'."
        )


def tensorrt_version(paddle: Any) -> str:
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
    channels = artifact.image_form.channels
    return ShapeRange(*((shape[0] if batch < 0 else batch, channels, *shape[2:]) for shape in found))
