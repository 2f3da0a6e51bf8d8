"""The paper's Table 2 on this machine: its networks, PaddleSeg's own PP-LiteSeg beside ours, by the paper's protocol.

    python -m ppliteseg_paddle.benchmark.studies.table2 --save_dir DIR [--rows KEY ...] [--backend NAME ...] [--device
    cpu|gpu] ...

Weights are random unless files are given, accuracies the paper's and marked so. All networks are timed round-robin on
one runtime, then on the next. Writes table2.md, table2.json and the figure.
"""

from __future__ import annotations

import argparse
import os
import sys
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
    export,
    network,
    parse_weights,
)
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, PPLiteSegError

NOTES = (
    "Accuracies are the paper's, marked so; none was measured here.",
    "Protocol: an image of 1024x2048 is resized to the network's input, inferred, and its mask resized back; decoding "
    'is not counted. "Times faster" compares ours with PaddleSeg\'s own PP-LiteSeg of the same kind and size, as '
    "PaddleSeg builds and exports it, on the same runtime, round-robin.",
)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.collect import write_report
    from ppliteseg_paddle.benchmark.environment import machine

    keys = list(dict.fromkeys(args.rows))
    for key in keys:
        network(key)
    weights = parse_weights(args.weights)
    artifacts, failures = _exports(keys, args.exports or os.path.join(args.save_dir, "exports"), args.formats, weights)
    rows: list[dict[str, Any]] = []
    for backend in args.backend:
        rows += _measure(backend, artifacts, failures, args)
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
            backend: _order([row for row in rows if row["asked_backend"] == backend]) for backend in args.backend
        },
        "reported": [REPORTED[key].to_dict() for key in REPORTED if REPORTED[key].table == 2],
        "machine": machine(),
    }
    notes = [
        *([] if set(keys) <= set(weights) else [random_weights.NOTE]),
        *NOTES,
        *_order_notes(result["orders"]),
        *("Not measured: {}: {}".format(*item) for item in failures.items()),
    ]
    written = write_report([result], args.save_dir, "The paper's Table 2 on this machine", stem="table2", notes=notes)
    return {**result, "files": written["files"], "notes": notes}


def _exports(
    keys: Sequence[str], folder: str, formats: Sequence[str], weights: dict[str, str]
) -> tuple[dict[str, Artifact], dict[str, str]]:
    """Export what is missing. Returns: artifacts, and why others could not be exported."""
    artifacts: dict[str, Artifact] = {}
    failures: dict[str, str] = {}
    for key in progress.bar(keys, desc="exports"):
        path = os.path.join(folder, key)
        try:
            artifacts[key] = Artifact.read(path)
            model = artifacts[key].model
            same = (model.get("network"), model.get("weights")) == (key, weights.get(key, "random"))
            if same and set(formats) - {"openvino"} <= set(artifacts[key].graphs):
                continue
        except ArtifactError:
            pass  # not exported yet
        try:
            artifacts[key] = export(Export(key, formats, weights=weights.get(key)), path)
        except (ArtifactError, ConfigError) as error:  # the other networks are measured all the same
            artifacts.pop(key, None)
            failures[key] = str(error)
    return artifacts, failures


def _measure(
    backend: str, artifacts: dict[str, Artifact], failures: dict[str, str], args: argparse.Namespace
) -> list[dict[str, Any]]:
    from ppliteseg_paddle.benchmark.protocols import PAPER_IMAGE, Candidate, paper, paper_image
    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    encoded, _ = paper_image(read_image(args.image) if args.image else generated_image(*PAPER_IMAGE))
    candidates = []
    for key, artifact in artifacts.items():
        candidate = Candidate(key, artifact, backend, args.device, args.num_threads)
        try:
            candidate.open()
        except (ArtifactError, ConfigError, DependencyError) as error:
            failures[f"{key} on {backend}"] = str(error)
            continue
        candidates.append(candidate)
    if not candidates:
        return []
    names = [candidate.name for candidate in candidates]
    against = baselines_of(names)
    with progress.bar(total=args.repeats, desc=backend, unit="iteration") as bar:
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
            "against": against.get(row["name"]),
            "accuracy": accuracy_of(row["name"]),
        }
        for row in rows
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
