"""The best model, over resumes."""

import pytest

from ppliteseg_paddle.engine.best import BEST_FILE, BestModel


def a_checkpoint(folder):
    folder.mkdir()
    (folder / "model.pdparams").write_text(folder.name)
    return str(folder)


def test_the_best_score_survives_a_resume_and_not_a_fresh_start(tmp_path):
    folder, checkpoint = str(tmp_path / "best_model"), a_checkpoint(tmp_path / "iter_10")
    first = BestModel(folder, "model.pdparams", resumed=False)
    assert first.improved_by(0.0)
    first.take(checkpoint, 0.5, 10)
    resumed = BestModel(folder, "model.pdparams", resumed=True)
    assert (resumed.miou, resumed.iteration) == (0.5, 10)
    assert not resumed.improved_by(0.5) and resumed.improved_by(0.51)
    assert BestModel(folder, "model.pdparams", resumed=False).improved_by(0.1)


def with_a_damaged_score(tmp_path):
    folder = tmp_path / "best_model"
    BestModel(str(folder), "model.pdparams", resumed=False).take(a_checkpoint(tmp_path / "iter_10"), 0.5, 10)
    (folder / BEST_FILE).write_text("{half")
    return BestModel(str(folder), "model.pdparams", resumed=True)


def test_a_damaged_score_is_taken_from_the_record(tmp_path):
    best = with_a_damaged_score(tmp_path)
    assert "best.json is missing or damaged: the record gives 0.5000, at iteration 10" in best.recover(
        {"mIoU": 0.5, "iter": 10}
    )
    assert (best.miou, best.iteration) == (0.5, 10) and best.recover({"mIoU": 0.7, "iter": 20}) is None


@pytest.mark.parametrize("recorded", [None, {}, {"mIoU": None, "iter": None}, "0.5"])
def test_a_damaged_score_that_the_record_does_not_have_is_told(tmp_path, recorded):
    best = with_a_damaged_score(tmp_path)
    assert "and so is the score in the record: the next evaluation replaces it" in best.recover(recorded)
    assert best.improved_by(0.0)


def test_without_a_best_model_there_is_nothing_to_recover(tmp_path):
    assert BestModel(str(tmp_path), "model.pdparams", resumed=True).recover({"mIoU": 0.5, "iter": 10}) is None
