"""What stands around PaddleSeg's loop, without running it."""

import os
import threading
import time

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.engine.loop import surroundings as loop
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.errors import ConfigError, DataError, PPLiteSegError

LINE = (
    "[TRAIN] epoch: 2, iter: %d/90, loss: %s, lr: 0.010000, batch_cost: 0.5000, reader_cost: 0.02500, "
    "ips: 8.0000 samples/sec | ETA 00:00:40"
)


class Optimizer:
    def get_lr(self):
        return 0.0123


@pytest.fixture
def watch(tmp_path):
    return loop.Monitor(Optimizer(), str(tmp_path))


def evaluation(miou):
    return miou, 0.9, np.array([miou, miou]), None, 0.8


def save_checkpoint(tmp_path, iteration):
    paddle.save({"w": paddle.ones([1])}, str(tmp_path / (f"iter_{iteration:d}") / "model.pdparams"))
    paddle.save({"m": paddle.ones([1])}, str(tmp_path / (f"iter_{iteration:d}") / "model.pdopt"))


def save_best(tmp_path, value):
    paddle.save({"w": paddle.full([1], value)}, str(tmp_path / "best_model" / "model.pdparams"))


def test_the_loops_own_log_line_is_understood(watch):
    from paddleseg.core import train  # noqa: F401  the line is written there, see the test of a real run

    watch.clock = lambda: 12.3456
    watch.logged(LINE % (20, "0.7500"))
    assert watch.rows == [
        {
            "iter": 20,
            "epoch": 2,
            "loss": 0.75,
            "lr": 0.01,
            "batch_cost": 0.5,
            "reader_cost": 0.025,
            "ips": 8.0,
            "elapsed": 12.346,
        }
    ]


def test_other_log_lines_pass_unchanged(watch):
    assert watch.logged("hello") == "hello"
    assert watch.rows == []


def test_the_first_loss_after_a_resume_in_mid_window_is_corrected(tmp_path):
    watch = loop.Monitor(Optimizer(), str(tmp_path), start=15, log_iters=10)
    assert "loss: 1.5000" in watch.logged(LINE % (20, "0.7500"))
    assert "loss: 0.7500" in watch.logged(LINE % (30, "0.7500"))
    assert [row["loss"] for row in watch.rows] == [1.5, 0.75]


@pytest.mark.parametrize("loss", ["nan", "inf"])
def test_a_loss_that_is_no_number_ends_the_run_with_the_way_on(watch, tmp_path, loss):
    with loop.safe_saving(watch):
        save_checkpoint(tmp_path, 10)
    with pytest.raises(
        PPLiteSegError, match=f"the loss is {loss} at iteration 20.*go on from .*iter_10 with a lower --learning_rate"
    ):
        watch.logged(LINE % (20, loss))


def test_a_checkpoint_that_holds_no_numbers_is_not_advised(watch, tmp_path):
    with loop.safe_saving(watch):
        save_checkpoint(tmp_path, 10)
        save_checkpoint(tmp_path, 20)
    paddle.save({"w": paddle.to_tensor([float("nan")])}, str(tmp_path / "iter_20" / "model.pdparams"))
    with pytest.raises(PPLiteSegError, match=f"go on from {(tmp_path / 'iter_10')} with a lower"):
        watch.logged(LINE % (30, "nan"))


def test_the_way_on_is_that_of_this_run(tmp_path):
    save_checkpoint(tmp_path, 900)  # of another run
    watch = loop.Monitor(Optimizer(), str(tmp_path))
    assert watch.how_to_go_on() == "no checkpoint was written yet (a smaller --save_interval writes them earlier)"
    watch = loop.Monitor(Optimizer(), str(tmp_path), start=7, resumed="old/iter_7/")
    assert (watch.how_to_go_on(), watch.iteration) == ("go on with: --resume_model old/iter_7/", 7)
    with loop.safe_saving(watch):
        save_checkpoint(tmp_path, 10)
    assert (watch.how_to_go_on(), watch.iteration) == (f"go on with: --resume_model {(tmp_path / 'iter_10')}", 10)


