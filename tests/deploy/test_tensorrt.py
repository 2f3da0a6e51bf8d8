import dataclasses
import importlib.machinery
import os
import subprocess
import sys

import numpy as np
import pytest
from fake_tensorrt import FakeDriver, fake_tensorrt

from ppliteseg_paddle.deploy import cuda, tensorrt
from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.engines import engine_name, engines_folder
from ppliteseg_paddle.deploy.interface import Options
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.shapes import ShapeRange
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

VERSIONS = ["8.5.3.1", "8.6.1", "10.0.1", "10.11.0.33", "10.13.0.35", "11.4.0.106"]
HALF = {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}
RANGE = ShapeRange((1, 3, 8, 8), (1, 3, 16, 24), (4, 3, 32, 48))


def an_artifact(folder, shape=(-1, 3, -1, -1), dynamic_shape=RANGE, content=b"a graph", **more):
    """A folder whose graph has a producer's name and nothing else: what runs it here does not look."""
    folder.mkdir(exist_ok=True)
    roles = {"model": "tensorrt.onnx", "fp16": "tensorrt_fp16.onnx"}
    for name in roles.values():
        (folder / name).write_bytes(b"\x12" + bytes([len(content)]) + content)
    artifact = Artifact(
        str(folder),
        {"type": "PPLiteSegNet"},
        LABEL_SETS["camvid"],
        Preprocess([HALF]),
        Tensor("x", "float32", "NCHW", shape, color_order="RGB"),
        Tensor("mask", "uint8", "NHW", (shape[0],) + shape[2:], op="argmax"),
        {"tensorrt": roles},
        {},
        dynamic_shape=dynamic_shape,
        **more,
    )
    artifact.write()
    return Artifact.read(str(folder))


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Installs a version of TensorRT and a GPU. Returns a function that does it again."""
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))

    def install(version="10.13.0.35", gpus=("NVIDIA A10",), rtx=False):
        module, driver = fake_tensorrt(version, rtx), FakeDriver(gpus)
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        for name in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setitem(sys.modules, name, module if name == module.__name__ else None)
        monkeypatch.setattr(cuda, "load_driver", lambda: driver)
        return module, driver

    return install


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


def test_an_engine_is_built_once_for_a_graph_gpu_version_and_precision(tmp_path, installed):
    def builds(artifact, version="10.13.0.35", gpu="NVIDIA A10", **options):
        module, _ = installed(version, (gpu,))
        open_backend("tensorrt", artifact, **options)
        return len([name for name, _ in module.calls if name == "build"])

    artifact = an_artifact(tmp_path / "export")
    assert [builds(artifact), builds(artifact)] == [1, 0]
    assert builds(artifact, precision="fp16") == 1
    assert builds(artifact, version="10.14.0") == 1
    assert builds(artifact, gpu="NVIDIA L4") == 1
    assert builds(artifact, dynamic_shape=[(1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 64, 64)]) == 1
    assert builds(an_artifact(tmp_path / "export", content=b"another graph")) == 1
    names = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len([name for name in names if name.endswith(".engine")]) == 6
    assert any(name.startswith("tensorrt-10.13.0.35-NVIDIA-A10-8.6-fp16-") for name in names)
    assert not any(name.startswith(".") for name in names)


def test_a_damaged_engine_is_built_again(tmp_path, installed):
    artifact = an_artifact(tmp_path / "export")
    installed()
    first = open_backend("tensorrt", artifact)
    with open(first.engine_path, "wb") as file:
        file.write(b"\0" * 100)
    module, _ = installed()
    again = open_backend("tensorrt", artifact)
    assert again.built and again.engine_path == first.engine_path and ("build", None) in module.calls
    installed()
    assert not open_backend("tensorrt", artifact).built


def test_measured_kernels_are_remembered_and_foreign_ones_dropped(tmp_path, installed):
    artifact = an_artifact(tmp_path / "export")
    module, _ = installed()
    open_backend("tensorrt", artifact)
    assert ("timing_cache", b"") in module.calls
    module, _ = installed()
    open_backend("tensorrt", artifact, precision="fp16")
    assert [content for name, content in module.calls if name == "timing_cache"] == [b"timings"]
    [cache] = (tmp_path / "cache").rglob("*.cache")
    cache.write_bytes(b"another driver's")
    module, _ = installed()
    open_backend("tensorrt", artifact, dynamic_shape=[(1, 3, 8, 8)] * 3)
    assert [content for name, content in module.calls if name == "timing_cache"] == [b"another driver's", b""]


def test_exporting_again_replaces_the_folder_with_its_engines(tmp_path):
    from ppliteseg_paddle.deploy.folder import writing

    an_artifact(tmp_path / "export")
    (tmp_path / "export" / "engines").mkdir()  # as earlier versions left it
    with writing(str(tmp_path / "export")):
        pass
    assert not os.path.exists(tmp_path / "export" / "engines")


def test_engines_of_the_exported_folder_are_not_run(tmp_path, installed):
    """They may come from a stranger, and an engine is a program."""
    module, _ = installed()
    artifact = an_artifact(tmp_path / "export")
    built = open_backend("tensorrt", artifact)
    os.renames(os.path.dirname(built.engine_path), tmp_path / "export" / "engines")
    module, _ = installed()
    assert open_backend("tensorrt", artifact).built and ("build", None) in module.calls


def test_engines_go_to_the_users_cache_or_where_one_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))
    folders = set()
    for content in ("a: 1", "a: 2"):
        (tmp_path / "export").mkdir(exist_ok=True)
        (tmp_path / "export" / "deploy.yaml").write_text(content)
        folders.add(engines_folder(str(tmp_path / "export")))
    assert {os.path.dirname(folder) for folder in folders} == {str(tmp_path / "cache" / "engines")}
    assert len(folders) == 2
    assert engines_folder(str(tmp_path / "export"), str(tmp_path / "mine")) == str(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="engines cannot be kept: .*file.*give a folder as cache_dir"):
        engines_folder(str(tmp_path / "export"), str(tmp_path / "file" / "mine"))


def test_names_of_engines_hold_no_sign_that_a_file_system_refuses():
    name = engine_name("tensorrt", "10.0", "NVIDIA GeForce RTX 4090 / Laptop (TM)", "fp16", {})
    assert name.startswith("tensorrt-10.0-NVIDIA-GeForce-RTX-4090-Laptop-TM-fp16-") and not set(name) & set(' /\\:()"')


def test_a_graph_that_tensorrt_cannot_read_is_reported_on_one_line(tmp_path, installed):
    installed()
    with pytest.raises(ArtifactError, match="^TensorRT 10.13.0.35 cannot read the graph: In node 0: it is broken.$"):
        open_backend("tensorrt", an_artifact(tmp_path / "export", content=b"broken"))
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


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
