"""Pictures of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.errors import DependencyError
from ppliteseg_paddle.files import save_atomic
from ppliteseg_paddle.visual.text import font_file_for

_BLUE, _ORANGE, _INK, _GRAY, _LINE = "#2a6fbb", "#d9722a", "#1c1e24", "#707680", "#dfe2e7"


def training_curves(path: str, history: Mapping[str, Any], title: str = "") -> str:
    """Draw loss, learning rate and mIoU of a run over its iterations; returns `path`.

    Args: history: a run's train.json: "train" with iter, loss, lr; "eval" with iter, mIoU, ema.
    Raises: DependencyError: without matplotlib; ConfigError: if the file cannot be written.
    """
    figure = new_figure((10, 9))
    axes = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [5, 2.2, 5]})
    _plot_loss(axes[0], history["train"])
    axes[1].plot(*_columns(history["train"], "lr"), color=_BLUE, linewidth=1.4)
    axes[1].set_ylim(bottom=0)
    _plot_miou(axes[2], history["eval"])
    for axis, heading in zip(axes, ("loss", "learning rate", "mIoU on the validation set (%)")):
        axis.set_title(heading, fontsize=10.5, loc="left", color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["bottom", "left"]].set_color(_GRAY)
        axis.tick_params(labelsize=9, colors=_GRAY)
        axis.grid(color=_LINE, linewidth=0.7)
        axis.set_axisbelow(True)
    last = max((row["iter"] for part in ("train", "eval") for row in history[part]), default=1)
    axes[2].set_xlim(0, max(1.02 * last, 1))
    axes[2].set_xlabel("iteration", fontsize=9.5, color=_GRAY)
    axes[2].xaxis.get_major_locator().set_params(integer=True)
    if title:
        figure.suptitle(title, fontsize=12, x=0.02, ha="left", color=_INK)
    return save_figure(figure, path)


def _plot_loss(axis, rows) -> None:
    iterations, losses = _columns(rows, "loss")
    axis.plot(iterations, losses, color=_BLUE, linewidth=0.8, alpha=0.35, label="as logged")
    if len(losses) >= 10:
        axis.plot(iterations, smoothed(losses), color=_BLUE, linewidth=1.8, label="smoothed")
        axis.legend(frameon=False, fontsize=9, loc="upper right")
    if losses and min(losses) > 0 and max(losses) > 20 * min(losses):
        axis.set_yscale("log")  # a first step hundreds of times the rest would press all else flat
    else:
        axis.set_ylim(bottom=0)


def _plot_miou(axis, evaluations) -> None:
    for ema, color, name in ((False, _BLUE, "weights"), (True, _ORANGE, "averaged weights (EMA)")):
        iterations, values = _columns([row for row in evaluations if bool(row["ema"]) == ema], "mIoU")
        if not values:
            continue
        values = [100 * value for value in values]
        best = max(range(len(values)), key=values.__getitem__)
        axis.plot(
            iterations,
            values,
            color=color,
            linewidth=1.6,
            marker="o",
            markersize=3,
            label=f"{name}: best {values[best]:.2f} at {iterations[best]:d}",
        )
        axis.plot(iterations[best], values[best], "o", markersize=8, markerfacecolor="none", color=color)
        axis.legend(frameon=False, fontsize=9, loc="lower right")
    if not evaluations:
        axis.text(
            0.5, 0.5, "no evaluation yet (--do_eval)", transform=axis.transAxes, ha="center", color=_GRAY, fontsize=10
        )
    axis.set_ylim(bottom=0)


def smoothed(values: Sequence[float], share: float = 0.02) -> list[float]:
    """The mean of each value's neighbourhood, which spans `share` of all values on either side, at least 2, less at the
    ends."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    reach = max(2, round(share * len(values)))
    means = []
    for i in range(len(values)):
        near = min(reach, i, len(values) - 1 - i)  # equally far on both sides, so that a slope stays where it is
        means.append((sums[i + near + 1] - sums[i - near]) / (2 * near + 1))
    return means


