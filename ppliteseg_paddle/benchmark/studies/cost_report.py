"""The tables and the figure of `studies.cost`, from its JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.benchmark.tables import describe_machine, markdown_table, text_table
from ppliteseg_paddle.files import save_atomic
from ppliteseg_paddle.visual.growth import Curve, draw

COSTS = {"seconds": ("ms", 1000.0), "mib": ("MiB", 1.0)}  # cost -> unit of the table, and how many of it
_CLOCKS = {"wall": "", "cpu": " in processor time"}
_X = {"pixels": "pixels of an image", "batch": "images", "classes": "classes", "levels": "levels"}


def _cells(name: str, axis: Mapping[str, Any]) -> list[list[str]]:
    """A row for each point: axis, what grows, and each cost measured, predicted, and their ratio."""
    rows = []
    for number, (x, point) in enumerate(zip(axis["x"], axis["points"])):
        height, width = point["size"]
        row = [name if number == 0 else "", f"{width:d}x{height:d}" if name == "pixels" else f"{x:.0f}"]
        for cost in axis["growth"]:
            scale = COSTS[cost][1]
            value, expected = point[cost] * scale, point[f"predicted_{cost}"] * scale
            row += [f"{value:.0f}", f"{expected:.0f}", f"{value / expected:.2f}"]
        rows.append(row)
    return rows


def _points(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    costs = [COSTS[cost][0] for cost in result["factors"]]
    header = ["", "", *(word for unit in costs for word in (unit, "predicted", "ratio"))]
    return header, [row for name, axis in result["axes"].items() for row in _cells(name, axis)]


def _growth(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    costs = [{"seconds": "time", "mib": "memory"}[cost] for cost in result["factors"]]
    header = ["grows with", *(f"{cost}, {where}" for cost in costs for where in ("all points", "last two"))]
    rows = []
    for name, axis in result["axes"].items():
        found = [axis["growth"][cost] for cost in result["factors"]]
        rows.append([name, *(f"x^{one[which]:.2f}" for one in found for which in ("overall", "last"))])
    return header, rows


def factors_text(result: Mapping[str, Any]) -> str:
    """What was fitted, in a sentence for each cost."""
    lines, factors = [], result["factors"]
    if "seconds" in factors:
        time = factors["seconds"]
        lines.append(
            f"Time: {1000 * time['fixed']:.0f} ms, {1e12 * time['macs']:.1f} ms for 10^9 multiply-adds of convolutions"
            f"{_rate(time['macs'])}, {1e9 * time['loss_values']:.1f} ns for each pixel, class and output."
        )
    if "mib" in factors:
        memory = factors["mib"]
        lines.append(
            f"Memory: {memory['fixed']:.0f} MiB, {memory['map_mib']:.2f} times the results of convolutions and batch "
            f"norm, {memory['loss_mib']:.2f} times what the losses hold."
        )
    return "\n".join(lines)


def _rate(seconds: float) -> str:
    return f" ({2e-9 / seconds:.0f} GFLOP/s)" if seconds > 0 else ""


def _heading(result: Mapping[str, Any]) -> str:
    return (
        f"A training step{_CLOCKS[result['clock']]}, PP-LiteSeg-T, {result['num_threads']:d} threads, Paddle "
        f"{result['machine']['versions'].get('paddlepaddle', 'of another name')}, {describe_machine(result['machine'])}"
    )


def table(result: Mapping[str, Any]) -> str:
    """What a person reads."""
    parts = [_heading(result), text_table(*_points(result)), text_table(*_growth(result)), factors_text(result)]
    return "\n\n".join(parts)


def markdown(result: Mapping[str, Any]) -> str:
    """The same for a page."""
    parts = [_heading(result) + ".", markdown_table(*_points(result)), factors_text(result).replace("\n", " ")]
    return "\n\n".join([*parts, markdown_table(*_growth(result))]) + "\n"


def write(result: Mapping[str, Any], folder: str) -> None:
    """cost.md and cost.png in `folder`. Raises: DependencyError: without matplotlib; ConfigError: if it cannot be
    written."""
    os.makedirs(folder, exist_ok=True)
    draw(os.path.join(folder, "cost.png"), _curves(result), title=_heading(result))
    with save_atomic(os.path.join(folder, "cost.md")) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(markdown(result))


def _curves(result: Mapping[str, Any]) -> list[list[Curve]]:
    """A row of curves for each cost."""
    rows = []
    for cost in result["factors"]:
        unit, scale = COSTS[cost]
        rows.append(
            [
                Curve(
                    x_title=_X[name],
                    y_title=unit,
                    x=axis["x"],
                    measured=[point[cost] * scale for point in axis["points"]],
                    predicted=[point[f"predicted_{cost}"] * scale for point in axis["points"]],
                    growth=axis["growth"][cost]["last"],
                )
                for name, axis in result["axes"].items()
            ]
        )
    return rows
