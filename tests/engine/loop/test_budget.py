"""Training for a given time."""

import json
import os
from pathlib import Path

import paddle
import pytest
from ticks import Ticks
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.budget import Budget, OpenEnd, ScheduleByTime
from ppliteseg_paddle.errors import ConfigError

pytestmark = pytest.mark.slow  # trains for seconds


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def loop(iters, start=0, each=lambda iteration: None):
    """PaddleSeg's way of counting; returns the iterations done and those at which it would evaluate and save."""
    iteration, done, saved = start, [], []
    while iteration < iters:
        for _ in range(4):
            iteration += 1
            if iteration > iters:
                break
            each(iteration)
            done.append(iteration)
            if iteration == iters:
                saved.append(iteration)
    return done, saved


def polynomial(iters=100):
    return paddle.optimizer.lr.PolynomialDecay(1.0, iters, end_lr=0.0, power=1.0)


def test_the_loop_ends_with_the_step_in_which_the_time_runs_out_and_saves_there(clock):
    budget = Budget(1, iters=100, clock=clock)
    schedule = ScheduleByTime(polynomial(), budget)

    def step(iteration):
        clock.seconds += 11
        schedule.step()

    assert loop(OpenEnd(budget), each=step) == ([1, 2, 3, 4, 5, 6], [6])


def test_the_number_of_iterations_is_estimated_from_the_steps_so_far(clock):
    budget = Budget(1, iters=100, clock=clock)
    iters = OpenEnd(budget, start=50)
    for _ in range(2):
        clock.seconds += 10
        budget.tick()
    assert (f"{iters}", f"{iters}", iters - 52) == ("56", "56", 4)


def test_the_rate_follows_the_share_of_the_time(clock):
    budget = Budget(1, iters=100, clock=clock)
    schedule = ScheduleByTime(polynomial(), budget)
    rates = [schedule()]
    for seconds in (15, 30, 12, 3):
        clock.seconds += seconds
        schedule.step()
        rates.append(schedule())
    assert rates == pytest.approx([1.0, 0.75, 0.25, 0.05, 0.0])


def test_warm_up_keeps_its_share_of_the_run(clock):
    budget = Budget(1, iters=100, clock=clock)
    schedule = ScheduleByTime(paddle.optimizer.lr.LinearWarmup(polynomial(90), 10, 0.1, 1.0), budget)
    rates = []
    for _ in range(4):
        clock.seconds += 3
        schedule.step()
        rates.append(schedule())
    assert rates == pytest.approx([0.55, 1.0, 1 - 5 / 90, 1 - 10 / 90])


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: paddle.optimizer.lr.CosineAnnealingDecay(1.0, 100),
        lambda: paddle.optimizer.lr.MultiStepDecay(1.0, [50, 80]),
        lambda: paddle.optimizer.lr.PiecewiseDecay([50, 80], [1.0, 0.5, 0.1]),
        lambda: paddle.optimizer.lr.StepDecay(1.0, 30),
    ],
)
def test_other_schedules_give_the_rate_of_their_iteration(clock, schedule):
    budget, expected = Budget(1, iters=100, clock=clock), schedule()
    timed = ScheduleByTime(schedule(), budget)
    for iteration in range(5, 100, 5):
        clock.seconds = 1000 + 0.6 * iteration
        timed.step()
        expected.step(iteration)
        assert timed() == pytest.approx(expected(), abs=1e-6), iteration


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: paddle.optimizer.lr.MultiplicativeDecay(1.0, lambda i: 0.9),
        lambda: paddle.optimizer.lr.LinearLR(1.0, 10),
    ],
    ids=["MultiplicativeDecay", "LinearLR"],
)
def test_a_schedule_that_depends_on_all_rates_before_is_refused(clock, schedule):
    schedule = schedule()
    with pytest.raises(ConfigError, match=f"cannot stretch the schedule {type(schedule).__name__} over"):
        ScheduleByTime(schedule, Budget(1, 100, clock=clock))


