"""What several processes that train jointly bring: images a second of ranks with one thread each, beside one process.

Four candidates take turns, each process with the same number of images: one process with one thread; as many as there
are ranks side by side, which share the machine and nothing else; the ranks, which average their gradients as
`ppliteseg train --nproc_per_node` does; and one process with all threads and all images. What the second loses to the
first is the machine's, what the third loses to the second is the averaging's.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies.baseline import OURS
from ppliteseg_paddle.benchmark.studies.command import in_turns
from ppliteseg_paddle.benchmark.studies.training_candidate import Candidate
from ppliteseg_paddle.benchmark.studies.worker import Work, Worker, answer, module_command
from ppliteseg_paddle.benchmark.tables import describe_machine, text_table
from ppliteseg_paddle.benchmark.timing import describe, ratios
from ppliteseg_paddle.errors import ConfigError

ALONE, BESIDE, JOINTLY, THREADS = (
    "one process, one thread",
    "processes side by side",
    "ranks",
    "one process, all threads",
)
_MODULE = "ppliteseg_paddle.benchmark.studies.ranks"
_HOST = "127.0.0.1"


def run(options: Mapping[str, Any], ranks: int, warmup: int, repeats: int) -> dict[str, Any]:
    """Measure; see the module.

    Args: options: of `Candidate` but for "who"; "batch_size" is that of each process.
    Raises: ConfigError: for fewer than 2 ranks. PPLiteSegError: if a process ends.
    """
    if ranks < 2:
        raise ConfigError(f"--ranks is {ranks:d}; give 2 or more.")
    each = {"who": OURS, **options}
    # name -> (processes, threads of each, images of each, whether they are ranks)
    rows = {
        ALONE: (1, 1, each["batch_size"], False),
        BESIDE: (ranks, 1, each["batch_size"], False),
        JOINTLY: (ranks, 1, each["batch_size"], True),
        THREADS: (1, ranks, ranks * each["batch_size"], False),
    }
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(ranks))
        calls = {}
        for name, (count, threads, images, joint) in rows.items():
            variables = _variables(ranks) if joint else [{}] * count
            group = [
                Worker(name, module_command(_MODULE), {**each, "batch_size": images}, threads, one) for one in variables
            ]
            for worker in group:
                stack.callback(worker.close)
            calls[name] = partial(_together, pool, group)
        measured = in_turns("step", calls, warmup, repeats)
    faster = ratios(measured, ALONE)
    results = {}
    for name, (count, threads, images, _) in rows.items():
        gain = faster[name]["median"] * count * images / each["batch_size"]
        results[name] = {
            **{stage: describe(seconds) for stage, seconds in measured[name].seconds.items()},
            "processes": count,
            "threads": threads,
            "images": count * images,
            "images_per_second": count * images / describe(measured[name].seconds["total"])["median_ms"] * 1000,
            "times_the_rate": gain,
            "efficiency": gain / (count * threads),
        }
    return {
        "protocol": "round-robin",
        **options,
        "ranks": ranks,
        "warmup": warmup,
        "repeats": repeats,
        "results": results,
        "machine": machine(),
    }


def _together(pool: ThreadPoolExecutor, group: Sequence[Worker]) -> dict[str, float]:
    """A step of all, at the same time: the longest of each stage."""
    answers = list(pool.map(lambda worker: worker.ask("step"), group))
    return {stage: max(one[stage] for one in answers) for stage in answers[0]}


def _variables(ranks: int) -> list[dict[str, str]]:
    """What Paddle's launcher would set for each rank."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(ranks)]
        for one in sockets:
            one.bind((_HOST, 0))
        ends = [f"{_HOST}:{one.getsockname()[1]:d}" for one in sockets]
    return [
        {
            "PADDLE_TRAINER_ID": f"{number:d}",
            "PADDLE_TRAINERS_NUM": f"{ranks:d}",
            "PADDLE_TRAINER_ENDPOINTS": ",".join(ends),
            "PADDLE_CURRENT_ENDPOINT": end,
            "PADDLE_MASTER": ends[0],
        }
        for number, end in enumerate(ends)
    ]


def table(result: Mapping[str, Any]) -> str:
    """What a person reads."""
    header = ["", "images", "step ms", "averaging ms", "images/s", "times the rate", "efficiency"]
    rows = [
        [
            name,
            f"{row['images']:d}",
            f"{row['total']['median_ms']:.0f}",
            f"{row['averaging']['median_ms']:.0f}" if name == JOINTLY else "",
            f"{row['images_per_second']:.2f}",
            f"{row['times_the_rate']:.2f}",
            f"{row['efficiency']:.2f}",
        ]
        for name, row in result["results"].items()
    ]
    height, width = result["size"]
    head = (
        f"PP-LiteSeg-{result['model']}, {result['batch_size']:d} images of {width:d}x{height:d} a process, "
        f"{result['ranks']:d} ranks, {describe_machine(result['machine'])}"
    )
    return f"{head}\n\n{text_table(header, rows)}"


class Rank(Candidate):
    """A process's training steps; where it is one of several ranks, with the mean of all gradients."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        from ppliteseg_paddle.engine.loop.data_parallel import GradientMean
        from ppliteseg_paddle.engine.loop.distributed import join_ranks, ranks

        self._averaging = 0.0
        if ranks() > 1:
            join_ranks()
            self._mean, self._update = GradientMean(self.network), self.optimizer.step
            self.optimizer.step = self._averaged

    def _averaged(self) -> None:
        begin = time.perf_counter()
        self._mean()
        self._averaging = time.perf_counter() - begin
        self._update()

    def step(self) -> dict[str, float]:
        """Seconds of each stage; "averaging", which includes the wait for other ranks, is a part of "update"."""
        return {**super().step(), "averaging": self._averaging}


def main(arguments: Sequence[str]) -> int:
    """Answer "step" (see `worker.answer`)."""

    def prepare() -> Work:
        return {"step": Rank(**json.loads(arguments[0])).step}

    return answer(prepare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
