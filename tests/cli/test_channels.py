"""From a folder to masks: ten bands with georeferencing, gray, and more than 256 classes."""

import json

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from commands import values_of
from exported import needs_converter
from PIL import Image
from rasters import GEO_TAGS, make_scenes
from tiny_data import save_pixels, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.label_sets import LABEL_SETS


def run(capsys, *argv):
    status = main([str(item) for item in argv] + ["--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


def trained(tmp_path, capsys, *prepare, small=False):
    """Prepares tmp_path/images and masks, checks, measures and trains. Returns: configuration and weights.

    Args: small: a network of a few channels in place of T.
    """
    images, masks, out = (str(tmp_path / name) for name in ("images", "masks", "d"))
    folders = ["--images", images, "--masks", masks, "--out", out]
    run(capsys, "data", "prepare", "folder", *folders, "--yes", "--num_workers", 0, *prepare)
    config = str(tmp_path / "d" / "config.yml")
    if small:
        content = yaml.safe_load((tmp_path / "d" / "config.yml").read_text())
        backbone = {"type": "TinyNet", "in_channels": content["train_dataset"].get("img_channels", 3)}
        content["model"] = {**TINY_MODEL, "num_classes": 3, "backbone": backbone}
        write_config(tmp_path / "d" / "config.yml", content)
    assert run(capsys, "data", "check", "--config", config, "--num_workers", 0)["errors"] == 0
    run(capsys, "data", "stats", "--config", config, "--save_dir", tmp_path / "s", "--num_workers", 0)
    size = ["--iters", 2, "--batch_size", 2, "--save_interval", 2, "--num_workers", 0]
    result = run(capsys, "train", "--config", config, *size, "--save_dir", tmp_path / "o", "--device", "cpu")
    return ["--config", config, "--model_path", result["model_path"]]


def predicted(tmp_path, capsys, name, *model):
    """The masks' files, by name."""
    source = ["--image_path", tmp_path / "images", "--save_dir", tmp_path / name, "--device", "cpu"]
    assert run(capsys, "predict", *model, *source)["images"] == 5
    return {path.name: path for path in sorted((tmp_path / name / "mask").iterdir())}


@pytest.mark.slow
def test_ten_bands_go_from_a_folder_to_masks_that_lie_where_their_images_do(tmp_path, capsys):
    make_scenes(tmp_path, 10, "12", ".tif", extratags=GEO_TAGS)
    model = trained(tmp_path, capsys)
    val = run(capsys, "val", *model, "--device", "cpu")
    assert val["images"] == 1
    formats = ["paddle", "onnx", "openvino"]
    export = run(capsys, "export", *model, "--save_dir", tmp_path / "e", "--format", *formats)
    assert export["input"]["shape"] == [-1, 10, -1, -1]
    by_config = predicted(tmp_path, capsys, "config", *model, "--bands", 8, 4, 3)
    by_export = predicted(tmp_path, capsys, "export", "--model_dir", tmp_path / "e", "--backend", "onnxruntime")
    assert list(by_config) == list(by_export) == [f"{i}.tif" for i in range(5)]
    predictor = Predictor(tmp_path / "e", "openvino")
    for name, path in by_config.items():
        mask, pixels = tifffile.imread(path), tifffile.imread(tmp_path / "images" / name)
        with Image.open(path) as file:  # another reader than the one that wrote it
            assert {tag: tuple(file.tag_v2[tag]) for tag, *_ in GEO_TAGS} == {tag[0]: tag[3] for tag in GEO_TAGS}
            np.testing.assert_array_equal(np.asarray(file), mask)
        for other in (tifffile.imread(by_export[name]), predictor.predict(pixels)):
            assert (mask != other).mean() < 0.01  # near-ties of a network of two steps
    assert cv2.imread(str(tmp_path / "config" / "overlay" / "0.png")).shape[2:] == (3,)
    with pytest.raises(DataError, match=r"expected \(H, W, 10\)"):
        predictor.predict(pixels[..., :4])


@pytest.mark.slow
@needs_converter
@pytest.mark.parametrize(
    "channels, depth, suffix, bands",
    [
        (1, "8", ".png", ()),
        (1, "float", ".tif", ()),
        (3, "16", ".png", ()),
        (4, "12", ".npy", ("--bands", 4, 3, 2)),
        (10, "float", ".npy", ("--bands", 10)),
    ],
)
def test_images_of_any_form_train_export_and_predict(channels, depth, suffix, bands, tmp_path, capsys):
    import onnxruntime

    make_scenes(tmp_path, channels, depth, suffix)
    model = trained(tmp_path, capsys, small=True)
    assert run(capsys, "val", *model, "--device", "cpu")["images"] == 1
    formats = ["--format", "paddle", "onnx", "openvino", "tensorrt"]
    export = run(capsys, "export", *model, "--save_dir", tmp_path / "e", *formats, "--precision", "fp16")
    assert export["input"]["shape"] == [-1, channels, -1, -1]
    by_config = predicted(tmp_path, capsys, "config", *model, *bands)
    by_export = predicted(tmp_path, capsys, "export", "--model_dir", tmp_path / "e", "--backend", "onnxruntime", *bands)
    path = str(tmp_path / "images" / f"0{suffix}")
    stored = {".png": lambda name: cv2.imread(name, -1), ".tif": tifffile.imread, ".npy": np.load}[suffix](path)
    predictors = [Predictor(tmp_path / "e", backend) for backend in ("paddle", "onnxruntime", "openvino")]
    batch, _ = predictors[0].preprocess(read_image(path, *predictors[0].artifact.image_form))
    tensorrt = onnxruntime.InferenceSession(str(tmp_path / "e" / "tensorrt.onnx"), providers=["CPUExecutionProvider"])
    masks = [
        values_of(by_export["0.png"])[0],
        *(predictor.predict(stored) for predictor in predictors),
        tensorrt.run(None, {tensorrt.get_inputs()[0].name: batch})[0][0],
    ]
    for mask in masks:
        assert (mask != values_of(by_config["0.png"])[0]).mean() < 0.02  # the weights have 16 bits
    shown = [cv2.imread(str(tmp_path / name / "overlay" / "0.png")) for name in ("config", "export")]
    assert shown[0].shape[0] > 64 and shown[0].shape[2:] == (3,)  # with a legend
    assert np.abs(shown[0][:64, :64].astype(int) - shown[1][:64, :64]).mean() < 3


@pytest.mark.slow
def test_more_than_256_classes_go_from_16_bit_masks_to_16_bit_predictions(tmp_path, capsys):
    make_scenes(tmp_path, 3, "8", ".png")
    ids = np.arange(300, dtype=np.uint16).repeat(14)[: 64 * 64].reshape(64, 64)
    ids[0, :9] = 65535
    for path in (tmp_path / "masks").iterdir():
        save_pixels(path, ids)
    (tmp_path / "c.txt").write_text("".join(f"kind {i}\n" for i in range(300)))
    model = trained(tmp_path, capsys, "--classes", tmp_path / "c.txt")
    content = yaml.safe_load((tmp_path / "d" / "config.yml").read_text())
    assert content["val_dataset"]["ignore_index"] == 65535
    assert len(run(capsys, "val", *model, "--device", "cpu")["class_iou"]) == 300
    export = run(capsys, "export", *model, "--save_dir", tmp_path / "e", "--format", "paddle", "onnx", "openvino")
    assert export["output"]["dtype"] == "int16"
    by_config = predicted(tmp_path, capsys, "config", *model)
    for backend in ("paddle", "onnxruntime", "openvino"):
        masks = predicted(tmp_path, capsys, backend, "--model_dir", tmp_path / "e", "--backend", backend)
        for name, path in masks.items():
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert mask.dtype == np.uint16
            assert (mask != cv2.imread(str(by_config[name]), cv2.IMREAD_UNCHANGED)).mean() < 0.01


@pytest.mark.parametrize("form", [ImageForm(1), ImageForm(10), ImageForm.checked(3, [0, 4095])])
def test_a_graph_that_preprocesses_takes_color_of_8_bits_only(form):
    half = [{"type": "Normalize", "mean": [0.5] * form.channels, "std": [0.5] * form.channels}]
    with pytest.raises(ConfigError) as caught:
        ExportOptions(LABEL_SETS["camvid"], half, ("onnx",), preprocess_in_graph=True, image_form=form)
    assert str(caught.value) == (
        "--preprocess_in_graph is for color images of 8 bits; leave it out for others: Predictor does the transforms."
    )
