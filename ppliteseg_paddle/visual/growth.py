"""How costs grow: measured and predicted, on logarithmic axes, beside what grows in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ppliteseg_paddle.visual.plots import new_figure, save_figure

_BLUE, _ORANGE, _GRAY, _LINE = "#2a6fbb", "#d9722a", "#9aa1ab", "#dfe2e7"


class Curve(NamedTuple):
    """A panel: `measured` and `predicted` over `x`, all positive; `growth`: the exponent at the end."""

    x_title: str
    y_title: str
    x: Sequence[float]
    measured: Sequence[float]
    predicted: Sequence[float]
    growth: float


def draw(path: str, rows: Sequence[Sequence[Curve]], title: str = "") -> str:
    """Draw a panel for each curve; the panels of a row share their vertical axis. Returns `path`.

    Raises: DependencyError: without matplotlib; ConfigError: if the file cannot be written.
    """
    figure = new_figure((3.4 * max(map(len, rows)), 3.1 * len(rows) + 0.5))
    grid = figure.subplots(len(rows), max(map(len, rows)), sharey="row", squeeze=False)
    for axes, curves in zip(grid, rows):
        for axis, curve in zip(axes, curves):
            _panel(axis, curve)
        axes[0].set_ylabel(curves[0].y_title, fontsize=10)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(handles), frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=9.5, x=0.02, ha="left")
    return save_figure(figure, path, rect=(0, 0.05, 1, 0.99))


def _panel(axis: Any, curve: Curve) -> None:
    first, last = curve.x[0], curve.x[-1]
    axis.plot(curve.x, curve.predicted, color=_ORANGE, linewidth=1.6, label="predicted")
    # Through the last point, so that what grows more slowly lies above it everywhere.
    proportional = [curve.measured[-1] * first / last, curve.measured[-1]]
    axis.plot([first, last], proportional, color=_GRAY, linewidth=1.1, linestyle="--", label="in proportion")
    axis.plot(curve.x, curve.measured, "o", color=_BLUE, markersize=5, label="measured")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(curve.x)
    axis.set_xticklabels([_short(x) for x in curve.x])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel(f"{curve.x_title}: x^{curve.growth:.2f} at the end", fontsize=9.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8.5)
    axis.grid(color=_LINE, linewidth=0.7)
    axis.set_axisbelow(True)


def _short(value: float) -> str:
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:.0f}"
