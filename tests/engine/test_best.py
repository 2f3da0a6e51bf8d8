"""The best model, over resumes."""

import json

import pytest
from loop_run import evaluation

from ppliteseg_paddle.engine.best import BEST_FILE, BestModel, Metric
from ppliteseg_paddle.errors import ConfigError

CLASSES = ("road", "sign_symbol")


def a_checkpoint(folder):
    folder.mkdir()
    (folder / "model.pdparams").write_text(folder.name)
    return str(folder)


def row(miou, iteration=0, **changes):
    return {**evaluation(miou), "iter": iteration, "ema": False, **changes}


@pytest.mark.parametrize(
    "name, value",
    [
        ("mIoU", 0.4),
        ("acc", 0.9),
        ("kappa", 0.8),
        ("dice", (2 * 0.2 / 1.2 + 2 * 0.6 / 1.6) / 2),
        ("IoU:road", 0.2),
        ("iou:Sign Symbol", 0.6),
    ],
)
def test_a_metric_is_read_from_an_evaluation(name, value):
    assert Metric.of(name, CLASSES).value(row(0.4, class_iou=[0.2, 0.6])) == pytest.approx(value)


@pytest.mark.parametrize(
    "name, near", [("miou2", "mIoU"), ("IoU:rod", "IoU:road"), ("person", "Choose from: IoU:road")]
)
def test_an_unknown_metric_is_refused_with_the_nearest(name, near):
    with pytest.raises(ConfigError, match=f"--best_by '{name}' is unknown.*IoU:CLASS.*{near}"):
        Metric.of(name, CLASSES)


def test_a_value_that_json_had_as_null_is_no_number():
    assert not BestModel("best_model", "w", resumed=False, metric=Metric("kappa")).improved_by(row(0.4, kappa=None))


def test_the_model_is_chosen_by_the_metric_and_best_json_says_so(tmp_path):
    metric = Metric.of("IoU:road", CLASSES)
    best = BestModel(str(tmp_path / "best_model"), "model.pdparams", resumed=False, metric=metric)
    first, second = row(0.4, 10, class_iou=[0.5, 0.3]), row(0.6, 20, class_iou=[0.4, 0.8])
    best.take(a_checkpoint(tmp_path / "iter_10"), first)
    assert not best.improved_by(second)
    stored = {"mIoU": 0.4, "iter": 10, "best_by": "IoU:road", "value": 0.5}
    assert json.loads((tmp_path / "best_model" / BEST_FILE).read_text()) == stored == best.stored()
    assert best.line() == "IoU:road 50.00 % at iteration 10 (mIoU 40.00 %)"


def test_the_best_score_survives_a_resume_and_not_a_fresh_start(tmp_path):
    folder, checkpoint = str(tmp_path / "best_model"), a_checkpoint(tmp_path / "iter_10")
    first = BestModel(folder, "model.pdparams", resumed=False)
    assert first.improved_by(row(0.0))
    first.take(checkpoint, row(0.5, 10))
    resumed = BestModel(folder, "model.pdparams", resumed=True)
    assert (resumed.miou, resumed.iteration) == (0.5, 10)
    assert not resumed.improved_by(row(0.5)) and resumed.improved_by(row(0.51))
    assert BestModel(folder, "model.pdparams", resumed=False).improved_by(row(0.1))


def with_a_damaged_score(tmp_path):
    folder = tmp_path / "best_model"
    BestModel(str(folder), "model.pdparams", resumed=False).take(a_checkpoint(tmp_path / "iter_10"), row(0.5, 10))
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
    assert best.improved_by(row(0.0))


def test_without_a_best_model_there_is_nothing_to_recover(tmp_path):
    assert BestModel(str(tmp_path), "model.pdparams", resumed=True).recover({"mIoU": 0.5, "iter": 10}) is None
