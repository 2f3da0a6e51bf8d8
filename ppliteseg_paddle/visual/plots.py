"""Pictures of numbers."""
from __future__ import annotations

import os
from typing import Any, Mapping, Sequence

from ppliteseg_paddle.errors import DataError, DependencyError


def class_distribution(path: str, classes: Sequence[Mapping[str, Any]], palette, title: str = "") -> str:
    """Bars of each class's share of the labelled pixels (logarithmic) and of the images; returns `path`.

    Args: classes: rows with name, share, image_share; palette: RGB of each class.
    Raises: DependencyError: without matplotlib; DataError: if the file cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise DependencyError("pictures of the distribution need matplotlib (%s): pip install '.[cpu]'." % error) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    names = [row["name"].replace("_", " ") for row in classes]
    colours = [tuple(channel / 255 for channel in palette[i]) for i in range(len(classes))]
    places = list(range(len(classes)))
    figure, axes = pyplot.subplots(1, 2, figsize=(12, max(3.0, 1.4 + 0.32 * len(classes))), sharey=True)
    smallest = min([row["share"] for row in classes if row["share"] > 0], default=1.0)
    for axis, key, heading in ((axes[0], "share", "share of labelled pixels (logarithmic)"), (axes[1], "image_share", "share of images")):
        axis.barh(places, [row[key] for row in classes], color=colours, edgecolor="#3a3d44", linewidth=0.4, height=0.72)
        for place, row in zip(places, classes):
            text = "%.1f %%" % (100 * row[key]) if row[key] >= 0.01 or not row[key] else "%.2g %%" % (100 * row[key])
            at = max(row[key], smallest / 3) if key == "share" else row[key]
            axis.annotate(text, (at, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5, color="#44474f")
        axis.set_xlabel(heading, fontsize=9.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9.5, length=0)
        axis.grid(axis="x", color="#dfe2e7", linewidth=0.7)
        axis.set_axisbelow(True)
    axes[0].set_xscale("log")
    axes[0].set_xlim(smallest / 3, 3)
    axes[0].xaxis.set_major_formatter(lambda value, _: "%g %%" % (100 * value) if value <= 1 else "")
    axes[1].set_xlim(0, 1.18)
    axes[1].set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes[1].set_xticklabels(["0", "25 %", "50 %", "75 %", "100 %"])
    axes[0].set_yticks(places)
    axes[0].set_yticklabels(names)
    axes[0].invert_yaxis()
    if title:
        figure.suptitle(title, fontsize=12.5, x=0.02, ha="left")
    figure.tight_layout()
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        temporary = path + ".tmp.png"
        figure.savefig(temporary, dpi=130)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError("cannot write %s: %s." % (path, error.strerror or error)) from None
    finally:
        pyplot.close(figure)
    return path
