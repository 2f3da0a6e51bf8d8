"""How long it takes from `Predictor(...)` to the first mask: a process for each start, which opens an export once.

What Python and this package load before is not counted; what a runtime's own import takes is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ppliteseg_paddle.benchmark.studies.command import in_turns
from ppliteseg_paddle.benchmark.studies.worker import Work, Worker, answer, module_command
from ppliteseg_paddle.benchmark.timing import describe
from ppliteseg_paddle.deploy import compiled
from ppliteseg_paddle.deploy.predictor import Predictor

STAGES = ("open", "first_mask", "total")  # the last is the sum
_MODULE = "ppliteseg_paddle.benchmark.studies.startup"


def measure(starts: Mapping[str, Mapping[str, Any]], threads: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Start in turns, after a turn that does not count.

    Args: starts: name -> arguments of `start`, of which "image" is the path of what is segmented first.
    Returns: name -> stage -> `timing.describe`.
    """
    calls = {name: partial(_start, name, {**options, "num_threads": threads}) for name, options in starts.items()}
    measured = in_turns("start", calls, 1, repeats, rest=0.0)
    return {name: {stage: describe(one.seconds[stage]) for stage in STAGES} for name, one in measured.items()}


def _start(name: str, options: Mapping[str, Any]) -> dict[str, float]:
    worker = Worker(name, module_command(_MODULE), options, int(options["num_threads"]))
    with contextlib.closing(worker):
        return worker.ask("start")


def start(image: str, kept: bool = True, **options: Any) -> dict[str, float]:
    """Seconds of each stage. Args: kept: whether compiled models are taken that an earlier start has kept, for this
    process; options: of `Predictor`."""
    if not kept:
        os.environ[compiled.VARIABLE] = "0"
    begin = time.perf_counter()
    predictor = Predictor(**options)
    opened = time.perf_counter()
    predictor.predict(image)
    end = time.perf_counter()
    return {"open": opened - begin, "first_mask": end - opened, "total": end - begin}


def main(arguments: Sequence[str]) -> int:
    """Answer "start"; see `worker.answer`."""

    def prepare() -> Work:
        return {"start": partial(start, **json.loads(arguments[0]))}

    return answer(prepare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
