"""The report on what quantising each layer costs: JSON, a table in Markdown, a plot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.errors import ConfigError, DependencyError
from ppliteseg_paddle.files import write_bytes
from ppliteseg_paddle.outputs import Outputs, check_result, write_result


def check_quant_report(path: str, overwrite: bool = False) -> None:
    """Check, before the work, that `write_quant_report` replaces nothing but an earlier report.

    Raises: ConfigError
    """
    check_result(path, overwrite)
    _outputs(path, overwrite).check(_beside(path))


def write_quant_report(path: str, report: Mapping[str, Any], overwrite: bool = False) -> list[str]:
    """Write `path` (JSON), and beside it a Markdown table and, with matplotlib installed, a plot.

    Returns: the files' paths.
    Raises: ConfigError: if a file cannot be written, or is there and not an earlier report's.
    """
    page, plot = _beside(path)
    with _outputs(path, overwrite).replacing(*map(os.path.basename, (page, plot))):
        write_result(path, report)
        write_bytes(page, markdown(report).encode())
        try:
            from ppliteseg_paddle.visual.layers import layer_bars

            layer_bars(
                plot,
                [(f"{row['form']}  {row['layer']}", 100 * row["noise"], row["float"]) for row in report["layers"]],
                "Noise in the scores from 8 bits in one layer alone (%)",
                "kept in float",
            )
        except DependencyError:  # the numbers are written without it
            return [path, page]
    return [path, page, plot]


def _beside(path: str) -> tuple[str, str]:
    stem = os.path.splitext(path)[0]
    return stem + ".md", stem + ".png"


def _outputs(path: str, overwrite: bool) -> Outputs:
    return Outputs(os.path.dirname(path) or os.curdir, overwrite, ConfigError)


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
