"""Benchmark results in Markdown: the text of `ppliteseg report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.benchmark.tables import (
    REPORTED_HEADER,
    accuracy_text,
    describe_machine,
    markdown_table,
    ratio_cells,
    reported_note,
    reported_rows,
    rows_of,
    stages_table,
)


def markdown(results: Sequence[Mapping[str, Any]], title: str, figure: str = "", notes: Sequence[str] = ()) -> str:
    """A report of any number of results: a section for each, then the paper's rows once.

    Args: figure: file name of a picture to show; notes: sentences above everything.
    """
    parts = ["# " + title, *notes]
    if figure:
        parts.append(f"![accuracy against speed]({figure})")
    reported: dict[str, Mapping[str, Any]] = {}
    for result in results:
        parts += _section(result)
        reported.update((row["name"], row) for row in result.get("reported", ()))
    if reported:
        parts += ["## The paper's rows", reported_markdown(list(reported.values()))]
    return "\n\n".join(parts) + "\n"


def _section(result: Mapping[str, Any]) -> list[str]:
    rows = rows_of(result)
    machine = result["machine"]
    heading = f"## Measured: protocol `{result['protocol']}`, {machine['time'][:10]}"
    versions = ", ".join("{} {}".format(*item) for item in machine["versions"].items())
    header = [
        "",
        "input",
        "runtime",
        "precision",
        "median ms",
        "p90",
        "p99",
        "FPS",
        "spread",
        "times faster",
        "mIoU (whose)",
    ]
    body = []
    for row in rows:
        times = row["stages"]["total"] if "stages" in row else row["latency_in_flight"]
        body.append(
            [
                row["name"],
                "x".join(map(str, row["input_shape"])),
                f"{row['backend']['name']} {row['backend']['version']}",
                row["precision"],
                *[f"{times[key]:.2f}" for key in ("median_ms", "p90_ms", "p99_ms")],
                f"{row['fps']:.1f}",
                f"{(100 * (times['spread'] if 'stages' in row else row['spread'])):.0f} %",
                " ".join(ratio_cells(row)),
                accuracy_text(row),
            ]
        )
    parts = [
        heading,
        f"{describe_machine(machine)}; {machine['system']}.",
        versions + ".",
        markdown_table(header, body),
    ]
    staged = [row for row in rows if "stages" in row]
    if staged:
        parts.append(
            "Where the time goes, median ms ('.' is part of forward, '-' does not take "
            f"place):\n\n```\n{stages_table(staged)}\n```"
        )
    return parts


def reported_markdown(reported: Sequence[Mapping[str, Any]]) -> str:
    """The paper's rows in Markdown."""
    return reported_note(reported) + "\n\n" + markdown_table(REPORTED_HEADER, reported_rows(reported))
