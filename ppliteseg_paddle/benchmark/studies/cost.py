"""What a training step costs, in time and in memory, as pixels, batch, classes and levels grow, beside a prediction.

    python -m ppliteseg_paddle.benchmark.studies.cost [--axes NAME ...] [--save_dir DIR] [--report FILE]

Each point is a process of its own: the median of a few steps, and the peak of its memory. The prediction
(`cost_model`) is fitted to all points but the largest of each axis, and says what those should cost.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle import progress
from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies import cost_report
from ppliteseg_paddle.benchmark.studies.command import run_and_report
from ppliteseg_paddle.benchmark.studies.cost_candidate import network
from ppliteseg_paddle.benchmark.studies.cost_model import COUNTED_SIDE, TERMS, Point, growth, predicted, work
from ppliteseg_paddle.benchmark.studies.worker import Worker, module_command
from ppliteseg_paddle.benchmark.timing import percentile
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import read_json

CANDIDATE = "ppliteseg_paddle.benchmark.studies.cost_candidate"
_ALONE = {"KMP_BLOCKTIME": "200"}  # nothing else is timed meanwhile, so threads may wait as they do for users
BASE = Point()
_SIZES = ((128, 192), (192, 256), (256, 384), (384, 512), (512, 768), (768, 1024))
# axis -> its points, by what grows: each is BASE but for that
AXES: dict[str, list[Point]] = {
    "pixels": [BASE._replace(size=size) for size in _SIZES],
    "batch": [BASE._replace(batch=batch) for batch in (1, 2, 4, 8, 16)],
    "classes": [BASE._replace(classes=classes) for classes in (11, 19, 171, 1000)],
    "levels": [BASE._replace(levels=levels) for levels in (1, 2, 3, 4)],
}
# which of a step's times counts
CLOCKS = {"wall": "total", "cpu": "cpu"}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, or read what was measured, and write table and figure; see the module. Raises: ConfigError: for a file
    that is no result of this."""
    if args.report:
        result = read_json(args.report)
        if not isinstance(result, dict) or not {"axes", "factors", "machine", "num_threads"} <= set(result):
            raise ConfigError(f"{args.report} is no result of this command; give its cost.json.")
    else:
        axes = {name: AXES[name] for name in args.axes}
        rows = measure(list(dict.fromkeys(point for points in axes.values() for point in points)), args)
        result = {**summary(axes, rows), **_how(args), "machine": machine()}
    cost_report.write(result, args.save_dir)
    return result


def _how(args: argparse.Namespace) -> dict[str, Any]:
    return {"num_threads": args.num_threads, "repeats": args.repeats, "clock": args.clock}


def measure(points: Sequence[Point], args: argparse.Namespace) -> dict[Point, dict[str, Any]]:
    """Each point's "seconds" of a step by the clock that counts, peak "mib" (None where unknown), and "work"."""
    from ppliteseg_paddle.models.complexity import in_training

    rows: dict[Point, dict[str, Any]] = {}
    shape = [1, 3, COUNTED_SIDE, COUNTED_SIDE]
    with progress.bar(total=len(points), desc="points", unit="point") as bar:
        for point in points:
            name = f"a step of {point}"
            with contextlib.closing(
                Worker(name, module_command(CANDIDATE), point._asdict(), args.num_threads, _ALONE)
            ) as worker:
                steps = [worker.ask("step") for _ in range(args.warmup + args.repeats)][args.warmup :]
                memory = worker.ask("memory")
            seconds = sorted(step[CLOCKS[args.clock]] for step in steps)
            counted = in_training(network(point.classes, point.levels), shape)
            rows[point] = {
                "seconds": percentile(seconds, 50),
                "seconds_least": seconds[0],
                **memory,
                "work": work(point, counted, args.num_threads),
            }
            bar.update(1)
    return rows


def summary(axes: Mapping[str, Sequence[Point]], rows: Mapping[Point, Mapping[str, Any]]) -> dict[str, Any]:
    """Predictions and growth.

    Returns: "axes": name -> "x" (what grows), "points" (measured and predicted), "growth" of each cost; "factors": cost
        -> what was fitted, to all points but the largest of each axis. Costs that were not measured are omitted.
    """
    points = list(rows)
    largest = {each[-1] for each in axes.values()}
    measured = [cost for cost in TERMS if all(row[cost] is not None for row in rows.values())]
    factors: dict[str, Any] = {}
    expected: dict[Point, dict[str, float]] = {point: {} for point in points}
    for cost in measured:
        fitted = [point not in largest for point in points]
        factors[cost], values = predicted([rows[point] for point in points], cost, fitted)
        for point, value in zip(points, values):
            expected[point][f"predicted_{cost}"] = value
    found = {}
    for name, each in axes.items():
        xs = [float(getattr(point, name)) for point in each]
        found[name] = {
            "x": xs,
            "points": [{**point._asdict(), **rows[point], **expected[point]} for point in each],
            "growth": {cost: growth(xs, [rows[point][cost] for point in each]) for cost in measured},
        }
    return {"axes": found, "factors": factors}


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES), metavar="NAME")
    parser.add_argument("--report", metavar="FILE", help="a cost.json: only write its table and figure")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="the time that counts")
    parser.add_argument("--num_threads", type=_positive, default=default_threads(), help="default: all cores")
    parser.add_argument("--warmup", type=_positive, default=2, help="steps of each point that are not timed")
    parser.add_argument("--repeats", type=_positive, default=5, help="timed steps of each point")
    parser.add_argument("--save_dir", default="output/cost")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no positive integer")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    args = parsed(arguments)
    return run_and_report(lambda: run(args), cost_report.table, os.path.join(args.save_dir, "cost.json"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
