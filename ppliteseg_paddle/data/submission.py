"""Predictions in the form that the Cityscapes server and its official evaluation take, checked and packed."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Callable

import numpy as np
from PIL import Image

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.files import save_atomic
from ppliteseg_paddle.reading.labels import read_stored

# Label id of each of the 19 train ids. Source: the label table of `cityscapesscripts`.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
WIDTH, HEIGHT = 2048, 1024
TEST_IMAGES = 1525
_FRAME = re.compile(r"([A-Za-z][A-Za-z-]*_\d{6}_\d{6})")


def frame_of(path: str) -> str:
    """ "berlin_000000_000019" of an image's or a prediction's path: by it the server finds the ground truth.

    Raises: DataError: if the name does not begin so.
    """
    match = _FRAME.match(os.path.basename(path))
    if not match:
        raise DataError(
            f"{path} is not named as Cityscapes names its frames (berlin_000000_000019_leftImg8bit.png), and the "
            "server finds the ground truth by this name."
        )
    return match.group(1)


def check_frames(paths: Iterable[str]) -> list[str]:
    """The frames of images, in order. Raises: DataError: for another name, or two images of one frame."""
    seen: dict[str, str] = {}
    for path in paths:
        frame = frame_of(path)
        if frame in seen:
            raise DataError(f"{seen[frame]} and {path} are the same frame; the server takes one prediction a frame.")
        seen[frame] = path
    return list(seen)


def file_name(image_path: str) -> str:
    """Name of the prediction of an image."""
    return frame_of(image_path) + "_pred_labelIds.png"


def label_ids(mask: np.ndarray) -> np.ndarray:
    """A mask of the 19 train ids as label ids, at the server's 1024x2048 (enlarged by nearest neighbours where it is
    smaller).

    Shape: (H, W) uint8, twice as wide as high; returns (1024, 2048) uint8.
    Raises: DataError: for another shape, or ids beyond 18.
    """
    import cv2

    height, width = mask.shape
    if width != 2 * height:
        raise DataError(
            f"a mask of {width:d}x{height:d} pixels cannot be brought to the {WIDTH:d}x{HEIGHT:d} of Cityscapes: it "
            "must be twice as wide as high."
        )
    if int(mask.max()) >= len(LABEL_IDS):
        raise DataError(f"the model answers with class {int(mask.max()):d}, but Cityscapes has the train ids 0 to 18.")
    if (height, width) != (HEIGHT, WIDTH):
        mask = cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    return np.asarray(LABEL_IDS, np.uint8)[mask]


# Opens a temporary file that becomes a path's when the block ends.
Saving = Callable[[str], AbstractContextManager[str]]


def _saving(path: str) -> AbstractContextManager[str]:
    return save_atomic(path, DataError)


def write_prediction(folder: str, image_path: str, mask: np.ndarray, saving: Saving = _saving) -> str:
    """Write the prediction of one image; returns its path."""
    path = os.path.join(folder, file_name(image_path))
    image = Image.fromarray(label_ids(mask))
    with saving(path) as temporary:
        image.save(temporary, "PNG")
    return path


def check_folder(folder: str, frames: Sequence[str] = ()) -> dict[str, Any]:
    """Check a folder of predictions as the server will.

    Args: frames: those that must be there; empty: whatever is there.
    Returns: "images", and "test_set": whether it is as many as the test set has.
    Raises: DataError: for what is missing, too many, of another size or kind, or holds ids that the evaluation does not
        know.
    """
    found: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.endswith(".png"):
            raise DataError(f"{path}: the server takes PNGs only; remove it.")
        frame = frame_of(path)
        if frame in found:
            raise DataError(f"{found[frame]} and {path} are predictions of one frame; remove one.")
        found[frame] = path
        _check_file(path)
    missing = [frame for frame in frames if frame not in found]
    if missing:
        raise DataError(
            f"{folder} lacks the predictions of {len(missing):d} frames: "
            f"{', '.join(missing[:5])}{(', ...' if len(missing) > 5 else '')}."
        )
    foreign = sorted(set(found) - set(frames)) if frames else []
    if foreign:
        raise DataError(
            f"{folder} holds predictions of {len(foreign):d} frames that were not asked for "
            f"({', '.join(foreign[:5])}): use an empty folder."
        )
    if not found:
        raise DataError(f"{folder} holds no predictions.")
    return {"images": len(found), "test_set": len(found) == TEST_IMAGES}


def _check_file(path: str) -> None:
    pixels, mode = read_stored(path, "prediction")[:2]
    if mode != "L" or pixels.shape != (HEIGHT, WIDTH):
        raise DataError(
            f"{path} is {pixels.shape[1]:d}x{pixels.shape[0]:d} ({mode}), but the server takes {WIDTH:d}x{HEIGHT:d} "
            "with one 8-bit channel."
        )
    unknown = sorted(set(np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()) - set(range(34)))
    if unknown:
        raise DataError(
            f"{path} holds {', '.join(map(str, unknown[:8]))}, which are no Cityscapes label ids (0 to 33)."
        )


def pack(folder: str, path: str, saving: Saving = _saving) -> str:
    """Put a folder's predictions into a zip archive, without folders in it; returns its path."""
    # PNGs are compressed already.
    with saving(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(os.listdir(folder)):
            archive.write(os.path.join(folder, name), name)
    return path
