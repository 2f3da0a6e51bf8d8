import json
import os
import weakref

import cv2
import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, needs_converter, photograph, small_model
from rasters import DEPTHS, save, values

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError
from ppliteseg_paddle.export import compare
from ppliteseg_paddle.export.int8 import accuracy as int8_accuracy
from ppliteseg_paddle.export.int8 import sensitivity
from ppliteseg_paddle.export.int8.calibration import Calibration, read_calibration_list
from ppliteseg_paddle.export.int8.report import check_quant_report, write_quant_report
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import read_image

pytestmark = pytest.mark.slow  # calibrates exports


@pytest.fixture
def data(tmp_path):
    """A list of three images with labels that have nothing to do with any model."""
    lines = []
    for i in range(3):
        cv2.imwrite(str(tmp_path / (f"{i:d}.png")), np.roll(photograph(96, 128), 20 * i, axis=1))
        label = (np.indices((96, 128)).sum(axis=0) // 40 % 11).astype(np.uint8)
        label[:5] = 255
        cv2.imwrite(str(tmp_path / (f"{i:d}_label.png")), label)
        lines.append(f"{i:d}.png {i:d}_label.png")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.txt"


def deeper_model(channels=3):
    """Two convolutions that can be quantised, and a classifier."""
    import paddle
    import paddle.nn.functional as F

    class Deeper(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.stem, self.middle = (
                paddle.nn.Conv2D(channels, 8, 3, stride=2, padding=1),
                paddle.nn.Conv2D(8, 16, 3, padding=1),
            )
            self.classifier = paddle.nn.Conv2D(16, LABELS.num_classes, 1)

        def forward(self, x):
            logits = self.classifier(F.relu(self.middle(F.relu(self.stem(x)))))
            return [F.interpolate(logits, x.shape[2:], mode="bilinear")]

    paddle.seed(7)
    return Deeper()


def export(save_dir, calibration, net=None, **options):
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    return export_model(
        net or deeper_model(),
        str(save_dir),
        ExportOptions(
            **{
                "formats": ("onnx",),
                "label_set": LABELS,
                "transforms": TRANSFORMS,
                "input_shape": (1, 3, 96, 128),
                "precision": "int8",
                "calibration": calibration,
                "check_image": photograph(96, 128),
                **options,
            }
        ),
    )


def operators(path):
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


@needs_converter
def test_int8_graphs_run_on_both_runtimes_and_the_report_names_every_layer(data, tmp_path, monkeypatch):
    report = export(
        tmp_path / "export", Calibration(read_calibration_list(str(data)), progress=False), formats=("onnx", "openvino")
    )
    found = report["quantisation"]
    assert found["images"] == found["sensitivity_images"] == 3 and found["method"] == "minmax" and found["labels"]
    assert len(found["layers"]) == 2 and len(found["always_float"]) == 1
    assert all(0 < row["noise"] < 1 and row["lost_points"] is not None for row in found["layers"])
    assert found["layers"][0]["noise"] >= found["layers"][1]["noise"]
    assert found["trials"][0]["float_layers"] == 0
    accuracy = found["accuracy"]
    assert accuracy["on"] == "calibration" and accuracy["images"] == 3 and accuracy["lost_points"] <= 1
    assert accuracy["lost_points"] == pytest.approx(100 * (accuracy["fp32_mIoU"] - accuracy["int8_mIoU"]))
    assert "QuantizeLinear" in operators(str(tmp_path / "export" / "model.onnx"))
    masks = [Predictor(tmp_path / "export", name).predict(photograph(96, 128)) for name in ("onnxruntime", "openvino")]
    assert np.mean(masks[0] != masks[1]) < 0.05
    monkeypatch.setenv(
        "PPLITESEG_COMPILED", "0"
    )  # before, the model was taken that was compiled for the export's check
    assert np.array_equal(Predictor(tmp_path / "export", "openvino").predict(photograph(96, 128)), masks[1])
    assert Predictor(tmp_path / "export").artifact.precision == "int8"

    files = write_quant_report(str(tmp_path / "report" / "q.json"), found)
    assert [os.path.basename(name) for name in files] == ["q.json", "q.md", "q.png"]
    assert json.loads((tmp_path / "report" / "q.json").read_text())["layers"][0]["layer"] == found["layers"][0]["layer"]
    assert all(row["layer"] in (tmp_path / "report" / "q.md").read_text() for row in found["layers"])
    assert cv2.imread(files[2]) is not None
    write_quant_report(files[0], found)  # replaces its own
    (tmp_path / "report" / "q.md").write_text("mine")
    with pytest.raises(ConfigError, match="q.md exists and was not written by an earlier run, or was changed since"):
        check_quant_report(files[0])
    check_quant_report(files[0], overwrite=True)


@needs_converter
@pytest.mark.parametrize("channels, depth, suffix", [(1, "8", ".png"), (10, "12", ".tif")])
def test_images_of_any_channels_are_calibrated_on_and_measured(channels, depth, suffix, tmp_path):
    pairs = []
    for i in range(3):
        label = (np.indices((96, 128)).sum(axis=0) // 40 % LABELS.num_classes).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}_label.png"), label)
        pixels = cv2.resize(values(channels, depth, (12, 16), seed=i), (128, 96), interpolation=cv2.INTER_NEAREST)
        pairs.append((save(tmp_path / f"{i}{suffix}", pixels), str(tmp_path / f"{i}_label.png")))
    form = ImageForm.checked(channels, None if depth == "8" else [0, DEPTHS[depth][1]])
    options = {
        "transforms": [{"type": "Normalize", "mean": [0.5] * channels, "std": [0.5] * channels}],
        "input_shape": (1, channels, 96, 128),
        "image_form": form,
        "check_image": read_image(pairs[0][0], *form),
    }
    net = deeper_model(channels)
    exact = export(tmp_path / "fp32", None, net, precision="fp32", formats=("onnx",), **options)
    assert exact["check"]["differing_pixels"] < 1e-3
    formats = ("onnx", "openvino", "tensorrt")
    report = export(tmp_path / "int8", Calibration(pairs, progress=False), net, formats=formats, **options)
    found = report["quantisation"]
    assert {row["form"] for row in found["layers"]} == {"3x3, 8 -> 16", f"3x3, {channels:d} -> 8"}
    assert found["accuracy"]["images"] == 3
    expected = Predictor(tmp_path / "fp32").predict(pairs[0][0])
    assert len(np.unique(expected)) >= 3
    for backend in ("onnxruntime", "openvino"):
        assert np.mean(Predictor(tmp_path / "int8", backend).predict(pairs[0][0]) != expected) < 0.05
    for name in ("model.onnx", "tensorrt.onnx"):
        assert "QuantizeLinear" in operators(str(tmp_path / "int8" / name))


@needs_converter
def test_int8_of_any_size_is_run_by_onnx_runtime_and_refused_for_openvino(data, tmp_path):
    calibration = Calibration(read_calibration_list(str(data)), progress=False)
    with pytest.raises(ConfigError, match="INT8 graphs of open size wrongly: give --input_shape 1 3 H W, or drop"):
        export(tmp_path / "none", calibration, input_shape=None, formats=("onnx", "openvino"))
    assert not (tmp_path / "none").exists()
    export(tmp_path / "open", calibration, input_shape=None)
    exact = export(tmp_path / "exact", None, input_shape=None, precision="fp32")
    assert exact["check"]["differing_pixels"] < 1e-3
    for height, width in ((96, 128), (75, 133)):
        image = photograph(height, width)
        expected = Predictor(tmp_path / "exact", "onnxruntime").predict(image)
        assert np.mean(Predictor(tmp_path / "open").predict(image) != expected) < 0.05
    assert Predictor(tmp_path / "open").backend.name == "onnxruntime"
    with pytest.raises(ArtifactError, match="open size wrongly, and .* holds one: take the backend 'onnxruntime'"):
        Predictor(tmp_path / "open", "openvino")


@pytest.mark.parametrize("name", ["q.json", "q.md", "q.png"])
def test_a_report_replaces_no_file_of_the_users(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name} exists and "):
        check_quant_report(str(tmp_path / "q.json"))


@needs_converter
@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_calibration_methods_give_other_ranges(data, tmp_path, method):
    import onnx

    scales = []
    for i, name in enumerate(("minmax", method)):
        export(
            tmp_path / str(i), Calibration(read_calibration_list(str(data)), name, sensitivity=False, progress=False)
        )
        graph = onnx.load(str(tmp_path / str(i) / "model.onnx")).graph
        # Of values, not of weights: those are lists.
        scales.append(
            [
                float(onnx.numpy_helper.to_array(tensor))
                for tensor in graph.initializer
                if tensor.name.endswith("_scale") and not tensor.dims
            ]
        )
    assert len(scales[0]) == len(scales[1]) > 2
    assert scales[0] != scales[1]


def test_a_batch_is_kept_as_long_as_its_reader():
    """ONNX Runtime 1.19 reads it after the end of the data, and found what was written there since."""
    from ppliteseg_paddle.export.int8.calibration import _Once

    batch = np.ones((1, 3, 8, 8), np.float32)
    there = weakref.ref(batch)
    reader = _Once({"x": batch})
    del batch
    assert reader.get_next()["x"] is there() is not None and reader.get_next() is None
    assert there() is not None


@needs_converter
def test_weights_have_a_scale_a_channel_and_seven_bits(data, tmp_path):
    import onnx

    export(tmp_path / "export", Calibration(read_calibration_list(str(data)), sensitivity=False, progress=False))
    graph = onnx.load(str(tmp_path / "export" / "model.onnx")).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [name for name, value in values.items() if value.dtype == np.int8 and value.ndim == 4]
    assert len(weights) == 2
    for name in weights:
        assert np.abs(values[name]).max() <= 64
        node = next(node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] == name)
        assert values[node.input[1]].shape == (values[name].shape[0],)


@needs_converter
def test_lists_and_labels_are_read_as_training_reads_them(data, tmp_path):
    """A byte-order mark, blank lines, a palette file and a 16-bit file."""
    from PIL import Image

    lines = data.read_text().splitlines()
    data.write_text("\n\n".join(lines), encoding="utf-8-sig")
    ids = cv2.imread(str(data.parent / "0_label.png"), cv2.IMREAD_UNCHANGED)
    palette = Image.fromarray(ids)
    palette.putpalette([value for i in range(256) for value in (i, 255 - i, 0)])
    palette.save(data.parent / "0_label.png")
    wide = cv2.imread(str(data.parent / "1_label.png"), cv2.IMREAD_UNCHANGED).astype(np.uint16)
    cv2.imwrite(str(data.parent / "1_label.png"), wide)
    images = read_calibration_list(str(data))
    assert [os.path.basename(image) for image, _ in images] == ["0.png", "1.png", "2.png"]
    report = export(tmp_path / "export", Calibration(images, progress=False))
    assert report["quantisation"]["accuracy"]["images"] == 3


@needs_converter
def test_layers_that_hurt_are_kept_in_float(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sensitivity, "TRIAL_PIXELS", 1e-9)
    pairs = [(image, None) for image, _ in read_calibration_list(str(data))]
    report = export(tmp_path / "export", Calibration(pairs, progress=False))
    found = report["quantisation"]
    assert [row["float_layers"] for row in found["trials"]] == list(range(len(found["trials"]))) and len(
        found["float_layers"]
    ) >= 1
    assert found["float_layers"][0] in [row["layer"] for row in found["layers"] if row["float"]]
    assert "accuracy" not in found


@needs_converter
def test_an_export_that_loses_too_much_is_not_written(data, tmp_path, monkeypatch):
    monkeypatch.setattr(int8_accuracy, "MAX_LOST_POINTS", -100)
    with pytest.raises(
        ArtifactError,
        match=r"INT8 loses .* points of mIoU on 3 calibration images .allowed: -100., so nothing was written",
    ):
        export(tmp_path / "export", Calibration(read_calibration_list(str(data)), progress=False))
    assert not (tmp_path / "export").exists()


@needs_converter
def test_an_export_that_is_another_network_says_that_int8_is_the_reason(data, tmp_path, monkeypatch):
    monkeypatch.setitem(compare.MAX_DIFFERING_PIXELS, "int8", -1)
    words = (
        r"INT8 changes the class of .* % of the check image's pixels \(allowed: -100 %\), so .*export was not written"
    )
    with pytest.raises(ArtifactError, match=words):
        export(tmp_path / "export", Calibration(read_calibration_list(str(data)), progress=False))


@needs_converter
def test_a_network_without_a_layer_to_quantise_is_refused(data, tmp_path):
    import paddle

    net = small_model()
    net.stem, net.classifier = paddle.nn.Identity(), paddle.nn.Conv2D(3, 11, 1)
    with pytest.raises(ConfigError, match="no convolution that INT8 could serve"):
        export(tmp_path / "export", Calibration(read_calibration_list(str(data)), progress=False), net)


@needs_converter
def test_fp16_files_are_smaller_and_equal_the_model_within_rounding(tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16"):
        report = export(tmp_path / precision, None, precision=precision, formats=("onnx", "openvino"))
        sizes[precision] = report["files"]
        assert report["check"]["differing_pixels"] <= 0.02 and report["precision"] == precision
    assert (
        sizes["fp16"]["model.onnx"] < sizes["fp32"]["model.onnx"]
        and sizes["fp16"]["model.bin"] < sizes["fp32"]["model.bin"]
    )
    exported = Predictor(tmp_path / "fp16", "onnxruntime")
    assert exported.artifact.input.dtype == "float32" and exported.artifact.output.dtype == "uint8"


def test_int8_without_images_and_for_paddle_is_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="needs --calib_data LIST"):
        export(tmp_path / "export", None)
    with pytest.raises(ConfigError, match="for the formats onnx, openvino and tensorrt"):
        export(tmp_path / "export", Calibration([("a.png", None)]), formats=("paddle", "onnx"))
    with pytest.raises(ConfigError, match="calibration is for precision int8, not fp16; give both, or neither"):
        export(tmp_path, Calibration([("a.png", None)]), precision="fp16")
    with pytest.raises(ConfigError, match="unknown calib_method 'minmx'. Did you mean 'minmax'"):
        Calibration([("a.png", None)], "minmx")
    with pytest.raises(DataError, match="no calibration images"):
        Calibration([])


@pytest.mark.parametrize("text, words", [("", "is empty"), ("nowhere.png\n", ":1: .*nowhere.png does not exist")])
def test_a_list_that_cannot_serve_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_calibration_list(str(tmp_path / "list.txt"))
    with pytest.raises(DataError, match="absent.txt cannot be read: No such file"):
        read_calibration_list(str(tmp_path / "absent.txt"))
