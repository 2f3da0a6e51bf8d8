"""Weights that are part of the package: what their names give, in every way in which a model is named."""

import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import files_in, run_json, values_of, write_photo
from tiny_data import make_data

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data.prepare.starter import Pretrained
from ppliteseg_paddle.deploy import runtimes
from ppliteseg_paddle.errors import ArtifactError, WeightsError
from ppliteseg_paddle.files import sha256_of
from ppliteseg_paddle.models.pp_liteseg import pp_liteseg_t
from ppliteseg_paddle.synth.scene import render_scene
from ppliteseg_paddle.weights import zoo
from ppliteseg_paddle.weights.read import read_state_dict

ROOT = pathlib.Path(__file__).parent.parent.parent
SHIPPED = [name for name, row in zoo.published().items() if row.shipped]


@pytest.fixture(scope="module")
def street():
    """A generated street scene, BGR, and its labels."""
    return render_scene(3, (480, 360))


def test_there_are_some_and_the_default_is_one():
    assert zoo.DEFAULT in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_the_files_are_those_of_the_table_and_small(name):
    row = zoo.published()[name]
    assert sha256_of(row.path) == row.sha256 and os.path.getsize(row.path) == row.size
    arrays = read_state_dict(name)
    assert {array.dtype for array in arrays.values()} == {np.dtype("float16")}
    assert row.size < 26e6
    export = zoo.export_of(name)
    assert sum(os.path.getsize(os.path.join(export, file)) for file in os.listdir(export)) < 13e6


def accuracies(path, name):
    """The figures of the table of forms in a page: float32, float16, exported, INT8."""
    text = (ROOT / path).read_text("utf-8").split("## Published")[0]
    rows = re.findall(r"^\| (?:float|exported)[^\n]*\| (\d+\.\d\d) \|$", text, re.MULTILINE)
    assert len(rows) == 4, name
    return [float(row) for row in rows]


def test_the_page_of_weights_has_the_figures_of_the_card():
    name = zoo.DEFAULT
    found = accuracies("docs/weights.md", name)
    assert found == accuracies(f"ppliteseg_paddle/weights/shipped/{name}/README.md", name)
    assert found[0] == zoo.published()[name].miou


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_has_what_the_table_says(name):
    folder = os.path.dirname(zoo.published()[name].path)
    with open(os.path.join(folder, "card.json"), encoding="utf-8") as file:
        card = json.load(file)
    row = zoo.published()[name]
    assert card["sha256"] == row.sha256 and card["name"] == name
    assert round(100 * card["val"]["mIoU"], 2) == row.miou
    assert len(card["val"]["class_iou"]) == row.classes and card["licence"] and card["command"]
    assert np.isclose(np.mean(list(card["val"]["class_iou"].values())), card["val"]["mIoU"], atol=1e-4)
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        text = file.read()
    assert f"{row.miou:.2f}" in text and row.sha256 in text


def test_a_model_is_built_from_it():
    arrays = read_state_dict("camvid-t")
    model = pp_liteseg_t(num_classes=11, pretrained="camvid-t")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[name].astype(np.float32))
    fewer = pp_liteseg_t(num_classes=3, pretrained="camvid-t").state_dict()  # but for the classifiers
    for name, tensor in fewer.items():
        if "classifier" not in name:
            np.testing.assert_array_equal(tensor.numpy(), arrays[name].astype(np.float32))


def test_a_predictor_opens_it_and_survives_pickling(street):
    image, label = street
    predictor = Predictor("camvid-t")
    assert predictor.artifact.precision == "int8" and predictor.label_set.classes[3] == "road"
    mask = predictor.predict(image)
    assert mask.shape == label.shape and np.mean(mask[label == 3] == 3) > 0.7  # a scene unlike any photograph
    again = pickle.loads(pickle.dumps(predictor))  # noqa: S301 - our own
    np.testing.assert_array_equal(again.predict(image), mask)


@pytest.mark.slow
def test_it_segments_photographs_of_any_size_as_the_float_weights_do(street, tmp_path, capsys):
    import cv2

    agreed = []
    for width, height in ((480, 360), (1280, 720), (300, 500)):
        path = str(tmp_path / f"{width}.png")
        cv2.imwrite(path, cv2.resize(street[0], (width, height)))
        status, _ = run_json(
            capsys,
            *("predict", "--model_path", "camvid-t", "--image_path", path, "--device", "cpu"),
            *("--save_dir", tmp_path / "float", "--outputs", "mask"),
        )
        assert status == 0
        float_mask, _ = values_of(tmp_path / "float" / "mask" / f"{width}.png")
        mask = Predictor("camvid-t").predict(path)
        assert mask.shape == float_mask.shape == (height, width)
        agreed.append(np.mean(mask == float_mask))
    assert min(agreed) > 0.9, agreed


