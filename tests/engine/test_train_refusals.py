"""What cannot work is refused before anything is written, or ends the run in one line."""

import os
import pickle
import shutil

import numpy as np
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import data_checks
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.errors import ConfigError, DataError, WeightsError

pytestmark = pytest.mark.slow  # trains


@pytest.mark.parametrize(
    "options, arguments, kind, expected",
    [
        ({}, {"precision": "fp16", "device": "cpu"}, ConfigError, "--precision fp16 needs a GPU"),
        ({}, {"precision": "fp64"}, ConfigError, "--precision 'fp64' is not allowed: choose from fp32, fp16, bf16"),
        ({}, {"log_iters": 0}, ConfigError, "--log_iters 0 is not allowed: give an integer of at least 1"),
        ({}, {"max_minutes": -1}, ConfigError, "--max_minutes -1 is not allowed: give a number above 0"),
        ({}, {"early_stop_intervals": 0, "do_eval": True}, ConfigError, "--early_stop_intervals 0 is not allowed"),
        ({}, {"early_stop_intervals": 2}, ConfigError, "--early_stop_intervals has no effect without evaluations"),
        ({}, {"best_by": "acc"}, ConfigError, "--best_by has no effect without evaluations: add --do_eval"),
        ({}, {"best_by": "IoU:cat", "do_eval": True}, ConfigError, "'IoU:cat' is unknown.*Did you mean 'IoU:car'"),
        ({"batch_size": 9}, {}, DataError, "has 8 images, fewer than one batch of 9"),
        ({}, {"resume_model": "nowhere/iter_3"}, ConfigError, "there is no such folder"),
        ({}, {"model_path": "nowhere.pdparams"}, WeightsError, "nowhere.pdparams does not exist"),
        (
            {"opts": ["loss.coef=[1, 1]"]},
            {},
            ConfigError,
            "loss.coef: 2 numbers for the 3 outputs that the model has in training",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    config_path, tmp_path, options, arguments, kind, expected
):
    with pytest.raises(kind, match=expected):
        trainer.train(load_config(config_path, **options), save_dir=str(tmp_path / "o"), **arguments)
    assert not (tmp_path / "o").exists()


def test_a_run_that_would_mix_with_another_ones_files_is_refused_and_they_stay(config_path, tmp_path):
    (tmp_path / "o" / "iter_2").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"o holds a run already \(iter_2\): continue it with --resume_model auto, or"
    ):
        trainer.train(load_config(config_path), save_dir=str(tmp_path / "o"), device="cpu")
    assert [path.name for path in (tmp_path / "o").rglob("*")] == ["iter_2"]


def test_evaluation_without_a_val_dataset_is_refused(root, tmp_path):
    content = values(root)
    del content["val_dataset"]
    with pytest.raises(ConfigError, match="--do_eval needs a val_dataset"):
        trainer.train(
            load_config(write_config(tmp_path / "c.yml", content)), save_dir=str(tmp_path / "o"), do_eval=True
        )


def test_a_checkpoint_of_another_model_is_refused(run, root, tmp_path):
    content = values(root)
    content["model"]["head"]["out_channels"] = [32, 64, 64]
    content["model"]["seg_head_channels"] = [32, 64, 32]
    with pytest.raises(WeightsError, match="belongs to another configuration"):
        trainer.train(
            load_config(write_config(tmp_path / "c.yml", content), iters=9),
            save_dir=str(tmp_path / "o"),
            resume_model=os.path.join(run[0], "iter_4"),
        )


@pytest.mark.parametrize("file", ["model.pdparams", "model.pdopt", "ema_model.pdparams"])
def test_a_checkpoint_that_would_run_a_command_is_refused_and_nothing_runs(run, config_path, tmp_path, file):
    folder = tmp_path / "iter_2"
    shutil.copytree(os.path.join(run[0], "iter_2"), folder)
    (folder / "checkpoint.json").unlink()  # as of an earlier version
    (folder / file).write_bytes(b"cos\nmkdir\n(V%s\ntR." % os.fsencode(tmp_path / "witness"))
    with pytest.raises(WeightsError, match=r"asks for 'os\.mkdir', which arrays do not need"):
        trainer.train(
            load_config(config_path), save_dir=str(tmp_path / "o"), resume_model=str(folder), use_ema=True, device="cpu"
        )
    assert sorted(os.listdir(tmp_path)) == ["iter_2"]


@pytest.mark.parametrize(
    "file, content, expected",
    [
        ("model.pdparams", [1], "holds a list, not names and arrays"),
        ("model.pdopt", {"a": 1}, "holds no state of an optimizer with a learning-rate scheduler"),
        (
            "ema_model.pdparams",
            {"a": np.zeros(2, np.float32)},
            "ema_model.pdparams lacks 247 of the model's 247 weights",
        ),
    ],
)
def test_a_checkpoint_with_a_file_of_another_kind_is_refused(run, config_path, tmp_path, file, content, expected):
    folder = tmp_path / "iter_2"
    shutil.copytree(os.path.join(run[0], "iter_2"), folder)
    (folder / "checkpoint.json").unlink()  # as of an earlier version
    (folder / file).write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match=expected):
        trainer.train(
            load_config(config_path), save_dir=str(tmp_path / "o"), resume_model=str(folder), use_ema=True, device="cpu"
        )


