"""`predict`, `export` and `benchmark` from the command line."""

import os

import cv2
import numpy as np
import pytest
from commands import run_json
from exported import LABELS, eager, export_folder, exported_predictor, few_ties, model, needs_converter, photograph
from PIL import Image

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.sources import find_images

pytestmark = pytest.mark.slow  # exports the whole model

CONFIG = """
batch_size: 2
iters: 1
train_dataset: {type: StreetScenes, dataset_root: %(root)s, mode: train, transforms: [%(transform)s]}
val_dataset: {type: StreetScenes, dataset_root: %(root)s, mode: val, transforms: [%(transform)s]}
model:
  type: PPLiteSegNet
  num_classes: 11
  backbone: {type: STDCNet813}
  neck: {type: SPPM, in_channels: 1024, out_channels: 128, bin_sizes: [1, 2, 4]}
  head: {type: FLDHead, in_channels: [256, 512, 1024], neck_channels: 128, out_channels: [32, 64, 128]}
  seg_head_channels: [32, 64, 64]
optimizer: {type: SGD}
lr_scheduler: {type: PolynomialDecay, learning_rate: 0.01, end_lr: 0, power: 0.9}
loss: {types: [{type: CELoss}, {type: CELoss}, {type: CELoss}], coef: [1, 1, 1]}
"""
TRANSFORM = "{type: Normalize, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
SIZE = (96, 128)


