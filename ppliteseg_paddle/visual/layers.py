"""A bar for each layer of a network."""

from __future__ import annotations

from collections.abc import Sequence

from ppliteseg_paddle.visual.plots import _BLUE, _GRAY, _INK, _LINE, _ORANGE, new_figure, save_figure


def layer_bars(path: str, rows: Sequence[tuple[str, float, bool]], title: str, marked: str) -> str:
    """Draw a bar for each layer, in the given order from the top; returns `path`.

    Args: rows: name, value, and whether it is marked, by another color that the legend calls `marked`.
    Raises: DependencyError: without matplotlib; DataError: if the file cannot be written.
    """
    figure = new_figure((9, max(2.5, 1.2 + 0.19 * len(rows))))
    axis = figure.subplots()
    places = list(range(len(rows)))
    for chosen, color, name in ((False, _BLUE, ""), (True, _ORANGE, marked)):
        picked = [place for place in places if bool(rows[place][2]) == chosen]
        axis.barh(picked, [rows[place][1] for place in picked], color=color, height=0.75, label=name or "in 8 bits")
    axis.set_yticks(places)
    axis.set_yticklabels([row[0] for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.set_title(title, fontsize=10.5, loc="left", color=_INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="x", labelsize=8.5, colors=_GRAY)
    axis.grid(axis="x", color=_LINE, linewidth=0.7)
    axis.set_axisbelow(True)
    if any(row[2] for row in rows):
        axis.legend(frameon=False, fontsize=9, loc="lower right")
    return save_figure(figure, path)
