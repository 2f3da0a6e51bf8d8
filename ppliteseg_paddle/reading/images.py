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
from ppliteseg_paddle.reading.image_form import ImageForm, ValueRange
from ppliteseg_paddle.reading.rasters import DAMAGE, Raster, RasterFault, is_raster, raster_shape, read_raster

# What Pillow raises for a file that it cannot decode.
PILLOW_ERRORS = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)


class UnreadableError(DataError):
    """A file that is missing, empty or damaged: a run can continue without it, if there are few."""


def read_image(path: str | os.PathLike[str], channels: int = 3, value_range: ValueRange | None = None) -> NDArray[Any]:
    """Decode an image file: color as BGR, gray, or any number of channels in the file's order.

    Gray is repeated for 3 channels, transparency is dropped, an EXIF rotation is applied, as OpenCV does. PNG, JPEG and
    all else that OpenCV reads; TIFF and NPY with any channels and depth (`rasters`).

    Args: channels, value_range: as `ImageForm` has them. Without a range, values must have 8 bits.
    Shape: returns (H, W, channels), or (H, W) with `channels` 1: uint8, or with a range float32 from 0 to 255.
    Raises: UnreadableError: if the file is missing, a folder, empty, damaged, or no image that can be decoded.
        DataError: if it has other channels, or more than 8 bits and there is no range.
    """
    path = os.fspath(path)
    pixels = read_values(path, channels)
    if value_range is not None:
        return ImageForm(channels, value_range).levels(pixels)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"image {path} has values of type {pixels.dtype}, up to {pixels.max():g}: cut to 8 bits they would lose "
            f"detail. Write img_range: {suggested_range(pixels)} in the data sets' blocks (ppliteseg data stats "
            "measures it), or convert the images to 8 bits."
        )
    return pixels


def read_values(path: str, channels: int = 3) -> NDArray[Any]:
    """`read_image` with the values as the file holds them, in their own type."""
    raster = _read_raster(path) if is_raster(path) else None
    if raster is not None:
        return _with_channels(raster, channels, path)
    data = _content(path)
    # With IMREAD_ANYDEPTH values of 8 bits are the same, and others are not cut.
    flags = {1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH, 3: cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH}
    pixels = _decoded(data, flags.get(channels, cv2.IMREAD_UNCHANGED))
    if pixels is None:
        raise unreadable("image", path)
    if _is_cut_off_jpeg(data):
        raise UnreadableError(
            f"image {path} ends too early: the remaining pixels are missing. Copy or download it again, or take it off "
            "the list."
        )
    if channels in (1, 3):
        return pixels
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] != channels:
        raise _wrong_channels(path, pixels.shape[2], channels)
    order = [2, 1, 0, *range(3, channels)] if channels > 2 else range(channels)  # the file's, in place of OpenCV's
    return np.ascontiguousarray(pixels[..., list(order)])


def channels_of(path: str) -> int:
    """How many channels an image has, without transparency; a palette and CMYK are color.

    Raises: UnreadableError: if it cannot be read.
    """
    raster = _read_raster(path) if is_raster(path) else None
    if raster is not None:
        found = raster.pixels.shape[2]
        real = found - raster.alpha
        return real if raster.alpha and np.unique(raster.pixels[..., real:]).size <= 2 else found
    mode = image_mode(path)
    if mode is None:
        pixels = _decoded(_content(path), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise unreadable("image", path)
        return 1 if pixels.ndim == 2 else 3
    return 1 if mode[0] in "1LIF" else 3


def suggested_range(pixels: NDArray[Any]) -> list[float]:
    """A range for values like these: 0 to the largest number of their 8, 10, 12, 14, 16 or more bits, or 0 to 1; for
    others the values found."""
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if pixels.dtype.kind == "f" or low < 0:
        return [0.0, 1.0] if low >= 0 and high <= 1 else [low, max(high, low + 1e-6)]
    return [0, next(2**bits - 1 for bits in (8, 10, 12, 14, 16, 20, 24, 32, 64) if high < 2**bits)]


def _content(path: str) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except OSError:
        raise unreadable("image", path) from None


def _decoded(data: NDArray[np.uint8], flags: int) -> NDArray[Any] | None:
    """None for what OpenCV cannot decode."""
    if not data.size:
        return None
    # OpenCV raises for a header that promises more pixels than it allows. Not imread: on Windows it cannot open a
    # path that is not ASCII, and it logs a line of its own.
    with contextlib.suppress(cv2.error):
        image: NDArray[Any] | None = cv2.imdecode(data, flags)
        return image
    return None


def _read_raster(path: str) -> Raster | None:
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        raise unreadable("image", path)
    try:
        return read_raster(path)
    except RasterFault as fault:
        raise DataError(f"image {path} {fault}.") from None
    except DAMAGE:
        raise unreadable("image", path) from None


def _with_channels(raster: Raster, channels: int, path: str) -> NDArray[Any]:
    """Pixels with as many channels as are wanted, of 3 in OpenCV's order."""
    pixels, found = raster.pixels, raster.pixels.shape[2]
    if found == channels + raster.alpha and raster.alpha:
        _check_transparency(pixels[..., channels:], path, found)
        pixels = pixels[..., :channels]
    elif found == 1 and channels == 3:
        pixels = pixels.repeat(3, axis=2)
    elif found - raster.alpha == 3 and channels == 1:
        weights = np.array([0.299, 0.587, 0.114])
        gray = pixels[..., :3] @ weights
        pixels = (np.rint(gray) if pixels.dtype.kind != "f" else gray).astype(pixels.dtype)[..., np.newaxis]
    elif found != channels:
        raise _wrong_channels(path, found, channels)
    if channels == 1:
        return np.ascontiguousarray(pixels[..., 0])
    return np.ascontiguousarray(pixels[..., ::-1] if channels == 3 else pixels)


def _check_transparency(alpha: NDArray[Any], path: str, found: int) -> None:
    """Raises: DataError: if a channel that the file calls transparency holds something else, as the infrared one that
    some programs write beside red, green and blue: it would be lost."""
    if np.unique(alpha).size > 2:
        raise DataError(
            f"image {path} has {found:d} channels, of which the last is called transparency, but holds "
            f"{np.unique(alpha).size:d} values: write img_channels: {found:d} in the data sets' blocks to use it, or "
            "remove it from the files."
        )


def _wrong_channels(path: str, found: int, channels: int) -> DataError:
    return DataError(
        f"image {path} has {found:d} channel{'s' if found > 1 else ''}, but img_channels is {channels:d}: write "
        f"img_channels: {found:d} in the data sets' blocks, or convert the images."
    )


def image_size(path: str) -> tuple[int, int] | None:
    """Width and height from the header, before any EXIF rotation; None if it cannot be read."""
    if is_raster(path):
        shape = raster_shape(path)
        return (shape[1], shape[0]) if shape else None
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
