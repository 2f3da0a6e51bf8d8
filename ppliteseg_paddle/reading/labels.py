"""Labels: the one reader of class ids, from gray, palette and 16-bit files, and the checks of their values."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.files import opened


class Stored(NamedTuple):
    """A label or mask file as it is stored, before anything is made of it.

    Attributes: `pixels` (H, W) or (H, W, C); `mode`, Pillow's; `palette`, flat R G B values of a palette file;
        `format`, "PNG", "JPEG", ...
    """

    pixels: NDArray[Any]
    mode: str
    palette: list[int] | None = None
    format: str = ""


def read_stored(path: str, kind: str = "label") -> Stored:
    """Decode a label or mask file: the indices of a palette file, else its values or colors.

    Args: kind: what the error message calls the file.
    Raises: UnreadableError: if the file is missing, empty or no image.
    """
    with opened(kind, path) as (_, image):
        palette = image.getpalette() if image.mode == "P" else None
        return Stored(np.asarray(image), str(image.mode), palette, str(image.format))


def read_label(path: str) -> NDArray[Any]:
    """Class ids of a label: the values of a gray file of any depth, or the indices of a palette file.

    Shape: (H, W), uint8 where the values allow it, else an integer type.
    Raises: UnreadableError: if the file is missing, empty or no image. DataError: if it has several channels, or values
        that are not integers.
    """
    label, mode = read_stored(path)[:2]
    if label.ndim != 2:
        raise DataError(
            f"label {path} has {label.shape[2]:d} channels ({mode}): a label is one channel of class ids. Convert its "
            "colors to ids (0, 1, 2, ...; 255 = ignored) and save it as a gray or palette PNG."
        )
    if label.dtype.kind == "f":
        ids = label.astype(np.int64) if np.isfinite(label).all() else None
        if ids is None or (ids != label).any():
            raise DataError(f"label {path} holds floating-point numbers: save class ids as integers.")
        label = ids
    if label.dtype != np.uint8 and label.size and label.min() >= 0 and label.max() <= 255:
        label = label.astype(np.uint8)
    return label


def check_label(label: NDArray[Any], path: str, num_classes: int, ignore_index: int) -> None:
    """Check that a label holds class ids and the ignored value only.

    Raises: DataError: naming the values and how to fix them.
    """
    if label.dtype == np.uint8:
        # A table look-up instead of np.unique: well below a millisecond for 2048x1024, so every reading can afford it.
        allowed = np.zeros(256, np.uint8)
        allowed[:num_classes] = 1
        if 0 <= ignore_index <= 255:
            allowed[ignore_index] = 1
        if cv2.countNonZero(cv2.LUT(np.ascontiguousarray(label), allowed)) == label.size:
            return
    values = np.unique(label)
    bad = values[((values < 0) | (values >= num_classes)) & (values != ignore_index)]
    if not bad.size:
        return
    shown = ", ".join(str(v) for v in bad[:8]) + (", ..." if bad.size > 8 else "")
    pixels = int(np.isin(label, bad).sum())
    known = values[values != ignore_index]
    if known.min() == 1 and known.max() == num_classes:
        fix = "The values seem to count from 1: subtract 1."
    else:
        fix = f"Map them to class ids or to {ignore_index:d}, or raise num_classes."
    raise DataError(
        f"label {path} holds the value{'s' if bad.size > 1 else ''} {shown} ({pixels:d} pixel"
        f"{'s' if pixels > 1 else ''}), but the classes are 0 to {num_classes - 1:d} and {ignore_index:d} is "
        f"ignored. {fix}"
    )