def _columns(rows, key: str) -> tuple[list[int], list[float]]:
    """Iterations and values; a value that was no number is null in JSON and skipped."""
    rows = [row for row in rows if row.get(key) is not None and abs(row[key]) < float("inf")]
    return [row["iter"] for row in rows], [row[key] for row in rows]


def class_distribution(path: str, classes: Sequence[Mapping[str, Any]], palette, title: str = "") -> str:
    """Bars of each class's share of the labelled pixels (logarithmic) and of the images; returns `path`.

    Args: classes: rows with name, share, image_share; palette: RGB of each class.
    Raises: DependencyError: without matplotlib; ConfigError: if the file cannot be written.
    """
    figure = new_figure((12, max(3.0, 1.4 + 0.32 * len(classes))))
    axes = figure.subplots(1, 2, sharey=True)
    names = [row["name"].replace("_", " ") for row in classes]
    colors = [tuple(channel / 255 for channel in palette[i]) for i in range(len(classes))]
    places = list(range(len(classes)))
    smallest = min([row["share"] for row in classes if row["share"] > 0], default=1.0)
    for axis, key, heading in (
        (axes[0], "share", "share of labelled pixels (logarithmic)"),
        (axes[1], "image_share", "share of images"),
    ):
        axis.barh(places, [row[key] for row in classes], color=colors, edgecolor="#3a3d44", linewidth=0.4, height=0.72)
        for place, row in zip(places, classes):
            text = f"{(100 * row[key]):.1f} %" if row[key] >= 0.01 or not row[key] else f"{(100 * row[key]):.2g} %"
            at = max(row[key], smallest / 3) if key == "share" else row[key]
            axis.annotate(
                text, (at, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5, color="#44474f"
            )
        axis.set_xlabel(heading, fontsize=9.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9.5, length=0)
        axis.grid(axis="x", color="#dfe2e7", linewidth=0.7)
        axis.set_axisbelow(True)
    axes[0].set_xscale("log")
    axes[0].set_xlim(smallest / 3, 3)
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{(100 * value):g} %" if value <= 1 else "")
    axes[1].set_xlim(0, 1.18)
    axes[1].set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes[1].set_xticklabels(["0", "25 %", "50 %", "75 %", "100 %"])
    axes[0].set_yticks(places)
    axes[0].set_yticklabels(names)
    axes[0].invert_yaxis()
    if title:
        figure.suptitle(title, fontsize=12.5, x=0.02, ha="left")
    return save_figure(figure, path)


def new_figure(size: tuple[float, float]):
    """A figure that draws into memory, whatever window system matplotlib is set up for. Raises: DependencyError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(f"plots need matplotlib ({error}): pip install '.[cpu]'.") from None
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure, path: str, rect: Sequence[float] | None = (0, 0, 1, 1)) -> str:
    """Write a figure as a PNG, with texts of any script; returns `path`.

    Args: rect: left, bottom, right, top of what the figure's axes are laid out in, as shares; None leaves them.
    Raises: ConfigError: if the file cannot be written.
    """
    _fit_texts(figure)
    if rect is not None:
        figure.tight_layout(rect=rect)
    with save_atomic(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return path


def _fit_texts(figure) -> None:
    """Have each text drawn by a font that has its characters, else transliterated."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _fit_tick_labels(axis.get_major_formatter())
            axis.get_ticklabels()  # writes them, so that they are found below
    for text in figure.findobj(Text):
        path, drawn = font_file_for(text.get_text())
        if path:
            font = text.get_fontproperties().copy()
            font.set_file(path)
            text.set_fontproperties(font)
        if drawn != text.get_text():
            text.set_text(drawn)


def _fit_tick_labels(formatter) -> None:
    """Tick labels are written anew by their formatter whenever they are drawn."""
    written = formatter.format_ticks
    formatter.format_ticks = lambda values: [font_file_for(text)[1] for text in written(values)]
