"""Every runtime that is installed against the model, over sizes, batches and numbers of classes."""

import functools
import importlib.util
import os
import shutil
import tempfile

import cv2
import numpy as np
import pytest
import yaml
from exported import LABELS, TRANSFORMS, few_ties, model, photograph, small_model

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.runtimes import RUNTIMES, readers
from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for

pytestmark = pytest.mark.slow  # exports the whole model and runs it at large sizes

CONVERTS = paddle_version() >= (3,) and all(
    importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "openvino", "paddle2onnx")
)
# Every row of the table that can run on this machine's CPU, so a new one is tested, too.
INSTALLED = [
    name
    for name, spec in RUNTIMES.items()
    if "cpu" in spec.devices and spec.installed and ("paddle" in spec.graphs or CONVERTS)
]
RANGE = [(1, 3, 64, 64), (1, 3, 333, 517), (3, 3, 720, 960)]
_KEEP = []


@functools.cache
def folder():
    """One folder with every format, exported with --dynamic_shape."""
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    _KEEP.append(tempfile.TemporaryDirectory())
    path = os.path.join(_KEEP[-1].name, "export")
    formats = ("paddle", "onnx", "openvino", "tensorrt") if CONVERTS else ("paddle",)
    export_model(
        model(),
        path,
        ExportOptions(
            formats=formats,
            label_set=LABELS,
            transforms=TRANSFORMS,
            dynamic_shape=RANGE,
            check_image=photograph(96, 128),
        ),
    )
    return path


@functools.cache
def backend(name):
    return open_backend(name, Artifact.read(folder()), num_threads=2)


@functools.cache
def eager():
    from ppliteseg_paddle.export.eager import EagerBackend

    return EagerBackend(model(), "argmax", LABELS.num_classes)


@functools.cache
def images(batch, height, width):
    """A batch of different images, and the model's masks of them."""
    photo = photograph(height, width)
    turned = [photo, photo[:, ::-1], photo[::-1]][:batch]
    inputs = np.concatenate([Preprocess(TRANSFORMS)(np.ascontiguousarray(image))[0] for image in turned])
    return inputs, eager().run(inputs)


