"""Pictures of predictions in the run's folder: which are kept, and that a fault of theirs ends nothing."""

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from loop_run import a_monitor
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.callbacks.val_pictures import KEPT, ValPictures, pictures_in, superfluous


class Pages:
    """Samples whose picture is of one color, that of the iteration."""

    ema = False

    def sheet(self, model, evaluation):
        return None if evaluation["ema"] != self.ema else np.full((4, 6, 3), evaluation["iter"] % 256, np.uint8)


def write(pictures, monitor, *iterations, ema=False):
    for iteration in iterations:
        monitor.steps = iteration
        monitor.tell("on_eval", None, {"iter": iteration, "ema": ema, "mIoU": 0.5})


def watched(folder, start=0):
    pictures = ValPictures(str(folder), Pages(), start)
    return pictures, a_monitor(folder, callbacks=[pictures])


def test_each_evaluation_leaves_a_picture_of_its_iteration(tmp_path):
    pictures, monitor = watched(tmp_path)
    write(pictures, monitor, 20, 100)
    write(pictures, monitor, 200, ema=True)  # of weights that are not shown
    assert sorted(os.listdir(tmp_path / "val_pictures")) == ["iter_100.png", "iter_20.png"]
    assert cv2.imread(str(tmp_path / "val_pictures" / "iter_100.png")).tolist() == [[[100] * 3] * 6] * 4


def test_of_two_hundred_evaluations_ten_pictures_stay(tmp_path):
    pictures, monitor = watched(tmp_path)
    monitor.best = SimpleNamespace(iteration=None)
    for iteration in range(1, 201):
        if iteration == 37:
            monitor.best.iteration = 37
        write(pictures, monitor, iteration)
    left = pictures_in(str(tmp_path / "val_pictures"))
    assert len(left) == KEPT == 10 and {1, 37, 200} <= set(left)
    assert max(b - a for a, b in zip(left, left[1:])) <= 45  # evenly they would be 22 apart


def test_the_first_the_best_and_the_newest_stay_and_the_densest_goes():
    assert superfluous([10, 20, 25, 40, 50], {20}, limit=4) == [25]
    assert superfluous([10, 20, 25, 40, 50], {None}, limit=3) == [20, 40]
    assert superfluous([1, 2, 3], {2}, limit=2) == [] and superfluous([7], set(), limit=0) == []


def test_the_best_averaged_model_counts_where_averages_are_shown(tmp_path):
    pictures, monitor = watched(tmp_path)
    pictures.samples.ema = True
    monitor.best, monitor.ema_best = SimpleNamespace(iteration=3), SimpleNamespace(iteration=2)
    for iteration in range(1, 30):
        write(pictures, monitor, iteration, ema=True)
    assert 2 in pictures_in(str(tmp_path / "val_pictures"))


def test_a_resumed_run_drops_what_comes_again_and_what_a_killed_one_left(tmp_path):
    write(*watched(tmp_path), 10, 20, 30)
    folder = tmp_path / "val_pictures"
    (folder / ".abcd1234.tmp").write_bytes(b"half a picture")
    (folder / "notes.txt").write_text("the user's own")
    pictures, monitor = watched(tmp_path, start=20)
    assert sorted(os.listdir(folder)) == ["iter_10.png", "iter_20.png", "notes.txt"]
    write(pictures, monitor, 30)
    assert pictures_in(str(folder)) == [10, 20, 30]


def test_a_picture_that_cannot_be_written_is_said_once_and_tried_again(tmp_path, capsys):
    pictures, monitor = watched(tmp_path)
    (tmp_path / "val_pictures").write_text("a file in its place")
    write(pictures, monitor, 10, 20)
    path = tmp_path / "val_pictures" / "iter_10.png"
    assert capsys.readouterr().err == (
        f"warning: ValPictures.on_eval failed at iteration 10 (DataError: cannot write {path}: File exists.); training "
        "continues and tries it again.\n"
    )
    (tmp_path / "val_pictures").unlink()
    write(pictures, monitor, 30)
    assert pictures_in(str(tmp_path / "val_pictures")) == [30]


@pytest.mark.slow
def test_a_run_with_pictures_equals_one_without(tmp_path):
    import paddle

    root = make_data(tmp_path / "data", val=2)
    config = write_config(root / "c.yml", values(root, batch_size=2, model=TINY_MODEL))
    weights = []
    for shown in (True, False):
        folder = tmp_path / str(shown)
        options = dict(do_eval=True, save_interval=1, seed=3, device="cpu", val_pictures=shown)
        result = trainer.train(load_config(config, iters=2), save_dir=str(folder), **options)
        assert result["val_pictures"] == (str(folder / "val_pictures") if shown else None)
        assert pictures_in(str(folder / "val_pictures")) == ([1, 2] if shown else [])
        state = paddle.load(str(folder / "iter_2" / "model.pdparams"), return_numpy=True)
        weights.append({name: np.asarray(value).tobytes() for name, value in state.items()})
    assert weights[0] == weights[1]
