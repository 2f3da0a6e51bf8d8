"""Two models on the same images: IoU by class with intervals, where their masks differ, how fast they are.

The images are a sample of what the models will see. The bootstrap tells how far the result depends on which images
these are: they are drawn anew many times, the same for both models, and each time the difference is computed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle import progress
from ppliteseg_paddle.benchmark.protocols import identity, rest_between
from ppliteseg_paddle.benchmark.timing import describe, measure_round_robin, ratios, timed
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.sources import Item
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores_of_areas
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import check_label, read_label
from ppliteseg_paddle.reading.pairs import check_sizes
from ppliteseg_paddle.visual.error_map import draw_errors
from ppliteseg_paddle.visual.grid import Row, grid
from ppliteseg_paddle.visual.png import write_image

ROUNDS = 2000
PICTURE = "differences.png"
_INTERVAL = (2.5, 97.5)  # percentiles
_LISTED, _DRAWN = 10, 4  # images that differ most


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how. Args: warmup, repeats: of the timing, as `timing.measure` has them."""

    first: Predictor
    second: Predictor
    names: tuple[str, str]
    warmup: int | None = None
    repeats: int | None = None

    def check(self) -> None:
        """Raises: ConfigError: if the models do not have the same classes, or several a pixel."""
        classes = [tuple(predictor.label_set.classes) for predictor in (self.first, self.second)]
        if any(predictor.artifact.multilabel for predictor in (self.first, self.second)):
            raise ConfigError("compare is for models that give each pixel one class; one of these is multi-label.")
        if classes[0] != classes[1]:
            only = [sorted(set(a) - set(b)) for a, b in (classes, classes[::-1])]
            what = (
                f"only in {self.names[0]}: {', '.join(only[0]) or 'none'}; only in {self.names[1]}: "
                f"{', '.join(only[1]) or 'none'}"
                if any(only)
                else "the same names in another order"
            )
            raise ConfigError(
                f"{self.names[0]} has {len(classes[0]):d} classes and {self.names[1]} {len(classes[1]):d}, which are "
                f"not the same ({what}): give two models of one task."
            )


@dataclass
class _Counted:
    """Of each image: pixels right, predicted and labelled by class, for both models; the share that differs."""

    areas: list[np.ndarray] = field(default_factory=list)  # (2, 3, classes) an image that has a label
    differing: list[float] = field(default_factory=list)


def compare(what: Comparison, items: Sequence[Item], save_dir: str | None = None) -> dict[str, Any]:
    """Compare two predictors.

    Args: items: images, with their labels or without; save_dir: an existing folder for the picture of differences.
    Returns: plain values, ready for JSON: "images", "labelled", "mIoU" and "classes" (where there are labels),
        "agreement" (share of pixels with one class in both), "most_different", "speed", "models", "files".
    Raises: ConfigError: as `Comparison.check`. DataError: for an image or a label that cannot serve.
    """
    what.check()
    counted = _Counted()
    for item in progress.bar(items, desc="comparing", unit="image"):
        _count(what, item, counted)
    order = np.argsort(-np.array(counted.differing), kind="stable")[:_LISTED]
    differing = [i for i in order if counted.differing[i] > 0]
    result: dict[str, Any] = {
        "names": list(what.names),
        "images": len(items),
        "labelled": len(counted.areas),
        "agreement": 1.0 - float(np.mean(counted.differing)),
        "most_different": [{"image": items[i].path, "differing": counted.differing[i]} for i in differing],
    }
    if counted.areas:
        areas = np.stack(counted.areas, axis=1)  # (2, images, 3, classes)
        result.update(accuracy(areas, what.first.label_set.classes))
    result["speed"] = _speed(what, read_image(items[0].path, *what.first.artifact.image_form))
    result["models"] = [identity(what.first), identity(what.second)]
    result["files"] = []
    if save_dir is not None and differing:
        result["files"].append(os.path.join(save_dir, PICTURE))
        write_image(result["files"][0], _picture(what, [items[i] for i in differing[:_DRAWN]], result))
    return result


def _count(what: Comparison, item: Item, counted: _Counted) -> None:
    image = read_image(item.path, *what.first.artifact.image_form)
    masks = [what.first.predict(image), what.second.predict(image)]
    counted.differing.append(float(np.mean(masks[0] != masks[1])))
    if item.label is None:
        return
    labels = what.first.label_set
    label = read_label(item.label)
    check_sizes(image, label, item.path, item.label)
    check_label(label, item.label, labels.num_classes, labels.ignore_index)
    matrices = [confusion_matrix(mask, label, labels.num_classes, labels.ignore_index) for mask in masks]
    counted.areas.append(
        np.stack([np.stack([np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)]) for matrix in matrices])
    )


