"""A picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppliteseg_paddle.visual.plots import new_figure, save_figure
from ppliteseg_paddle.visual.text import text_width

_INK, _GRAY = "#1c1e24", "#707680"
_WITH_NUMBERS = 32  # classes up to which cells hold numbers
_LARGEST = 24.0  # inches


def draw_confusion(path: str, matrix: np.ndarray, names: Sequence[str], title: str = "") -> str:
    """Draw what the pixels of each class are predicted as, in percent, with the pixels of each class; returns `path`.

    Args: matrix: (classes, classes) of pixels, rows are labels.
    Raises: DependencyError: without matplotlib; ConfigError: if the file cannot be written.
    """
    classes, texts = len(names), [str(name).replace("_", " ") for name in names]
    sums = matrix.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(matrix, sums, out=np.zeros(matrix.shape), where=sums > 0)
    side = min(_LARGEST, max(2.6, 0.56 * classes))
    size = min(9.5, 60 * side / max(classes, 1))
    margin = 0.6 + max(text_width(text, 100) for text in texts) * size / 7200  # points are 72 an inch
    width, height = side + margin + 1.2, side + margin + 0.8
    figure = new_figure((width, height))
    # Placed by hand: a layout that is computed takes half a minute for 150 classes.
    axis = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    places = list(range(classes))
    axis.set_xticks(places, texts, rotation=90, fontsize=size)
    axis.set_yticks(places, texts, fontsize=size)
    axis.tick_params(length=0, colors=_INK)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("prediction", fontsize=10.5, color=_GRAY)
    axis.set_ylabel("label", fontsize=10.5, color=_GRAY)
    if classes <= _WITH_NUMBERS:
        for i, j in np.argwhere(shares >= 0.05):
            value = shares[i, j]
            color = "white" if value > 55 else _INK
            text = f"{value:.1f}" if value < 99.95 else "100"
            axis.text(j, i, text, ha="center", va="center", fontsize=8.5, color=color)
    for i, total in enumerate(sums[:, 0]):
        axis.text(classes - 0.35, i, _pixels(int(total)), va="center", fontsize=min(8.5, size), color=_GRAY)
    axis.text(classes - 0.35, -0.7, "pixels", va="bottom", fontsize=8.5, color=_GRAY)
    axis.set_title(title or "labelled pixels by prediction, %", fontsize=11, loc="left", color=_INK)
    return save_figure(figure, path, rect=None)


def _pixels(number: int) -> str:
    """As in 1.2 M."""
    for factor, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)
