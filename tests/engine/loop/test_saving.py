"""Checkpoints: complete or absent, and the best model never replaced by a worse one."""

import errno
import hashlib
import json
import os

import paddle
import pytest
from loop_run import a_monitor, a_run, evaluation, loaded, save_checkpoint

from ppliteseg_paddle import files
from ppliteseg_paddle.engine.checkpoint import damage
from ppliteseg_paddle.engine.loop import saving
from ppliteseg_paddle.engine.loop.log import run_log
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError

BEST = ("best_model", "model.pdparams")


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path)


def save_and_evaluate(run, iteration, miou):
    save_checkpoint(run, iteration, miou)
    run.monitor.evaluated(evaluation(miou), 1.0)


def names(folder):
    return sorted(os.listdir(folder))


def test_a_checkpoint_lists_its_files_with_sizes_and_hashes(tmp_path):
    run = a_run(tmp_path, use_ema=True)
    folder = save_checkpoint(run, 10, 0.25)
    assert folder == str(tmp_path / "iter_10")
    weights = ["ema_model.pdparams", "model.pdopt", "model.pdparams", "state.json"]
    assert names(folder) == ["checkpoint.json", *weights] and names(tmp_path) == ["iter_10"]
    with open(tmp_path / "iter_10" / "checkpoint.json") as file:
        manifest = json.load(file)
    assert (manifest["version"], manifest["iteration"], sorted(manifest["files"])) == (1, 10, weights)
    for name, listed in manifest["files"].items():
        content = (tmp_path / "iter_10" / name).read_bytes()
        assert listed == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert (loaded(tmp_path, "iter_10", "model.pdparams"), loaded(tmp_path, "iter_10", "ema_model.pdparams")) == (
        0.25,
        2.5,
    )
    assert damage(folder) is None


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(run, tmp_path, monkeypatch):
    order, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), fsync(handle)))
    monkeypatch.setattr(os, "rename", lambda *paths: (order.append(os.path.basename(paths[1])), rename(*paths)))
    save_checkpoint(run, 10)
    assert order == ["flush"] * 5 + ["iter_10", "flush"]  # four files, their folder; the folder above


def test_a_step_is_saved_once(run, tmp_path):
    save_checkpoint(run, 10, 1.0)
    save_checkpoint(run, 10, 2.0)
    assert loaded(tmp_path, "iter_10", "model.pdparams") == 1.0 and run.monitor.checkpoints == [
        str(tmp_path / "iter_10")
    ]


def test_before_its_first_step_a_run_has_the_checkpoint_that_it_resumed_from(tmp_path):
    assert save_checkpoint(a_run(tmp_path), 0) is None
    save_checkpoint(a_run(tmp_path), 7)
    resumed = a_run(tmp_path, monitor=a_monitor(tmp_path, start=7, checkpoints=[str(tmp_path / "iter_7")]))
    assert save_checkpoint(resumed, 7, 2.0) == str(tmp_path / "iter_7")
    assert loaded(tmp_path, "iter_7", "model.pdparams") == 1.0


def test_a_checkpoint_of_another_run_makes_room_for_that_of_this_one(run, tmp_path):
    (tmp_path / "iter_10").mkdir()
    (tmp_path / "iter_10" / "ema_model.pdparams").write_text("of another run")
    save_checkpoint(run, 10)
    assert "ema_model.pdparams" not in names(tmp_path / "iter_10") and names(tmp_path) == ["iter_10"]


@pytest.mark.parametrize("part", ["model", "optimizer", "average"])
def test_weights_that_are_not_finite_are_never_written(tmp_path, part):
    run = a_run(tmp_path, use_ema=part == "average", keep_checkpoint_max=1)
    save_checkpoint(run, 10)
    if part == "optimizer":
        run.optimizer.value = float("nan")
    with pytest.raises(PPLiteSegError, match=f"is not finite after iteration 20.*resume from {tmp_path}/iter_10 with"):
        save_checkpoint(run, 20, {"model": float("inf"), "optimizer": 1.0, "average": 1e38}[part])
    assert names(tmp_path) == ["iter_10"]


def test_the_oldest_checkpoints_are_deleted(tmp_path):
    run = a_run(tmp_path, keep_checkpoint_max=2)
    (tmp_path / "iter_5").mkdir()  # of another run
    for iteration in (10, 20, 30):
        save_checkpoint(run, iteration)
    assert names(tmp_path) == ["iter_20", "iter_30", "iter_5"]
    assert run.monitor.saved == str(tmp_path / "iter_30")


def test_what_the_loop_saves_itself_is_dropped(run, tmp_path):
    saving.no_saves(run, paddle.save)({"w": paddle.ones([1])}, str(tmp_path / "iter_10" / "model.pdparams"))
    assert names(tmp_path) == []


# --- the best model ---------------------------------------------------------------------------


