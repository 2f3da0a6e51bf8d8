"""The progress line, on a terminal and in a file."""

import io
import sys

import pytest

from ppliteseg_paddle.engine.callbacks import progress
from ppliteseg_paddle.engine.loop.budget import Budget, OpenEnd
from ppliteseg_paddle.engine.loop.evaluation import Bars
from ppliteseg_paddle.engine.loop.log import LogLines, say
from ppliteseg_paddle.engine.loop.monitor import Monitor

EVALUATION = {"mIoU": 0.5512, "acc": 0.881, "kappa": 0.8, "class_iou": [0.9, 0.125], "ema": False, "seconds": 65.2}


class Optimizer:
    def get_lr(self):
        return 0.0281


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def monitor(tmp_path):
    return Monitor(Optimizer(), str(tmp_path), start=100)


def test_the_line_holds_iteration_loss_rate_times_images_and_eta(monitor):
    line = progress.ProgressLine(total=400, start=100, images=8)
    monitor.callbacks = [line]
    monitor.stepped(0.0, 1.0)
    assert line.text(101, 0.0281) == "iter 101/400  loss -  lr 0.0281  1.000 s/step (data 0.000)  8 images/s  ETA 4:59"
    line.on_log(monitor, {"loss": 0.43121})
    monitor.stepped(0.5, 2.0)
    assert (
        line.text(102, 0.0281)
        == "iter 102/400  loss 0.4312  lr 0.0281  1.500 s/step (data 0.250)  5.33 images/s  ETA 7:27"
    )


@pytest.mark.parametrize(
    "iteration, total, evaluations",
    [(100, 400, 3), (199, 400, 3), (200, 400, 2), (399, 450, 2), (400, 450, 1), (450, 450, 0)],
)
def test_the_eta_counts_the_evaluations_to_come(monitor, iteration, total, evaluations):
    line = progress.ProgressLine(total=total, start=100, images=8, save_interval=100, evaluates=True)
    line.on_eval(monitor, None, {**EVALUATION, "seconds": 1000.0})
    line.on_eval(monitor, None, {**EVALUATION, "ema": True, "seconds": 500.0})
    assert line.remaining(iteration, 2.0) == (total - iteration) * 2.0 + evaluations * 1500.0


def test_with_a_budget_the_eta_is_what_is_left_of_it(monitor):
    now = [0.0]
    budget = Budget(10, iters=1000, clock=lambda: now[0])
    line = progress.ProgressLine(OpenEnd(budget, 100), 100, images=4, budget=budget)
    monitor.callbacks = [line]
    for _ in range(2):
        now[0] += 30
        budget.tick()
        monitor.stepped(0.0, 30.0)
    assert line.text(102, 0.1) == "iter 102/120  loss -  lr 0.1  30.000 s/step (data 0.000)  0.133 images/s  ETA 9:00"


def test_an_evaluation_is_told_class_by_class():
    assert progress.evaluation_lines(EVALUATION, 400, ["road", "sign_symbol"]) == (
        "[EVAL] iter 400: mIoU 55.12 %, pixels right 88.10 %, in 1:05\n       IoU %: road 90.0, sign symbol 12.5"
    )
    assert "iter 400, averaged weights: mIoU" in progress.evaluation_lines({**EVALUATION, "ema": True}, 400, ["road"])


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_durations_are_hours_minutes_and_seconds(seconds, text):
    assert progress.duration(seconds) == text


def run(monitor, line, log_lines):
    """What a run does, with its logger and evaluation bar."""
    line.tells_evaluations = not log_lines
    monitor.callbacks = [*([LogLines(400)] if log_lines else []), line]
    monitor.log_iters = 101
    with progress.shown(line):
        monitor.computed(0.5, [0.5])
        monitor.stepped(0.0, 1.0, 8)
        bar = Bars.Progbar(target=2, verbose=1)
        bar.update(1, [("batch_cost", 0.1)])
        bar.update(2, [("batch_cost", 0.1)])
        monitor.evaluated({"mIoU": 0.5512, "acc": 0.881, "class_iou": [0.9], "kappa": 0.8}, 65.2)
        say("[EVAL] Best model's mIoU: 0.5512, at iter 101.")


TRAIN_LINE = (
    "[TRAIN] epoch: 1, iter: 101/400, loss: 0.5000, lr: 0.028100, batch_cost: 1.0000, reader_cost: 0.00000, "
    "ips: 8.0000 samples/sec | ETA 00:04:59"
)


def test_in_a_file_stands_paddlesegs_log_and_nothing_else(monitor, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", written)
    run(monitor, progress.ProgressLine(400, 100, images=8, classes=["road"]), log_lines=True)
    assert [text.split("\t")[1] for text in written.getvalue().splitlines()] == [
        TRAIN_LINE,
        "[EVAL] Best model's mIoU: 0.5512, at iter 101.",
    ]


def test_on_a_terminal_one_line_is_kept_up_to_date_and_the_rest_scrolls_past(monitor, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    run(monitor, progress.ProgressLine(400, 100, images=8, classes=["road"]), log_lines=False)
    lines = [text.split("\r")[-1] for text in screen.getvalue().replace("\x1b[A", "").splitlines()]
    told = [text for text in lines if "[" in text.split("|")[0]]
    assert "[TRAIN]" not in screen.getvalue()
    assert told[0] == "[EVAL] iter 101: mIoU 55.12 %, pixels right 88.10 %, in 1:05"
    assert told[1].endswith("[EVAL] Best model's mIoU: 0.5512, at iter 101.")
    assert lines[-1].endswith("iter 101/400  loss -  lr 0.0281  1.000 s/step (data 0.000)  8 images/s  ETA 4:59")


def test_a_log_in_a_file_is_complete_even_if_the_line_is_on_a_terminal(monitor, monkeypatch):
    log, screen = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", log)
    monkeypatch.setattr(sys, "stderr", screen)
    run(monitor, progress.ProgressLine(400, 100, images=8, classes=["road"]), log_lines=True)
    assert TRAIN_LINE in log.getvalue() and "pixels right" not in log.getvalue()
    assert "iter 101/400" in screen.getvalue()
