"""Benchmark results for a terminal: what `ppliteseg benchmark` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.benchmark.tables import (
    REPORTED_HEADER,
    STAGE_NAMES,
    SUMS,
    describe_machine,
    ratio_cells,
    reported_note,
    reported_rows,
    rows_of,
    stages_table,
    text_table,
)


def benchmark_text(result: Mapping[str, Any]) -> str:
    """What a person reads after `ppliteseg benchmark`."""
    rows = rows_of(result)
    parts = [
        _heading(result, rows),
        _throughput_text(rows) if result["protocol"] == "throughput" else _latency_text(rows),
    ]
    if result.get("reported"):
        parts.append(reported_text(result["reported"]))
    return "\n\n".join(parts)


def _heading(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    what = {
        "latency": "latency, one image at a time, from decoded pixels to a mask of the image's size",
        "paper": "the paper's protocol: image to the network's size, inference, mask back",
        "throughput": "throughput, several images in flight, from decoded pixels to masks of the image's size",
    }
    lines = [what[result["protocol"]], describe_machine(result["machine"])]
    for row in rows:
        backend = row["backend"]
        threads = "" if backend.get("num_threads") is None else f", {backend['num_threads']} threads"
        lines.append(
            f"{row['name']}: {backend['runtime']} {backend['version']} ({backend['name']}) on {backend['device']}"
            f"{threads}, {row['precision']}, image {'x'.join(map(str, row['image_size']))}, "
            f"input {'x'.join(map(str, row['input_shape']))}"
        )
    return "\n".join(lines)


def _latency_text(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    if len(rows) > 1:
        parts.append(
            text_table(
                ["", "median ms", "p90", "p99", "images/s", "spread", "times faster", "(quartiles)"],
                [
                    [
                        row["name"],
                        f"{total['median_ms']:.2f}",
                        f"{total['p90_ms']:.2f}",
                        f"{total['p99_ms']:.2f}",
                        f"{total['fps']:.1f}",
                        f"{(100 * total['spread']):.0f} %",
                        *ratio_cells(row),
                    ]
                    for row in rows
                    for total in [row["stages"]["total"]]
                ],
            )
        )
        parts.append(
            "where the time goes, median ms; '.' is part of forward, '-' does not take place\n" + stages_table(rows)
        )
    else:
        (row,) = rows
        lines = [
            [
                ("= " if stage in SUMS else "  ") + STAGE_NAMES.get(stage, stage),
                *[f"{values[key]:.2f}" for key in ("median_ms", "p90_ms", "p99_ms", "min_ms")],
            ]
            for stage, values in row["stages"].items()
        ]
        parts.append(text_table(["ms", "median", "p90", "p99", "min"], lines))
        if row["fused"]:
            parts.append(
                "\n".join(f"{STAGE_NAMES.get(part, part)}: in {place}" for part, place in row["fused"].items())
            )
        parts.append(
            f"{row['fps']:.1f} images a second; {row['repeats']:d} calls after {row['warmup']:d} to warm up; half of "
            f"the calls within {100 * row['stages']['total']['spread']:.1f} % of each other"
        )
    unsteady = [row["name"] for row in rows if not row["steady"]]
    if unsteady:
        parts.append(
            f"times were not steady yet when timing started ({', '.join(unsteady)}): the machine is busy, or --warmup "
            "is small"
        )
    return "\n\n".join(parts)


def _throughput_text(rows: Sequence[Mapping[str, Any]]) -> str:
    table = text_table(
        [
            "",
            "images/s",
            "(quartiles)",
            "streams",
            "threads each",
            "batch",
            "median ms in flight",
            "p99",
            "times faster",
            "(quartiles)",
        ],
        [
            [
                row["name"],
                f"{row['fps']:.1f}",
                f"({row['fps_p25']:.1f}-{row['fps_p75']:.1f})",
                row["streams"],
                row["threads_per_stream"],
                row["batch_size"],
                f"{row['latency_in_flight']['median_ms']:.1f}",
                f"{row['latency_in_flight']['p99_ms']:.1f}",
                *ratio_cells(row),
            ]
            for row in rows
        ],
    )
    tried = [
        "{}: tried {}".format(
            row["name"],
            ", ".join(f"{each['streams']:d}x{each['batch_size']:d}: {each['fps']:.1f}" for each in row["tried"]),
        )
        for row in rows
        if row["tried"]
    ]
    return "\n\n".join([table, *(["\n".join(tried) + "   (streams x batch: images/s)"] if tried else [])])


def reported_text(reported: Sequence[Mapping[str, Any]]) -> str:
    """The paper's rows for a terminal."""
    return reported_note(reported) + "\n" + text_table(REPORTED_HEADER, reported_rows(reported))
