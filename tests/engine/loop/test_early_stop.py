"""A run ends when its evaluations do not improve any more."""

import json

import numpy as np
import pytest
from loop_run import a_monitor, a_run, evaluation, save_checkpoint

from ppliteseg_paddle.engine.best import Metric
from ppliteseg_paddle.engine.loop.budget import Budget, OpenEnd
from ppliteseg_paddle.engine.loop.early_stop import EarlyEnd, EarlyStop
from ppliteseg_paddle.engine.loop.evaluation import fast_and_noted, stopped_before
from ppliteseg_paddle.engine.loop.state import gather, restore
from ppliteseg_paddle.errors import ConfigError


def row(iteration, value, ema=False):
    return {**evaluation(value), "iter": iteration, "ema": ema}


def counted(limit, *values, ema=()):
    """A count of evaluations at 10, 20, ... with these values of mIoU."""
    stop = EarlyStop(Metric(), limit)
    for number, value in enumerate(values, 1):
        stop.note(row(10 * number, value))
        for average in ema[number - 1 : number]:
            stop.note(row(10 * number, average, ema=True))
    return stop


@pytest.mark.parametrize(
    "values, over",
    [
        ((0.5,), False),
        ((0.5, 0.4), False),
        ((0.5, 0.4, 0.45), True),  # better than the one before is not enough
        ((0.5, 0.5, 0.5), True),  # equal is no improvement
        ((0.5, 0.4, 0.6, 0.5), False),
        ((float("nan"), 0.1, 0.1), False),
    ],
)
def test_a_run_is_over_after_as_many_evaluations_without_improvement(values, over):
    assert counted(2, *values).over is over


def test_an_improvement_of_the_averaged_weights_counts():
    assert counted(2, 0.5, 0.4, 0.4, ema=(0.1, 0.2, 0.2)).over is False
    assert counted(2, 0.5, 0.4, 0.4, ema=(0.3, 0.2, 0.2)).over is True


def test_after_its_end_an_iteration_is_never_below():
    end, at = EarlyEnd(100), 99
    assert (at < end, at > end, at == end, at != end, at >= end, at <= end) == (True, False, False, True, False, True)
    assert end - 40 == 60 and f"{end:d}" == "100" and end == at + 1
    end.end()
    assert (at < end, at > end, at == end, at != end, at >= end, at <= end) == (False, True, True, False, True, True)


def run_of(tmp_path, limit=2, iters=None, **options):
    monitor = a_monitor(tmp_path, early_stop=EarlyStop(Metric(), limit), start=options.pop("start", 0))
    return a_run(tmp_path, monitor=monitor, iters=EarlyEnd(90) if iters is None else iters, **options)


def evaluate_as(run, iteration, value, ema=False):
    """The evaluation after a step, as the loop has it made."""

    def scored(model, dataset, **options):
        if value is None:
            raise ConfigError("a bad label")
        return {**evaluation(value), "present": [], "predicted": [], "class_precision": []}

    run.evaluate, run.done, run.monitor.steps = scored, iteration, iteration
    fast_and_noted(run, lambda: None)(run.ema_model if ema else run.model, "data", print_detail=False)


def test_the_loop_ends_after_the_last_of_them_and_says_which_was_best(tmp_path, capsys):
    run = run_of(tmp_path)
    for iteration, value in ((10, 0.5), (20, 0.4), (30, 0.3)):
        assert iteration < run.iters
        save_checkpoint(run, iteration)
        evaluate_as(run, iteration, value)
    assert not run.iters > 30 and run.at_the_end
    assert (
        "[EVAL] Training stops early at iter 30: mIoU has not improved for 2 evaluations; the best is mIoU 50.00 % at "
        f"iteration 10, in {tmp_path}/best_model." in capsys.readouterr().out
    )


def test_with_averaged_weights_the_run_ends_after_both_evaluations(tmp_path):
    run = run_of(tmp_path, limit=1, use_ema=True)
    run.ema_model = "averaged"
    for iteration, over in ((10, False), (20, True)):
        evaluate_as(run, iteration, 0.5)
        assert iteration < run.iters
        evaluate_as(run, iteration, 0.5, ema=True)
        assert (not iteration < run.iters) is over


def test_an_evaluation_that_fails_is_not_counted(tmp_path):
    run = run_of(tmp_path, limit=1)
    for iteration, value in ((10, 0.5), (20, None), (30, None)):
        evaluate_as(run, iteration, value)
    assert run.iters > 30


def test_a_run_by_time_stops_early_too(tmp_path):
    run = run_of(tmp_path, limit=1, iters=OpenEnd(Budget(60, 90)))
    evaluate_as(run, 10, 0.5)
    assert run.iters > 10
    evaluate_as(run, 20, 0.5)
    assert not run.iters > 20


# --- over a resume ---------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_resumed_count_is_that_of_the_undisturbed_run(tmp_path, at):
    """Whether the evaluation of the checkpoint's step is in the record, or is made up after the resume."""
    values = [0.5, 0.6, 0.4, 0.6]
    run = run_of(tmp_path, limit=2)
    for iteration, value in enumerate(values[: at - 1], 1):
        run.monitor.early_stop.note(row(iteration, value))
    run.monitor.steps = at
    state = json.loads(json.dumps(gather(run)))  # before the evaluation of its step
    rows = [row(iteration, value) for iteration, value in enumerate(values[:at], 1)]
    whole = counted(2, *values[:at])
    for known, made_up in ((rows, []), (rows[:-1], rows[-1:])):
        again = run_of(tmp_path, limit=2, start=at)
        restore(again, state, known)
        for missed in made_up:
            again.monitor.early_stop.note(missed)
        stop = again.monitor.early_stop
        assert (stop.evaluations, stop.improved, stop.best) == (whole.evaluations, whole.improved, whole.best)


def test_a_record_without_the_earlier_evaluations_does_not_reset_the_count():
    stop = EarlyStop(Metric(), 2)
    stop.restore(counted(2, 0.5, 0.4).state(), [])
    stop.note(row(30, 0.45))
    assert stop.over


@pytest.mark.parametrize("state", [None, {}, {"best_by": "acc", "evaluations": 7, "improved": 0}])
def test_without_a_state_of_the_metric_the_record_is_counted(state):
    stop = EarlyStop(Metric(), 2)
    stop.restore(state, [row(10, 0.5), row(20, 0.4)])
    assert (stop.evaluations, stop.improved, stop.over) == (2, 1, False)


def test_a_run_that_had_stopped_is_not_continued(tmp_path):
    rows = [row(10, 0.5), row(20, 0.4), row(30, 0.4)]
    for may_be_over in (True, False):
        run = run_of(tmp_path, start=30, resume_model="o/iter_30")
        restore(run, {}, rows)
        if may_be_over:
            said = stopped_before(run, may_be_over)
            assert said.startswith("the run had stopped early, as mIoU has not improved for 2 evaluations")
            assert not run.iters > 30
        else:
            with pytest.raises(ConfigError, match="--resume_model o/iter_30.*Give a larger --early_stop_intervals"):
                stopped_before(run, may_be_over)
    longer = run_of(tmp_path, limit=3, start=30)
    restore(longer, {}, rows)
    assert stopped_before(longer, False) is None and longer.iters > 30


def test_the_count_is_plain_enough_for_json():
    stop = counted(2, np.float64(0.5).item())
    assert json.loads(json.dumps(stop.state())) == stop.state()
