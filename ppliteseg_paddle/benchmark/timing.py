"""Timing calls: warm up until they are steady, repeat round-robin, describe the spread."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from ppliteseg_paddle.errors import ConfigError

# Warm-up without a given number: windows of calls until two in a row agree within the tolerance, or time is up.
_WINDOW, _TOLERANCE, _MAX_WARMUP_SECONDS = 5, 0.05, 10.0
# Repeats without a given number: at least so many, and for at least so long.
_MIN_REPEATS, _MIN_SECONDS, _MAX_REPEATS = 20, 3.0, 2000

# For runtimes on the CPU, round-robin: threads that wait for more work spin for a while, OpenMP's for 200 ms, and take
# a core from whoever comes next. So each candidate begins with a rest, and is called several times where calls are
# short.
REST_SECONDS, _BLOCK_SECONDS = 0.3, 1.0

Call = Callable[[], dict[str, float]]
Progress = Callable[[int, Optional[int]], Any]


class Measurement(NamedTuple):
    """Seconds of every timed call, in order, by stage; how many calls went before; whether they had become steady."""

    seconds: dict[str, list[float]]
    warmup: int
    steady: bool


def timed(work: Callable[[], Any]) -> Call:
    """A call for `measure` around any function that waits for its device: "total" by the wall clock, and "cpu", the
    processor seconds of all threads, which tell more on a machine that others use too."""

    def call() -> dict[str, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return {"cpu": time.process_time() - cpu, "total": time.perf_counter() - wall}

    return call


def measure(
    call: Call, warmup: int | None = None, repeats: int | None = None, progress: Progress | None = None
) -> Measurement:
    """Time one call in steady state; arguments as `measure_round_robin` has them."""
    return measure_round_robin({"": call}, warmup, repeats, progress)[""]


def measure_round_robin(
    calls: Mapping[str, Call],
    warmup: int | None = None,
    repeats: int | None = None,
    progress: Progress | None = None,
    rest: float = 0.0,
) -> dict[str, Measurement]:
    """Time several calls in steady state, one after the other in every iteration, so that whatever else the machine
    does reaches them all.

    Args:
        calls: name -> what does the work once, to its end (it must wait for its device), and returns the seconds of
            each stage; "total" must be among them.
        warmup: iterations before timing starts; None continues until all times are steady, 10 s at most for each call.
        repeats: timed iterations; None takes at least 20, and at least 3 s for each call.
        progress: called after each iteration with how many are done and how many there will be (None: open).
        rest: seconds of silence before each candidate where there are several; see `REST_SECONDS`. It is then called as
            often as a second holds, after one call that is not timed; or once, timed, where that is all it holds.
    Raises: ConfigError: if a number is out of range.
    """
    if warmup is not None and warmup < 0:
        raise ConfigError(f"warmup is {warmup:d}; give 0 or more.")
    if repeats is not None and repeats < 1:
        raise ConfigError(f"repeats is {repeats:d}; give 1 or more.")
    report = progress or (lambda done, of: None)
    before = _warm_up(calls, warmup, report)
    block, rest = (_calls_in_block(before), rest) if rest and len(calls) > 1 else (1, 0.0)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    done, spent = 0, 0.0
    while done < (repeats or _MAX_REPEATS):
        count = min(block, (repeats or _MAX_REPEATS) - done)
        for name, call in calls.items():
            time.sleep(rest)
            if block > 1:
                call()
            runs[name] += [call() for _ in range(count)]
            spent += sum(run["total"] for run in runs[name][-count:])
        done += count
        report(done, repeats)
        if repeats is None and done >= _MIN_REPEATS and spent >= _MIN_SECONDS * len(calls):
            break
    return {
        name: Measurement(
            {stage: [run[stage] for run in each] for stage in each[0]}, len(before[name]), _agree(before[name])
        )
        for name, each in runs.items()
    }


def _warm_up(calls: Mapping[str, Call], warmup: int | None, report: Progress) -> dict[str, list[float]]:
    """Returns: name -> seconds of its calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    start, iterations = time.perf_counter(), 0
    while iterations < warmup if warmup is not None else time.perf_counter() - start < _MAX_WARMUP_SECONDS * len(calls):
        for name, call in calls.items():
            times[name].append(call()["total"])
        iterations += 1
        if warmup is None:
            report(0, None)
            if iterations % _WINDOW == 0 and all(map(_agree, times.values())):
                break
    return times


def _calls_in_block(warm_up: Mapping[str, list[float]]) -> int:
    """How many calls of the slowest candidate fit into a block."""
    slowest = max((median(times) for times in warm_up.values() if times), default=_BLOCK_SECONDS)
    return max(1, int(_BLOCK_SECONDS / max(slowest, 1e-6)))


def ratios(measured: Mapping[str, Measurement], reference: str, stage: str = "total") -> dict[str, dict[str, float]]:
    """How many times faster than the reference each one is.

    Returns: name -> "median", "p25" and "p75" over the iterations of the ratio within one: what slows an iteration
        slows both.
    """
    base = measured[reference].seconds[stage]
    result = {}
    for name, measurement in measured.items():
        each = sorted(a / b for a, b in zip(base, measurement.seconds[stage]) if b > 0)
        result[name] = (
            {"median": percentile(each, 50), "p25": percentile(each, 25), "p75": percentile(each, 75)} if each else {}
        )
    return result


def _agree(times: Sequence[float]) -> bool:
    """Whether the last two windows have nearly the same median."""
    if len(times) < 2 * _WINDOW:
        return False
    earlier, later = median(times[-2 * _WINDOW : -_WINDOW]), median(times[-_WINDOW:])
    return abs(later - earlier) <= _TOLERANCE * earlier


def describe(seconds: Sequence[float]) -> dict[str, Any]:
    """Milliseconds of a stage: median, mean, p90, p99, least, most, standard deviation, spread; and calls a second.

    `spread` is the distance between the quartiles as a part of the median: below 0.05 the machine was quiet.
    """
    times = sorted(1000.0 * value for value in seconds)
    mean = sum(times) / len(times)
    middle = percentile(times, 50)
    return {
        "median_ms": middle,
        "mean_ms": mean,
        "p90_ms": percentile(times, 90),
        "p99_ms": percentile(times, 99),
        "min_ms": times[0],
        "max_ms": times[-1],
        "std_ms": math.sqrt(sum((value - mean) ** 2 for value in times) / len(times)),
        "spread": (percentile(times, 75) - percentile(times, 25)) / middle if middle else 0.0,
        "fps": 1000.0 / middle if middle else 0.0,
    }


def median(values: Sequence[float]) -> float:
    return percentile(sorted(values), 50)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """A percentile of values in rising order, linear between neighbours."""
    position = (len(ordered) - 1) * percent / 100.0
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