def test_the_best_model_is_overwritten_only_by_a_better_one(run, tmp_path):
    save_and_evaluate(run, 10, 0.5)
    save_and_evaluate(run, 20, 0.4)
    assert loaded(tmp_path, *BEST) == 0.5
    save_and_evaluate(run, 30, 0.6)
    assert loaded(tmp_path, *BEST) == pytest.approx(0.6)
    assert (run.monitor.best.miou, run.monitor.best.iteration) == (0.6, 30)
    assert [(e["iter"], e["mIoU"]) for e in run.monitor.evaluations] == [(10, 0.5), (20, 0.4), (30, 0.6)]
    assert names(tmp_path / "best_model") == ["best.json", "model.pdparams"]


@pytest.mark.parametrize("iteration", [10, 20])
def test_after_a_resume_a_worse_model_does_not_overwrite_the_best(run, tmp_path, capsys, iteration):
    """Nor at the iteration at which the best was found, where the resumed run comes by again."""
    save_and_evaluate(run, iteration, 0.5)
    resumed = a_run(tmp_path, monitor=a_monitor(tmp_path, start=5))
    save_and_evaluate(resumed, 20, 0.3)
    assert loaded(tmp_path, *BEST) == 0.5
    from paddleseg.utils import logger

    run_log(resumed, logger).info("[EVAL] The model with the best validation mIoU (0.3000) was saved at iter 20.")
    assert f"[EVAL] Best model's mIoU: 0.5000, at iter {iteration}." in capsys.readouterr().out


def test_the_averaged_model_has_a_best_of_its_own(tmp_path):
    run = a_run(tmp_path, use_ema=True)
    save_checkpoint(run, 10, 0.5)
    run.monitor.evaluated(evaluation(0.5), 1.0)
    run.monitor.evaluated(evaluation(0.7), 1.0, ema=True)
    assert (run.monitor.best.miou, run.monitor.ema_best.miou) == (0.5, 0.7)
    assert (loaded(tmp_path, *BEST), loaded(tmp_path, "ema_best_model", "ema_model.pdparams")) == (0.5, 5.0)
    assert [e["ema"] for e in run.monitor.evaluations] == [False, True]


def test_a_score_that_is_no_number_is_not_the_best(run, tmp_path):
    save_checkpoint(run, 10)
    run.monitor.evaluated(evaluation(float("nan")), 1.0)
    assert run.monitor.best.miou is None and names(tmp_path) == ["iter_10"]


def test_the_best_model_and_its_score_change_in_one_moment(run, tmp_path, monkeypatch):
    """At every write of a new best model, weights and score on disk belong together."""
    save_and_evaluate(run, 10, 0.5)
    seen, rename = [], os.rename

    def look(*paths):
        if (tmp_path / "best_model").is_dir():
            with open(tmp_path / "best_model" / "best.json") as file:
                seen.append((json.load(file)["mIoU"], loaded(tmp_path, *BEST)))
        rename(*paths)

    save_checkpoint(run, 20, 0.75)
    monkeypatch.setattr(os, "rename", look)
    run.monitor.evaluated(evaluation(0.75), 1.0)
    assert set(seen) == {(0.5, 0.5)} and loaded(tmp_path, *BEST) == 0.75


def test_the_best_model_is_on_disk_before_anybody_hears_of_the_evaluation(tmp_path):
    """So that a run that is killed in between evaluates again."""
    heard = []

    class Listener(Callback):
        def on_eval(self, monitor, model, evaluation):
            heard.append(loaded(tmp_path, *BEST))

    run = a_run(tmp_path, monitor=a_monitor(tmp_path, callbacks=[Listener()]))
    save_and_evaluate(run, 10, 0.5)
    assert heard == [0.5]


# --- disks that fail --------------------------------------------------------------------------


class Broken:
    """A disk that fails at the nth of one kind of call."""

    def __init__(self, call, number, code):
        self.call, self.number, self.code = call, number, code

    def __call__(self, *args, **kwargs):
        self.number -= 1
        if self.number == 0:
            raise OSError(self.code, os.strerror(self.code))
        return self.call(*args, **kwargs)


WRITES = [(os, "mkdir", 2), (os, "fsync", 1), (os, "fsync", 4), (os, "fsync", 6), (os, "rename", 1)]
WRITES += [(paddle, "save", 1), (paddle, "save", 2), (json, "dump", 1), (json, "dump", 2)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("module, name, number", WRITES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_checkpoint_that_cannot_be_written_is_absent_and_the_one_before_it_whole(
    run, tmp_path, monkeypatch, module, name, number, code
):
    save_checkpoint(run, 10)
    monkeypatch.setattr(module, name, Broken(getattr(module, name), number, code))
    with pytest.raises(ConfigError) as caught:
        save_checkpoint(run, 20)
    assert str(caught.value) == (
        f"cannot write {tmp_path}/iter_20: {os.strerror(code)}. Make room and resume with: --resume_model "
        f"{tmp_path}/iter_10 (or into another folder: add --save_dir DIR)."
    )
    left = [name for name in names(tmp_path) if damage(str(tmp_path / name)) is not None]
    assert not left and damage(str(tmp_path / "iter_10")) is None


def test_a_former_folder_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    monkeypatch.setattr(os, "rename", Broken(os.rename, 2, errno.EIO))
    with (
        pytest.raises(ConfigError, match="cannot write .*a: Input/output error"),
        files.save_folder(str(tmp_path / "a")) as folder,
    ):
        open(os.path.join(folder, "new"), "w").close()
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["old"]
