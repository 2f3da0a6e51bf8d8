"""PaddleSeg's own configurations of PP-LiteSeg and its quick start: trained, evaluated, exported by our commands."""

import json
import os
import pathlib

import cv2
import pytest
import yaml
from small_configs import SIZE, smaller, write_data

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.config.source import Source, read_with_bases

FOLDER = os.environ.get("PPLITESEG_PADDLESEG_DIRS")
PATTERNS = ("pp_liteseg", "quick_start")
CONFIGS = sorted(
    path for name in PATTERNS for path in pathlib.Path(FOLDER or ".").glob(f"PaddleSeg-2.9*/configs/{name}/*.yml")
)
CLASSES = {"camvid": 11, "cityscapes": 19, "optic_disc_seg": 2}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not CONFIGS, reason="PPLITESEG_PADDLESEG_DIRS names no folder that holds an unpacked PaddleSeg 2.9"
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the data sets where the configurations look for them."""
    root = tmp_path_factory.mktemp("home")
    for name, classes in CLASSES.items():
        write_data(root / "data", name, classes, count=4, lists=("{split}.txt", "{split}_list.txt", "test.txt"))
    return root


def network(path):
    """Its model and backbone, which say what an export is of; its pretrained weights and classes do not matter."""
    model = read_with_bases(str(path), Source(str(path)))["model"]
    return model["type"], str(model.get("backbone", {}).get("type"))


# One configuration of each network is exported, too: another trace of the same graph shows nothing new.
EXPORTED = set({network(path): path for path in CONFIGS}.values())


def test_every_network_of_theirs_is_exported():
    assert {network(path) for path in EXPORTED} >= {("PPLiteSeg", "STDC1"), ("PPLiteSeg", "STDC2")}
    assert len(EXPORTED) < len(CONFIGS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_of_paddleseg_trains_evaluates_and_exports(path, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    given = smaller(read_with_bases(str(path), Source(str(path))))
    config = tmp_path / "c.yml"
    config.write_text(yaml.safe_dump({**given, "batch_size": 2, "iters": 2}, sort_keys=False))
    run = str(tmp_path / "run")
    train = ["train", "--config", str(config), "--save_dir", run, "--num_workers", "0", "--save_interval", "2"]
    assert main([*train, "--do_eval", "--device", "cpu"]) == 0, capsys.readouterr().err
    record = json.loads(pathlib.Path(run, "train.json").read_text())
    assert len(record["eval"]) == 1 and 0 <= record["eval"][0]["mIoU"] <= 1
    weights = ["--config", str(config), "--model_path", run + "/best_model/model.pdparams", "--device", "cpu"]
    capsys.readouterr()
    assert main(["val", *weights, "--json", "--num_workers", "0"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["mIoU"] == pytest.approx(record["eval"][0]["mIoU"], abs=1e-6)
    if path not in EXPORTED:
        return
    assert main(["export", *weights, "--save_dir", str(tmp_path / "export")]) == 0, capsys.readouterr().err
    image = next((home / "data" / "camvid" / "images").glob("val_*.png"))
    predict = ["predict", "--model_dir", str(tmp_path / "export"), "--image_path", str(image)]
    assert main([*predict, "--save_dir", str(tmp_path / "masks"), "--outputs", "mask"]) == 0
    assert cv2.imread(str(tmp_path / "masks" / "mask" / image.name), -1).shape[:2] == SIZE
