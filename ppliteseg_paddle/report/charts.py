"""Curves as SVG for a page, in its colors: they follow a light and a dark one. No text of a file stands in them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ppliteseg_paddle.visual.plots import smoothed

POINTS = 1000  # of a curve; more cannot be seen
COLORS = (
    "#3d85c6",
    "#e0812c",
    "#3aa675",
    "#a66bc9",
    "#d6566a",
    "#8f8f3c",
    "#2fa6b8",
    "#b07a55",
)  # on white and on black
# Colors that stand for variables of the page's style.
_INK, _LINE = "#010203", "#010204"
_VARIABLES = {_INK: "var(--muted)", _LINE: "var(--line)"}


class Curve(NamedTuple):
    """A line of a chart; `faint` as what is behind a smoothed one, `dashed`, or with `dots` at its points."""

    x: Sequence[float]
    y: Sequence[float]
    color: str
    faint: bool = False
    dashed: bool = False
    dots: bool = False


def color_of(number: int) -> str:
    """Of a run by its number."""
    return COLORS[number % len(COLORS)]


def chart(curves: Sequence[Curve], name: str, percent: bool = False) -> str:
    """An SVG of curves over iterations; "" if there is no point to draw. Logarithmic where most would be pressed flat.

    Args: name: of the chart, which marks its parts; percent: whether values are shares, shown in percent.
    Raises: DependencyError: without matplotlib.
    """
    curves = [curve for curve in curves if curve.x]
    if not curves:
        return ""
    from matplotlib import rc_context

    from ppliteseg_paddle.visual.plots import new_figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True}):
        figure = new_figure((5.6, 2.5))  # so that its texts have the page's size in two columns
        axis = figure.add_axes((0.1, 0.12, 0.885, 0.84))
        for curve in curves:
            x, y = thinned(curve)
            style = "--" if curve.dashed else "-"
            axis.plot(
                x,
                [100 * value for value in y] if percent else y,
                linestyle=style,
                marker="o" if curve.dots else None,
                markersize=3.2,
                color=curve.color,
                linewidth=0.9 if curve.faint else 1.8,
                alpha=0.3 if curve.faint else 1.0,
            )
        values = [value for curve in curves for value in curve.y]
        if min(values) > 0 and max(values) > 20 * sorted(values)[len(values) // 2]:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.set_xlim(0, max(1.0, 1.02 * max(max(curve.x) for curve in curves)))
        axis.xaxis.get_major_locator().set_params(integer=True)
        _style(axis)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), name)


def reliability_chart(curves: Sequence[Curve], shares: Sequence[Sequence[float]], name: str) -> str:
    """An SVG of a reliability diagram: accuracy over confidence, both in percent, and below the pixels of each point.

    Args: curves: confidences (x) and accuracies (y), 0 to 1; shares: of all pixels, for each point of each curve.
    Raises: DependencyError: without matplotlib.
    """
    from matplotlib import rc_context

    from ppliteseg_paddle.visual.plots import new_figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure = new_figure((4.6, 5.0))
        upper = figure.add_axes((0.12, 0.31, 0.85, 0.67))
        lower = figure.add_axes((0.12, 0.08, 0.85, 0.17), sharex=upper)
        upper.plot([0, 100], [0, 100], linestyle="--", color=_INK, linewidth=1)
        for place, (curve, share) in enumerate(zip(curves, shares)):
            x, y = ([100 * value for value in values] for values in (curve.x, curve.y))
            upper.plot(x, y, marker="o", markersize=4, color=curve.color, linewidth=1.8)
            width = 5 / len(curves)  # beside each other, around the point
            left = [value + (place - (len(curves) - 1) / 2) * width for value in x]
            lower.bar(left, [100 * value for value in share], width, color=curve.color)
        upper.set_xlim(0, 102)
        upper.set_ylim(0, 102)
        lower.set_ylim(bottom=0)
        upper.tick_params(labelbottom=False)
        for axis in (upper, lower):
            _style(axis)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), name)


def _style(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color(_LINE)
    axis.tick_params(which="both", labelsize=8.5, labelcolor=_INK, color=_LINE)
    axis.grid(color=_LINE, linewidth=0.7)
    axis.set_axisbelow(True)


def _inline(svg: str, name: str) -> str:
    """The element alone, as wide as the page, in the page's colors."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{name}"', svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg


def thinned(curve: Curve) -> tuple[list[float], list[float]]:
    """A curve of at most `POINTS` points, evenly chosen, with the first and the last one."""
    count = len(curve.x)
    if count <= POINTS:
        return list(curve.x), list(curve.y)
    places = sorted({round(i * (count - 1) / (POINTS - 1)) for i in range(POINTS)})
    return [curve.x[place] for place in places], [curve.y[place] for place in places]


def with_trend(x: Sequence[float], y: Sequence[float], color: str) -> list[Curve]:
    """A curve and its mean over neighbors, where it is long enough for one."""
    if len(y) < 10:
        return [Curve(x, y, color)]
    return [Curve(x, y, color, faint=True), Curve(x, smoothed(y), color)]