def test_a_file_in_place_of_the_output_folder_is_refused_and_left_alone(config_path, tmp_path):
    (tmp_path / "o").write_text("mine")
    with pytest.raises(ConfigError, match="--save_dir .* is a file"):
        trainer.train(load_config(config_path), save_dir=str(tmp_path / "o"))
    assert (tmp_path / "o").read_text() == "mine"


def test_a_broken_label_is_found_before_the_start(tmp_path):
    import cv2

    data = make_data(tmp_path / "data")
    cv2.imwrite(str(data / "labels" / "05.png"), np.full((48, 64), 77, np.uint8))
    with pytest.raises(DataError, match="05.png holds the value 77"):
        trainer.train(load_config(write_config(tmp_path / "c.yml", values(data))), save_dir=str(tmp_path / "o"))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_label_that_the_sample_misses_ends_the_run_in_one_line(tmp_path, monkeypatch, num_workers):
    data = make_data(tmp_path / "data")
    os.remove(data / "labels" / "05.png")
    monkeypatch.setattr(data_checks, "check_sample", lambda *args: 0)
    with pytest.raises(DataError) as caught:
        trainer.train(
            load_config(write_config(tmp_path / "c.yml", values(data))),
            save_dir=str(tmp_path / "o"),
            num_workers=num_workers,
            device="cpu",
        )
    label = data / "labels" / "05.png"
    assert str(caught.value) == f"label {label} does not exist: correct the path, the list, or dataset_root."


def test_the_sample_is_spread_evenly_and_bounded_in_time():
    class Data:
        def __init__(self):
            self.seen = []

        def __len__(self):
            return 100

        def read(self, index):
            self.seen.append(index)

    data = Data()
    assert data_checks.check_sample(data, "training", count=5) == 5
    assert data.seen == [0, 25, 50, 74, 99]
    assert data_checks.check_sample(data, "training", count=5, seconds=-1) == 1
    assert data_checks.check_sample(range(3), "training") == 0


@pytest.mark.parametrize(
    "group, expected",
    [
        (
            {"name": "bm", "lr_mult": 0.1},
            "c.yml: optimizer.custom_cfg: no weight of the model has 'bm' in its name; names are as in backbone.",
        ),
        ({"lr_mult": 0.1}, "expected items such as .name: backbone, lr_mult: 0.1., found .'lr_mult': 0.1."),
    ],
)
def test_a_group_of_weights_that_there_is_not_is_refused(root, tmp_path, group, expected):
    content = values(root)
    content["optimizer"]["custom_cfg"] = [group]
    with pytest.raises(ConfigError, match=expected):
        trainer.train(
            load_config(write_config(tmp_path / "c.yml", content)), save_dir=str(tmp_path / "o"), device="cpu"
        )
    assert not (tmp_path / "o").exists()
