"""What is read of a run's folder, whatever the files hold."""

import json
import os

import numpy as np
import pytest
from run_folder import make_run, write_measured

from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.report import runs
from ppliteseg_paddle.report.page import summary
from ppliteseg_paddle.report.runs import flat, iou_of, read_runs, short_names


def test_a_run_tells_its_best_models_speed_and_time(tmp_path):
    (run,) = read_runs([str(make_run(tmp_path / "one"))])
    assert summary(run) == {
        "best": 0.5,
        "best_iteration": 20,
        "ema_best": 0.3,
        "ema_best_iteration": 20,
        "loss": pytest.approx(2 / 3),
        "iterations": 30,
        "finished": True,
        "seconds": 245.0,
        "images_per_second": 8.0,
        "step_seconds": 0.5,
        "source": f"as val has measured it ({tmp_path / 'one' / 'val'})",
        "reading_share": pytest.approx(0.1),
        "evaluation_seconds": 4.0,
    }
    assert run.class_iou() == {"road": 3 / 6, "car": 4 / 7}
    assert [os.path.basename(path) for _, path in run.pictures] == ["iter_10.png", "iter_20.png"]


def test_without_val_the_best_evaluation_gives_the_classes_iou(tmp_path):
    (run,) = read_runs([str(make_run(tmp_path / "one", measured=False))])
    assert run.class_iou() == {"road": 0.5, "car": 0.0} and run.measured is None


def test_the_newest_results_of_val_count(tmp_path):
    folder = make_run(tmp_path / "one")
    write_measured(folder / "again", ["road", "car"], [[1, 0], [0, 1]])
    os.utime(folder / "val" / "images.json", (1, 1))
    assert read_runs([str(folder)])[0].class_iou() == {"road": 1.0, "car": 1.0}


def test_a_class_that_does_not_occur_has_no_iou():
    assert iou_of(np.array([[2.0, 0.0], [0.0, 0.0]])) == [1.0, None]


def test_names_are_as_long_as_they_need_to_be():
    assert short_names(["/a/x/run", "/b/x/run", "/c/other"]) == ["a/x/run", "b/x/run", "other"]


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"train": 5, "eval": []}', '{"eval": []}'])
def test_a_folder_without_a_record_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError) as raised:
        read_runs([str(tmp_path)])
    path = tmp_path / "train.json"
    assert str(raised.value) == (
        f"{tmp_path} holds no training run: it has no train.json. Give a folder of train --save_dir."
        if content is None
        else f"{path} is no record of a training run, or it is damaged."
    )


def test_a_run_that_is_given_twice_is_refused(tmp_path):
    make_run(tmp_path / "one")
    with pytest.raises(ConfigError, match="--runs names .*one/ twice: give each run once."):
        read_runs([str(tmp_path / "one") + "/", str(tmp_path / "one")])


def test_what_is_no_number_or_of_another_kind_is_absent(tmp_path):
    rows = [{"iter": 1, "loss": float("nan")}, {"iter": "2"}, 7, {"iter": 10**400}, {"iter": 3, "loss": 1.5, "lr": []}]
    evaluations = [{"iter": 3}, {"iter": 3, "mIoU": 0.5, "class_iou": "none"}, None]
    folder = make_run(tmp_path / "one", train=rows, eval=evaluations, class_names=4, seconds="long")
    (folder / "config.yml").write_text("!!python/object/apply:os.system ['true']")
    (folder / "val" / "confusion_matrix.json").write_text(json.dumps({"class_names": ["a"], "counts": [[-1]]}))
    (folder / "val" / "images.json").write_text(json.dumps({"images": [None, {"image": ["a"], "mIoU": "b"}]}))
    (run,) = read_runs([str(folder)])
    assert run.rows == [{"iter": 1}, {"iter": 3, "loss": 1.5}] and run.config == {} and run.config_text == ""
    assert (run.best()["mIoU"], run.best()["class_iou"]) == (0.5, [])
    assert run.measured.matrix is None and run.measured.images == [{"image": "['a']", "mIoU": None, "acc": None}]
    assert summary(run)["seconds"] is None


def test_files_beyond_all_bounds_are_not_read(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "one")
    monkeypatch.setattr(runs, "MAX_BYTES", os.path.getsize(folder / "train.json"))
    (folder / "val" / "confusion_matrix.json").write_text(" " * 10_000 + "{}")
    assert read_runs([str(folder)])[0].measured.matrix is None
    monkeypatch.setattr(runs, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="train.json has more than the 100 bytes that are allowed"):
        read_runs([str(folder)])


def test_nested_values_have_dotted_keys():
    assert flat({"a": {"b": [1, 2]}, "c": [{"d": 3}, 4], "e": {}}) == {"a.b": [1, 2], "c.0.d": 3, "c.1": 4, "e": {}}


def test_results_of_val_without_a_list_of_images_are_no_error(tmp_path):
    folder = make_run(tmp_path / "one")
    (folder / "val" / "images.json").write_text('{"images": 5}')
    (run,) = read_runs([str(folder)])
    assert run.measured.images == [] and run.class_iou() == {"road": 3 / 6, "car": 4 / 7}