# --------------------------------------------------------------------------------------------
# Accuracy
# --------------------------------------------------------------------------------------------
class Interval(NamedTuple):
    """The middle 95 % of the differences that the bootstrap gave."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def accuracy(areas: np.ndarray, classes: Sequence[str], rounds: int = ROUNDS, seed: int = 0) -> dict[str, Any]:
    """IoU of both models, and their differences (second minus first) with 95 % intervals of a paired bootstrap.

    Shape: areas (2, images, 3, classes), integer: pixels right, predicted and labelled of each image.
    """
    first, second = (scores_of_areas(*model.sum(axis=0)) for model in areas)
    drawn = bootstrap(areas, rounds, seed)
    rows = []
    for index, name in enumerate(classes):
        ious = [first["class_iou"][index], second["class_iou"][index]]
        rows.append({"name": name, **_difference(ious, drawn[:, index])})
    return {"mIoU": _difference([first["mIoU"], second["mIoU"]], drawn.mean(axis=1)), "classes": rows}


def bootstrap(areas: np.ndarray, rounds: int, seed: int) -> np.ndarray:
    """Differences of each class's IoU, second minus first, on images drawn with replacement.

    Shape: areas as `accuracy` has them; returns float64 (rounds, classes).
    """
    _, images, _, classes = areas.shape
    rng = np.random.default_rng(seed)
    differences = np.empty((rounds, classes))
    flat = areas.reshape(2, images, -1).astype(np.float64)
    for start in range(0, rounds, 100):  # bounds the memory of many images
        part = differences[start : start + 100]
        times = rng.multinomial(images, np.full(images, 1 / images), size=len(part)).astype(np.float64)
        hit, predicted, labelled = np.moveaxis((times @ flat).reshape(2, len(part), 3, classes), 2, 0)
        union = predicted + labelled - hit
        iou = np.divide(hit, union, out=np.zeros_like(hit), where=union > 0)
        part[:] = iou[1] - iou[0]
    return differences


def _difference(values: Sequence[float], drawn: np.ndarray) -> dict[str, Any]:
    interval = Interval(*(float(value) for value in np.percentile(drawn, _INTERVAL)))
    return {
        "values": [float(value) for value in values],
        "difference": float(values[1] - values[0]),
        "interval": list(interval),
        "clear": interval.excludes_zero,
    }


# --------------------------------------------------------------------------------------------
# Speed, and where they differ
# --------------------------------------------------------------------------------------------
def _speed(what: Comparison, image: np.ndarray) -> dict[str, Any]:
    """Milliseconds from decoded pixels to a mask, round-robin, and how many times as fast the second one is."""
    predictors = {"first": what.first, "second": what.second}
    measured = measure_round_robin(
        {name: timed(partial(predictor.predict, image)) for name, predictor in predictors.items()},
        what.warmup,
        what.repeats,
        rest=rest_between(predictor.backend for predictor in predictors.values()),
    )
    times = {name: describe(measured[name].seconds["total"]) for name in predictors}
    return {
        "image_size": [image.shape[1], image.shape[0]],
        "median_ms": [times[name]["median_ms"] for name in predictors],
        "times_as_fast": ratios(measured, "first")["second"],
    }


def _picture(what: Comparison, items: Sequence[Item], result: dict[str, Any]) -> np.ndarray:
    from ppliteseg_paddle.visual.bands import shown_image

    rows = []
    for item in items:
        pixels = read_image(item.path, *what.first.artifact.image_form)
        first, second = what.first.predict(pixels), what.second.predict(pixels)
        image = shown_image(pixels)
        share = f"{100 * np.mean(first != second):.2f} % of the pixels differ"
        rows.append(Row(image, first, second, f"{item.name}: {share}", draw_errors(image, first, second, -1)))
    subtitle = f"{100 * (1 - result['agreement']):.2f} % of all pixels differ, here those images that differ most"
    return grid(
        rows,
        what.first.label_set,
        "Where two models differ",
        subtitle,
        headings=("Image", *what.names),
        errors=("Where they differ", "another class"),
    )
