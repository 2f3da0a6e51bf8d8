"""Images: the one reader that training, checks, preparation, calibration and prediction share."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ppliteseg_paddle.errors import DataError

# What Pillow raises for a file that it cannot decode.
PILLOW_ERRORS = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)


class UnreadableError(DataError):
    """A file that is missing, empty or damaged: a run can continue without it, if there are few."""


def read_image(path: str | os.PathLike[str], channels: int = 3) -> NDArray[np.uint8]:
    """Decode an image file to 8 bits: BGR, or gray with `channels` 1.

    Gray is repeated for BGR, transparency is dropped, 16 bits are cut to 8, an EXIF rotation is applied, all as OpenCV
    does.

    Shape: returns (H, W, 3), or (H, W) with `channels` 1.
    Raises: UnreadableError: if the file is missing, a folder, empty, damaged, or no image that OpenCV decodes.
    """
    path = os.fspath(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        raise unreadable("image", path) from None
    image: NDArray[np.uint8] | None = None
    if data.size:
        # OpenCV raises for a header that promises more pixels than it allows. Not imread: on Windows it cannot open a
        # path that is not ASCII, and it logs a line of its own.
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    if image is None:
        raise unreadable("image", path)
    if _is_cut_off_jpeg(data):
        raise UnreadableError(
            f"image {path} ends too early: the remaining pixels are missing. Copy or download it again, or take it off "
            "the list."
        )
    return image


def image_size(path: str) -> tuple[int, int] | None:
    """Width and height from the header, before any EXIF rotation; None if Pillow cannot read it."""
    try:
        with Image.open(path) as file:
            width, height = file.size
            return width, height
    except PILLOW_ERRORS:
        return None


def image_mode(path: str) -> str | None:
    """Pillow's mode ("RGB", "L", "I;16", ...) from the header; None if Pillow cannot read it."""
    try:
        with Image.open(path) as file:
            return str(file.mode)
    except PILLOW_ERRORS:
        return None


def unreadable(kind: str, path: str) -> UnreadableError:
    """The error for a file that cannot be decoded: it says which of the possible reasons holds.

    Args: kind: what the file should be: "image", "label".
    """
    if not os.path.exists(path):
        return UnreadableError(f"{kind} {path} does not exist: correct the path, the list, or dataset_root.")
    if os.path.isdir(path):
        return UnreadableError(f"{kind} {path} is a folder: give a file, or correct the list.")
    if not os.access(path, os.R_OK):
        return UnreadableError(f"{kind} {path} cannot be read: permission denied.")
    if os.path.getsize(path) == 0:
        return UnreadableError(f"{kind} {path} is empty (0 bytes): replace it, or take it off the list.")
    return UnreadableError(
        f"{kind} {path} cannot be decoded: it is damaged, no image, or in an unsupported format. Replace it, or take "
        "it off the list."
    )


def _is_cut_off_jpeg(data: NDArray[Any]) -> bool:
    """OpenCV fills what is missing of a JPEG with gray and says nothing to the program: the end marker must follow the
    last scan (thumbnails inside the header have markers of their own)."""
    if data[:2].tobytes() != b"\xff\xd8" or data[-2:].tobytes() == b"\xff\xd9":
        return False
    content = data.tobytes()
    return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
