import pytest

from ppliteseg_paddle.benchmark import timing
from ppliteseg_paddle.benchmark.timing import (
    Measurement,
    describe,
    measure,
    measure_round_robin,
    percentile,
    ratios,
    timed,
)
from ppliteseg_paddle.errors import ConfigError


class Clock:
    """A call whose times are known beforehand, and the clock that agrees with it."""

    def __init__(self, seconds):
        self.seconds, self.calls, self.now = list(seconds), 0, 0.0

    def __call__(self):
        taken = self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1
        self.now += taken
        return {"forward": 0.75 * taken, "total": taken}

    def perf_counter(self):
        return self.now


@pytest.fixture
def clocked(monkeypatch):
    def make(seconds):
        clock = Clock(seconds)
        monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
        return clock

    return make


def test_warm_up_continues_until_times_are_steady(clocked):
    call = clocked([1.0] * 5 + [0.5] * 5 + [0.1])  # falling, then 0.1 s for ever
    measured = measure(call)
    assert measured.steady and measured.warmup == 20  # windows of 5: 1.0, 0.5, then 0.1 twice
    assert set(measured.seconds["total"]) == {0.1}
    assert len(measured.seconds["total"]) in (30, 31)  # 3 s of them; sums of floats


def test_warm_up_ends_after_a_while_even_if_times_never_become_steady(clocked):
    call = clocked([0.5 + 0.2 * (i // 5 % 2) for i in range(1000)])
    measured = measure(call, repeats=3)
    assert not measured.steady and sum(call.seconds[: measured.warmup]) >= 10 > sum(call.seconds[: measured.warmup - 1])


def test_given_numbers_are_kept(clocked):
    call = clocked([1.0])
    measured = measure(call, warmup=2, repeats=7)
    assert (measured.warmup, len(measured.seconds["total"]), call.calls) == (2, 7, 9)
    assert measured.seconds["forward"] == [0.75] * 7
    assert measure(clocked([1.0]), warmup=0, repeats=1).seconds == {"forward": [0.75], "total": [1.0]}


def test_fast_calls_are_repeated_for_three_seconds_and_slow_ones_twenty_times(clocked):
    assert len(measure(clocked([0.01]), warmup=1).seconds["total"]) in (300, 301)
    assert len(measure(clocked([2.0]), warmup=1).seconds["total"]) == 20


def test_impossible_numbers_are_refused():
    for options in ({"repeats": 0}, {"warmup": -1}):
        with pytest.raises(ConfigError):
            measure(lambda: {"total": 1.0}, **options)


def test_a_description_holds_median_percentiles_rate_and_spread():
    values = describe([0.001 * i for i in range(1, 102)])  # 1 to 101 ms
    assert values["median_ms"] == pytest.approx(51)
    assert values["p90_ms"] == pytest.approx(91) and values["p99_ms"] == pytest.approx(100)
    assert (values["min_ms"], values["max_ms"]) == (pytest.approx(1), pytest.approx(101))
    assert values["fps"] == pytest.approx(1000 / 51)
    assert values["spread"] == pytest.approx(50 / 51)
    assert values["std_ms"] == pytest.approx(29.154759)


def test_percentiles_lie_between_neighbours():
    assert percentile([1.0, 2.0], 50) == 1.5 and percentile([3.0], 99) == 3.0 and percentile([1.0, 2.0, 4.0], 75) == 3.0


def test_several_calls_are_timed_round_robin_and_warm_up_is_not_counted():
    order = []

    def call(name):
        return lambda: order.append(name) or {"total": 1.0}

    measured = measure_round_robin({"a": call("a"), "b": call("b")}, warmup=1, repeats=3)
    assert order == ["a", "b"] * 4
    assert [len(measured[name].seconds["total"]) for name in "ab"] == [3, 3] and measured["a"].warmup == 1


def test_candidates_on_the_cpu_rest_before_each_block_of_a_second(monkeypatch):
    order, seconds = [], {"a": 0.25, "b": 0.125}
    monkeypatch.setattr(timing.time, "sleep", lambda time: order.append(time))

    def call(name):
        return lambda: order.append(name) or {"total": seconds[name]}

    calls = {"a": call("a"), "b": call("b")}
    measured = measure_round_robin(calls, warmup=1, repeats=6, rest=0.3)
    first, second = (
        [0.3] + ["a"] * 5 + [0.3] + ["b"] * 5,
        [0.3] + ["a"] * 3 + [0.3] + ["b"] * 3,
    )  # one of each is not timed
    assert order == ["a", "b"] + first + second
    assert {name: one.seconds["total"] for name, one in measured.items()} == {"a": [0.25] * 6, "b": [0.125] * 6}
    del order[:]
    seconds["a"] = 0.75  # longer than a block: no call is spent on coming back into step
    measure_round_robin(calls, warmup=1, repeats=2, rest=0.3)
    assert order == ["a", "b"] + [0.3, "a", 0.3, "b"] * 2
    del order[:]
    measure_round_robin({"a": call("a")}, warmup=0, repeats=2, rest=0.3)
    assert [item for item in order if item != 0.0] == ["a", "a"]  # nobody to rest from


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    measured = {
        "baseline": Measurement({"total": [4.0, 40.0, 6.0]}, 0, True),
        "ours": Measurement({"total": [2.0, 10.0, 2.0]}, 0, True),
    }
    assert ratios(measured, "baseline") == {
        "baseline": {"median": 1.0, "p25": 1.0, "p75": 1.0},
        "ours": {"median": 3.0, "p25": 2.5, "p75": 3.5},
    }


def test_any_function_becomes_a_call_that_tells_both_clocks():
    seen = []
    seconds = timed(lambda: seen.append(1))()
    assert seen == [1] and set(seconds) == {"total", "cpu"} and seconds["total"] > 0
