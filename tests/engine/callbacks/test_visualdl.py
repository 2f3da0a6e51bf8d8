"""What a run writes for VisualDL, read back with VisualDL's own reader."""

import glob
import os
import pathlib

import numpy as np
import paddle
import pytest
from loop_run import a_monitor

from ppliteseg_paddle.engine.callbacks import visualdl as boards

CLASSES = ("road", "tram/rail %")


def evaluation(ema=False):
    return {"mIoU": 0.5, "acc": 0.9, "kappa": 0.8, "class_iou": [0.75, 0.25], "ema": ema, "seconds": 1.0}


def row(iteration):
    return {"iter": iteration, "ips": 8.0, "loss": 1 / iteration, "lr": 0.01, "batch_cost": 0.5, "reader_cost": 0.25}


@pytest.fixture
def monitor(tmp_path):
    return a_monitor(tmp_path, log_iters=10)


def read(path, kind):
    """tag -> [(step, value)]"""
    from visualdl import LogReader

    reader = LogReader(file_path=path)
    return {
        tag: [(item.id, item.value) for item in reader.get_data(kind, tag)] for tag in reader.get_tags().get(kind, [])
    }


def newest(folder):
    return sorted(glob.glob(os.path.join(str(folder), "vdlrecords.*")))[-1]


def test_losses_times_and_scores_stand_in_one_file_under_paddlesegs_names(tmp_path, monitor):
    board = boards.Board(str(tmp_path), CLASSES)
    monitor.losses = np.array([0.1, 0.06, 0.04])
    with board.writing():
        board.on_log(monitor, row(10))
        monitor.steps = 10
        board.on_eval(monitor, None, evaluation())
        board.on_eval(monitor, None, evaluation(ema=True))
    assert len(glob.glob(str(tmp_path / "vdlrecords.*"))) == 1
    scalars = read(newest(tmp_path), "scalar")
    assert {tag: values for tag, ((_, values),) in scalars.items()} == {
        "Train/loss": pytest.approx(0.1),
        "Train/loss_0": pytest.approx(0.06),
        "Train/loss_1": pytest.approx(0.04),
        "Train/lr": pytest.approx(0.01),
        "Train/batch_cost": 0.5,
        "Train/reader_cost": 0.25,
        "Train/ips": 8.0,
        "Evaluate/mIoU": 0.5,
        "Evaluate/Acc": pytest.approx(0.9),
        "Evaluate/Kappa": pytest.approx(0.8),
        "IoU/road": 0.75,
        "IoU/tram-rail ": 0.25,
        "Evaluate/Ema_mIoU": 0.5,
        "Evaluate/Ema_Acc": pytest.approx(0.9),
        "Evaluate/Ema_Kappa": pytest.approx(0.8),
        "IoU_Ema/road": 0.75,
        "IoU_Ema/tram-rail ": 0.25,
    }


def write_rows(board, monitor, *iterations):
    with board.writing():
        for iteration in iterations:
            board.on_log(monitor, row(iteration))


def losses_in(folder):
    return read(newest(folder), "scalar")["Train/loss"]


def test_after_a_resume_the_curves_continue_in_one_piece(tmp_path, monitor):
    write_rows(boards.Board(str(tmp_path), CLASSES), monitor, 10, 20, 30)
    write_rows(boards.Board(str(tmp_path), CLASSES, start=20), monitor, 40)
    assert losses_in(tmp_path) == [(i, pytest.approx(1 / i)) for i in (10, 20, 40)]


def test_records_of_a_killed_run_that_end_in_the_middle_are_read_up_to_there(tmp_path, monitor):
    write_rows(boards.Board(str(tmp_path), CLASSES), monitor, 10, 20)
    path = pathlib.Path(newest(tmp_path))
    path.write_bytes(path.read_bytes()[:-5])
    kept = boards.records_up_to(str(path), 99)
    assert [record.values[0].id for record in kept] == [10] * 5 + [20] * 4


def test_a_fresh_run_in_an_old_folder_begins_anew(tmp_path, monitor):
    for _ in range(2):
        write_rows(boards.Board(str(tmp_path), CLASSES), monitor, 10)
    assert len(glob.glob(str(tmp_path / "vdlrecords.*"))) == 2
    assert losses_in(tmp_path) == [(10, pytest.approx(0.1))]


def test_an_error_leaves_the_records_readable(tmp_path, monitor):
    board = boards.Board(str(tmp_path), CLASSES)
    with pytest.raises(KeyError), board.writing():
        board.on_log(monitor, row(10))
        raise KeyError
    assert losses_in(tmp_path) == [(10, pytest.approx(0.1))]


def test_a_model_that_cannot_be_traced_is_said_and_no_file_is_left(tmp_path, capsys):
    class Stubborn(paddle.nn.Layer):
        def forward(self, x):
            raise ValueError("not today")

    boards.Board(str(tmp_path), CLASSES).add_graph(Stubborn(), [1, 3, 8, 8])
    assert os.listdir(tmp_path) == []
    assert "warning: VisualDL gets no graph, as the model could not be traced: " in capsys.readouterr().err


def test_a_full_disk_loses_the_records_of_that_time_alone(tmp_path, monitor, monkeypatch, capsys):
    from visualdl.io import bfile

    write, full = bfile.LocalFileSystem._write, []

    def on_a_full_disk(self, path, content, mode):
        write(self, path, content[:5] if full else content, mode)
        if full:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(bfile.LocalFileSystem, "_write", on_a_full_disk)
    monitor.losses = np.ones(1)
    board = boards.Board(str(tmp_path), CLASSES)
    with board.writing():
        for iteration in (10, 20, 30, 40):
            board.writer._get_file_writer().flush()
            full[:] = [True] if 10 < iteration < 40 else []
            board.on_log(monitor, row(iteration))
            board.writer._get_file_writer().flush()
    (path,) = glob.glob(str(tmp_path / "vdlrecords.*.log"))
    assert [step for step, _ in read(path, "scalar")["Train/loss"]] == [10, 40]
    assert capsys.readouterr().err.count("No space left on device. Training continues") == 1
