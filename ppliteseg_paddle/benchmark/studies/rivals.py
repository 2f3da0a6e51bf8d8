"""Our networks beside those that people would pick instead: milliseconds from an image to class ids of its size.

    python -m ppliteseg_paddle.benchmark.studies.rivals --env DIR [--networks NAME ...] [--sizes WxH ...]
    python -m ppliteseg_paddle.benchmark.studies.rivals --report FILE

YOLO26-sem and LibreYOLO's PP-LiteSeg are exported by their own packages in the environment `--env` (see
`rivals_graphs`). All run on ONNX Runtime and OpenVINO through the same code, batch 1, in turns: at each size
every network, form and runtime once in each iteration. Forms are FP32, 8 bits as each side's own export makes them, and
8 bits by one and the same quantisation. Writes rivals.json, rivals.md and rivals.png; `--report` makes the last two of
a rivals.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from ppliteseg_paddle import progress
from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies import rivals_report
from ppliteseg_paddle.benchmark.studies.command import run_and_report
from ppliteseg_paddle.benchmark.studies.rivals_graphs import FORMS, NETWORKS, RUNTIMES, Graphs, Size
from ppliteseg_paddle.benchmark.timing import REST_SECONDS, describe, measure_round_robin, timed
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.images import generated_image
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import read_json

SIZES = ("1024x512", "1536x768", "2048x1024")
_STRIDE = 32
_PACKAGES = ("ultralytics", "libreyolo", "torch", "onnx", "onnxslim", "nncf", "openvino", "onnxruntime")


def size_of(text: str) -> Size:
    """argparse type: "WIDTHxHEIGHT" -> (height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 and int(part) % _STRIDE == 0 for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT of multiples of {_STRIDE:d}, such as 1024x512")
    return int(parts[1]), int(parts[0])


def _positive(text: str) -> int:
    """argparse type: an integer above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not allowed: give an integer above 0")
    return int(text)


def measure_size(graphs: Graphs, size: Size, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every network, form and runtime at one size, in turns. Returns: a row for each."""
    image = generated_image(*size)
    calls, rows = {}, {}
    for name in args.networks:
        for form in (form for form in args.forms if form in NETWORKS[name].forms):
            for runtime in args.runtimes:
                artifact = graphs.artifact(name, size, form, runtime)
                backend = open_backend(runtime, artifact, "cpu", args.num_threads)

                def segment(artifact: Any, backend: Any) -> None:
                    backend.run(artifact.preprocess(image)[0])

                key = f"{name}, {form}, {runtime}"
                calls[key] = timed(partial(segment, artifact, backend))
                rows[key] = {"network": name, "size": list(size), "form": form, "runtime": runtime}
    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with progress.bar(total=args.repeats, desc=f"{size[1]:d}x{size[0]:d}", unit="iteration") as bar:
        measured = measure_round_robin(calls, 1, args.repeats, lambda done, of: bar.update(done - bar.n), REST_SECONDS)
    for key, row in rows.items():
        seconds = measured[key].seconds
        row.update(load_average=before, ms=describe(seconds["total"]), cpu_ms=describe(seconds["cpu"]))
    return list(rows.values())


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, or read what was measured; then write the report.

    Raises: ConfigError: for a file that is no result.
    """
    if args.report:
        result = read_json(args.report)
        if not isinstance(result, dict) or not {"rows", "machine", "num_threads"} <= set(result):
            raise ConfigError(f"{args.report} is no result of this command; give its rivals.json.")
    else:
        graphs = Graphs(os.path.join(args.save_dir, "graphs"), args.env)
        graphs.check(args.networks)
        versions = versions_of(args.env)
        rows = [row for size in args.sizes for row in measure_size(graphs, size, args)]
        result = {
            "rows": rows,
            "num_threads": args.num_threads,
            "repeats": args.repeats,
            "env": versions,
            "machine": machine(),
        }
    result["clock"] = args.clock
    rivals_report.write(result, args.save_dir)
    return result


def versions_of(env: str) -> dict[str, str]:
    """The packages of the other environment, and their versions."""
    python = os.path.join(env, "Scripts" if os.name == "nt" else "bin", "python")
    code = (
        "import sys; from importlib import metadata as m\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name']}\n"
        "print(*(f'{n}={have[n]}' for n in sys.argv[1:] if n in have))"
    )
    done = subprocess.run(  # noqa: S603 - that environment's Python, no shell
        [python, "-c", code, *_PACKAGES], capture_output=True, text=True, check=False
    )
    return dict(part.split("=", 1) for part in done.stdout.split())


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--env", metavar="DIR", help="environment with ultralytics and libreyolo")
    what.add_argument("--report", metavar="FILE", help="a rivals.json: only write its table and figure")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--sizes", nargs="+", type=size_of, default=[size_of(each) for each in SIZES], metavar="WxH")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS), metavar="FORM")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES), metavar="NAME")
    parser.add_argument("--clock", choices=list(rivals_report.CLOCKS), default="wall", help="the time that counts")
    parser.add_argument("--num_threads", type=_positive, default=2)
    parser.add_argument("--repeats", type=_positive, default=5, help="timed iterations at each size")
    parser.add_argument("--save_dir", default="output/rivals")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    args = parsed(arguments)
    return run_and_report(lambda: run(args), rivals_report.table, os.path.join(args.save_dir, "rivals.json"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
