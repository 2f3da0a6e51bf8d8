"""PaddleSeg's own configurations of PP-LiteSeg and its quick start: trained, evaluated, exported by our commands."""

import json
import os
import pathlib

import cv2
import numpy as np
import pytest
import yaml

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.config.source import Source, read_with_bases

FOLDER = os.environ.get("PPLITESEG_PADDLESEG_DIRS")
PATTERNS = ("pp_liteseg", "quick_start")
CONFIGS = sorted(
    path for name in PATTERNS for path in pathlib.Path(FOLDER or ".").glob(f"PaddleSeg-2.9*/configs/{name}/*.yml")
)
SIZE = (64, 96)
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
        for split in ("train", "val"):
            pairs = [_pair(root / "data" / name, name, split, index, classes) for index in range(4)]
            for listed in (f"{split}.txt", f"{split}_list.txt", "test.txt"):
                (root / "data" / name / listed).write_text("".join(f"{image} {label}\n" for image, label in pairs))
    return root


def _pair(root, name, split, index, classes):
    """Write an image and its label. Returns their places below `root`."""
    rng = np.random.default_rng(index)
    label = np.repeat(rng.integers(0, classes, (SIZE[0] // 8, SIZE[1])), 8, axis=0).astype(np.uint8)
    files = (f"{split}/{index}.png", f"{split}_labels/{index}.png")
    if name == "cityscapes":
        stem = f"{split}/aachen/aachen_{index:06d}_000019"
        files = (f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelTrainIds.png")
    for file, pixels in zip(files, (np.repeat(label[:, :, None] * (255 // classes), 3, axis=2), label)):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / file), pixels)
    return files


def smaller(values):
    """The same with crops and batches for a test, without downloads."""
    if isinstance(values, list):
        return [smaller(value) for value in values]
    if not isinstance(values, dict):
        return values
    small = {key: smaller(value) for key, value in values.items()}
    for key, value in (("crop_size", [96, 64]), ("target_size", [96, 64]), ("min_kept", 100), ("pretrained", None)):
        if key in small:
            small[key] = value
    return small


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
    assert main(["export", *weights, "--save_dir", str(tmp_path / "export")]) == 0, capsys.readouterr().err
    image = next((home / "data" / "camvid" / "val").glob("*.png"))
    predict = ["predict", "--model_dir", str(tmp_path / "export"), "--image_path", str(image)]
    assert main([*predict, "--save_dir", str(tmp_path / "masks"), "--outputs", "mask"]) == 0
    assert cv2.imread(str(tmp_path / "masks" / "mask" / image.name), -1).shape[:2] == SIZE
