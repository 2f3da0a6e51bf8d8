"""What a checkpoint notes of its run, and what a resumed run says or refuses."""

import json
import os
import shutil

import numpy as np
import paddle
import pytest
from loop_run import a_run, train_steps
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.best import BestModel, Metric
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop import precision
from ppliteseg_paddle.engine.loop.state import gather, restore, slots
from ppliteseg_paddle.engine.resume import comparison, rewind_best, schedule_differs
from ppliteseg_paddle.errors import ConfigError, WeightsError

pytestmark = pytest.mark.slow  # trains


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("resume") / "data", train=5, val=2)


def config(data, folder, **changes):
    content = values(data, batch_size=2, iters=4, model=TINY_MODEL)
    for key, change in changes.items():
        content[key] = {**content[key], **change} if isinstance(change, dict) and "type" not in change else change
    return load_config(write_config(folder / "c.yml", content))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """The folder of a run with checkpoints, evaluations and the best model."""
    folder = tmp_path_factory.mktemp("run")
    options = {"save_interval": 1, "log_iters": 2, "do_eval": True, "seed": 3, "device": "cpu"}
    trainer.train(config(data, folder), save_dir=str(folder / "o"), **options)
    return folder / "o"


def resume(data, tmp_path, folder, changes=None, **options):
    found = config(data, tmp_path, **(changes or {}))
    return trainer.train(
        found, save_dir=str(tmp_path / "o"), resume_model=str(folder), **{"seed": 3, "device": "cpu", **options}
    )


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"optimizer": {"type": "AdamW"}}, "state of the optimizer Momentum, and the run has AdamW"),
        ({"optimizer": {"type": "SGD"}}, "state of the optimizer Momentum, and the run has SGD"),
        (
            {"lr_scheduler": {"warmup_iters": 2, "warmup_start_lr": 0.001}},
            "learning-rate schedule PolynomialDecay, and the run has LinearWarmup, PolynomialDecay",
        ),
        (
            {"lr_scheduler": {"type": "StepDecay", "learning_rate": 0.01, "step_size": 3}},
            "learning-rate schedule PolynomialDecay, and the run has StepDecay",
        ),
    ],
)
def test_another_optimizer_or_schedule_is_refused_before_anything_is_written(data, run, tmp_path, changes, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        resume(data, tmp_path, run / "iter_2", changes)
    assert f"--model_path {run / 'iter_2' / 'model.pdparams'}" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["c.yml"]


def of_an_earlier_version(run, tmp_path, change=lambda state: state):
    folder = tmp_path / "earlier" / "iter_2"
    shutil.copytree(run / "iter_2", folder)
    os.remove(folder / "state.json"), os.remove(folder / "checkpoint.json")
    paddle.save(change(paddle.load(str(folder / "model.pdopt"))), str(folder / "model.pdopt"))
    return folder


def without_a_slot(state):
    state.pop(next(name for name in state if "velocity" in name))
    return state


@pytest.mark.parametrize(
    "change, changes, kind, expected",
    [
        (without_a_slot, {}, WeightsError, "lacks the optimizer's state of 1 of .* weights, the first conv2d_0"),
        (lambda state: {"LR_Scheduler": state["LR_Scheduler"]}, {}, ConfigError, "no state of weights"),
        (dict, {"optimizer": {"type": "AdamW"}}, ConfigError, r"optimizer \(velocity\) than the run's AdamW"),
        (dict, {"optimizer": {"type": "SGD"}}, ConfigError, r"optimizer \(velocity\) than the run's SGD"),
        (
            dict,
            {"lr_scheduler": {"warmup_iters": 2, "warmup_start_lr": 0.001}},
            ConfigError,
            "state of another learning-rate schedule",
        ),
    ],
    ids=["a slot", "all slots", "adamw", "sgd", "schedule"],
)
def test_without_a_noted_state_the_tensors_tell(data, run, tmp_path, change, changes, kind, expected):
    with pytest.raises(kind, match=expected):
        resume(data, tmp_path, of_an_earlier_version(run, tmp_path, change), changes)
    assert not (tmp_path / "o").exists()


def test_a_checkpoint_of_an_earlier_version_is_continued_with_one_line(data, run, tmp_path, capsys):
    result = resume(data, tmp_path, of_an_earlier_version(run, tmp_path), save_interval=9)
    assert (result["start_iteration"], result["iterations"]) == (2, 4)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resuming: ")]
    assert len(lines) == 2 and "does not hold the state of its run" in lines[0] + lines[1]


def test_what_differs_is_said_in_one_line_and_the_new_schedule_begins_at_once(data, run, tmp_path, capsys):
    changes = {"batch_size": 3, "lr_scheduler": {"learning_rate": 0.001}}
    resume(data, tmp_path, run / "iter_2", changes, seed=5, log_iters=1)
    said = [line for line in capsys.readouterr().out.splitlines() if "undisturbed" in line]
    assert len(said) == 1
    for part in ("batch_size 3 (was 2)", "seed 5 (was 3)", "lr_scheduler.learning_rate 0.001 (was 0.01)"):
        assert part in said[0]
    rows = json.loads((tmp_path / "o" / "train.json").read_text())["train"]
    assert [row["iter"] for row in rows] == [2, 3, 4]
    assert rows[1]["lr"] == pytest.approx(0.001 * 0.5**0.9)


def test_another_folder_gets_record_and_best_model_and_says_so(data, run, tmp_path, capsys):
    result = resume(data, tmp_path, run / "iter_4", {"iters": 5}, do_eval=True, log_iters=2)
    line = next(line for line in capsys.readouterr().out.splitlines() if "is not the folder of" in line)
    assert line.endswith(f"copied from {run}: train.json, best_model, val_pictures")
    record = json.loads((tmp_path / "o" / "train.json").read_text())
    assert [row["iter"] for row in record["eval"]] == [1, 2, 3, 4, 5]
    assert [row["iter"] for row in record["train"]] == [2, 4] and result["final_loss"] == record["train"][-1]["loss"]
    assert record["best"]["mIoU"] == max(row["mIoU"] for row in record["eval"])


def test_going_back_behind_the_best_model_keeps_it_and_has_the_best_up_to_there(data, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "o")
    weights = (tmp_path / "o" / "iter_4" / "model.pdparams").read_bytes()
    (tmp_path / "o" / "best_model" / "model.pdparams").write_bytes(weights)
    (tmp_path / "o" / "best_model" / "best.json").write_text('{"mIoU": 0.9, "iter": 4}')
    resume(data, tmp_path, tmp_path / "o" / "iter_2", do_eval=True, save_interval=9)
    assert "held the model of iteration 4, after the checkpoint" in capsys.readouterr().out
    assert (tmp_path / "o" / "best_model_of_iter_4" / "model.pdparams").read_bytes() == weights
    record = json.loads((tmp_path / "o" / "train.json").read_text())
    best = max(record["eval"], key=lambda row: row["mIoU"])
    assert record["best"] == {"mIoU": best["mIoU"], "iter": best["iter"], "best_by": "mIoU", "value": best["mIoU"]}


def test_another_metric_chooses_again_among_the_evaluations_so_far(data, run, tmp_path, capsys):
    """The former best model is kept beside the new one."""
    shutil.copytree(run, tmp_path / "o")
    history = tmp_path / "o" / "train.json"
    record = json.loads(history.read_text())
    for row, value in zip(record["eval"], (0.2, 0.9, 0.1, 0.3)):
        row["class_iou"][8] = value
    history.write_text(json.dumps(record))
    before = (tmp_path / "o" / "best_model" / "model.pdparams").read_bytes()
    (tmp_path / "o" / "best_model" / "best.json").write_text('{"mIoU": 0.9, "iter": 4}')
    resume(data, tmp_path, tmp_path / "o" / "iter_4", {"iters": 5}, do_eval=True, save_interval=9, best_by="IoU:car")
    said = capsys.readouterr().out
    assert "was chosen by mIoU, not IoU:car" in said and "the best one so far is that of iteration 2" in said
    best = json.loads((tmp_path / "o" / "best_model" / "best.json").read_text())
    assert (best["best_by"], best["iter"], best["value"]) == ("IoU:car", 2, 0.9)
    weights = (tmp_path / "o" / "best_model" / "model.pdparams").read_bytes()
    assert weights == (tmp_path / "o" / "iter_2" / "model.pdparams").read_bytes()
    assert (tmp_path / "o" / "best_model_by_mIoU" / "model.pdparams").read_bytes() == before


def test_a_best_model_that_is_best_by_both_metrics_stays(tmp_path):
    row = {"iter": 2, "mIoU": 0.5, "acc": 0.8, "kappa": 0.7, "class_iou": [0.5], "ema": False}
    (tmp_path / "iter_2").mkdir()
    (tmp_path / "iter_2" / "w").write_text("weights")
    BestModel(str(tmp_path / "best_model"), "w", resumed=False).take(str(tmp_path / "iter_2"), row)
    shutil.rmtree(tmp_path / "iter_2")  # deleted as an old checkpoint
    best = BestModel(str(tmp_path / "best_model"), "w", resumed=True, metric=Metric("acc"))
    assert "was chosen by mIoU, and is the best one by acc, too" in rewind_best(best, str(tmp_path / "iter_4"), [row])
    stored = json.loads((tmp_path / "best_model" / "best.json").read_text())
    assert (stored["best_by"], stored["value"]) == ("acc", 0.8) and not best.improved_by({**row, "acc": 0.8})


# --- without training ------------------------------------------------------------------------


def test_only_what_differs_is_named_and_not_without_end():
    noted = {"ranks": 2, "list of images": "a", "lr_scheduler.power": 0.9, **{f"model.{i}": 0 for i in range(9)}}
    assert comparison("iter_3", {"conditions": noted}, dict(noted)) is None
    assert not schedule_differs({"conditions": noted}, dict(noted))
    now = {**noted, "ranks": 1, "list of images": "b"}
    assert comparison("iter_3", {"conditions": noted}, now).endswith("differ: ranks 1 (was 2), list of images.")
    assert schedule_differs({"conditions": noted}, {**noted, "lr_scheduler.power": 1.0})
    assert comparison("iter_3", {"conditions": noted}, {}).endswith("and 6 more.")


class GradScaler:
    """Paddle's, which does nothing on a CPU, as far as a checkpoint is concerned."""

    def __init__(self, enable=True, init_loss_scaling=2.0):
        self.state = {"scale": np.array([init_loss_scaling], np.float32), "incr_count": 0} if enable else {}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        assert state["scale"].dtype == np.float32
        self.state = state


def test_the_window_of_the_log_and_the_loss_scale_come_back(tmp_path):
    run = a_run(tmp_path, precision="fp16")
    train_steps(run.monitor, 1.0, float("nan"), 3.0)
    run.loss_scaler = precision.loss_scaler(run, GradScaler)(init_loss_scaling=1024)
    run.loss_scaler.state["incr_count"] = 7
    stored = json.loads(json.dumps(gather(run)).replace("NaN", "null"))
    again = a_run(tmp_path, precision="fp16")
    restore(again, stored)
    np.testing.assert_equal(vars(again.monitor.window), vars(run.monitor.window))
    scaler = precision.loss_scaler(again, GradScaler)()
    assert scaler.state["scale"].tolist() == [1024] and scaler.state["incr_count"] == 7
    again.precision = "bf16"
    assert precision.loss_scaler(again, GradScaler)().state == {}


def test_parameters_that_never_had_a_gradient_are_told_from_lost_states():
    used, unused = paddle.nn.Linear(2, 2), paddle.nn.Linear(2, 2)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=[*used.parameters(), *unused.parameters()])
    used(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    found = slots(optimizer, optimizer.state_dict())
    assert [found[parameter.name] for parameter in used.parameters()] == [{"velocity"}] * 2
    assert [found[parameter.name] for parameter in unused.parameters()] == [set()] * 2
