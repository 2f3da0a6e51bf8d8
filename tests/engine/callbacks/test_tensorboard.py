"""What a run writes for TensorBoard, read back with TensorBoard's own reader, which checks every record's sums."""

import glob
import os
import sys

import cv2
import numpy as np
import pytest
from loop_run import a_monitor
from visualdl import LogReader

from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine.callbacks.show import check_boards
from ppliteseg_paddle.engine.callbacks.tensorboard import TensorBoard
from ppliteseg_paddle.engine.callbacks.visualdl import Board
from ppliteseg_paddle.engine.resume import carry_over
from ppliteseg_paddle.errors import ConfigError, DependencyError

CLASSES = ("road", "tram/rail %")


class Pictures:
    """Samples of one picture, in which red and blue cannot be taken for each other."""

    picture = np.zeros((6, 8, 3), np.uint8)
    picture[:, :4], picture[:3, 4:] = (255, 0, 0), (0, 40, 200)

    def pictures(self, model, evaluation):
        return [("1 street", self.picture)] if evaluation["ema"] else []


@pytest.fixture
def monitor(tmp_path):
    monitor = a_monitor(tmp_path, log_iters=10)
    monitor.losses = np.array([0.1, 0.06, 0.04])
    return monitor


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def losses_in(folder):
    return [(event.step, event.value) for event in read(folder).Scalars("Train/loss")]


def row(iteration):
    return {"iter": iteration, "ips": 8.0, "loss": 1 / iteration, "lr": 0.01, "batch_cost": 0.5, "reader_cost": 0.25}


def write_rows(folder, monitor, *iterations, start=0):
    board = TensorBoard(str(folder), CLASSES, start)
    with board.writing():
        for iteration in iterations:
            board.on_log(monitor, row(iteration))
        board.on_save(monitor)


def steps(*iterations):
    return [(i, pytest.approx(1 / i)) for i in iterations]


def test_scalars_and_pictures_are_those_that_visualdl_gets(tmp_path, monitor):
    monitor.steps = 10
    for kind in (TensorBoard, Board):
        board = kind(str(tmp_path), CLASSES, samples=Pictures())
        with board.writing():
            board.on_log(monitor, row(10))
            for ema in (False, True):
                scores = {"mIoU": 0.5, "acc": 0.9, "kappa": 0.8, "class_iou": [0.75, 0.25]}
                board.on_eval(monitor, None, {**scores, "iter": 10, "ema": ema})
    found = read(tmp_path)
    reader = LogReader(file_path=glob.glob(str(tmp_path / "vdlrecords.*"))[0])
    tags = reader.get_tags()
    assert sorted(found.Tags()["scalars"]) == sorted(tags["scalar"]) and "IoU_Ema/tram-rail " in tags["scalar"]
    for tag in tags["scalar"]:
        theirs = [(item.id, item.value) for item in reader.get_data("scalar", tag)]
        assert [(event.step, event.value) for event in found.Scalars(tag)] == theirs, tag
    assert found.Tags()["images"] == tags["image"] == ["Predictions/1 street"]
    (image,) = found.Images("Predictions/1 street")
    assert (image.step, image.width, image.height) == (10, 8, 6)
    pixels = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(pixels, Pictures.picture)


def test_after_a_resume_the_curves_continue_without_a_step_twice(tmp_path, monitor):
    write_rows(tmp_path, monitor, 10, 20, 30)
    write_rows(tmp_path, monitor, 30, 40, start=20)
    write_rows(tmp_path, monitor, 50, start=40)
    assert losses_in(tmp_path) == steps(10, 20, 30, 40, 50)
    write_rows(tmp_path, monitor, 20, start=10)  # back behind what is there
    assert losses_in(tmp_path) == steps(10, 20)


def test_a_fresh_run_in_an_old_folder_begins_anew(tmp_path, monitor):
    write_rows(tmp_path, monitor, 10, 20)
    write_rows(tmp_path, monitor, 5)
    assert losses_in(tmp_path) == steps(5)


def test_a_resumed_run_in_another_folder_takes_the_records_along(tmp_path, monitor):
    (tmp_path / "[old] run" / "val_pictures").mkdir(parents=True)
    write_rows(tmp_path / "[old] run", monitor, 10)
    write_rows(tmp_path / "[old] run", monitor, 20, 30, start=10)
    (tmp_path / "[old] run" / "val_pictures" / "iter_20.png").write_bytes(b"a picture")
    (tmp_path / "new").mkdir()
    said = carry_over(str(tmp_path / "[old] run" / "iter_20"), str(tmp_path / "new"))
    assert said.count("events.out.tfevents.") == 2 and said.endswith(", val_pictures")
    assert (tmp_path / "new" / "val_pictures" / "iter_20.png").read_bytes() == b"a picture"
    write_rows(tmp_path / "new", monitor, 30, 40, start=20)
    assert losses_in(tmp_path / "new") == steps(10, 20, 30, 40)


def test_what_was_written_is_there_when_the_run_is_killed(tmp_path, monitor):
    """The file is read while it is open: nothing waits in the process for a flush."""
    board = TensorBoard(str(tmp_path), CLASSES)
    with board.writing():
        board.on_log(monitor, row(10))
        assert losses_in(tmp_path) == steps(10)


def test_a_record_that_was_cut_by_the_machines_end_hides_no_later_run(tmp_path, monitor):
    write_rows(tmp_path, monitor, 10, 20, 30)
    (path,) = glob.glob(str(tmp_path / "events.*"))
    os.truncate(path, os.path.getsize(path) - 5)
    write_rows(tmp_path, monitor, 30, 40, start=20)
    assert losses_in(tmp_path) == steps(10, 20, 30, 40)


def test_a_full_disk_loses_the_records_of_that_time_alone(tmp_path, monitor, monkeypatch, capsys):
    real_write, full = os.write, []

    def on_a_full_disk(handle, data):
        if full and handle == board.file.handle:
            if full.pop() == "half":
                full.append("none")
                return real_write(handle, data[:5])
            full.append("half")
            raise OSError(28, os.strerror(28))
        return real_write(handle, data)

    board = TensorBoard(str(tmp_path), CLASSES)
    monitor.callbacks = [board]
    monkeypatch.setattr(os, "write", on_a_full_disk)
    with board.writing():
        for iteration in (10, 20, 30, 40):
            full[:] = ["half"] if 10 < iteration < 40 else []
            monitor.steps = iteration
            monitor.tell("on_log", row(iteration))
    assert losses_in(tmp_path) == steps(10, 40)
    assert capsys.readouterr().err == (
        "warning: TensorBoard.on_log failed at iteration 20 (OSError: [Errno 28] No space left on device); training "
        "continues and tries it again.\n"
    )


def test_a_file_that_cannot_be_begun_is_one_line(tmp_path):
    board = TensorBoard(str(tmp_path / "gone"), CLASSES)
    with pytest.raises(ConfigError) as raised, board.writing():
        pass
    assert str(raised.value) == f"cannot write {board.file.path}: No such file or directory."


@pytest.mark.parametrize("flag, package", [("use_tensorboard", "tensorboard"), ("use_vdl", "visualdl")])
def test_a_missing_package_is_said_before_the_run(monkeypatch, flag, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError) as raised:
        check_boards(TrainOptions(**{flag: True}))
    assert str(raised.value).startswith(f"--{flag} needs {package}, which cannot be imported (")
    assert str(raised.value).endswith(f"): pip install {package}, or leave --{flag} out.")
