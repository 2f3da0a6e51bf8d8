"""Draw accuracy against speed from results of `benchmark`, and put them into tables.

Takes any number of JSON files that `benchmark --save_json`, scripts/benchmark_table2.sh and scripts/benchmark_gpu.sh
wrote.
Writes report.md, report.json and accuracy_speed.png to --save_dir. The paper's own figures stand apart, marked as such.
Accuracy of your models: --accuracy NAME=FILE with what `val --save_json` wrote, or NAME=PERCENT."""

from __future__ import annotations

import argparse
from typing import Any

from ppliteseg_paddle.cli.common import add_flags
from ppliteseg_paddle.outputs import Outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", nargs="+", required=True, metavar="FILE", help="JSON files of benchmarks")
    parser.add_argument(
        "--accuracy",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="mIoU of a result by its name: a file of `val --save_json`, or a number in percent",
    )
    parser.add_argument("--title", default="Accuracy against speed", help="heading (default: %(default)s)")
    add_flags(parser, "save_dir", "overwrite", save_dir={"default": "output/report"})


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.collect import FIGURE, check_names, read_accuracy, read_result, write_report

    results = [read_result(path) for path in args.results]
    accuracies = dict(read_accuracy(item) for item in args.accuracy)
    check_names(accuracies, results)
    with Outputs(args.save_dir, args.overwrite).replacing("report.md", "report.json", FIGURE):
        return write_report(results, args.save_dir, args.title, accuracies)


def summary(result: dict[str, Any]) -> str:
    lines = [f"written: {path}" for path in result["files"]]
    if not result["drawn"]:
        lines.append("no figure: no result has an accuracy; give --accuracy NAME=FILE")
    return "\n".join(lines)
