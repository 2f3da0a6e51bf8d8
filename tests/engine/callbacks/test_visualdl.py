"""What a run writes for VisualDL, read back with VisualDL's own reader."""

import glob
import os

import cv2
import numpy as np
import paddle
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.callbacks import visualdl as boards
from ppliteseg_paddle.engine.loop import surroundings as loop

CLASSES = ("road", "tram/rail %")


class Optimizer:
    def get_lr(self):
        return 0.01


def evaluation(ema=False):
    return {"mIoU": 0.5, "acc": 0.9, "kappa": 0.8, "class_iou": [0.75, 0.25], "ema": ema, "seconds": 1.0}


def row(iteration):
    return {"iter": iteration, "ips": 8.0, "loss": 0.5}


@pytest.fixture
def watch(tmp_path):
    return loop.Monitor(Optimizer(), str(tmp_path), log_iters=10)


def read(path, kind):
    """tag -> [(step, value)]"""
    from visualdl import LogReader

    reader = LogReader(file_path=path)
    return {
        tag: [(item.id, item.value) for item in reader.get_data(kind, tag)] for tag in reader.get_tags().get(kind, [])
    }


def newest(folder):
    return sorted(glob.glob(os.path.join(str(folder), "vdlrecords.*")))[-1]


def as_the_loop_does(folder):
    from visualdl import LogWriter

    return LogWriter(str(folder))


def test_the_loops_scalars_and_ours_stand_in_one_file(tmp_path, watch):
    board = boards.Board(str(tmp_path), CLASSES)
    with boards.written(board):
        writer = as_the_loop_does(tmp_path)
        board.logged(watch, row(10))
        writer.add_scalar("Train/loss", 0.5, 10)
        watch.steps = 10
        board.evaluated(watch, None, evaluation())
        board.evaluated(watch, None, evaluation(ema=True))
        writer.add_scalar("Evaluate/mIoU", 0.5, 10)
    assert len(glob.glob(str(tmp_path / "vdlrecords.*"))) == 1
    scalars = read(newest(tmp_path), "scalar")
    assert {tag: values for tag, ((_, values),) in scalars.items()} == {
        "Train/ips": 8.0,
        "Train/loss": 0.5,
        "Evaluate/Kappa": pytest.approx(0.8),
        "IoU/road": 0.75,
        "IoU/tram-rail ": 0.25,
        "Evaluate/Ema_Kappa": pytest.approx(0.8),
        "IoU_Ema/road": 0.75,
        "IoU_Ema/tram-rail ": 0.25,
        "Evaluate/mIoU": 0.5,
    }


def test_after_a_resume_the_curves_go_on_in_one_piece(tmp_path, watch):
    with boards.written(boards.Board(str(tmp_path), CLASSES)):
        writer = as_the_loop_does(tmp_path)
        for step in (10, 20, 30):
            writer.add_scalar("Train/loss", 1 / step, step)
    resumed = boards.Board(str(tmp_path), CLASSES, start=20)
    with boards.written(resumed):
        as_the_loop_does(tmp_path).add_scalar("Train/loss", 0.5, 30)
    assert read(newest(tmp_path), "scalar")["Train/loss"] == [
        (10, pytest.approx(0.1)),
        (20, pytest.approx(0.05)),
        (30, 0.5),
    ]


def test_records_of_a_killed_run_that_end_in_the_middle_are_read_up_to_there(tmp_path):
    with boards.written(boards.Board(str(tmp_path), CLASSES)):
        writer = as_the_loop_does(tmp_path)
        for step in (10, 20):
            writer.add_scalar("Train/loss", 0.5, step)
    path = newest(tmp_path)
    os.truncate(path, os.path.getsize(path) - 5)
    assert [record.values[0].id for record in boards.records_up_to(path, 99)] == [10]


def test_a_fresh_run_in_an_old_folder_begins_anew(tmp_path):
    for _ in range(2):
        with boards.written(boards.Board(str(tmp_path), CLASSES)):
            as_the_loop_does(tmp_path).add_scalar("Train/loss", 0.5, 10)
    assert len(glob.glob(str(tmp_path / "vdlrecords.*"))) == 2
    assert read(newest(tmp_path), "scalar")["Train/loss"] == [(10, 0.5)]


def test_the_first_loss_after_a_resume_in_mid_window_is_corrected(tmp_path, watch):
    board = boards.Board(str(tmp_path), CLASSES)
    watch.correction = 2.0
    with boards.written(board):
        board.logged(watch, row(20))
        for tag in ("Train/loss", "Train/loss_0", "Train/lr"):
            board.add_scalar(tag, 0.25, 20)
    scalars = read(newest(tmp_path), "scalar")
    assert [scalars[tag][0][1] for tag in ("Train/loss", "Train/loss_0", "Train/lr")] == [0.5, 0.5, 0.25]


def test_other_ranks_write_nothing(tmp_path):
    with boards.written(None):
        writer = as_the_loop_does(tmp_path)
        writer.add_scalar("Train/loss", 0.5, 10)
        writer.close()
    assert os.listdir(tmp_path) == []


def test_visualdl_itself_is_put_back(tmp_path):
    import visualdl

    before = visualdl.LogWriter
    with pytest.raises(KeyError), boards.written(boards.Board(str(tmp_path), CLASSES)):
        raise KeyError
    assert visualdl.LogWriter is before


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("board") / "data", val=7)
    return load_config(write_config(root / "c.yml", values(root)))


@pytest.mark.slow
def test_the_same_images_are_drawn_at_every_evaluation(config, tmp_path, watch):
    samples = boards.Samples(build_val_dataset(config), config)
    assert [name for name, _, _ in samples.pairs] == ["1 09", "2 11", "3 13"]
    model = build_model(config)
    model.train()
    board = boards.Board(str(tmp_path), CLASSES, samples=samples)
    with boards.written(board):
        for watch.steps in (10, 20):
            board.evaluated(watch, model, evaluation())
            board.evaluated(watch, model, evaluation(ema=True))  # not these
    assert model.training
    from visualdl import LogReader

    reader = LogReader(file_path=newest(tmp_path))
    assert reader.get_tags()["image"] == ["Predictions/1 09", "Predictions/2 11", "Predictions/3 13"]
    records = reader.get_data("image", "Predictions/1 09")
    assert [record.id for record in records] == [10, 20]
    picture = cv2.imdecode(np.frombuffer(records[0].image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    row_height = boards.CELL_WIDTH * samples.pairs[0][1].shape[0] / samples.pairs[0][1].shape[1]
    assert picture.shape[1] > 3 * boards.CELL_WIDTH and picture.shape[0] > row_height
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    palette = config_palette(config)
    assert {
        palette[3][::-1],
        palette[8][::-1],
    } <= colors  # road and car of the truth: not with red and blue in each other's place


def test_a_data_set_that_cannot_be_read_by_index_shows_no_samples(config):
    assert boards.Samples(range(5), config).pairs == [] and boards.Samples(None, config).pairs == []


def config_palette(config):
    from ppliteseg_paddle.engine.build import label_set_of

    return label_set_of(config).palette


def test_a_model_that_cannot_be_traced_is_said_and_no_file_is_left(tmp_path, capsys):
    class Stubborn(paddle.nn.Layer):
        def forward(self, x):
            raise ValueError("not today")

    boards.Board(str(tmp_path), CLASSES).add_graph(Stubborn(), [1, 3, 8, 8])
    assert os.listdir(tmp_path) == []
    assert "warning: VisualDL gets no graph, as the model could not be traced: " in capsys.readouterr().err
