"""What `val --save_dir` writes: the confusion matrix, the scores of each image, the worst first, and how far the
confidence of the network is from its accuracy."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.engine.loop.distributed import sum_over_ranks
from ppliteseg_paddle.engine.reliability import BINS, reliability
from ppliteseg_paddle.files import write_bytes, write_json
from ppliteseg_paddle.reading.run_files import (
    BEST_PICTURE,
    IMAGES_JSON,
    IMAGES_TABLE,
    MATRIX_JSON,
    MATRIX_PICTURE,
    MATRIX_SHARES,
    MATRIX_TABLE,
    RELIABILITY_JSON,
    WORST_PICTURE,
)

FILES = (MATRIX_PICTURE, MATRIX_TABLE, MATRIX_SHARES, MATRIX_JSON, IMAGES_TABLE, IMAGES_JSON, RELIABILITY_JSON)
PICTURES = (WORST_PICTURE, BEST_PICTURE)  # of `sample_rows.write_extremes`


class Counts:
    """What `evaluate` counts, for each image and for all. Each rank fills the rows of its own images.

    Args: images, classes: numbers of them; several: whether a pixel may have several classes.
    Attributes: areas: (images, 3, classes): pixels right, predicted, labelled; matrix: (classes, classes), rows are
        labels; None before `gather`, and with `several`; confidences: of `reliability.confidences_on_device`, zeros
        with `several`.
    """

    def __init__(self, images: int, classes: int, several: bool = False):
        self.areas, self.several = np.zeros((images, 3, classes), np.int64), several
        self.matrix: np.ndarray | None = None
        self.confidences = np.zeros((3, BINS))

    def add(self, index: int, counted: np.ndarray) -> None:
        """Take one image's confusion matrix, or its areas where a pixel may have several classes."""
        if not self.several:
            counted = np.stack([np.diag(counted), counted.sum(axis=0), counted.sum(axis=1)])
        self.areas[index] = counted

    def gather(self, matrix: np.ndarray | None) -> None:
        """Take the matrix of all images, and what the other ranks have counted. All ranks have to call it."""
        self.areas, self.matrix = sum_over_ranks(self.areas), matrix
        self.confidences = sum_over_ranks(self.confidences)

    def rows(self, pairs: Sequence[Sequence[str]], root: str = "") -> list[dict[str, Any]]:
        """One row an image, the worst first: image, label, index (in the list, from 0), mIoU, acc, pixels, class_iou.

        mIoU is the mean over the classes that occur in the label or the prediction of the image; the IoU of others is
        None. Images without a labelled pixel come last, without scores.

        Args: pairs: paths of image and label; root: folder to which paths are relative.
        """
        rows = []
        for index, ((image, label), (hit, predicted, labelled)) in enumerate(zip(pairs, self.areas)):
            union, pixels = predicted + labelled - hit, int(labelled.sum())
            present = union > 0
            iou = np.divide(hit, union, out=np.full(len(hit), np.nan), where=present)
            rows.append(
                {
                    "image": _relative(image, root),
                    "label": _relative(label, root),
                    "index": index,
                    "mIoU": float(iou[present].mean()) if pixels else None,
                    "acc": float(hit.sum() / pixels) if pixels else None,
                    "pixels": pixels,
                    "class_iou": [float(value) if there else None for value, there in zip(iou, present)],
                }
            )
        return sorted(rows, key=lambda row: (row["mIoU"] is None, row["mIoU"] or 0.0))


def _relative(path: str, root: str) -> str:
    inside = os.path.relpath(path, root) if root and os.path.isabs(path) == os.path.isabs(root) else os.pardir
    return path if inside.startswith(os.pardir) else inside


def normalized(matrix: np.ndarray) -> np.ndarray:
    """Shares of each row, of the pixels that are labelled as a class; NaN where there are none."""
    sums = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, sums, out=np.full(matrix.shape, np.nan), where=sums > 0)


def write_counts(folder: str, counts: Counts, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Write the files of `FILES`; without those of the matrix and of confidence where a pixel may have several classes.

    Args: rows: of `Counts.rows`; names: of the classes.
    Returns: their paths.
    Raises: DependencyError: without matplotlib; ConfigError: if one cannot be written.
    """
    from ppliteseg_paddle.visual.confusion import draw_confusion

    paths = {name: os.path.join(folder, name) for name in FILES}
    table = [["image", "label", "mIoU", "acc", "pixels", *(f"IoU:{name}" for name in names)]]
    table += [[row["image"], row["label"], row["mIoU"], row["acc"], row["pixels"], *row["class_iou"]] for row in rows]
    _write_table(paths[IMAGES_TABLE], table)
    named = [{**row, "class_iou": dict(zip(names, row["class_iou"]))} for row in rows]
    write_json(paths[IMAGES_JSON], {"class_names": list(names), "images": named})
    if counts.matrix is None:
        return [paths[IMAGES_TABLE], paths[IMAGES_JSON]]
    shares = normalized(counts.matrix)
    for file, values in ((MATRIX_TABLE, counts.matrix), (MATRIX_SHARES, shares)):
        lines: list[list[Any]] = [["label \\ prediction", *names]]
        lines += [
            [name, *(None if value != value else value for value in row)] for name, row in zip(names, values.tolist())
        ]
        _write_table(paths[file], lines)
    write_json(
        paths[MATRIX_JSON],
        {
            "rows": "labels",
            "columns": "predictions",
            "class_names": list(names),
            "counts": counts.matrix.tolist(),
            "normalized": shares.tolist(),
        },
    )
    draw_confusion(paths[MATRIX_PICTURE], counts.matrix, names)
    write_json(paths[RELIABILITY_JSON], reliability(counts.confidences))
    return list(paths.values())


def _write_table(path: str, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_bytes(path, text.getvalue().encode())
