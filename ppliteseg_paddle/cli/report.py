"""Put results side by side: training runs as a page (--runs), or benchmarks as tables and a figure (--results).

--runs DIR [DIR ...] takes folders that `train --save_dir` wrote, and writes report.html: one file that loads nothing,
with curves, IoU by class, confusions, images with their errors, speed, environment and differences of configurations.
With results of `val --save_dir DIR/val` in a run's folder it shows the confusion matrix, and the worst and best images.

--results FILE [FILE ...] takes JSON files that `benchmark --save_json`, scripts/benchmark_table2.sh and
scripts/benchmark_gpu.sh wrote, and writes report.md, report.json and accuracy_speed.png. The paper's own figures stand
apart, marked as such. Accuracy of your models: --accuracy NAME=FILE with what `val --save_json` wrote, or
NAME=PERCENT."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ppliteseg_paddle.cli.common import add_flags
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.outputs import Outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--runs", nargs="+", metavar="DIR", help="folders of training runs")
    kinds.add_argument("--results", nargs="+", metavar="FILE", help="JSON files of benchmarks")
    parser.add_argument(
        "--accuracy",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="with --results, mIoU of a result by its name: a file of `val --save_json`, or a number in percent",
    )
    parser.add_argument("--title", help="heading (default: Training runs, or Accuracy against speed)")
    add_flags(parser, "save_dir", "overwrite", save_dir={"default": "output/report"})


def run(args: argparse.Namespace) -> dict[str, Any]:
    return _of_runs(args) if args.runs else _of_results(args)


def _of_runs(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.report.page import REPORT_FILE, TITLE, summary, write_page
    from ppliteseg_paddle.report.runs import read_runs

    if args.accuracy:
        raise ConfigError("--accuracy is for --results: a page of runs has the accuracy that their evaluations found.")
    runs, path = read_runs(args.runs), os.path.join(args.save_dir, REPORT_FILE)
    with Outputs(args.save_dir, args.overwrite).replacing(REPORT_FILE):
        write_page(path, runs, args.title or TITLE)
    return {"files": [path], "runs": [{"name": run.name, "folder": run.folder, **summary(run)} for run in runs]}


def _of_results(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.collect import FIGURE, TITLE, check_names, read_accuracy, read_result, write_report

    results = [read_result(path) for path in args.results]
    accuracies = dict(read_accuracy(item) for item in args.accuracy)
    check_names(accuracies, results)
    with Outputs(args.save_dir, args.overwrite).replacing("report.md", "report.json", FIGURE):
        return write_report(results, args.save_dir, args.title or TITLE, accuracies)


def summary(result: dict[str, Any]) -> str:
    lines = [f"written: {path}" for path in result["files"]]
    if not result.get("drawn", True):
        lines.append("no figure: no result has an accuracy; give --accuracy NAME=FILE")
    return "\n".join(lines)
