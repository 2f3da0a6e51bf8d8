"""Paddle-TensorRT as far as builds of Paddle for the CPU allow: all but `enable_tensorrt_engine` itself, which they
refuse."""

import json
import os
import shutil
import types

import numpy as np
import paddle
import pytest
from exported import export_folder, photograph, small_folder
from paddle import inference

from ppliteseg_paddle.deploy import paddle_trt_plan
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.paddle_trt_plan import PaddleTrtPlan, collect_shapes, convert, tensorrt_config
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import ArtifactError, DependencyError

RANGE = ShapeRange((1, 3, 64, 64), (1, 3, 64, 96), (2, 3, 96, 128))


def files():
    """Graph and weights of an export."""
    return [Artifact.read(export_folder()).path_of("paddle", role) for role in ("model", "params")]


class Recorder:
    """A real configuration, but for the call that needs TensorRT: that one and all others are written down."""

    def __init__(self, *files):
        self._real, self.calls = inference.Config(*files), {}

    def __getattr__(self, name):
        method = getattr(self._real, name)

        def call(*positional, **named):
            self.calls[name] = (positional, named)
            if name not in ("enable_tensorrt_engine", "enable_use_gpu"):
                return method(*positional, **named)
            # The real one's signature is in its first line of documentation; names that it lacks would be refused.
            assert all(argument + ":" in method.__doc__ for argument in named)

        return call


def recorded(precision, folder):
    fake = types.SimpleNamespace(Config=Recorder, PrecisionType=inference.PrecisionType)
    return tensorrt_config(fake, *files(), PaddleTrtPlan(precision, RANGE, str(folder)), 0)


@pytest.mark.parametrize(
    "precision, kind, calibrates", [("fp32", "Float32", False), ("fp16", "Half", False), ("int8", "Int8", True)]
)
def test_paddle_is_told_precision_shapes_and_where_to_keep_engines(tmp_path, precision, kind, calibrates):
    config = recorded(precision, tmp_path)
    assert config.calls["enable_use_gpu"][0][1] == 0
    assert config.calls["enable_tensorrt_engine"][1] == {
        "workspace_size": 2 << 30,
        "max_batch_size": 2,
        "min_subgraph_size": 3,
        "use_static": True,
        "use_calib_mode": calibrates,
        "precision_mode": getattr(inference.PrecisionType, kind),
    }
    assert config.calls["set_optim_cache_dir"][0] == (str(tmp_path),)
    assert config._real.tuned_tensorrt_dynamic_shape() and config._real.trt_allow_build_at_runtime()
    assert config.calls["enable_tuned_tensorrt_dynamic_shape"][0] == (str(tmp_path / "shapes.pbtxt"), True)


def test_a_build_for_the_cpu_refuses_tensorrt_itself(tmp_path):
    if paddle.is_compiled_with_cuda():
        return
    with pytest.raises(RuntimeError, match="compile with TENSORRT"):
        tensorrt_config(inference, *files(), PaddleTrtPlan("fp16", RANGE, str(tmp_path)), 0)


@pytest.mark.skipif(
    paddle_version() >= (3,), reason="shapes are collected for .pdmodel graphs, which Paddle 3 does not write"
)
def test_the_shapes_of_all_tensors_are_collected_from_the_range(tmp_path):
    plan = PaddleTrtPlan("fp16", RANGE, str(tmp_path))
    collect_shapes(inference, *files(), plan, None)
    assert os.listdir(tmp_path) == ["shapes.pbtxt"]
    blocks = (tmp_path / "shapes.pbtxt").read_text().split("shape_range_info")
    [of_input] = [block for block in blocks if 'name: "x"' in block]
    sizes = {
        kind: [int(line.split()[-1]) for line in of_input.splitlines() if line.strip().startswith(kind)]
        for kind in ("min_shape", "opt_shape", "max_shape")
    }
    assert sizes == {"min_shape": [1, 3, 64, 64], "opt_shape": [1, 3, 64, 96], "max_shape": [2, 3, 96, 128]}
    assert len(blocks) > 50


