"""The study of `predict --smooth`, on films of a few frames and a network that knows brightness only."""

import sys

import numpy as np
import pytest
from stand_in import labels, stand_in

from ppliteseg_paddle.benchmark.studies import smoothing
from ppliteseg_paddle.benchmark.studies.smoothing import Steadiness, cost, steadiness
from ppliteseg_paddle.deploy.smoothing import CUT
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.synth.film import Frame

STILL = np.array([[1, 0, 0], [0, 1, 0]], float)
RIGHT = np.array([[1, 0, -1], [0, 1, 0]], float)  # the street goes a pixel to the right: each place was one to the left

_TIME = "ppliteseg_paddle.benchmark.timing.time."


def frame(label, before):
    return Frame(np.zeros((*np.shape(label), 3), np.uint8), np.array(label, np.uint8), before)


def test_miou_is_against_the_labels_and_flicker_counts_what_changes_though_its_label_does_not():
    counts = Steadiness(2)
    counts.add(np.array([[0, 0, 1, 1]], np.uint8), frame([[0, 0, 1, 1]], None))
    counts.add(np.array([[0, 1, 1, 1]], np.uint8), frame([[0, 0, 1, 255]], STILL))
    found = counts.result()
    # Of class 0: 3 of 4 in both masks and labels; of class 1: 3 right, 1 too many.
    assert found["mIoU"] == pytest.approx(100 * (3 / 4 + 3 / 4) / 2)
    # Three pixels keep their label (the fourth is ignored), one of them changes its class.
    assert found["flicker"] == pytest.approx(100 / 3)
    assert found["consistency"] == pytest.approx(100 * (1 / 2 + 1 / 2) / 2)


def test_a_mask_that_moves_with_the_camera_is_steady_and_one_that_stays_is_not():
    first, moved = [[0, 0, 1, 1, 0]], [[0, 0, 0, 1, 1]]
    steady, lagging = Steadiness(2), Steadiness(2)
    for counts, second in ((steady, moved), (lagging, first)):
        counts.add(np.array(first, np.uint8), frame(first, None))
        counts.add(np.array(second, np.uint8), frame(moved, RIGHT))
    assert (steady.result()["consistency"], steady.result()["flicker"]) == (100, 0)
    assert lagging.result()["flicker"] == pytest.approx(100 * 2 / 4)  # what came in from outside does not count


def test_frames_on_both_sides_of_a_cut_are_not_compared():
    counts = Steadiness(2)
    counts.add(np.zeros((2, 2), np.uint8), frame(np.zeros((2, 2)), None))
    counts.cut()
    counts.add(np.ones((2, 2), np.uint8), frame(np.ones((2, 2)), None))
    assert counts.result()["mIoU"] == 100 and counts._steady.sum() == 0


def test_films_follow_one_another_and_every_pair_of_frames_is_told_by_where_it_is():
    found = steadiness(stand_in(), (64, 48), [3, 4], 3, 2.0, [0.5, 1e-9])
    assert set(found) == {"off", "0.5", "1e-09"}
    for name in ("0.5", "1e-09"):
        assert (len(found[name]["within"]), len(found[name]["between"])) == (4, 1)
        assert all(0 <= value <= 1 for value in found[name]["within"] + found[name]["between"])
    same = ("mIoU", "consistency", "flicker")
    assert [found["1e-09"][key] for key in same] == pytest.approx([found["off"][key] for key in same])
    assert found["0.5"]["flicker"] < found["off"]["flicker"]


@pytest.mark.parametrize("op, form", [("none", "11x48x64"), ("argmax", "48x64")])
def test_the_cost_is_the_smoothings_time_to_that_of_the_network(monkeypatch, op, form):
    """By a clock that goes 4 ms with each inference and 1 ms with each blend."""
    predictor, spent = stand_in(op), [0.0]
    forward, smoothed = predictor.forward, predictor.masks.smoothed

    def spends(seconds, work):
        def call(*arguments):
            spent[0] += seconds
            return work(*arguments)

        return call

    monkeypatch.setattr(predictor, "forward", spends(0.004, forward))
    monkeypatch.setattr(predictor.masks, "smoothed", spends(0.001, smoothed))
    monkeypatch.setattr(_TIME + "process_time", lambda: spent[0])
    monkeypatch.setattr(_TIME + "perf_counter", lambda: 2 * spent[0])
    monkeypatch.setattr(smoothing, "REST_SECONDS", 0.0)
    found = cost(predictor, (64, 48), 2)
    assert found["smoothed"] == form and found["input"] == [1, 3, 48, 64]
    assert found["ms"]["network"]["cpu"] == pytest.approx(4) and found["ms"]["smoothing"]["total"] == pytest.approx(2)
    assert found["ratio"] == {"total": pytest.approx(0.25), "cpu": pytest.approx(0.25)}


def test_the_table_tells_the_change_of_each_set_and_the_cuts_that_were_not_seen():
    def row(miou, **more):
        return {"mIoU": miou, "consistency": 90.0, "flicker": 2.0, **more}

    sets = {
        seed: {"3": {"off": row(40.0), "0.65": row(40.0 + gain, within=[0.1, CUT + 0.1], between=[0.2, 0.8])}}
        for seed, gain in (("0", 0.5), ("100", -0.25))
    }
    spent = {"network": {"total": 40.0, "cpu": 40.0}, "smoothing": {"total": 2.0, "cpu": 3.0}}
    text = smoothing.table(
        {
            "results": sets,
            "cost": {"smoothed": "11x30x40", "ms": spent, "ratio": {"total": 0.05, "cpu": 0.075}},
            "machine": {"load_average": 1.5},
        }
    )
    lines = text.splitlines()
    assert lines[2].split() == ["3", "px/frame", "0.65", "40.12", "90.00", "2.00", "+0.50", "-0.25"]
    assert "2 of 4 frames taken for cuts" in lines[3] and "2 of 4 cuts not seen" in lines[3]
    assert "5.0 % by the clock, 7.5 % of the processor seconds (load 1.5)" in lines[4]


def test_a_model_of_other_classes_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    assert labels().classes != LABEL_SETS["camvid"].classes
    monkeypatch.setattr(smoothing, "Predictor", lambda *arguments, **options: stand_in())
    command = ["smoothing", "--model_dir", "export", "--save_json", str(tmp_path / "s.json")]
    monkeypatch.setattr(sys, "argv", command)
    assert smoothing.main() == 2
    said = capsys.readouterr().err.splitlines()
    assert said == ["error: export has other classes than generated scenes, which are CamVid's eleven."]
    assert not (tmp_path / "s.json").exists()
