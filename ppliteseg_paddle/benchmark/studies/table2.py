"""The paper's Table 2 on this machine: its networks, PaddleSeg's own PP-LiteSeg beside ours, by the paper's protocol.

    python -m ppliteseg_paddle.benchmark.studies.table2 --save_dir DIR [--rows KEY ...] [--backend NAME ...]
    [--precision fp32 bf16 int8] [--device cpu|gpu] ...

Weights are random unless files are given, accuracies the paper's and marked so. All networks are timed round-robin on
one runtime in one precision, then in the next. Writes table2.md, table2.json and the figure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle import progress
from ppliteseg_paddle.benchmark import random_weights
from ppliteseg_paddle.benchmark.paper import REPORTED, reported_order
from ppliteseg_paddle.benchmark.studies.networks import (
    NETWORKS,
    TABLE2,
    Export,
    accuracy_of,
    baselines_of,
    calibration_of,
    export,
    network,
    parse_weights,
)
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.images import generated_image
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, PPLiteSegError

PRECISIONS = ("fp32", "bf16", "int8")
NOTES = (
    "Accuracies are the paper's, marked so; none was measured here.",
    "Protocol: an image of 1024x2048 is resized to the network's input, inferred, and its mask resized back; decoding "
    'is not counted. "Times faster" compares ours with PaddleSeg\'s own PP-LiteSeg of the same kind and size, as '
    "PaddleSeg builds and exports it, on the same runtime, round-robin.",
)
INT8_NOTE = (
    "INT8: ours alone, since PaddleSeg's export has none; its PP-LiteSeg is measured beside it in FP32. The accuracies "
    "are those of FP32."
)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.collect import write_report
    from ppliteseg_paddle.benchmark.environment import machine

    keys = list(dict.fromkeys(args.rows))
    for key in keys:
        network(key)
    weights = parse_weights(args.weights)
    folder = args.exports or os.path.join(args.save_dir, "exports")
    exports = _Exports(folder, args.formats, weights)
    rows: list[dict[str, Any]] = []
    failures = exports.failures
    for precision in args.precision:
        exports.make(keys, precision)
    for backend in args.backend:
        for precision in args.precision:
            rows += _measure(backend, precision, exports.of(keys, precision), failures, args)
    if not rows:
        raise ArtifactError(
            f"no row could be measured: {'; '.join('{}: {}'.format(*item) for item in failures.items())}"
        )
    result: dict[str, Any] = {
        "protocol": "paper",
        "title": "Table 2",
        "weights": weights or "random",
        "rows": rows,
        "failures": failures,
        "orders": {
            f"{backend}, {precision}": _order(
                [row for row in rows if (row["asked_backend"], row["asked_precision"]) == (backend, precision)]
            )
            for backend in args.backend
            for precision in args.precision
        },
        "reported": [REPORTED[key].to_dict() for key in REPORTED if REPORTED[key].table == 2],
        "machine": machine(),
    }
    notes = [
        *([] if set(keys) <= set(weights) else [random_weights.NOTE]),
        *NOTES,
        *([INT8_NOTE] if "int8" in args.precision else []),
        *_order_notes(result["orders"]),
        *("Not measured: {}: {}".format(*item) for item in failures.items()),
    ]
    written = write_report([result], args.save_dir, "The paper's Table 2 on this machine", stem="table2", notes=notes)
    return {**result, "files": written["files"], "notes": notes}


class _Exports:
    """The networks' exported folders. Those that are there already, with the same weights, are kept.

    Attributes: failures: what could not be exported -> why.
    """

    def __init__(self, folder: str, formats: Sequence[str], weights: dict[str, str]) -> None:
        self._folder, self._formats, self._weights = folder, formats, weights
        self._artifacts: dict[tuple[str, str], Artifact] = {}
        self.failures: dict[str, str] = {}

    def make(self, keys: Sequence[str], precision: str) -> None:
        """Export what is missing for this precision; of PaddleSeg's networks nothing in 8 bits."""
        int8 = precision == "int8"
        wanted = [key for key in keys if network(key).ours] if int8 else keys
        for key in progress.bar(wanted, desc="INT8 exports" if int8 else "exports"):
            try:
                self._artifacts[key, _exported_as(precision)] = self._made(key, _exported_as(precision))
            except (ArtifactError, ConfigError) as error:  # the other networks are measured all the same
                self.failures[f"{key}, INT8" if int8 else key] = str(error)

    def of(self, keys: Sequence[str], precision: str) -> dict[str, Artifact]:
        """Network -> what is timed together in a precision. Beside INT8, which PaddleSeg's networks do not have, their
        baselines in FP32."""
        if precision != "int8":
            return self._known(keys, "fp32")
        return {**self._known(list(baselines_of(keys).values()), "fp32"), **self._known(keys, "int8")}

    def _known(self, keys: Sequence[str], precision: str) -> dict[str, Artifact]:
        return {key: self._artifacts[key, precision] for key in keys if (key, precision) in self._artifacts}

    def _made(self, key: str, precision: str) -> Artifact:
        path = os.path.join(self._folder, key if precision == "fp32" else f"{key}-{precision}")
        formats = self._formats if precision == "fp32" else [name for name in self._formats if name != "paddle"]
        try:
            kept = Artifact.read(path)
            same = (kept.model.get("network"), kept.model.get("weights")) == (key, self._weights.get(key, "random"))
            if same and set(formats) - {"openvino"} <= set(kept.graphs):
                return kept
        except ArtifactError:
            pass  # not exported yet
        with tempfile.TemporaryDirectory() as aside:
            images = [generated_image(512, 1024, seed=i) for i in range(2)]  # what is measured is time
            calibration = calibration_of(images, aside) if precision == "int8" else None
            what = Export(key, formats, None, 1, self._weights.get(key), precision, calibration)
            return export(what, path)