def test_paddle_3_is_told_the_same_through_its_own_converter(tmp_path, monkeypatch):
    made = {}

    class Input:  # signatures as in Paddle 3.0 to 3.3
        def __init__(
            self,
            warmup_data=None,
            min_input_shape=None,
            max_input_shape=None,
            optim_input_shape=None,
            input_data_type="float32",
            input_range=None,
            name=None,
        ):
            self.shapes = (min_input_shape, optim_input_shape, max_input_shape)

    class TensorRTConfig:
        def __init__(self, inputs, min_subgraph_size=3, save_model_dir=None, disable_ops=None):
            self.inputs = inputs

    fake = types.SimpleNamespace(
        Input=Input,
        TensorRTConfig=TensorRTConfig,
        PrecisionMode=types.SimpleNamespace(FP32="FP32", FP16="FP16"),
        convert=lambda model, config: made.update(model=model, static=not paddle.in_dynamic_mode(), **vars(config)),
    )
    monkeypatch.setattr(paddle, "tensorrt", fake, raising=False)
    convert(paddle, "model.json", PaddleTrtPlan("fp16", RANGE, str(tmp_path)), str(tmp_path / "model"))
    assert made["model"] == "model.json" and made["static"] and paddle.in_dynamic_mode()
    assert (
        made["precision_mode"] == "FP16"
        and made["save_model_dir"] == str(tmp_path / "model")
        and made["inputs"][0].shapes == tuple(RANGE)
    )


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="this Paddle is a build for GPUs")
def test_a_build_for_the_cpu_is_one_clear_line():
    artifact = Artifact.read(export_folder())
    with pytest.raises(
        DependencyError,
        match="needs a GPU build of Paddle, and the installed .* is for the CPU. Install paddlepaddle-gpu",
    ) as e:
        open_backend("paddle-trt", artifact)
    assert "\n" not in str(e.value) and e.value.exit_status == 2
    with pytest.raises(DependencyError, match="'paddle-trt' runs on GPUs only"):
        open_backend("paddle-trt", artifact, "cpu")
    assert not RUNTIMES["paddle-trt"].in_auto(artifact)
    assert not os.path.exists(os.path.join(export_folder(), "engines"))


@pytest.fixture
def with_a_gpu(monkeypatch, tmp_path):
    """A Paddle that says that it has a GPU and TensorRT, and runs everything on the CPU all the same."""
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))
    export_folder()  # while it still tells the truth
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda number=None: "NVIDIA A10")
    monkeypatch.setattr(paddle, "tensorrt", types.SimpleNamespace(), raising=False)
    monkeypatch.setattr(inference, "get_trt_compile_version", lambda: (8, 5, 3))
    monkeypatch.setattr(inference, "get_trt_runtime_version", lambda: (8, 5, 3))
    plain = paddle_trt_plan.plain_config
    monkeypatch.setattr(
        paddle_trt_plan, "plain_config", lambda inference, model, params, gpu: plain(inference, model, params, None)
    )
    monkeypatch.setattr(
        paddle_trt_plan,
        "tensorrt_config",
        lambda inference, model, params, plan, gpu: plain(inference, model, params, None),
    )
    built = []

    def converted(paddle, model, plan, prefix):
        built.append(prefix)
        shutil.copy(model, prefix + ".json")
        shutil.copy(os.path.splitext(model)[0] + ".pdiparams", prefix + ".pdiparams")

    monkeypatch.setattr(paddle_trt_plan, "convert", converted)
    return built


def test_what_was_built_is_kept_and_masks_come_out(tmp_path, with_a_gpu):
    shutil.copytree(export_folder(), tmp_path / "export")
    artifact = Artifact.read(tmp_path / "export")
    backend = open_backend("paddle-trt", artifact, dynamic_shape=RANGE)
    [kept] = (tmp_path / "cache" / "engines").iterdir()
    [folder] = os.listdir(kept)
    assert folder.startswith(f"paddle-trt-{paddle.__version__}-NVIDIA-A10-fp32-")
    batch, _ = artifact.preprocess(photograph(80, 112))
    steps = []
    backend._paddle = types.SimpleNamespace(device=types.SimpleNamespace(synchronize=lambda: None))
    assert np.array_equal(backend.run(batch), backend.run_in_steps(batch, steps.append)) and steps == [
        "copy_in",
        "forward",
        "copy_out",
    ]
    before = list(with_a_gpu)
    open_backend("paddle-trt", artifact, dynamic_shape=RANGE)
    assert os.listdir(kept) == [folder] and with_a_gpu == before
    assert RUNTIMES["paddle-trt"].in_auto(artifact)  # an engine is there, so it costs no minutes
    from ppliteseg_paddle.errors import DataError

    with pytest.raises(DataError, match="from 1x3x64x64 to 2x3x96x128, and this one is 1x3x63x64"):
        backend.run(np.zeros((1, 3, 63, 64), np.float32))