def test_ranks_agree_on_the_time_without_waiting_for_each_other_once_more(clock, monkeypatch):
    """They come from the transfer of the gradients."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(distributed, "barrier", lambda: pytest.fail("waited"))
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda tensor: tensor.add_(paddle.zeros_like(tensor)))
    budget = Budget(1, iters=100, ranks=2, clock=clock)
    clock.seconds += 15
    budget.tick()
    assert budget.used == 15


def test_a_checkpoint_carries_the_time_that_was_used(clock):
    budget = Budget(1, iters=100, clock=clock)
    schedule = ScheduleByTime(polynomial(), budget)
    clock.seconds += 24
    schedule.step()
    saved = schedule.state_dict()
    clock.seconds += 5000  # the run is away
    later = Budget(1, iters=100, clock=clock)
    resumed = ScheduleByTime(polynomial(), later)
    resumed.set_state_dict(saved)
    assert resumed() == pytest.approx(0.6)
    clock.seconds += 6
    resumed.step()
    assert resumed() == pytest.approx(0.5) and not later.over


# --- through PaddleSeg's loop --------------------------------------------------------------------


def test_a_run_of_five_seconds_saves_evaluates_and_can_be_given_more(tmp_path, monkeypatch):
    path = write_config(tmp_path / "c.yml", values(make_data(tmp_path / "data"), iters=100000))
    save_dir = str(tmp_path / "o")
    arguments = dict(save_dir=save_dir, log_iters=1, save_interval=2, device="cpu")
    Ticks(monkeypatch)
    result = trainer.train(load_config(path), max_minutes=5 / 60, do_eval=True, **arguments)
    assert result["iterations"] == 5 and result["last_checkpoint"].endswith("iter_5")
    with pytest.raises(
        ConfigError, match=r"the run had used 0\.1 minutes there, and --max_minutes is 0\.05: nothing is left"
    ):
        trainer.train(load_config(path), max_minutes=3 / 60, resume_model=os.path.join(save_dir, "iter_4"), **arguments)
    with pytest.raises(
        ConfigError,
        match="learning rate follows the time of a run with --max_minutes, of which 0.1 were used: give --max_minutes",
    ):
        trainer.train(load_config(path), resume_model=os.path.join(save_dir, "iter_5"), **arguments)
    Ticks(monkeypatch)
    result = trainer.train(
        load_config(path), max_minutes=7 / 60, resume_model=os.path.join(save_dir, "iter_5"), **arguments
    )
    assert (result["start_iteration"], result["iterations"]) == (5, 7)
    record = json.loads(Path(save_dir, "train.json").read_text())
    assert [(row["iter"], row["lr"]) for row in record["train"]] == [
        (1, pytest.approx(0.01)),
        (2, pytest.approx(0.01 * 0.8**0.9, abs=1e-6)),
        (3, pytest.approx(0.01 * 0.6**0.9, abs=1e-6)),
        (4, pytest.approx(0.01 * 0.4**0.9, abs=1e-6)),
        (5, pytest.approx(0.01 * 0.2**0.9, abs=1e-6)),
        (6, pytest.approx(0.01 * (2 / 7) ** 0.9, abs=1e-6)),
        (7, pytest.approx(0.01 * (1 / 7) ** 0.9, abs=1e-6)),
    ]
    assert record["max_minutes"] == 7 / 60 and [row["iter"] for row in record["eval"]] == [2, 4, 5]


def test_time_is_kept_for_what_follows_the_last_step(clock):
    budget = Budget(1, iters=100, clock=clock)
    budget.steps_after = 2
    schedule, rates = ScheduleByTime(polynomial(), budget), []

    def step(iteration):
        clock.seconds += 5
        schedule.step()
        rates.append(schedule.get_lr())

    assert loop(OpenEnd(budget), each=step) == (list(range(1, 11)), [10])  # 50 s, and 10 for the two
    assert rates[4] == pytest.approx(0.5) and rates[-1] == 0
    assert [Budget(1, 100)._reserve(), budget._reserve()] == [0, 10]
    budget.steps_after = 1000
    assert budget._reserve() == 12  # a fifth of the time at most