def test_fp16_may_overflow_for_a_while(tmp_path):
    watch = loop.Monitor(Optimizer(), str(tmp_path), fp16=True)
    for iteration in (10, 20, 30):
        watch.logged(LINE % (iteration, "nan"))
    with pytest.raises(PPLiteSegError, match="at iteration 40"):
        watch.logged(LINE % (40, "nan"))


def test_the_best_model_is_overwritten_only_by_a_better_one(watch, tmp_path):
    with loop.safe_saving(watch):
        for iteration, miou in ((10, 0.5), (20, 0.4), (30, 0.6)):
            watch.evaluated(evaluation(miou), 1.0)
            save_checkpoint(tmp_path, iteration)
            save_best(tmp_path, miou)
            if iteration == 20:
                assert float(paddle.load(str(tmp_path / "best_model" / "model.pdparams"))["w"]) == 0.5
    assert float(paddle.load(str(tmp_path / "best_model" / "model.pdparams"))["w"]) == pytest.approx(0.6)
    assert (watch.best.miou, watch.best.iteration) == (0.6, 30)
    assert [(e["iter"], e["mIoU"]) for e in watch.evaluations] == [(10, 0.5), (20, 0.4), (30, 0.6)]


def test_after_a_resume_a_worse_model_does_not_overwrite_the_best(watch, tmp_path):
    with loop.safe_saving(watch):
        watch.evaluated(evaluation(0.5), 1.0)
        save_checkpoint(tmp_path, 10)
        save_best(tmp_path, 0.5)
    resumed = loop.Monitor(Optimizer(), str(tmp_path), start=10)
    with loop.safe_saving(resumed):
        resumed.evaluated(evaluation(0.3), 1.0)
        save_checkpoint(tmp_path, 20)
        save_best(tmp_path, 0.3)
    assert float(paddle.load(str(tmp_path / "best_model" / "model.pdparams"))["w"]) == 0.5
    assert (
        resumed.logged("[EVAL] The model with the best validation mIoU (0.3000) was saved at iter 20.")
        == "[EVAL] Best model's mIoU: 0.5000, at iter 10."
    )


def test_the_averaged_model_has_a_best_of_its_own(watch, tmp_path):
    with loop.safe_saving(watch):
        watch.evaluated(evaluation(0.5), 1.0)
        watch.evaluated(evaluation(0.7), 1.0)
        save_checkpoint(tmp_path, 10)
        save_best(tmp_path, 0.5)
        paddle.save({"w": paddle.ones([1])}, str(tmp_path / "ema_best_model" / "ema_model.pdparams"))
    assert (watch.best.miou, watch.ema_best.miou) == (0.5, 0.7)
    assert [e["ema"] for e in watch.evaluations] == [False, True]


class Notes(Callback):
    def __init__(self):
        self.notes = []

    def stepped(self, watch, read, whole):
        self.notes.append((watch.steps, read, whole))

    def logged(self, watch, row):
        self.notes.append(("row", row["loss"]))

    def evaluated(self, watch, model, evaluation):
        self.notes.append((model, watch.steps, evaluation["mIoU"], evaluation["ema"]))

    def saved(self, watch):
        self.notes.append(("saved", watch.evaluations[-1]["iter"]))


def test_observers_hear_of_every_step_row_evaluation_and_checkpoint(tmp_path):
    notes = Notes()
    watch = loop.Monitor(Optimizer(), str(tmp_path), start=19, callbacks=[notes])
    with loop.watched_times(watch):
        reading, steps = loop.loop_module().TimeAverager(), loop.loop_module().TimeAverager()
    reading.record(0.1)
    steps.record(0.5, num_samples=4)
    assert (reading.get_average(), steps.get_average(), steps.get_ips_average()) == (0.1, 0.5, 8.0)
    with loop.safe_saving(watch):
        watch.logged(LINE % (20, "0.1000"))
        watch.evaluated(evaluation(0.5), 1.0, "plain")
        watch.evaluated(evaluation(0.6), 1.0, "averaged")
        save_checkpoint(tmp_path, 20)
    assert notes.notes == [
        (20, 0.1, 0.5),
        ("row", 1.0),
        ("plain", 20, 0.5, False),
        ("averaged", 20, 0.6, True),
        ("saved", 20),
    ]


