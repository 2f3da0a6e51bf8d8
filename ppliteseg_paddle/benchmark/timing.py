"""Timing a call: warm up until it is steady, repeat, describe the spread."""
from __future__ import annotations

import math
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ppliteseg_paddle.errors import ConfigError

# Warm-up without a given number: windows of calls until two in a row agree within the tolerance, or time is up.
_WINDOW, _TOLERANCE, _MAX_WARMUP_SECONDS = 5, 0.05, 10.0
# Repeats without a given number: at least so many, and for at least so long.
_MIN_REPEATS, _MIN_SECONDS, _MAX_REPEATS = 20, 3.0, 2000


class Measurement(NamedTuple):
    """Seconds of every timed call, in order, by stage; how many calls went before; whether they had become steady."""

    seconds: Dict[str, List[float]]
    warmup: int
    steady: bool


def measure(call: Callable[[], Dict[str, float]], warmup: Optional[int] = None, repeats: Optional[int] = None,
            progress: Optional[Callable[[int, Optional[int]], None]] = None) -> Measurement:
    """Time a call in steady state.

    Args:
        call: does the work once, to its end (it must wait for its device), and returns the seconds of each
            stage; "total" must be among them.
        warmup: calls before timing starts; None goes on until times are steady, 10 s at most.
        repeats: timed calls; None takes at least 20 and at least 3 s.
        progress: called after each call with how many are done and how many there will be (None: open).
    Raises: ConfigError: if a number is out of range.
    """
    if warmup is not None and warmup < 0:
        raise ConfigError("warmup is %d; give 0 or more." % warmup)
    if repeats is not None and repeats < 1:
        raise ConfigError("repeats is %d; give 1 or more." % repeats)
    report = progress or (lambda done, of: None)
    warmed, steady = _warm_up(call, warmup, report)
    runs: List[Dict[str, float]] = []
    start = time.perf_counter()
    while len(runs) < (repeats or _MAX_REPEATS):
        runs.append(call())
        report(len(runs), repeats)
        if repeats is None and len(runs) >= _MIN_REPEATS and time.perf_counter() - start >= _MIN_SECONDS:
            break
    return Measurement({stage: [run[stage] for run in runs] for stage in runs[0]}, warmed, steady)


def _warm_up(call: Callable[[], Dict[str, float]], warmup: Optional[int], report) -> tuple:
    if warmup is not None:
        times = [call()["total"] for _ in range(warmup)]
        return warmup, _agree(times)
    times: List[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < _MAX_WARMUP_SECONDS:
        times.append(call()["total"])
        report(0, None)
        if len(times) % _WINDOW == 0 and _agree(times):
            return len(times), True
    return len(times), False


def _agree(times: Sequence[float]) -> bool:
    """Whether the last two windows have nearly the same median."""
    if len(times) < 2 * _WINDOW:
        return False
    earlier, later = median(times[-2 * _WINDOW:-_WINDOW]), median(times[-_WINDOW:])
    return abs(later - earlier) <= _TOLERANCE * earlier


def describe(seconds: Sequence[float]) -> Dict[str, Any]:
    """Milliseconds of a stage: median, mean, p90, p99, least, most, standard deviation, spread; and calls a second.

    `spread` is the distance between the quartiles as a part of the median: below 0.05 the machine was quiet.
    """
    times = sorted(1000.0 * value for value in seconds)
    mean = sum(times) / len(times)
    middle = percentile(times, 50)
    return {
        "median_ms": middle, "mean_ms": mean, "p90_ms": percentile(times, 90), "p99_ms": percentile(times, 99),
        "min_ms": times[0], "max_ms": times[-1],
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
