"""Checkpoints: complete, and the best one never replaced by a worse one."""

import os

import paddle
import pytest
from loop_run import a_monitor, a_run, evaluation, loaded, save, save_checkpoint

from ppliteseg_paddle.engine.loop.log import run_log
from ppliteseg_paddle.engine.loop.saving import atomic
from ppliteseg_paddle.errors import ConfigError

BEST = ("best_model", "model.pdparams")


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path)


def evaluate_and_save(run, save_dir, iteration, miou):
    run.monitor.evaluated(evaluation(miou), 1.0)
    save_checkpoint(run, save_dir, iteration)
    save(run, save_dir.joinpath(*BEST), miou)
    save(run, save_dir / "best_model" / "model.pdstates", miou)


def test_the_best_model_is_overwritten_only_by_a_better_one(run, tmp_path):
    evaluate_and_save(run, tmp_path, 10, 0.5)
    evaluate_and_save(run, tmp_path, 20, 0.4)
    assert loaded(tmp_path, *BEST) == loaded(tmp_path, "best_model", "model.pdstates") == 0.5
    evaluate_and_save(run, tmp_path, 30, 0.6)
    assert loaded(tmp_path, *BEST) == loaded(tmp_path, "best_model", "model.pdstates") == pytest.approx(0.6)
    assert (run.monitor.best.miou, run.monitor.best.iteration) == (0.6, 30)
    assert [(e["iter"], e["mIoU"]) for e in run.monitor.evaluations] == [(10, 0.5), (20, 0.4), (30, 0.6)]


@pytest.mark.parametrize("iteration", [10, 20])
def test_after_a_resume_a_worse_model_does_not_overwrite_the_best(run, tmp_path, capsys, iteration):
    """Nor at the iteration at which the best was found, where the resumed run comes by again."""
    evaluate_and_save(run, tmp_path, iteration, 0.5)
    resumed = a_run(tmp_path, monitor=a_monitor(tmp_path, start=5))
    evaluate_and_save(resumed, tmp_path, 20, 0.3)
    assert loaded(tmp_path, *BEST) == 0.5
    from paddleseg.utils import logger

    run_log(resumed, logger).info("[EVAL] The model with the best validation mIoU (0.3000) was saved at iter 20.")
    assert f"[EVAL] Best model's mIoU: 0.5000, at iter {iteration}." in capsys.readouterr().out


def test_the_averaged_model_has_a_best_of_its_own(run, tmp_path):
    run.monitor.evaluated(evaluation(0.5), 1.0)
    run.monitor.evaluated(evaluation(0.7), 1.0)
    save_checkpoint(run, tmp_path, 10)
    save(run, tmp_path.joinpath(*BEST), 0.5)
    save(run, tmp_path / "ema_best_model" / "ema_model.pdparams")
    assert (run.monitor.best.miou, run.monitor.ema_best.miou) == (0.5, 0.7)
    assert [e["ema"] for e in run.monitor.evaluations] == [False, True]


def test_without_an_evaluation_there_is_no_best_model_and_no_score(run, tmp_path):
    save_checkpoint(run, tmp_path, 10)
    save(run, tmp_path / "iter_10" / "model.pdstates")
    save(run, tmp_path.joinpath(*BEST))
    assert sorted(os.listdir(tmp_path)) == ["iter_10"]
    assert sorted(os.listdir(tmp_path / "iter_10")) == ["model.pdopt", "model.pdparams"]


def test_a_save_that_fails_leaves_the_former_file(run, tmp_path):
    path = str(tmp_path / "iter_10" / "model.pdparams")
    paddle.save({"w": paddle.ones([1])}, path)

    def full_disk(obj, path, *args, **kwargs):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        ConfigError,
        match="No space left on device. Make room, or give another --save_dir; no checkpoint was written yet",
    ):
        atomic(run, full_disk)({"w": paddle.zeros([1])}, path)
    assert loaded(tmp_path, "iter_10", "model.pdparams") == 1.0
    assert os.listdir(os.path.dirname(path)) == ["model.pdparams"]