def test_a_save_that_fails_leaves_the_former_file(watch, tmp_path, monkeypatch):
    path = str(tmp_path / "iter_10" / "model.pdparams")
    paddle.save({"w": paddle.ones([1])}, path)

    def full_disk(obj, path, *args, **kwargs):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paddle, "save", full_disk)
    advice = "No space left on device. Make room, or give another --save_dir; no checkpoint was written yet"
    with pytest.raises(ConfigError, match=advice), loop.safe_saving(watch):
        paddle.save({"w": paddle.zeros([1])}, path)
    assert float(paddle.load(path)["w"]) == 1.0
    assert os.listdir(os.path.dirname(path)) == ["model.pdparams"]


def test_everything_replaced_is_put_back(watch):
    module = loop.loop_module()
    before = paddle.save, paddle.flops, module.logger, module.evaluate, threading.excepthook
    with pytest.raises(KeyError), loop.watched_loop(watch):
        assert paddle.save is not before[0] and module.evaluate is not before[3]
        raise KeyError
    assert (paddle.save, paddle.flops, module.logger, module.evaluate, threading.excepthook) == before


class Broken(paddle.io.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return np.zeros(3, np.float32)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_reading_error_arrives_as_it_was_raised(num_workers):
    loader = paddle.io.DataLoader(
        Broken(DataError("label x.png is broken: replace it.")), batch_size=1, num_workers=num_workers
    )
    with pytest.raises(DataError) as caught, loop.reader_errors():
        list(loader)
    assert str(caught.value) == "label x.png is broken: replace it."


def test_a_defect_while_reading_keeps_its_type():
    loader = paddle.io.DataLoader(Broken(ZeroDivisionError("defect")), batch_size=1, num_workers=0)
    with pytest.raises(ZeroDivisionError, match="defect"), loop.reader_errors():
        list(loader)


def test_an_error_of_the_training_reader_during_an_evaluation_arrives_after_it():
    loader = paddle.io.DataLoader(Broken(DataError("label x.png is broken: replace it.")), batch_size=1, num_workers=0)
    with pytest.raises(DataError, match="label x.png is broken"), loop.reader_errors():
        training = iter(loader)
        with loop.reader_errors():
            deadline = time.monotonic() + 30
            while not threading.excepthook.caught and time.monotonic() < deadline:
                time.sleep(0.01)
        list(training)


def test_errors_of_other_threads_are_left_to_python(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    with loop.reader_errors():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert seen == [ZeroDivisionError]


@pytest.mark.parametrize("step, decay", [(1, 0.999), (50, 0.9), (2000, 0.999)])
def test_the_average_of_weights_is_paddlesegs(step, decay):
    from paddleseg.utils.ema import update_ema_model

    def layers():
        paddle.seed(step)
        return [paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4)) for _ in range(2)]

    average, model = layers()
    update_ema_model(average, model, step=step, decay=decay)
    found, model = layers()
    with loop.average_in_place():
        loop.loop_module().update_ema_model(found, model, step=step, decay=decay)
    assert loop.loop_module().update_ema_model is update_ema_model
    for name, value in average.state_dict().items():
        np.testing.assert_allclose(found.state_dict()[name].numpy(), value.numpy(), rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_configured_decay_serves_where_the_loop_names_none():
    average, model = paddle.nn.Linear(1, 1), paddle.nn.Linear(1, 1)
    average.weight.set_value(paddle.zeros([1, 1])), model.weight.set_value(paddle.ones([1, 1]))
    with loop.average_in_place(0.75):
        loop.loop_module().update_ema_model(average, model, step=1000)
    assert float(average.weight) == 0.25
