"""The report on what quantising each layer costs: JSON, a table in Markdown, a plot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.errors import DependencyError


def write_quant_report(path: str, report: Mapping[str, Any]) -> list[str]:
    """Write `path` (JSON), and beside it a Markdown table and, with matplotlib installed, a plot.

    Returns: the files' paths.
    Raises: ConfigError: if a file cannot be written.
    """
    from ppliteseg_paddle.files import save_atomic
    from ppliteseg_paddle.outputs import write_result

    stem = os.path.splitext(path)[0]
    written = [path, stem + ".md"]
    write_result(path, report)
    with save_atomic(stem + ".md") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(markdown(report))
    try:
        from ppliteseg_paddle.visual.layers import layer_bars

        written.append(
            layer_bars(
                stem + ".png",
                [(f"{row['form']}  {row['layer']}", 100 * row["noise"], row["float"]) for row in report["layers"]],
                "Noise in the scores from 8 bits in one layer alone (%)",
                "kept in float",
            )
        )
    except DependencyError:  # the numbers are written without it
        pass
    return written


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a page."""
    lines = [
        "# INT8: what each layer costs",
        "",
        (
            f"Ranges by {report['method']} from {report['images']:d} images. Every layer was quantised alone and the "
            f"network's scores were compared with the float ones on {report['sensitivity_images']:d} "
            "images: noise is the root mean square of the difference, as a part of the scores' own spread."
        ),
        "",
    ]
    accuracy: dict[str, Any] = report.get("accuracy") or {}
    if accuracy:
        lines += [
            f"mIoU {100 * accuracy['fp32_mIoU']:.2f} % in float, {100 * accuracy['int8_mIoU']:.2f} % in INT8: "
            f"{accuracy['lost_points']:.2f} points lost on {accuracy['images']:d} {accuracy['on']} images; "
            f"{100 * accuracy['differing_pixels']:.2f} % of the pixels differ.",
            "",
        ]
    lines += [
        "## Trials",
        "",
        "| layers in float | noise | pixels that differ | mIoU lost (points) |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['float_layers']:d} | {100 * row['noise']:.2f} % | {100 * row['differing_pixels']:.2f} % | "
        f"{_points(row['lost_points'])} |"
        for row in report["trials"]
    ]
    lines += [
        "",
        f"Always in float: {', '.join(report['always_float'])}.",
        "",
        "## Layers",
        "",
        "| layer | convolution | noise | pixels that differ | mIoU lost (points) | kept in float |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['layer']} | {row['form']} | {100 * row['noise']:.2f} % | {100 * row['differing_pixels']:.2f} % | "
        f"{_points(row['lost_points'])} | {('yes' if row['float'] else '')} |"
        for row in report["layers"]
    ]
    return "\n".join(lines) + "\n"


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
