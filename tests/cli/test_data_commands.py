"""`data prepare`, `check`, `stats`, and `predict --format cityscapes`, from the command line."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from exported import CONVERTS
from mini_cityscapes import make_cityscapes, official
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.cli.main import main


def run(capsys, *argv):
    status = main([str(item) for item in argv] + ["--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


@pytest.fixture
def config(tmp_path):
    root = make_data(tmp_path / "data")
    return root, write_config(tmp_path / "c.yml", values(root))


def test_prepare_with_a_folder_alone_says_how_folders_are_given(capsys):
    status, _, error = run(capsys, "data", "prepare", "my photos")
    assert status == 2 and "'my photos'" in error and error.count("\n") == 1
    assert "for a folder of your own: data prepare folder --images DIR --masks DIR --out DIR" in error


def test_check_of_a_sound_set_ends_well_and_reads_like_a_report(config, capsys):
    assert main(["data", "check", "--config", config[1], "--num_workers", "0"]) == 0
    text = capsys.readouterr().out
    assert "train  8 pairs (8 read), 64x48" in text and "fit for training: 0 errors" in text


def test_check_of_a_broken_set_ends_with_status_2_and_says_what_to_do(config, capsys):
    os.remove(config[0] / "labels" / "03.png")
    assert main(["data", "check", "--config", config[1], "--full", "--num_workers", "0"]) == 2
    text = capsys.readouterr().out
    assert (
        "ERROR, train: 1 files that do not exist" in text
        and "fix: correct the list" in text
        and "training would fail" in text
    )
    status, result, _ = run(capsys, "data", "check", "--config", config[1], "--sample", "2")
    assert (status, result["errors"], result["complete"]) == (2, 1, False)


def test_train_with_a_full_check_finds_what_a_sample_does_not(config, capsys, monkeypatch, tmp_path):
    from ppliteseg_paddle.engine import data_checks, train

    label = config[0] / "labels" / "02.png"
    cv2.imwrite(str(label), np.full((48, 64), 44, np.uint8))
    monkeypatch.setattr(data_checks, "check_sample", lambda *args: 0)
    monkeypatch.setattr(data_checks, "QUICK_SAMPLE", 1)
    monkeypatch.setattr(
        train.build,
        "build",
        lambda builder, name, verbose=False, build=train.build.build: (
            build(builder, name, verbose) if name.endswith("_dataset") else {"coef": []}
        ),
    )
    status = main(
        ["train", "--config", config[1], "--save_dir", str(tmp_path / "o"), "--device", "cpu", "--full_check"]
    )
    assert status == 2 and "02.png holds the value 44" in capsys.readouterr().err


def test_stats_prints_weights_and_draws_pictures(config, capsys, tmp_path):
    (tmp_path / "p.txt").write_text("".join(f"{(20 * i):d} 0 9 class\n" for i in range(11)))
    assert (
        main(
            [
                "data",
                "stats",
                "--config",
                config[1],
                "--save_dir",
                str(tmp_path / "s"),
                "--palette",
                str(tmp_path / "p.txt"),
                "--samples",
                "2",
                "--num_workers",
                "0",
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "weight: [" in text and "mean  [" in text
    for name in ("distribution.png", "samples.png"):
        assert cv2.imread(str(tmp_path / "s" / name)).shape[2] == 3


def test_a_palette_of_another_length_is_refused(config, capsys, tmp_path):
    (tmp_path / "p.txt").write_text("1 2 3 a\n")
    assert (
        main(
            [
                "data",
                "stats",
                "--config",
                config[1],
                "--palette",
                str(tmp_path / "p.txt"),
                "--save_dir",
                str(tmp_path / "s"),
            ]
        )
        == 2
    )
    assert "has 1 colors, but there are 11 classes" in capsys.readouterr().err


def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(4):
        cv2.imwrite(str(tmp_path / "images" / (f"{i:d}.jpg")), np.full((64, 64, 3), 50 * i, np.uint8))
        cv2.imwrite(
            str(tmp_path / "masks" / (f"{i:d}.png")), np.array([[0, 255]], np.uint8).repeat(64, 0).repeat(32, 1)
        )
    return [
        "data",
        "prepare",
        "folder",
        "--images",
        tmp_path / "images",
        "--masks",
        tmp_path / "masks",
        "--out",
        tmp_path / "out",
    ]


def test_prepare_shows_what_it_understood_and_waits_for_a_yes(tmp_path, capsys):
    command = folder(tmp_path)
    status, _, err = run(capsys, *command)
    assert status == 2 and "255 ->      1  foreground" in err and "add --yes" in err
    assert not (tmp_path / "out").exists()
    status, result, _ = run(capsys, *command, "--yes", "--val", "0.25")
    assert (status, result["train"], result["val"], result["class_names"]) == (0, 3, 1, ["background", "foreground"])
    assert yaml.safe_load((tmp_path / "out" / "config.yml").read_text())["model"]["num_classes"] == 2


def test_prepare_says_how_classes_get_names_where_it_had_to_invent_them(tmp_path, capsys):
    command = [*folder(tmp_path), "--remap", "0=0", "255=2", "--yes", "--overwrite", "--num_workers", "0"]
    assert main([str(part) for part in command]) == 0
    assert "\nnames       class_0 ...: --classes FILE, one a line, gives them yours\n" in capsys.readouterr().out
    (tmp_path / "names.txt").write_text("sky\nroad\ncar\n")
    assert main([*map(str, command), "--classes", str(tmp_path / "names.txt")]) == 0
    assert "--classes" not in capsys.readouterr().out
    assert (tmp_path / "out" / "classes.txt").read_text() == "sky\nroad\ncar\n"


@pytest.mark.parametrize(
    "extra, words",
    [
        (["--remap", "x=1"], "--remap wants FROM=TO"),
        (["--val", "1"], "1 is not allowed"),
        (["--classes", "nowhere"], "--classes nowhere cannot be read"),
    ],
)
def test_wrong_flags_of_prepare_are_one_line(tmp_path, capsys, extra, words):
    status, _, err = run(capsys, *folder(tmp_path), "--yes", *extra)
    assert status == 2 and words in err


def test_help_stays_cheap():
    code = (
        "import sys, ppliteseg_paddle.cli.main as m; m.build_parser('data'); "
        "sys.exit(bool({'numpy', 'cv2', 'paddle'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_miniature_cityscapes_goes_all_the_way_and_the_official_evaluator_gives_val_predict_and_exports_one_figure(
    tmp_path, capsys
):
    root = tmp_path / "city"
    make_cityscapes(root)
    assert run(capsys, "data", "prepare", "cityscapes", "--root", root)[1]["splits"]["train"]["labels"] == 2
    content = values(root, batch_size=2, iters=2, test_config={"aug_eval": True, "scales": 0.125})
    content["model"]["num_classes"] = 19
    for mode in ("train", "val"):
        content[mode + "_dataset"]["type"] = "Cityscapes"
    content["train_dataset"]["transforms"].insert(0, {"type": "RandomPaddingCrop", "crop_size": [128, 64]})
    config = write_config(tmp_path / "c.yml", content)
    assert run(capsys, "data", "check", "--config", config)[0] == 0
    weights = run(
        capsys, "train", "--config", config, "--save_dir", tmp_path / "o", "--save_interval", 2, "--device", "cpu"
    )[1]["model_path"]
    val = run(capsys, "val", "--config", config, "--model_path", weights, "--device", "cpu")[1]
    trained = ("--config", config, "--model_path", weights, "--device", "cpu")
    assert val["mIoU_present"] == pytest.approx(official_score(capsys, root, tmp_path / "p", *trained), abs=1e-6)
    present = sum(val["present"])
    assert present >= 2 and val["mIoU"] == pytest.approx(val["mIoU_present"] * present / 19, abs=1e-9)
    readers = {"paddle": "paddle"}
    if CONVERTS:
        readers.update(onnx="onnxruntime", openvino="openvino")
    status, _, err = run(capsys, "export", *trained[:4], "--save_dir", tmp_path / "e", "--format", *readers)
    assert status == 0, err
    for backend in readers.values():
        found = official_score(capsys, root, tmp_path / backend, "--model_dir", tmp_path / "e", "--backend", backend)
        # Sums in another order turn ties of two classes, in a few of four million pixels.
        assert found == pytest.approx(val["mIoU_present"], abs=1e-4), backend


def official_score(capsys, root, save_dir, *flags):
    """What the official evaluator says of `predict` on the validation images."""
    images = root / "leftImg8bit" / "val"
    status, result, err = run(
        capsys, "predict", *flags, "--image_path", images, "--format", "cityscapes", "--save_dir", save_dir
    )
    assert (status, result["submission"]["images"], result["submission"]["test_set"]) == (0, 2, False), err
    assert os.path.isfile(result["submission"]["archive"])
    truths = sorted((root / "gtFine" / "val" / "lindau").glob("*_gtFine_labelIds.png"))
    return official(sorted((save_dir / "submission").iterdir()), truths)["averageScoreClasses"]
