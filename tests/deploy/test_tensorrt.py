"""TensorRT: what is asked of each version, and what comes back, without a GPU."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from fake_tensorrt import RANGE, an_artifact

from ppliteseg_paddle.deploy import cuda, tensorrt
from ppliteseg_paddle.deploy.artifact import Tensor
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.interface import Options
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError

VERSIONS = ["8.5.3.1", "8.6.1", "10.0.1", "10.11.0.33", "10.13.0.35", "11.4.0.106"]


# --------------------------------------------------------------------------------------------
# What the graph declares and returns
# --------------------------------------------------------------------------------------------
def test_a_graph_that_returns_something_else_than_promised_is_refused(tmp_path, installed):
    installed()
    artifact = an_artifact(tmp_path / "export")
    artifact = dataclasses.replace(artifact, output=dataclasses.replace(artifact.output, dtype="int32"))
    with pytest.raises(ArtifactError, match=r"returns uint8 \(1, 16, 24\), but deploy.yaml promises int32"):
        open_backend("tensorrt", artifact)


def test_a_graph_with_fewer_outputs_than_promised_is_refused(tmp_path, installed):
    installed()
    logits = Tensor("logits", "float32", "NCHW", (-1, 11, -1, -1))
    artifact = an_artifact(tmp_path / "export", logits=logits)
    with pytest.raises(ArtifactError, match="has 1 inputs and 1 outputs, but deploy.yaml promises 1 and 2"):
        open_backend("tensorrt", artifact)


# --------------------------------------------------------------------------------------------
# The engine
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_asked_only_for_what_it_has(tmp_path, installed, version, precision):
    module, _ = installed(version)
    backend = open_backend("tensorrt", an_artifact(tmp_path / "export"), precision=precision)
    flags = {8: 1, 10: 2 if version.startswith("10.13") else 0, 11: 0}[int(version.split(".")[0])]
    assert module.calls[0] == ("create_network", flags)
    assert ("workspace", ("WORKSPACE", 2 << 30)) in module.calls and (
        "set_shape",
        ("x",) + tuple(RANGE),
    ) in module.calls
    assert (("clear_flag", "TF32") in module.calls) == (precision == "fp32")
    weak = precision == "fp16" and version < "10.12" or version.startswith("8") and precision == "fp16"
    assert (("set_flag", "FP16") in module.calls) == weak
    described = backend.describe()
    assert described["version"] == version and described["precision"] == precision and described["device"] == "gpu:0"


def test_tensorrt_for_rtx_runs_the_same_way(tmp_path, installed):
    installed("1.7.1.116", rtx=True)
    assert open_backend("tensorrt", an_artifact(tmp_path / "export")).run(
        np.zeros((1, 3, 9, 11), np.float32)
    ).shape == (1, 9, 11)


def test_the_engines_result_comes_back_for_every_size_in_its_range(tmp_path, installed, rng):
    installed()
    backend = open_backend("tensorrt", an_artifact(tmp_path / "export"))
    for shape in ((1, 3, 16, 24), (4, 3, 32, 48), (1, 3, 9, 13), (3, 3, 31, 8)):  # growing and shrinking again
        batch = rng.normal(size=shape).astype(np.float32)
        mask = backend.run(batch)
        assert mask.dtype == np.uint8 and np.array_equal(mask, batch.argmax(axis=1))
    steps = []
    assert np.array_equal(backend.run_in_steps(batch, steps.append), mask) and steps == [
        "copy_in",
        "forward",
        "copy_out",
    ]


@pytest.mark.parametrize("channels", [1, 4, 10])
def test_an_engine_takes_as_many_channels_as_the_images_have(channels, tmp_path, installed, rng):
    module, _ = installed()
    artifact = an_artifact(tmp_path / "export", (-1, channels, -1, -1), None)
    shapes = [(1, channels, 8, 8), (1, channels, 16, 24), (4, channels, 32, 48)]
    backend = open_backend("tensorrt", artifact, dynamic_shape=shapes)
    batch = rng.normal(size=(2, channels, 9, 13)).astype(np.float32)
    assert np.array_equal(backend.run(batch), batch.argmax(axis=1))
    assert [tuple(map(tuple, given[1:])) for name, given in module.calls if name == "set_shape"][-1] == tuple(shapes)
    with pytest.raises(ConfigError, match=f"the smallest shape is 1,3,8,8; give N,{channels},H,W"):
        open_backend("tensorrt", artifact, dynamic_shape=list(RANGE))


def test_the_logits_come_by_themselves_whatever_the_engines_order(tmp_path, installed, rng):
    installed()
    logits = Tensor("logits", "float32", "NCHW", (-1, 3, -1, -1), op="none")
    artifact = an_artifact(tmp_path / "export", content=b"a graph with logits", logits=logits, mask_resize="bilinear")
    backend = open_backend("tensorrt", artifact)
    batch = rng.normal(size=(2, 3, 16, 24)).astype(np.float32)
    assert np.array_equal(backend.run_logits(batch), batch / 2)
    assert np.array_equal(backend.run(batch), batch.argmax(axis=1))
    assert np.array_equal(backend.run_logits_in_steps(batch, lambda step: None), batch / 2)


def test_a_result_stays_when_the_next_one_is_computed(tmp_path, installed, rng):
    installed()
    backend = open_backend("tensorrt", an_artifact(tmp_path / "export"))
    first = rng.normal(size=(1, 3, 16, 24)).astype(np.float32)
    mask = backend.run(first)
    backend.run(-first)
    assert np.array_equal(mask, first.argmax(axis=1))


def test_the_gpus_memory_is_given_back(tmp_path, installed):
    _, driver = installed()
    backend = open_backend("tensorrt", an_artifact(tmp_path / "export"))
    assert len(driver.memory) == 4  # input and output, each with its pinned twin
    backend.run(np.zeros((4, 3, 32, 48), np.float32))
    assert len(driver.memory) == 4
    del backend
    assert driver.memory == {}


# --------------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------------
def test_an_input_outside_the_range_is_refused_with_the_range(tmp_path, installed):
    installed()
    backend = open_backend("tensorrt", an_artifact(tmp_path / "export"))
    for shape in ((1, 3, 33, 48), (5, 3, 16, 16), (1, 3, 7, 8)):
        with pytest.raises(
            DataError, match=f"takes inputs from 1x3x8x8 to 4x3x32x48, and this one is {'x'.join(map(str, shape))}; "
        ):
            backend.run(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "shape, dynamic_shape, expected",
    [
        ((1, 3, 64, 96), None, None),
        ((-1, 3, 64, 96), None, ((1, 3, 64, 96),) * 3),
        ((-1, 3, -1, -1), None, tensorrt.DEFAULT_RANGE),
        ((1, 3, -1, -1), RANGE, ((1, 3, 8, 8), (1, 3, 16, 24), (1, 3, 32, 48))),
        ((-1, 1, -1, -1), None, ((1, 1, 64, 64), (1, 1, 512, 1024), (1, 1, 1024, 2048))),
        ((-1, 10, 64, 96), None, ((1, 10, 64, 96),) * 3),
    ],
)
def test_open_sizes_get_the_range_of_the_export_or_a_usual_one(tmp_path, shape, dynamic_shape, expected):
    artifact = an_artifact(tmp_path / "export", shape, dynamic_shape)
    assert tensorrt.shapes_of(artifact, "tensorrt") == expected


def test_a_graph_that_takes_images_gets_a_range_of_images(tmp_path):
    artifact = an_artifact(
        tmp_path / "export",
        (1, 3, 64, 96),
        None,
        image_input=Tensor("image", "uint8", "NHWC", (1, -1, -1, 3), "BGR"),
        in_graph=("tensorrt",),
    )
    assert tensorrt.shapes_of(artifact, "tensorrt") == ((1, 64, 64, 3), (1, 512, 1024, 3), (1, 1024, 2048, 3))


# --------------------------------------------------------------------------------------------
# Machines that cannot run it
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "gpus, device, error, words",
    [
        ((), None, DependencyError, "the driver finds none"),
        (("A",), "gpu:1", ConfigError, "device 'gpu:1' does not exist: 1 GPU"),
        (("A",), "cpu", DependencyError, "'tensorrt' runs on GPUs only, not on the CPU"),
    ],
)
def test_a_gpu_that_is_not_there_is_one_clear_line(tmp_path, installed, gpus, device, error, words):
    installed(gpus=gpus)
    with pytest.raises(error, match=words) as raised:
        open_backend("tensorrt", an_artifact(tmp_path / "export"), device)
    assert "\n" not in str(raised.value) and raised.value.exit_status == 2


def test_a_failing_driver_is_quoted(tmp_path, installed):
    _, driver = installed()
    driver.fails = ("cuInit",)
    with pytest.raises(
        DependencyError, match="refuses cuInit: no CUDA-capable device is detected .error 100.; see what 'nvidia-smi'"
    ):
        open_backend("tensorrt", an_artifact(tmp_path / "export"))


def test_a_missing_driver_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(cuda, "_LIBRARY", "libno_such_driver.so.1")
    with pytest.raises(
        DependencyError, match="needs an NVIDIA GPU and its driver, which this machine does not have .libno_such_driver"
    ):
        cuda.load_driver()


def test_a_package_whose_libraries_are_missing_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.10:\\ncannot open shared object file')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(
        DependencyError,
        match="tensorrt is installed but does not load: libnvinfer.so.10: cannot open shared object file; ",
    ):
        open_backend("tensorrt", an_artifact(tmp_path / "export"))


def test_the_command_line_says_what_is_missing_and_exits_with_2(tmp_path):
    an_artifact(tmp_path / "export")
    code = (
        "import sys; sys.modules['tensorrt'] = sys.modules['tensorrt_rtx'] = None\n"  # as if they were not installed
        "from ppliteseg_paddle.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "benchmark", "--model_dir", str(tmp_path / "export"), "--backend", "tensorrt"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip() == (
        "error: the backend 'tensorrt' needs tensorrt, which is not installed. Install it with: pip install tensorrt"
    )


def test_auto_takes_tensorrt_for_what_was_exported_for_it_and_only_where_it_works(tmp_path, installed):
    artifact = an_artifact(tmp_path / "export")
    installed()
    assert open_backend("auto", artifact).name == "tensorrt"
    installed(gpus=())
    with pytest.raises(DependencyError, match="the driver finds none"):
        open_backend("auto", artifact)


def test_the_form_for_onnx_runtime_is_refused_with_the_form_that_is_needed(tmp_path, installed):
    installed()
    artifact = dataclasses.replace(an_artifact(tmp_path / "export"), graphs={"onnx": {"model": "tensorrt.onnx"}})
    with pytest.raises(
        ArtifactError, match="holds no tensorrt graph.*it holds: onnx.*Export it with --format tensorrt"
    ):
        open_backend("tensorrt", artifact)


def test_options_are_checked_before_anything_is_opened(tmp_path):
    artifact = an_artifact(tmp_path / "export")
    with pytest.raises(ConfigError, match="unknown precision 'fp61'. Did you mean 'fp16'"):
        open_backend("tensorrt", artifact, precision="fp61")
    with pytest.raises(ConfigError, match="dynamic_shape: H goes 8, 4, 8"):
        open_backend("tensorrt", artifact, dynamic_shape=[(1, 3, 8, 8), (1, 3, 4, 8), (1, 3, 8, 8)])
    assert Options().precision is None
