"""The two commands as a user runs them, from flags to files."""

import json

import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.cli.main import main


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("cli") / "data")
    return write_config(root / "c.yml", values(root))


@pytest.fixture(scope="module")
def trained(config_path, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("cli-run") / "output"
    assert (
        main(
            [
                "train",
                "--config",
                config_path,
                "--save-dir",
                str(save_dir),
                "--iters",
                "2",
                "--batch_size",
                "2",
                "--learning_rate",
                "0.002",
                "--do_eval",
                "--log_iters",
                "1",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    return save_dir


@pytest.mark.slow
def test_train_applies_its_flags(trained):
    record = json.loads((trained / "train.json").read_text())
    assert (record["iters"], record["batch_size"]) == (2, 2)
    assert record["train"][0]["lr"] == pytest.approx(0.002)
    assert (trained / "best_model" / "model.pdparams").is_file()


def test_val_writes_its_figures_as_json_and_prints_a_row_for_each_class(trained, tmp_path, capsys):
    target = tmp_path / "figures.json"
    assert (
        main(
            [
                "val",
                "--config",
                str(trained / "config.yml"),
                "--model_path",
                str(trained / "iter_2" / "model.pdparams"),
                "--save_json",
                str(target),
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    figures = json.loads(target.read_text())
    assert list(figures)[:7] == ["mIoU", "acc", "kappa", "dice", "class_iou", "class_names", "images"]
    assert figures["images"] == 4 and len(figures["class_iou"]) == len(figures["class_names"]) == 11
    out = capsys.readouterr().out
    assert "bicyclist" in out and f"4 images: mIoU {figures['mIoU']:.4f}" in out


def test_val_sees_before_it_evaluates_that_its_figures_can_be_written(trained, tmp_path, capsys):
    assert (
        main(
            [
                "val",
                "--config",
                str(trained / "config.yml"),
                "--model_path",
                "none.pdparams",
                "--save_json",
                str(tmp_path),
            ]
        )
        == 2
    )
    assert capsys.readouterr().err == f"error: cannot write {tmp_path}: it is a folder; give a file.\n"


def test_val_writes_confusion_matrix_and_image_scores_and_nothing_over_a_users_file(trained, tmp_path, capsys):
    argv = ["val", "--config", str(trained / "config.yml"), "--model_path", str(trained / "iter_2" / "model.pdparams")]
    argv += ["--device", "cpu", "--save_dir", str(tmp_path / "scores")]
    assert main(argv) == main(argv) == 0  # its own files are replaced
    out = capsys.readouterr().out
    assert "Worst images: images/" in out and f"written: {tmp_path}/scores/confusion_matrix.png" in out
    (tmp_path / "scores" / "images.csv").write_text("mine")
    assert main(argv) == 2
    assert "images.csv exists and was not written by an earlier run" in capsys.readouterr().err
    assert (tmp_path / "scores" / "images.csv").read_text() == "mine"


def test_val_takes_test_time_augmentation_from_flags(trained, capsys):
    assert (
        main(
            [
                "val",
                "--config",
                str(trained / "config.yml"),
                "--model_path",
                str(trained / "iter_2" / "model.pdparams"),
                "--aug_eval",
                "--scales",
                "0.5",
                "1.0",
                "--flip_horizontal",
                "--json",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["test_config"] == {
        "aug_eval": True,
        "scales": [0.5, 1.0],
        "flip_horizontal": True,
    }


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["train", "--config", "missing.yml"], "configuration missing.yml does not exist"),
        (
            ["train", "--config", "CONFIG", "--opts", "model.neck.type=SPM"],
            "there is no component 'SPM'. Did you mean 'SPPM'",
        ),
        (
            ["train", "--config", "CONFIG", "--opts", "train_dataset.dataset_root=/no/such/place"],
            "dataset_root /no/such/place does not exist",
        ),
        (["train", "--config", "CONFIG", "--batch_size", "99"], "has 8 images, fewer than one batch of 99"),
        (["train", "--config", "CONFIG", "--device", "abacus"], "unknown device 'abacus'"),
        (["val", "--config", "CONFIG", "--model_path", "none.pdparams"], "none.pdparams does not exist"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(
    config_path, tmp_path, monkeypatch, capsys, argv, expected
):
    monkeypatch.chdir(tmp_path)
    assert main([config_path if item == "CONFIG" else item for item in argv]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0]
    assert list(tmp_path.iterdir()) == []