def write_photo(path, height=SIZE[0], width=SIZE[1]):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), photograph(height, width))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data set of two images, its configuration, and weights: what training leaves."""
    import paddle

    root = tmp_path_factory.mktemp("trained")
    for name in ("a", "b"):
        write_photo(root / "data" / "images" / (name + ".png"))
        (root / "data" / "labels").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "data" / "labels" / (name + ".png")), eager().predict(photograph(*SIZE)))
    lines = "".join(f"images/{name}.png labels/{name}.png\n" for name in ("a", "b"))
    for name in ("train.txt", "val.txt"):
        (root / "data" / name).write_text(lines)
    (root / "config.yml").write_text(CONFIG % {"root": root / "data", "transform": TRANSFORM})
    paddle.save(model().state_dict(), str(root / "model.pdparams"))
    return root


# --------------------------------------------------------------------------------------------
# predict
# --------------------------------------------------------------------------------------------
def test_predict_writes_a_palette_mask_and_an_overlay(tmp_path, capsys):
    photo = write_photo(tmp_path / "photo.jpg")
    status, result = run_json(
        capsys, "predict", "--model_dir", export_folder(), "--image_path", photo, "--save_dir", tmp_path / "out"
    )
    assert status == 0 and result["images"] == 1 and result["unreadable"] == []
    with Image.open(tmp_path / "out" / "mask" / "photo.png") as mask:
        assert mask.mode == "P" and mask.getpalette()[:33] == [value for color in LABELS.palette for value in color]
        assert np.array_equal(np.asarray(mask), exported_predictor().predict(photo))
    assert cv2.imread(str(tmp_path / "out" / "overlay" / "photo.png")).shape[1:] == SIZE[1:] + (3,)


def test_predict_keeps_the_folders_of_a_folder_and_endings_where_names_would_clash(tmp_path, capsys):
    for name in ("day/1.png", "night/1.png", "night/1.jpg", "2.JPG"):
        write_photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    status, result = run_json(
        capsys,
        "predict",
        "--model_dir",
        export_folder(),
        "--image_path",
        tmp_path / "in",
        "--save_dir",
        tmp_path / "out",
    )
    assert status == 0 and result["images"] == 4
    for kind in ("mask", "overlay"):
        found = sorted(
            str(path.relative_to(tmp_path / "out" / kind)) for path in (tmp_path / "out" / kind).rglob("*.png")
        )
        assert found == ["2.png", "day/1.png", "night/1.jpg.png", "night/1.png.png"]


def test_one_unreadable_image_does_not_cost_the_others(tmp_path, capsys):
    write_photo(tmp_path / "in" / "a.png")
    write_photo(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    status = main(
        [
            "predict",
            "--model_dir",
            export_folder(),
            "--image_path",
            str(tmp_path / "in"),
            "--save_dir",
            str(tmp_path / "out"),
        ]
    )
    out, err = capsys.readouterr()
    assert status == 2
    assert sorted(os.listdir(tmp_path / "out" / "mask")) == ["a.png", "c.png"]
    assert "2 images in" in out and "1 image not segmented" in out
    assert err.strip().splitlines()[-1].startswith(f"error: image {(tmp_path / 'in' / 'b.png')} cannot be decoded")
    assert "Traceback" not in err


def test_predict_takes_a_list_and_draws_a_grid_with_its_labels(trained, tmp_path, capsys):
    status, result = run_json(
        capsys,
        "predict",
        "--model_dir",
        export_folder(),
        "--image_path",
        trained / "data" / "val.txt",
        "--save_dir",
        tmp_path / "out",
        "--grid",
        tmp_path / "grid.png",
        "--grid_title",
        "Title",
    )
    assert status == 0 and result["grid"] == str(tmp_path / "grid.png")
    assert sorted(os.listdir(tmp_path / "out" / "mask")) == ["a.png", "b.png"]
    assert cv2.imread(str(tmp_path / "grid.png")).shape[1] == 2 * 36 + 3 * 480 + 2 * 14  # image, truth, prediction


def test_weights_and_their_export_give_the_same_masks(trained, tmp_path, capsys):
    status, result = run_json(
        capsys,
        "predict",
        "--config",
        trained / "config.yml",
        "--model_path",
        trained / "model.pdparams",
        "--image_path",
        trained / "data" / "images",
        "--save_dir",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    assert status == 0 and result["backend"]["name"] == "eager"
    with Image.open(tmp_path / "out" / "mask" / "a.png") as mask:
        difference = np.mean(np.asarray(mask) != exported_predictor().predict(photograph(*SIZE)))
    assert difference <= few_ties(np.prod(SIZE))


def test_names_of_listed_images_never_leave_the_folder(tmp_path):
    photo = write_photo(tmp_path / "elsewhere" / "x" / "photo.png")
    other = write_photo(tmp_path / "elsewhere" / "y" / "photo.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.txt").write_text(f"{photo}\n../elsewhere/y/photo.png\nmissing.png\n")
    items = find_images(str(tmp_path / "lists" / "list.txt"))
    assert [item.name for item in items[:2]] == ["x/photo", "y/photo"]
    assert os.path.samefile(items[1].path, other)


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "--image_path"),
        (["--image_path", ".", "--model_dir", "x", "--config", "y"], "give either"),
        (["--image_path", ".", "--config", "y"], "belong together"),
        (["--image_path", "nowhere"], "image_path nowhere does not exist"),
    ],
)
def test_predict_says_what_it_needs(argv, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "photo.png")
    assert main(["predict", *argv]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ") and words in err and "\n" not in err


@pytest.mark.parametrize(
    "content, words", [("", "is empty"), (b"\xff\xfe\x00", "neither an image"), (None, "holds no image")]
)
def test_a_path_without_images_is_refused(tmp_path, capsys, content, words):
    path = tmp_path / "list"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["predict", "--model_dir", "unused", "--image_path", str(path)]) == 2
    assert words in capsys.readouterr().err


# --------------------------------------------------------------------------------------------
# export
# --------------------------------------------------------------------------------------------
def test_export_writes_a_folder_that_predicts(trained, tmp_path, capsys):
    status, result = run_json(
        capsys,
        "export",
        "--config",
        trained / "config.yml",
        "--model_path",
        trained / "model.pdparams",
        "--save-dir",
        tmp_path / "export",
        "--input_shape",
        1,
        3,
        *SIZE,
        "--device",
        "cpu",
    )
    assert status == 0
    assert result["input"]["shape"] == [1, 3, *SIZE] and result["check"]["differing_pixels"] <= few_ties(np.prod(SIZE))
    first = trained / "data" / "images" / "a.png"
    assert result["check"]["image"] == f"{first} and 1 more of the validation set"
    from ppliteseg_paddle import Predictor

    predictor = Predictor(tmp_path / "export")
    assert predictor.label_set.classes == LABELS.classes
    assert (
        predictor.artifact.model["weights"] == "model.pdparams" and predictor.artifact.model["config"] == "config.yml"
    )
    assert np.mean(predictor.predict(photograph(*SIZE)) != eager().predict(photograph(*SIZE))) <= few_ties(
        np.prod(SIZE)
    )


@needs_converter
def test_export_writes_several_formats_and_says_how_each_compares(trained, tmp_path, capsys):
    status = main(
        [
            "export",
            "--config",
            str(trained / "config.yml"),
            "--model_path",
            str(trained / "model.pdparams"),
            "--save_dir",
            str(tmp_path / "export"),
            "--format",
            "onnx",
            "openvino",
            "--preprocess_in_graph",
            "--device",
            "cpu",
        ]
    )
    out = capsys.readouterr().out
    assert status == 0 and "uint8 NHWC BGR of any size: onnx, openvino" in out
    assert all(name in out for name in ("model.onnx", "model.xml", "(onnxruntime on cpu)", "(openvino on cpu)"))
    status, result = run_json(
        capsys,
        "benchmark",
        "--model_dir",
        tmp_path / "export",
        "--backend",
        "openvino",
        "--warmup",
        1,
        "--repeats",
        1,
        "--input_shape",
        1,
        3,
        *SIZE,
    )
    assert status == 0 and result["backend"]["runtime"] == "OpenVINO" and result["input_shape"] == [1, *SIZE, 3]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"--format": "onx"}, "onx"),
        ({"--preprocess_in_graph": "--verbose"}, "for the formats onnx, openvino and tensorrt"),
        ({"--model_path": "nowhere.pdparams"}, "nowhere.pdparams"),
        ({"--config": "nowhere.yml"}, "nowhere.yml does not exist"),
        ({"--opts": "val_dataset.transforms.0.type=RandomDistort"}, "RandomDistort"),
        ({"--output_op": "argmin"}, "argmin"),
    ],
)
def test_export_refuses_bad_input_on_one_line_and_writes_nothing(trained, tmp_path, capsys, change, words):
    flags = {
        "--config": trained / "config.yml",
        "--model_path": trained / "model.pdparams",
        "--save_dir": tmp_path / "export",
        **change,
    }
    assert main(["export", *[str(item) for pair in flags.items() for item in pair]]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last
    assert os.listdir(tmp_path) == []
