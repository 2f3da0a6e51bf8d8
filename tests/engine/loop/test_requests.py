"""Signals to a training run: it finishes the step, saves it, says how to resume, and ends or continues."""

import dataclasses
import os
import signal

import numpy as np
import pytest
from loop_run import a_run

from ppliteseg_paddle import signals
from ppliteseg_paddle.cli import train as command
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.engine.checkpoint import damage
from ppliteseg_paddle.engine.loop import requests
from ppliteseg_paddle.engine.loop.monitor import Callback

pytestmark = pytest.mark.slow  # trains


class SendAt(Callback):
    """Sends this process a signal at an event of a run."""

    def __init__(self, number, event, step):
        self.number, self.step, self.seen = number, step, []
        setattr(self, event, self.send)

    def send(self, monitor, *details):
        self.seen.append(monitor.steps)
        if monitor.steps == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def train(config_path, tmp_path, monkeypatch, capsys):
    """Runs `ppliteseg train` in this process. Returns: its exit status, and what it said last."""
    options_of = command.options_of

    def run(callback, *flags):
        monkeypatch.setattr(
            command, "options_of", lambda args: dataclasses.replace(options_of(args), callbacks=[callback])
        )
        save_dir = str(tmp_path / "o")
        line = ["train", "--config", config_path, "--save_dir", save_dir, "--iters", "4", "--device", "cpu", *flags]
        status = main(line)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        return status, lines, f"ppliteseg {' '.join(line)} --resume_model {save_dir}"

    return run


@pytest.mark.parametrize(
    "number, status, flags",
    [(signal.SIGINT, 130, ["--use_ema"]), (signal.SIGTERM, 143, ["--num_workers", "2"]), (signal.SIGHUP, 129, [])],
)
def test_a_signal_ends_the_run_after_its_step_is_saved(train, tmp_path, number, status, flags):
    ended, lines, resume = train(SendAt(number, "on_step", 2), *flags)
    assert ended == status
    assert lines[-1] == f"interrupted by {number.name}: stopped after iteration 2; resume with: {resume}/iter_2"
    assert sum("resume with" in line for line in lines) == 1
    assert damage(str(tmp_path / "o" / "iter_2")) is None
    assert sorted(name for name in os.listdir(tmp_path / "o") if name.startswith(("iter", "."))) == ["iter_2"]


def test_a_signal_in_an_evaluation_ends_it_with_its_checkpoint_saved(train, tmp_path, monkeypatch):
    from ppliteseg_paddle.engine import val

    monkeypatch.setattr(val, "confusion_on_device", lambda *args: os.kill(os.getpid(), signal.SIGTERM) or 0)
    status, lines, resume = train(SendAt(0, "on_eval", -1), "--do_eval", "--save_interval", "2")
    assert (status, lines[-1].split("resume with: ")[1]) == (143, f"{resume}/iter_2")
    assert damage(str(tmp_path / "o" / "iter_2")) is None


def test_sigusr1_saves_and_continues(train, tmp_path):
    callback = SendAt(signal.SIGUSR1, "on_step", 3)
    status, lines, _ = train(callback)
    assert (status, callback.seen) == (0, [1, 2, 3, 4])
    assert {"iter_3", "iter_4"} <= set(os.listdir(tmp_path / "o"))
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_signal_before_the_first_step_says_that_there_is_nothing_to_save(train, tmp_path, monkeypatch):
    from ppliteseg_paddle.engine import train as trainer

    monkeypatch.setattr(trainer, "check_data", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM))
    status, lines, _ = train(SendAt(0, "on_step", -1))
    assert status == 143
    assert lines[-1] == "interrupted by SIGTERM: before the first step, so that there is nothing to save"
    assert not (tmp_path / "o").exists()


def test_a_signal_after_the_last_step_leaves_a_complete_run(train):
    assert train(SendAt(signal.SIGTERM, "on_save", 4))[0] == 0


@pytest.mark.parametrize("theirs, ends", [([0, 1, 0, 0], 143), ([0, 0, 0, 1], None)])
def test_what_another_rank_was_asked_for_all_carry_out(tmp_path, monkeypatch, theirs, ends):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(requests, "sum_over_ranks", lambda values, in_step=False: values + np.array(theirs))
    run = a_run(tmp_path)
    run.done = 1
    with signals.ending():
        requests.agree(run)
        assert run.saves_now
        monkeypatch.setattr(requests, "sum_over_ranks", lambda values, in_step=False: values)
        if ends is None:
            requests.carry_out(run)
        else:
            with pytest.raises(signals.Interrupted) as caught:
                requests.carry_out(run)
            assert caught.value.exit_status == ends
    assert not run.asked