def test_predict_takes_it_where_no_model_is_named_and_says_so(tmp_path, capsys):
    photo = write_photo(tmp_path / "street.jpg")
    command = ["predict", "--image_path", str(photo), "--save_dir", str(tmp_path / "out")]
    assert main(command) == 0
    assert (
        "model: camvid-t (PP-LiteSeg-T, 11 classes of street scenes, INT8), as none is named" in capsys.readouterr().err
    )
    assert files_in(tmp_path / "out") == ["mask/street.png", "overlay/street.png"]
    np.testing.assert_array_equal(
        values_of(tmp_path / "out" / "mask" / "street.png")[0], Predictor("camvid-t").predict(photo)
    )


@pytest.mark.slow
def test_without_a_runtime_for_it_paddle_runs_the_float_weights(tmp_path, capsys, monkeypatch):
    for spec in runtimes.RUNTIMES.values():
        if "onnx" in spec.graphs:
            monkeypatch.setattr(type(spec), "installed", property(lambda self: "onnx" not in self.graphs))
    photo = write_photo(tmp_path / "street.jpg")
    command = ["predict", "--image_path", str(photo), "--save_dir", str(tmp_path / "out"), "--device", "cpu"]
    assert main(command) == 0
    assert "model: camvid-t (PP-LiteSeg-T, 11 classes of street scenes), as none is named" in capsys.readouterr().err
    assert files_in(tmp_path / "out") == ["mask/street.png", "overlay/street.png"]


@pytest.mark.slow
def test_val_takes_its_configuration_from_the_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PPLITESEG_CAMVID_ROOT", str(make_data(tmp_path / "data", train=1, val=2)))
    status, result = run_json(capsys, "val", "--model_path", "camvid-t", "--device", "cpu")
    assert status == 0 and result["images"] == 2 and len(result["class_iou"]) == 11


def test_prepare_starts_from_it():
    assert Pretrained.find() == ("camvid-t", True, True)


def test_an_installation_without_paddle_predicts_with_it(tmp_path):
    """Blocks what an installation for exported models does not have."""
    photo = write_photo(tmp_path / "street.jpg")
    code = (
        "import sys\n"
        "for name in ('paddle', 'paddleseg', 'visualdl', 'safetensors', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "from ppliteseg_paddle.cli.main import main\n"
        f"sys.exit(main(['predict', '--image_path', {str(photo)!r}, '--save_dir', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert files_in(tmp_path / "out") == ["mask/street.png", "overlay/street.png"]


def test_names_without_an_export_are_refused_with_the_way_to_one(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="run 'ppliteseg export --model_path cityscapes-t-scale0.5 --save_dir DIR'"):
        Predictor("cityscapes-t-scale0.5")
    with pytest.raises(ArtifactError, match="camvid_t"):
        Predictor("camvid_t")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid-t").mkdir()  # a folder of that name comes first
    with pytest.raises(ArtifactError, match="camvid-t"):
        Predictor("camvid-t")


def test_a_changed_or_missing_file_is_refused(tmp_path, monkeypatch):
    shutil.copytree(zoo.SHIPPED, tmp_path / "shipped")
    monkeypatch.setattr(zoo, "SHIPPED", str(tmp_path / "shipped"))
    path = zoo.published()["camvid-t"].path
    with open(path, "r+b") as file:
        file.seek(1_000_000)
        file.write(b"\0\1\2\3")
    with pytest.raises(WeightsError, match="was published: it is damaged, or another file. Install this package anew."):
        read_state_dict("camvid-t")
    os.remove(path)
    with pytest.raises(WeightsError, match="is missing from this installation; install it anew"):
        read_state_dict("camvid-t")
    model = os.path.join(zoo.export_of("camvid-t"), "model.onnx")
    with open(model, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ArtifactError, match="model.onnx"):
        Predictor("camvid-t")


def test_the_command_lists_it_as_here_and_downloads_nothing(capsys):
    rows = {row["name"]: row for row in run_json(capsys, "weights", "list")[1]["weights"]}
    assert rows["camvid-t"]["here"] and rows["camvid-t"]["source"] == "this project"
    status, result = run_json(capsys, "weights", "download", "camvid-t")
    assert (status, result["files"]) == (0, {"camvid-t": zoo.published()["camvid-t"].path})
