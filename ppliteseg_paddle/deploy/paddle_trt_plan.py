"""What Paddle is told for TensorRT: precision, shapes and folders as plain data, and the calls that carry it out."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppliteseg_paddle.deploy.paddle_inference import Session
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.deploy.tensorrt_plan import DEFAULT_WORKSPACE

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


def plain_config(inference: Any, model: str, params: str, gpu: int | None) -> Any:
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


def collect_shapes(inference: Any, model: str, params: str, plan: PaddleTrtPlan, gpu: int | None) -> None:
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
    ):  # the most frequent one counts as usual
        session.run(np.zeros(shape, np.float32))
    del session  # writes the file
    gc.collect()
    os.replace(temporary, plan.shape_file)


def tensorrt_config(inference: Any, model: str, params: str, plan: PaddleTrtPlan, gpu: int) -> Any:
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


def convert(paddle: Any, model: str, plan: PaddleTrtPlan, prefix: str) -> None:
    """Convert a `.json` graph with `paddle.tensorrt` and save it as `prefix`.json and `prefix`.pdiparams."""
    tensorrt = paddle.tensorrt
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
