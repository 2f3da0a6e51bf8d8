"""Accuracy against speed: the paper's figure 1, for what was measured here beside what the authors report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.visual.plots import new_figure, save_figure

# A color and a marker for each family of networks; the first that a name contains.
_FAMILIES = (
    ("PaddleSeg", "#8c6bb1", "D"),
    ("PP-LiteSeg", "#d1495b", "*"),
    ("STDC", "#2e6f95", "o"),
    ("BiSeNet", "#5b8e3e", "s"),
    ("DDRNet", "#c98b1b", "^"),
)
_OTHER = ("other", "#55606e", "P")
# Where a label may stand beside its point, in points of 1/72 inch, the best place first.
_PLACES = (
    *((10, dy) for dy in (0, -11, 11)),
    *((-10, dy) for dy in (0, -11, 11)),
    (0, 19),
    (0, -19),
    *((dx, dy) for dx in (14, -14) for dy in (-22, 22, -33, 33)),
)
Point = dict[str, Any]


def family(name: str) -> tuple[str, str, str]:
    """(family, color, marker) of a network's name."""
    return next((row for row in _FAMILIES if row[0].lower() in name.lower()), _OTHER)


def draw(path: str, measured: Sequence[tuple[str, Sequence[Point]]], reported: Sequence[Point], title: str = "") -> str:
    """Draw one panel for the paper's rows and one for each set of measured ones; returns `path`.

    Each panel has a speed axis of its own, since machines differ; the accuracy axis is shared.

    Args:
        measured: (what it was measured on, points); a point has name, fps, miou and paper_miou, which says that its
            accuracy is the authors' and not measured: drawn hollow.
        reported: points with name, fps, miou.
    Raises: DependencyError: without matplotlib. DataError: if there is no point; ConfigError: if the file cannot be
        written.
    """
    panels = [("reported by the authors, on a GTX 1080 Ti", list(reported), True)] if reported else []
    panels += [(where, list(points), False) for where, points in measured if points]
    if not panels:
        raise DataError("there is nothing to draw: no row has both a speed and an accuracy; give --accuracy NAME=FILE.")
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure((6.4 * columns, 5.6 * lines))
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for axis, (where, points, authors) in zip(axes, panels):
        _panel(axis, where, points, authors)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    axes[0].set_ylabel("mIoU on Cityscapes val, %" if reported else "mIoU, %", fontsize=10.5)
    _limits(axes, [point["miou"] for _, points, _ in panels for point in points])
    if title:
        figure.suptitle(title, fontsize=13, x=0.02, ha="left")
    _legend(figure, panels)
    figure.tight_layout(rect=(0, 0.06, 1, 1))  # labels are placed in pixels, so the axes must have their places
    for axis, (_, points, _) in zip(axes, panels):
        place_labels(axis, points)
    return save_figure(figure, path, rect=None)


def _panel(axis, where: str, points: list[Point], authors: bool) -> None:
    by_family: dict[str, list[Point]] = {}
    for point in points:
        by_family.setdefault(family(point["name"])[0], []).append(point)
    for members in by_family.values():
        _, color, marker = family(members[0]["name"])
        size = 190 if marker == "*" else 70
        ordered = sorted(members, key=lambda point: point["fps"])
        axis.plot(
            [point["fps"] for point in ordered],
            [point["miou"] for point in ordered],
            color=color,
            alpha=0.3,
            linewidth=1.4,
            zorder=2,
        )
        for point in members:
            hollow = point.get("paper_miou") and not authors
            axis.scatter(
                point["fps"],
                point["miou"],
                s=size,
                marker=marker,
                linewidths=1.6,
                edgecolors=color,
                facecolors="white" if hollow else color,
                zorder=3,
            )
    axis.set_title(where, fontsize=10, color="#44474f", loc="left")
    axis.set_xlabel("FPS" if authors else "FPS, measured here", fontsize=10.5)
    axis.set_xlim(0, 1.3 * max(point["fps"] for point in points))
    axis.grid(color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def place_labels(axis, points: Sequence[Point]) -> list[Any]:
    """Write name and FPS beside each point, where they cover neither another label nor a point, if there is such a
    place. Axis and limits must be final. Returns: the texts."""
    from matplotlib.transforms import Bbox

    renderer = axis.figure.canvas.get_renderer()
    half = 0.09 * axis.figure.dpi  # of a mark
    centers = [axis.transData.transform((point["fps"], point["miou"])) for point in points]
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in centers]
    frame = axis.get_window_extent(renderer)
    texts = []
    for point in points:
        tried = []
        for i, (dx, dy) in enumerate(_PLACES):
            text = _label(axis, point, dx, dy)
            box = text.get_window_extent(renderer)
            covered = sum(_area(Bbox.intersection(box, other)) for other in taken)
            outside = _area(box) - _area(Bbox.intersection(box, frame))
            tried.append((covered + outside, i, text, box))
        _, _, best, box = min(tried, key=lambda one: one[:2])
        for *_, text, _ in tried:
            if text is not best:
                text.remove()
        taken.append(box)
        texts.append(best)
    return texts


def _area(box: Any) -> float:
    return 0.0 if box is None else float(box.width * box.height)


def _label(axis, point: Point, dx: int, dy: int):
    text = axis.annotate(
        f"{point['name']}\n{point['fps']:.3g} FPS",
        (point["fps"], point["miou"]),
        xytext=(dx, dy),
        textcoords="offset points",
        fontsize=8,
        color="#33363c",
        linespacing=1.05,
        va="center",
        ha="left" if dx > 0 else "right" if dx < 0 else "center",
    )
    text.set_in_layout(False)
    return text


def _limits(axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    margin = max(0.15 * (high - low), 0.6)
    axes[0].set_ylim(low - margin, high + margin)


def _legend(figure, panels) -> None:
    from matplotlib.lines import Line2D

    seen = dict.fromkeys(family(point["name"]) for _, points, _ in panels for point in points)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=color, markersize=11 if marker == "*" else 7, label=name)
        for name, color, marker in seen
    ]
    if any(point.get("paper_miou") for _, points, authors in panels if not authors for point in points):
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                markerfacecolor="white",
                color="#55606e",
                markersize=7,
                label="hollow: speed measured here, accuracy the paper's",
            )
        )
    figure.legend(handles=handles, loc="lower center", ncol=len(handles), frameon=False, fontsize=9)
