"""What goes wrong while a run trains: nothing is lost, and what only watches does not end it."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import record as record_module
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.checkpoint import damage
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.errors import ConfigError, DataError, PPLiteSegError

pytestmark = pytest.mark.slow  # trains


class At(Callback):
    """Does something when an event has happened at an iteration."""

    def __init__(self, event, iteration, action):
        def act(monitor, *arguments):
            if monitor.steps == iteration:
                action()

        setattr(self, event, act)


def stop():
    raise KeyboardInterrupt


def train(config, save_dir, iters=2, **options):
    defaults = {"save_interval": 1, "log_iters": 1, "seed": 3, "device": "cpu"}
    return trainer.train(load_config(config, iters=iters), save_dir=str(save_dir), **{**defaults, **options})


def read(*parts):
    with open(os.path.join(*(str(part) for part in parts))) as file:
        return json.load(file)


@pytest.fixture
def own_data(tmp_path):
    """A data set that a test may damage; six images, of which the loop reads the last ones late."""
    root = make_data(tmp_path / "data", train=24, val=2)
    return root, write_config(tmp_path / "c.yml", values(root, batch_size=2))


def damage_label(root, number):
    """Give a label a class that does not exist."""
    path = sorted((root / "labels").iterdir())[number]
    Image.fromarray(np.full_like(np.array(Image.open(path)), 200)).save(path)
    return path.name


# --- interrupted evaluations ------------------------------------------------------------------


@pytest.mark.parametrize("event, evaluations", [("on_save", 0), ("on_best", 1)])
def test_an_evaluation_that_was_interrupted_is_made_up(run, config_path, tmp_path, event, evaluations):
    """The run is killed between its last checkpoint and the best model, or between the two evaluations."""
    options = {"iters": 4, "save_interval": 2, "do_eval": True, "use_ema": True, "num_workers": 2}
    with pytest.raises(KeyboardInterrupt):
        train(config_path, tmp_path, callbacks=[At(event, 4, stop)], **options)
    assert [row["iter"] for row in read(tmp_path, "train.json")["eval"]] == [2, 2] + [4] * evaluations
    result = train(config_path, tmp_path, resume_model="auto", **options)
    whole = run[1]
    for name in ("best_mIoU", "best_iteration", "ema_best_mIoU", "ema_best_iteration", "iterations"):
        assert result[name] == whole[name], name
    rows = [
        [(row["iter"], row["ema"], row["mIoU"]) for row in read(path, "train.json")["eval"]]
        for path in (run[0], tmp_path)
    ]
    assert rows[0] == rows[1]
    for path in ("best_model/model.pdparams", "ema_best_model/ema_model.pdparams"):
        with open(os.path.join(run[0], path), "rb") as expected:
            assert (tmp_path / path).read_bytes() == expected.read()


def test_a_complete_run_that_is_started_again_changes_nothing(run, config_path, tmp_path, capsys):
    shutil.copytree(run[0], tmp_path / "o")
    result = train(
        config_path, tmp_path / "o", iters=4, save_interval=2, do_eval=True, use_ema=True, resume_model="auto"
    )
    assert "iteration 4 is the end of the run" in capsys.readouterr().out
    assert (result["best_mIoU"], result["start_iteration"]) == (run[1]["best_mIoU"], 4)
    with pytest.raises(ConfigError, match="holds iteration 4, and the run ends at 4: nothing is left to train"):
        train(config_path, tmp_path / "o", iters=4, resume_model=str(tmp_path / "o" / "iter_4"))


# --- resuming from the newest -----------------------------------------------------------------


def test_auto_starts_anew_then_resumes_and_counts_the_checkpoints_of_both(config_path, tmp_path, capsys):
    options = {"resume_model": "auto", "keep_checkpoint_max": 2}
    train(config_path, tmp_path / "o", 2, **options)
    assert "no checkpoint in" in capsys.readouterr().out
    (tmp_path / "o" / "iter_2" / "model.pdopt").write_bytes(b"short")
    result = train(config_path, tmp_path / "o", 3, **options)
    out = capsys.readouterr().out
    assert f"passed over {tmp_path}/o/iter_2: it has 5 bytes of model.pdopt" in out
    assert result["start_iteration"] == 1
    assert sorted(name for name in os.listdir(tmp_path / "o") if name.startswith("iter_")) == ["iter_2", "iter_3"]
    assert damage(str(tmp_path / "o" / "iter_2")) is None  # written again


# --- faults in the data -----------------------------------------------------------------------


def test_an_evaluation_that_fails_is_reported_once_and_the_run_continues(own_data, tmp_path, capsys):
    root, config = own_data
    spoil = At("on_step", 2, lambda: damage_label(root, -1))
    result = train(config, tmp_path / "o", 4, do_eval=True, callbacks=[spoil])
    assert result["best_iteration"] == 1 and damage(str(tmp_path / "o" / "iter_4")) is None
    assert [row["iter"] for row in read(tmp_path, "o", "train.json")["eval"]] == [1]
    lines = [line for line in capsys.readouterr().err.splitlines() if "the evaluation at" in line]
    assert len(lines) == 1 and "warning: the evaluation at iteration 2 failed: " in lines[0] and "200" in lines[0]


def test_a_run_without_any_evaluation_that_succeeds_ends_as_failed_with_all_saved(own_data, tmp_path):
    root, config = own_data
    spoil = At("on_step", 1, lambda: damage_label(root, -1))
    with pytest.raises(
        PPLiteSegError, match="the training is complete, and its last checkpoint is .*iter_2, but no eva"
    ):
        train(config, tmp_path / "o", 2, do_eval=True, callbacks=[spoil])
    assert damage(str(tmp_path / "o" / "iter_2")) is None and read(tmp_path, "o", "train.json")["finished"] is True


def test_a_label_fault_met_in_the_middle_saves_the_last_complete_step(own_data, tmp_path):
    root, config = own_data
    spoil = At("on_step", 1, lambda: [damage_label(root, number) for number in range(24)])
    with pytest.raises(DataError, match="Iteration .* was the last; resume with: --resume_model") as caught:
        train(config, tmp_path / "o", 12, save_interval=100, callbacks=[spoil])
    (folder,) = (name for name in os.listdir(tmp_path / "o") if name.startswith("iter_"))
    assert str(caught.value).endswith(
        f"Iteration {folder[5:]} was the last; resume with: --resume_model {tmp_path}/o/{folder}"
    )
    assert damage(str(tmp_path / "o" / folder)) is None


# --- faults of the disk and of callbacks ------------------------------------------------------


def test_a_record_that_cannot_be_written_is_reported_once_and_written_when_it_can(
    config_path, tmp_path, monkeypatch, capsys
):
    write, failing = record_module.write_json, [True]

    def on_a_full_disk(path, content):
        if failing:
            raise ConfigError(f"cannot write {path}: No space left on device.")
        write(path, content)

    monkeypatch.setattr(record_module, "write_json", on_a_full_disk)
    train(config_path, tmp_path / "o", callbacks=[At("on_save", 2, failing.clear)])
    assert capsys.readouterr().err.count("train.json: No space left on device. Training continues.") == 1
    assert [row["iter"] for row in read(tmp_path, "o", "train.json")["train"]] == [1, 2]


def test_a_callback_that_fails_is_dropped_and_the_run_continues(config_path, tmp_path, capsys):
    seen = []

    class Broken(Callback):
        def on_step(self, monitor, read, whole):
            seen.append(monitor.steps)
            raise KeyError("loss")

    train(config_path, tmp_path / "o", callbacks=[Broken()])
    assert seen == [1]
    assert (
        "warning: Broken.on_step failed at iteration 1 (KeyError: 'loss'); training continues without this callback."
        in capsys.readouterr().err
    )


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_the_one_before(config_path, tmp_path, monkeypatch):
    import paddle

    save, count = paddle.save, []

    def on_a_full_disk(obj, path, **options):
        count.append(path)
        if len(count) > 3:
            raise OSError(28, os.strerror(28))
        save(obj, path, **options)

    monkeypatch.setattr(paddle, "save", on_a_full_disk)
    with pytest.raises(
        ConfigError,
        match=f"cannot write .*iter_2: No space left on device. Make room and resume with: --"
        f"resume_model {tmp_path}/o/iter_1 .or into another folder: add --save_dir DIR.",
    ):
        train(config_path, tmp_path / "o")
    assert damage(str(tmp_path / "o" / "iter_1")) is None and not (tmp_path / "o" / "iter_2").exists()
    assert not [name for name in os.listdir(tmp_path / "o") if name.startswith(".")]
