"""Real iterations through PaddleSeg's unmodified loop, on a tiny data set."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from loop_run import a_monitor
from tiny_data import values, write_config

from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine import record as record_module
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.engine.val import evaluate, val
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.weights.load import load_weights

pytestmark = pytest.mark.slow  # trains


def read(*parts):
    with open(os.path.join(*parts)) as file:
        return json.load(file)


def test_a_run_leaves_checkpoints_best_model_configuration_and_record(run):
    save_dir, result = run
    names = set(os.listdir(save_dir))
    assert {"iter_2", "iter_4", "best_model", "ema_best_model", "config.yml", "train.json"} <= names
    assert {"curves.png"} <= names and result["curves"] == os.path.join(save_dir, "curves.png")
    assert sorted(os.listdir(result["val_pictures"])) == ["iter_2.png", "iter_4.png"]
    boards = ("vdlrecords.", "vdlgraph.", "events.out.tfevents.")
    assert [len([name for name in names if name.startswith(kind)]) for kind in boards] == [1, 1, 1]
    assert sorted(os.listdir(os.path.join(save_dir, "iter_4"))) == [
        "checkpoint.json",
        "ema_model.pdparams",
        "model.pdopt",
        "model.pdparams",
        "state.json",
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
    assert (len(record["class_names"]), record["class_names"][0]) == (11, "sky")
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


@pytest.mark.parametrize("options, expected", [({}, 1), ({"save_interval": 2}, 2)])
def test_checkpoints_come_as_the_configuration_says_unless_an_option_does(config_path, tmp_path, options, expected):
    config = load_config(config_path, iters=2, batch_size=2, opts=["save_interval=1"])
    trainer.train(config, save_dir=str(tmp_path / "o"), device="cpu", **options)
    written = sorted(path.name for path in (tmp_path / "o").glob("iter_*"))
    assert written == ["iter_1", "iter_2"][expected - 1 :]
    assert load_config(str(tmp_path / "o" / "config.yml")).dic["save_interval"] == expected


def test_ctrl_c_says_how_to_resume(config_path, tmp_path, capsys):
    class Interrupt(Callback):
        def on_step(self, monitor, read, whole):
            if monitor.steps == 2:
                raise KeyboardInterrupt
            (tmp_path / "o" / "iter_900").mkdir()
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
    record.on_saving(monitor)
    assert writes == [1, 4, 5]


@pytest.mark.parametrize("start, seconds", [(30, 95.0), (20, 61.0), (10, 30.0), (5, 0.0)])
def test_the_time_of_work_that_is_thrown_away_does_not_count(start, seconds):
    record = {
        "seconds": 95.0,
        "train": [{"iter": i, "elapsed": 3.0 * i} for i in (10, 20, 30)],
        "eval": [{"iter": 20, "elapsed": 61.0}],
    }
    assert record_module.seconds_at(record, start) == seconds


def test_the_saved_configuration_is_complete(run):
    with open(os.path.join(run[0], "config.yml")) as file:
        content = yaml.safe_load(file)
    assert content["iters"] == 4 and content["model"]["num_classes"] == 11
