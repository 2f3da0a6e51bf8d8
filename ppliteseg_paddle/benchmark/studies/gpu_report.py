"""What `studies.gpu` found, as JSON, Markdown and text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.benchmark import random_weights
from ppliteseg_paddle.benchmark.markdown import reported_markdown
from ppliteseg_paddle.benchmark.paper import REPORTED, TABLE2, reported_order
from ppliteseg_paddle.benchmark.tables import describe_machine, markdown_table, ratio_cells, text_table
from ppliteseg_paddle.files import save_atomic, write_json

HEADER = [
    "",
    "input",
    "runtime",
    "precision",
    "graph",
    "copy in ms",
    "forward",
    "copy out",
    "total",
    "p99",
    "FPS",
    "bare ms",
    "bare FPS",
    "bare times faster",
    "differing pixels",
    "best batch: FPS",
    "compute bound ms",
    "memory bound ms",
    "distance",
]


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line of text cells for each row."""
    lines = []
    for row in rows:
        stages, found = row["stages"], row.get("roofline")
        ratio = ratio_cells({"times_faster": row["times_faster_bare"] or row["times_faster"]})
        lines.append(
            [
                row["name"],
                "x".join(map(str, row["input_shape"])),
                f"{row['runtime']} {row['backend']['version']}",
                row["precision"],
                "recorded" if row["graphed"] else "-",
                *[
                    f"{stages[step]['median_ms']:.2f}" if step in stages else "-"
                    for step in ("copy_in", "forward", "copy_out", "total")
                ],
                f"{stages['total']['p99_ms']:.2f}",
                f"{row['fps']:.1f}",
                f"{row['bare_ms']:.3f}",
                f"{row['bare_fps']:.1f}",
                " ".join(ratio),
                f"{(100 * row['differing_pixels']):.3f} %",
                f"{row['best_batch']:d}: {row['best_batch_fps']:.1f}" if "best_batch" in row else "-",
                *(
                    [f"{found['compute_ms']:.2f}", f"{found['memory_ms']:.2f}", f"{found['distance']:.1f}x"]
                    if found
                    else ["-"] * 3
                ),
            ]
        )
    return lines


def orders(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether networks stand in the paper's order, for each runtime, precision and size."""
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["key"] in REPORTED and REPORTED[row["key"]].table == 2:
            groups.setdefault((row["runtime"], row["precision"], tuple(row["input_shape"][2:])), []).append(row)
    lines = []
    for (runtime, precision, size), members in groups.items():
        found = [row["key"] for row in sorted(members, key=lambda row: row["bare_ms"])]
        if len(found) > 1:
            same = found == reported_order(found)
            lines.append(
                f"Order on {runtime} in {precision} at {size[0]}x{size[1]}: {' > '.join(found)}; "
                f"the paper's: {' > '.join(reported_order(found))} ({'the same' if same else 'another'})."
            )
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    machine = result["machine"]
    parts = [
        f"# Speed by runtime and precision, {machine['time'][:10]}, {result['device']}",
        f"{describe_machine(machine)}; {machine['system']}. Masks are compared with the CPU's in FP32 on: "
        f"{', '.join(result['images'])}.",
        ", ".join("{} {}".format(*item) for item in machine["versions"].items()) + ".",
    ]
    parts += [
        "GPU as found: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in gpu.items()) + "."
        for gpu in machine["gpus"]
    ]
    parts += [
        '"bare" is the network on data that lies on the device, without copies (where the runtime cannot tell, its '
        'forward step). "Times faster" compares ours with PaddleSeg\'s own model of the same kind and size on the same '
        "runtime, round-robin. The bounds are multiply-adds and bytes at the ceilings below (the roofline); "
        '"distance" is the bare time over the larger of them.',
        "The paper's accuracies and speeds are at the end; none of its accuracies was measured here.",
        *(
            [random_weights.NOTE]
            if not result["weights"]
            else [f"Weights: {', '.join('{} from {}'.format(*item) for item in result['weights'].items())}."]
        ),
        markdown_table(HEADER, cells(result["rows"])),
        *orders(result["rows"]),
    ]
    if result["paper"]:
        header = ["the paper's protocol", "runtime", "median ms", "p99", "FPS", "times faster"]
        parts += [
            "## Image resized, inferred, mask resized back",
            markdown_table(
                header,
                [
                    [
                        row["name"],
                        f"{row['backend']['name']} {row['backend']['version']}",
                        f"{row['latency_ms']:.2f}",
                        f"{row['stages']['total']['p99_ms']:.2f}",
                        f"{row['fps']:.1f}",
                        " ".join(ratio_cells(row)),
                    ]
                    for row in result["paper"]
                ],
            ),
        ]
    if result["ceilings"]:
        parts += [
            "## Ceilings",
            markdown_table(
                ["runtime, precision", "multiply-adds, 10^9/s", "memory, 10^9 bytes/s"],
                [
                    [name, f"{(each['macs_per_second'] / 1e9):.0f}", f"{(each['bytes_per_second'] / 1e9):.1f}"]
                    for name, each in result["ceilings"].items()
                ],
            ),
        ]
    for name, times in result["profiles"].items():
        total = sum(value for _, value in times)
        parts += [
            "### Where the time goes: " + name,
            markdown_table(
                ["operator", "ms", "share"],
                [[kind, f"{value:.2f}", f"{(100 * value / total):.0f} %"] for kind, value in times],
            ),
        ]
    if result["failures"]:
        parts += ["## Not measured", "\n".join("- {}: {}".format(*item) for item in result["failures"].items())]
    parts += ["## The paper's rows", reported_markdown([REPORTED[key].to_dict() for key in TABLE2])]
    return "\n\n".join(parts) + "\n"


def write(result: Mapping[str, Any], save_dir: str) -> list[str]:
    """Write gpu.json and gpu.md. Returns: their paths."""
    os.makedirs(save_dir, exist_ok=True)
    paths = [os.path.join(save_dir, "gpu" + extension) for extension in (".md", ".json")]
    with save_atomic(paths[0]) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(markdown(result))
    write_json(paths[1], result)
    return paths


def text(result: Mapping[str, Any]) -> str:
    """What a person reads."""
    failures = "\n".join("not measured: {}: {}".format(*item) for item in result["failures"].items())
    if "rows" not in result:
        return "\n".join(filter(None, [f"exports are in {result['exports']}", failures]))
    chosen = [0, 1, 2, 3, 8, 10, 11, 13, 14, 18]
    table = text_table([HEADER[i] for i in chosen], [[line[i] for i in chosen] for line in cells(result["rows"])])
    return "\n\n".join(
        filter(
            None,
            [
                describe_machine(result["machine"]),
                table,
                "\n".join(orders(result["rows"])),
                failures,
                "\n".join(f"written: {path}" for path in result["files"]),
            ],
        )
    )