@pytest.mark.parametrize("size", [(64, 64), (333, 517), (720, 960)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", INSTALLED)
def test_masks_equal_the_models_at_every_size_and_batch(name, batch, size):
    inputs, expected = images(batch, *size)
    mask = backend(name).run(inputs)
    assert mask.shape == (batch,) + size and mask.dtype == np.uint8
    assert np.mean(mask != expected) <= few_ties(mask.size)


def test_the_export_says_the_range_that_it_was_made_for():
    artifact = Artifact.read(folder())
    assert artifact.input.shape == (-1, 3, -1, -1) and artifact.dynamic_shape == tuple(RANGE)


def test_sizes_that_do_not_vary_are_fixed_in_the_graph(tmp_path):
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    shapes = [(1, 3, 48, 80), (1, 3, 48, 80), (2, 3, 48, 80)]
    report = export_model(
        small_model(), str(tmp_path / "export"), ExportOptions(LABELS, TRANSFORMS, dynamic_shape=shapes)
    )
    assert report["input"]["shape"] == [-1, 3, 48, 80] and [step["target_size"] for step in report["resize"]] == [
        [80, 48]
    ]
    assert Predictor(tmp_path / "export").predict(photograph(96, 128)).shape == (96, 128)


@pytest.mark.parametrize("batch", [1, 2])
def test_above_256_classes_masks_have_16_bits_in_every_format(tmp_path, batch):
    from ppliteseg_paddle.export.eager import EagerBackend
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    labels = LabelSet("many", tuple(f"class{i:d}" for i in range(300)), tuple(palette_for(300)))
    net = small_model(300)
    net.classifier.bias.set_value(
        np.where(np.arange(300) < 250, -1, 0).astype(np.float32)
    )  # the winners are what 8 bits cannot hold
    formats = ("paddle", "onnx", "openvino", "tensorrt") if CONVERTS else ("paddle",)
    report = export_model(
        net,
        str(tmp_path / "export"),
        ExportOptions(
            formats=formats,
            label_set=labels,
            transforms=TRANSFORMS,
            preprocess_in_graph=False,
            check_image=photograph(48, 64),
        ),
    )
    assert report["output"]["dtype"] == "int16"
    with open(tmp_path / "export" / "deploy.yaml", encoding="utf-8") as file:
        assert (
            yaml.safe_load(file)["Deploy"]["output_dtype"] == "int32"
        )  # that block is Paddle's, which cannot hand out 16 bits
    inputs, _ = images(batch, 48, 64)
    expected = EagerBackend(net, "argmax", 300).run(inputs)
    assert expected.max() > 255
    for name in INSTALLED:
        predictor = Predictor(tmp_path / "export", name)
        output = predictor.forward(inputs)
        assert np.mean(output != expected) <= 1e-3 and output.dtype == (
            np.int32 if name.startswith("paddle") else np.int16
        )
        mask = predictor.predict(photograph(48, 64))
        assert mask.dtype == np.uint16 and np.mean(mask != expected[0]) <= 1e-3
    if CONVERTS:
        import onnxruntime

        onnx_types = {
            file: onnxruntime.InferenceSession(str(tmp_path / "export" / file), providers=["CPUExecutionProvider"])
            .get_outputs()[0]
            .type
            for file in ("model.onnx", "tensorrt.onnx")
        }
        assert onnx_types == {
            "model.onnx": "tensor(int16)",
            "tensorrt.onnx": "tensor(int32)",
        }  # TensorRT has no 16-bit integers


# --------------------------------------------------------------------------------------------
# Graphs of other versions of Paddle
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in INSTALLED if "paddle" in RUNTIMES[name].graphs])
def test_every_paddle_runs_the_graph_that_paddle_2_wrote(name):
    """The folder holds an export of `small_model()`, and the mask that it gave there."""
    written = os.path.join(os.path.dirname(os.path.abspath(__file__)), "written_by_paddle_2.6.2")
    predictor = Predictor(written, name)
    assert (
        predictor.artifact.graphs["paddle"]["model"] == "model.pdmodel"
        and predictor.artifact.versions["paddle"] == "2.6.2"
    )
    expected = cv2.imread(os.path.join(written, "expected.png"), cv2.IMREAD_UNCHANGED)
    assert len(np.unique(expected)) >= 5
    assert np.mean(predictor.predict(photograph(61, 83)) != expected) <= 1e-3


@pytest.mark.skipif(paddle_version() >= (3,), reason="this Paddle reads .json")
@pytest.mark.parametrize("name", [*readers("paddle"), "auto"])
def test_paddle_2_is_told_apart_from_a_json_graph_on_one_line(tmp_path, name):
    shutil.copytree(folder(), tmp_path / "export")
    artifact = Artifact.read(tmp_path / "export")
    os.rename(tmp_path / "export" / "inference.pdmodel", tmp_path / "export" / "inference.json")
    artifact.graphs["paddle"]["model"] = "inference.json"
    artifact.write()
    with pytest.raises(
        ArtifactError, match="inference.json was written by Paddle .* cannot read its format; install paddlepaddle 3"
    ) as error:
        open_backend(name, Artifact.read(tmp_path / "export"))
    assert "\n" not in str(error.value)


def test_memory_that_is_reused_between_operators_changes_nothing():
    """`enable_memory_optim` fails on Paddle 3.2 and 3.3 beside a .json graph; the backend never asks for it."""
    import inspect

    from ppliteseg_paddle.deploy import paddle_inference

    assert ".enable_memory_optim(" not in inspect.getsource(paddle_inference)


def test_auto_says_what_it_took(caplog):
    with caplog.at_level("INFO", logger="ppliteseg_paddle"):
        opened = open_backend("auto", Artifact.read(folder()), device="cpu")
    assert opened.name in INSTALLED and f"backend: {opened.name} on cpu" in caplog.text
    assert opened.describe()["name"] == opened.name
