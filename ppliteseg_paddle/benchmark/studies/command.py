"""What the benchmarks' programs have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ppliteseg_paddle import progress
from ppliteseg_paddle.benchmark.timing import REST_SECONDS, Call, Measurement, describe, measure_round_robin
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import check_writable, write_json

CLOCKS = {"wall": "total", "cpu": "cpu"}  # in results -> as `timing.timed` calls it


def in_turns(
    what: str, calls: Mapping[str, Call], warmup: int | None, repeats: int, rest: float = REST_SECONDS
) -> dict[str, Measurement]:
    """`timing.measure_round_robin` with a progress bar. Args: what: the bar's title."""
    with progress.bar(total=repeats, desc=what, unit="iteration") as bar:
        return measure_round_robin(calls, warmup, repeats, lambda done, of: bar.update(done - bar.n), rest)


def by_clock(seconds: Mapping[str, Sequence[float]], number: int = 1) -> dict[str, Any]:
    """`timing.describe` of a measurement by each of `CLOCKS`. Args: number: how many images a call took."""
    return {clock: describe([each / number for each in seconds[stage]]) for clock, stage in CLOCKS.items()}


def run_and_report(run: Callable[[], dict[str, Any]], table: Callable[[dict[str, Any]], str], save_json: str) -> int:
    """Measure, write JSON, print the table; returns the exit status. Whether the file can be written is seen first."""
    try:
        check_writable(save_json)
        result = run()
        write_json(save_json, result)
    except PPLiteSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(table(result))
    print(f"written: {save_json}")
    return 0
