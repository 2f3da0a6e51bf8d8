"""Draw accuracy against speed from results of `benchmark`, and put them into tables.

Takes any number of JSON files that `benchmark --save_json`, scripts/benchmark_table2.sh and scripts/benchmark_gpu.sh
wrote.
Writes report.md, report.json and accuracy_speed.png to --save_dir. The paper's own figures stand apart, marked as such.
Accuracy of your models: --accuracy NAME=FILE with what `val --save_json` wrote, or NAME=PERCENT."""

from __future__ import annotations

import os

from ppliteseg_paddle.cli.common import add_flags
from ppliteseg_paddle.errors import ConfigError, DataError, suggest


def add_arguments(parser) -> None:
    parser.add_argument("--results", nargs="+", required=True, metavar="FILE", help="JSON files of benchmarks")
    parser.add_argument(
        "--accuracy",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="mIoU of a result by its name: a file of `val --save_json`, or a number in percent",
    )
    parser.add_argument("--title", default="Accuracy against speed", help="heading (default: %(default)s)")
    add_flags(parser, "save_dir", save_dir={"default": "output/report"})


def run(args) -> dict:
    from ppliteseg_paddle.benchmark.collect import write_report

    results = [_read(path) for path in args.results]
    accuracies = dict(_accuracy(item) for item in args.accuracy)
    names = [row["name"] for result in results for row in result["rows"]]
    for name in accuracies:
        if name not in names:
            raise ConfigError(f"--accuracy names '{name}', which no result has.{suggest(name, names)}")
    return write_report(results, args.save_dir, args.title, accuracies)


def summary(result: dict) -> str:
    lines = [f"written: {path}" for path in result["files"]]
    if not result["drawn"]:
        lines.append("no picture: no result has an accuracy; give --accuracy NAME=FILE")
    return "\n".join(lines)


def _read(path: str) -> dict:
    from ppliteseg_paddle.files import read_json
    from ppliteseg_paddle.visual.report import rows_of

    if not os.path.isfile(path):
        raise DataError(f"{path} does not exist; give a file that 'ppliteseg benchmark --save_json' wrote.")
    result = read_json(path)
    rows = rows_of(result or {})
    if not rows or "machine" not in result:
        raise DataError(f"{path} holds no benchmark results; give a file that 'ppliteseg benchmark --save_json' wrote.")
    return {
        **{key: result[key] for key in ("protocol", "machine", "reported", "note", "title") if key in result},
        "rows": rows,
        "file": path,
    }


def _accuracy(item: str) -> tuple:
    from ppliteseg_paddle.files import read_json

    name, equals, value = item.rpartition("=")
    if not equals or not name:
        raise ConfigError(f"--accuracy takes NAME=FILE or NAME=PERCENT, not '{item}'.")
    try:
        return name, float(value)
    except ValueError:
        metrics = read_json(value)
    if not metrics or not isinstance(metrics.get("mIoU"), (int, float)):
        raise ConfigError(
            f"--accuracy {name}: {value} is neither a number nor a file with an mIoU, as 'val --save_json' writes it."
        )
    return name, 100.0 * metrics["mIoU"]