def _exported_as(precision: str) -> str:
    return "int8" if precision == "int8" else "fp32"  # bf16 is the runtime's


def _measure(
    backend: str, precision: str, artifacts: dict[str, Artifact], failures: dict[str, str], args: argparse.Namespace
) -> list[dict[str, Any]]:
    from ppliteseg_paddle.benchmark.protocols import PAPER_IMAGE, Candidate, paper, paper_image
    from ppliteseg_paddle.reading.images import read_image

    encoded, _ = paper_image(read_image(args.image) if args.image else generated_image(*PAPER_IMAGE))
    asked = "bf16" if precision == "bf16" else None
    candidates = []
    for key, artifact in artifacts.items():
        candidate = Candidate(key, artifact, backend, args.device, args.num_threads, asked)
        try:
            candidate.open()
        except (ArtifactError, ConfigError, DependencyError) as error:
            failures[f"{key} on {backend}, {precision}"] = str(error)
            continue
        candidates.append(candidate)
    if not candidates:
        return []
    names = [candidate.name for candidate in candidates]
    against = baselines_of(names)
    with progress.bar(total=args.repeats, desc=f"{backend}, {precision}", unit="iteration") as bar:
        rows = paper(
            candidates,
            encoded,
            NETWORKS[names[0]].size,
            args.warmup,
            args.repeats,
            lambda done, of: bar.update(done - bar.n),
            against,
        )
    return [
        {
            **row,
            "key": row["name"],
            "name": NETWORKS[row["name"]].name,
            "asked_backend": backend,
            "asked_precision": precision,
            "against": against.get(row["name"]),
            "accuracy": accuracy_of(row["name"]),
        }
        for row in rows
        if precision != "int8" or NETWORKS[row["name"]].ours
    ]


def _order(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fastest first, as measured and as the paper has it, by size of the input."""
    measured = [row["key"] for row in sorted(rows, key=lambda row: -row["fps"]) if row["key"] in REPORTED]
    groups = {}
    for size in dict.fromkeys(NETWORKS[key].size for key in measured):
        here = [key for key in measured if NETWORKS[key].size == size]
        if len(here) > 1:
            groups["{}x{}".format(*size)] = {
                "measured": here,
                "reported": reported_order(here),
                "same": here == reported_order(here),
            }
    return groups


def _order_notes(orders: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"Order by speed on {backend} at {size}: {' > '.join(group['measured'])}; the paper's: "
        f"{' > '.join(group['reported'])} ({('the same' if group['same'] else 'another')})."
        for backend, groups in orders.items()
        for size, group in groups.items()
    ]


def table(result: dict[str, Any]) -> str:
    """What a person reads."""
    from ppliteseg_paddle.benchmark.tables import accuracy_text, describe_machine, ratio_cells, text_table
    from ppliteseg_paddle.benchmark.text import reported_text

    rows = [
        [
            row["name"],
            "{}x{}".format(*row["input_shape"][-2:]),
            row["asked_backend"],
            row["precision"],
            f"{row['latency_ms']:.1f}",
            f"{row['fps']:.2f}",
            *ratio_cells(row),
            accuracy_text(row),
        ]
        for row in result["rows"]
    ]
    header = [
        "measured here",
        "input",
        "runtime",
        "precision",
        "median ms",
        "FPS",
        "times faster",
        "(quartiles)",
        "val mIoU (whose)",
    ]
    return "\n\n".join(
        [
            describe_machine(result["machine"]),
            text_table(header, rows),
            reported_text(result["reported"]),
            "\n".join(result["notes"]),
            "\n".join(f"written: {path}" for path in result["files"]),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save_dir", default="output/table2", help="where to write (default: %(default)s)")
    parser.add_argument("--exports", help="folder with exports, kept between runs (default: exports/ in --save_dir)")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=TABLE2,
        metavar="KEY",
        help=f"networks (default: Table 2's; known: {', '.join(NETWORKS)})",
    )
    parser.add_argument(
        "--backend", nargs="+", default=["onnxruntime"], metavar="NAME", help="runtimes (default: onnxruntime)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=["fp32"],
        help="bf16 where runtime and processor have it; int8: ours (default: fp32)",
    )
    parser.add_argument(
        "--formats", nargs="+", default=["onnx", "paddle"], help="what is exported (default: onnx paddle)"
    )
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="KEY=FILE", help="trained weights (default: random)"
    )
    parser.add_argument("--device", help="cpu or gpu (default: gpu where the runtime sees one)")
    parser.add_argument("--num_threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--image", help="an image (default: a generated one)")
    parser.add_argument("--warmup", type=int, help="iterations before timing starts (default: until times are steady)")
    parser.add_argument("--repeats", type=int, help="timed iterations (default: at least 20, and 3 s for each network)")
    try:
        print(table(run(parser.parse_args(argv))))
    except PPLiteSegError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
