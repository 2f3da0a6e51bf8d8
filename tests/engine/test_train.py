"""Real iterations through PaddleSeg's unmodified loop, on a tiny data set."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from loop_run import a_monitor
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import data_checks
from ppliteseg_paddle.engine import record as record_module
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.engine.options import TrainOptions
from ppliteseg_paddle.engine.val import evaluate, val
from ppliteseg_paddle.errors import ConfigError, DataError, PPLiteSegError, WeightsError
from ppliteseg_paddle.weights.load import load_weights

pytestmark = pytest.mark.slow  # trains


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("train") / "data")


@pytest.fixture(scope="module")
def config_path(root):
    return write_config(root / "c.yml", values(root))


@pytest.fixture(scope="module")
def run(config_path, tmp_path_factory):
    """One run with everything on: evaluation, EMA, VisualDL, workers."""
    save_dir = str(tmp_path_factory.mktemp("run") / "output")
    result = trainer.train(
        load_config(config_path, iters=4),
        save_dir=save_dir,
        do_eval=True,
        save_interval=2,
        log_iters=1,
        num_workers=2,
        use_vdl=True,
        use_ema=True,
        seed=3,
        device="cpu",
    )
    return save_dir, result


def read(*parts):
    with open(os.path.join(*parts)) as file:
        return json.load(file)


def test_a_run_leaves_checkpoints_best_model_configuration_and_record(run):
    save_dir, result = run
    names = set(os.listdir(save_dir))
    assert {"iter_2", "iter_4", "best_model", "ema_best_model", "config.yml", "train.json"} <= names
    assert {"curves.png"} <= names and result["curves"] == os.path.join(save_dir, "curves.png")
    assert [len([name for name in names if name.startswith(kind)]) for kind in ("vdlrecords.", "vdlgraph.")] == [1, 1]
    assert sorted(os.listdir(os.path.join(save_dir, "iter_4"))) == [
        "ema_model.pdparams",
        "model.pdopt",
        "model.pdparams",
    ]
    assert not [name for name in names if name.startswith(".")]
    assert os.path.isfile(result["model_path"])


def test_the_record_holds_every_loss_and_evaluation(run):
    save_dir, result = run
    record = read(save_dir, "train.json")
    assert [row["iter"] for row in record["train"]] == [1, 2, 3, 4]
    assert all(np.isfinite(row["loss"]) and row["lr"] > 0 for row in record["train"])
    assert [(row["iter"], row["ema"]) for row in record["eval"]] == [(2, False), (2, True), (4, False), (4, True)]
    assert all(len(row["class_iou"]) == 11 for row in record["eval"])
    assert record["finished"] is True and record["seed"] == 3
    best = max((row for row in record["eval"] if not row["ema"]), key=lambda row: row["mIoU"])
    assert record["best"]["mIoU"] == best["mIoU"] == result["best_mIoU"]
    assert read(save_dir, "best_model", "best.json") == record["best"]
    assert (result["iterations"], result["final_loss"]) == (4, record["train"][-1]["loss"])


def test_the_loss_falls(run):
    assert run[1]["final_loss"] < run[1]["first_loss"]


def test_the_saved_configuration_evaluates_to_what_the_loop_measured(run):
    save_dir, _ = run
    best = read(save_dir, "best_model", "best.json")
    result = val(
        load_config(os.path.join(save_dir, "config.yml")),
        os.path.join(save_dir, "best_model", "model.pdparams"),
        progress=False,
    )
    assert result["mIoU"] == pytest.approx(best["mIoU"], abs=1e-7)
    assert (result["images"], len(result["class_iou"]), result["class_names"][0]) == (4, 11, "sky")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True},
        {"is_slide": True, "crop_size": [32, 32], "stride": [24, 24]},
    ],
)
def test_evaluation_equals_paddlesegs(run, config_path, arguments):
    from paddleseg.core import evaluate as reference

    config = load_config(
        config_path,
        opts=["val_dataset.transforms=[{'type': 'Resize', 'target_size': [96, 64]}, {'type': 'Normalize'}]"],
    )
    model, dataset = build_model(config), build_val_dataset(config)
    load_weights(model, os.path.join(run[0], "iter_4", "model.pdparams"))
    model.train()
    ours = evaluate(model, dataset, progress=False, **arguments)
    assert model.training
    miou, accuracy, class_iou, precision, kappa = reference(model, dataset, print_detail=False, **arguments)
    assert ours["mIoU"] == pytest.approx(float(miou), abs=1e-7)
    assert ours["acc"] == pytest.approx(float(accuracy), abs=1e-7)
    assert ours["kappa"] == pytest.approx(float(kappa), abs=1e-7)
    np.testing.assert_allclose(ours["class_iou"], class_iou, atol=1e-7)
    np.testing.assert_allclose(ours["class_precision"], precision, atol=1e-7)


def test_a_resumed_run_continues_and_keeps_record_best_model_and_averages(run, config_path, tmp_path):
    import shutil

    save_dir = str(tmp_path / "again")
    shutil.copytree(run[0], save_dir)
    for name in ("best_model", "ema_best_model"):  # better than this run can get: must stay
        with open(os.path.join(save_dir, name, "best.json"), "w") as file:
            json.dump({"mIoU": 0.99, "iter": 2}, file)
    kept = Path(save_dir, "best_model", "model.pdparams").read_bytes()
    result = trainer.train(
        load_config(config_path, iters=5),
        save_dir=save_dir,
        do_eval=True,
        save_interval=2,
        log_iters=1,
        use_ema=True,
        resume_model=os.path.join(save_dir, "iter_4"),
        device="cpu",
    )
    assert Path(save_dir, "best_model", "model.pdparams").read_bytes() == kept
    assert (result["best_mIoU"], result["best_iteration"], result["start_iteration"]) == (0.99, 2, 4)
    record = read(save_dir, "train.json")
    assert [row["iter"] for row in record["train"]] == [1, 2, 3, 4, 5]
    assert [row["iter"] for row in record["eval"]] == [2, 2, 4, 4, 5, 5]
    # One step on, the average is still near the saved one, not at the plain weights.
    average, before, plain = (
        paddle.load(os.path.join(save_dir, *path), return_numpy=True)
        for path in (("iter_5", "ema_model.pdparams"), ("iter_4", "ema_model.pdparams"), ("iter_5", "model.pdparams"))
    )
    name = "seg_heads.0.classifier.weight"
    np.testing.assert_allclose(average[name], 0.8333333 * before[name] + 0.1666667 * plain[name], atol=1e-5)


def test_equal_seeds_give_equal_losses(config_path, tmp_path):
    losses = []
    for name in ("a", "b"):
        trainer.train(
            load_config(config_path, iters=2), save_dir=str(tmp_path / name), log_iters=1, seed=7, device="cpu"
        )
        losses.append([row["loss"] for row in read(str(tmp_path / name), "train.json")["train"]])
    assert losses[0] == losses[1]


def test_training_starts_from_given_weights_in_place_of_pretrained_ones(run, config_path, tmp_path):
    weights = os.path.join(run[0], "iter_4", "model.pdparams")
    trainer.train(
        load_config(config_path, iters=1, learning_rate=1e-9, opts=["model.pretrained='none.pdparams'"]),
        save_dir=str(tmp_path / "o"),
        model_path=weights,
        device="cpu",
    )
    before, after = (
        paddle.load(path, return_numpy=True) for path in (weights, str(tmp_path / "o" / "iter_1" / "model.pdparams"))
    )
    np.testing.assert_allclose(
        after["seg_heads.0.classifier.weight"], before["seg_heads.0.classifier.weight"], atol=1e-5
    )


def test_paddlesegs_own_model_trains_too(root, tmp_path):
    content = values(
        root, model={"type": "PPLiteSeg", "num_classes": 11, "backbone": {"type": "STDC1", "pretrained": None}}
    )
    config = load_config(write_config(tmp_path / "c.yml", content), iters=1)
    result = trainer.train(config, save_dir=str(tmp_path / "o"), device="cpu")
    assert result["final_loss"] > 0
    assert val(config, result["model_path"], device="cpu", progress=False)["images"] == 4  # its own file fits it


def test_a_loss_that_is_no_number_ends_the_run_with_its_record(config_path, tmp_path):
    with pytest.raises(PPLiteSegError, match="the loss is nan at iteration"):
        trainer.train(
            load_config(config_path, iters=6, learning_rate=1e30),
            save_dir=str(tmp_path / "o"),
            log_iters=1,
            device="cpu",
        )
    record = read(str(tmp_path / "o"), "train.json")
    assert record["finished"] is False and record["train"][0]["loss"] > 0


def test_ctrl_c_says_how_to_resume(config_path, tmp_path, capsys):
    class Interrupt(Callback):
        def on_step(self, monitor, read, whole):
            if monitor.steps == 2:
                raise KeyboardInterrupt

    (tmp_path / "o" / "iter_900").mkdir(parents=True)
    for name in ("model.pdparams", "model.pdopt"):
        (tmp_path / "o" / "iter_900" / name).write_text("of another run")
    with pytest.raises(KeyboardInterrupt):
        trainer.train(
            load_config(config_path),
            save_dir=str(tmp_path / "o"),
            log_iters=1,
            save_interval=1,
            device="cpu",
            callbacks=[Interrupt()],
        )
    assert f"resume with: --resume_model {(tmp_path / 'o' / 'iter_1')}\n" in capsys.readouterr().err
    assert [row["iter"] for row in read(str(tmp_path / "o"), "train.json")["train"]] == [1]
    result = trainer.train(
        load_config(config_path, iters=2),
        save_dir=str(tmp_path / "o"),
        resume_model=str(tmp_path / "o" / "iter_1"),
        use_ema=True,
        device="cpu",
    )
    assert (result["last_checkpoint"], result["model_path"]) == tuple(
        str(tmp_path / "o" / name) for name in ("iter_2", "iter_2/model.pdparams")
    )
    assert f"(EMA): {(tmp_path / 'o' / 'iter_1')} holds none, so the average starts anew" in capsys.readouterr().out


def test_the_record_is_written_at_events_and_else_so_seldom_that_it_costs_nothing(config_path, tmp_path, monkeypatch):
    clock, writes = [0.0], []

    def write_in_a_second(path, values):
        clock[0] += 1
        writes.append(len(values["train"]))

    monkeypatch.setattr(record_module, "write_json", write_in_a_second)
    monkeypatch.setattr(record_module.time, "monotonic", lambda: clock[0])
    record = record_module.Record(TrainOptions(save_dir=str(tmp_path)), load_config(config_path), 0, "cpu", 0.0)
    monitor = a_monitor(tmp_path)
    for seconds, rows in ((0, 1), (60, 2), (39, 3), (2, 4), (50, 5)):
        clock[0] += seconds
        monitor.rows = [{}] * rows
        record.on_log(monitor, {})
    record.on_save(monitor)
    assert writes == [1, 4, 5]


@pytest.mark.parametrize("start, seconds", [(30, 95.0), (20, 61.0), (10, 30.0), (5, 0.0)])
def test_the_time_of_work_that_is_thrown_away_does_not_count(start, seconds):
    record = {
        "seconds": 95.0,
        "train": [{"iter": i, "elapsed": 3.0 * i} for i in (10, 20, 30)],
        "eval": [{"iter": 20, "elapsed": 61.0}],
    }
    assert record_module.seconds_at(record, start) == seconds


# --- refusals, before anything is written --------------------------------------------------------


@pytest.mark.parametrize(
    "options, arguments, kind, expected",
    [
        ({}, {"precision": "fp16", "device": "cpu"}, ConfigError, "--precision fp16 needs a GPU"),
        ({}, {"precision": "fp64"}, ConfigError, "--precision 'fp64' is not allowed: choose from fp32, fp16, bf16"),
        ({}, {"log_iters": 0}, ConfigError, "--log_iters 0 is not allowed: give an integer of at least 1"),
        ({}, {"max_minutes": -1}, ConfigError, "--max_minutes -1 is not allowed: give a number above 0"),
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


def test_the_saved_configuration_is_complete(run):
    with open(os.path.join(run[0], "config.yml")) as file:
        content = yaml.safe_load(file)
    assert content["iters"] == 4 and content["model"]["num_classes"] == 11


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