def test_8_bits_need_images_once_or_another_backend(tmp_path, with_a_gpu):
    shutil.copytree(export_folder(), tmp_path / "export")
    artifact = Artifact.read(tmp_path / "export")
    if files()[0].endswith(".json"):
        with pytest.raises(
            ArtifactError,
            match="does not calibrate, so the backend 'paddle-trt' has no INT8.*take the backend 'tensorrt'",
        ):
            open_backend("paddle-trt", artifact, precision="int8")
        return
    from ppliteseg_paddle.errors import ConfigError

    with pytest.raises(ConfigError, match="needs inputs to calibrate with, once"):
        open_backend("paddle-trt", artifact, precision="int8", dynamic_shape=RANGE)
    assert (
        open_backend(
            "paddle-trt",
            artifact,
            precision="int8",
            dynamic_shape=RANGE,
            calibration=[np.zeros((1, 3, 64, 64), np.float32)],
        ).precision
        == "int8"
    )


@pytest.mark.parametrize(
    "versions, words",
    [
        (((0, 0, 0), (0, 0, 0)), "was built without TensorRT"),
        (((8, 5, 3), (0, 0, 0)), "finds no TensorRT library .libnvinfer."),
    ],
)
def test_a_missing_tensorrt_is_one_clear_line(with_a_gpu, monkeypatch, versions, words):
    for name, version in zip(("get_trt_compile_version", "get_trt_runtime_version"), versions):
        monkeypatch.setattr(inference, name, lambda version=version: version)
    with pytest.raises(DependencyError, match=words):
        open_backend("paddle-trt", Artifact.read(export_folder()))


def test_a_library_that_cannot_be_loaded_is_one_clear_line(with_a_gpu, monkeypatch):
    def missing():
        raise RuntimeError("(PreconditionNotMet) dso_handle should not be null")  # as Paddle 2.6.2 for GPUs says it

    monkeypatch.setattr(inference, "get_trt_runtime_version", missing)
    with pytest.raises(DependencyError, match="finds no TensorRT library"):
        open_backend("paddle-trt", Artifact.read(export_folder()))


@pytest.fixture
def small(tmp_path):
    """A function that copies an export, and whose graph. To be asked for before `with_a_gpu`."""
    for op in ("argmax", "softmax"):
        small_folder(op)  # while Paddle still tells the truth

    def copy(promised, kept):
        folder = tmp_path / "export"
        shutil.copytree(small_folder(promised), folder)
        artifact = Artifact.read(folder)
        for name in artifact.graphs["paddle"].values():
            shutil.copy(os.path.join(small_folder(kept), name), folder / name)
        artifact.write()  # new hashes
        return Artifact.read(folder)

    return copy


@pytest.mark.skipif(paddle_version() < (3,), reason="Paddle 2 converts while it runs, which needs TensorRT")
def test_what_was_converted_and_returns_something_else_than_promised_is_refused(small, with_a_gpu):
    message = r"inference.json returns .* but deploy.yaml promises .* of 11 classes"
    with pytest.raises(ArtifactError, match=message):
        open_backend("paddle-trt", small("argmax", kept="softmax"), dynamic_shape=RANGE)
    assert len(with_a_gpu) == 1


@pytest.mark.skipif(paddle_version() < (3,), reason="Paddle 2 converts while it runs, which needs TensorRT")
def test_what_was_converted_and_has_lost_its_output_is_refused(small, with_a_gpu, monkeypatch):
    artifact, whole = small("argmax", kept="argmax"), paddle_trt_plan.convert

    def lossy(paddle, model, plan, prefix):
        whole(paddle, model, plan, prefix)
        with open(prefix + ".json") as file:
            graph = json.load(file)
        graph["program"]["regions"][0]["blocks"][0]["ops"].pop()
        with open(prefix + ".json", "w") as file:
            json.dump(graph, file)

    monkeypatch.setattr(paddle_trt_plan, "convert", lossy)
    with pytest.raises(ArtifactError, match="json has 1 inputs and 0 outputs, but deploy.yaml promises 1 and 1"):
        open_backend("paddle-trt", artifact, dynamic_shape=RANGE)
