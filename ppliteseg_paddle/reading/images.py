"""Images: the one reader that training, checks, preparation, calibration and prediction share."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.files import UnreadableError as UnreadableError
from ppliteseg_paddle.reading.files import ends_too_early, is_cut_off_jpeg, opened, orientation, unreadable
from ppliteseg_paddle.reading.image_form import ImageForm, ValueRange
from ppliteseg_paddle.reading.limits import check_readable
from ppliteseg_paddle.reading.rasters import DAMAGE, Raster, RasterFault, raster_kind, raster_shape, read_raster

# EXIF's orientation -> (quarter turns counterclockwise, mirrored left to right after them).
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}


def read_image(
    path: str | os.PathLike[str],
    channels: int = 3,
    value_range: ValueRange | None = None,
    max_pixels: int | None = None,
) -> NDArray[Any]:
    """Decode an image file: color as BGR, gray, or any number of channels in the file's order.

    Gray is repeated for 3 channels, transparency is dropped, as OpenCV does; an EXIF orientation is applied in every
    format. TIFF and NPY have any channels and depth (`rasters`). The size that the header tells is checked before
    pixels are decoded.

    Args:
        channels, value_range: as `ImageForm` has them. Without a range, values must have 8 bits.
        max_pixels: the largest image that is read; None leaves the limit to the free memory.
    Shape: returns (H, W, channels), or (H, W) with `channels` 1: uint8, or with a range float32 from 0 to 255.
    Raises: UnreadableError: if the file is missing, no regular file, empty, damaged, or in no format that is known.
        TooLargeError: if it has more pixels than `max_pixels` or memory allows. DataError: if it has other channels, or
        more than 8 bits and there is no range.
    """
    path = os.fspath(path)
    pixels = read_values(path, channels, max_pixels)
    if value_range is not None:
        return ImageForm(channels, value_range).levels(pixels)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"image {path} has values of type {pixels.dtype}, up to {pixels.max():g}: cut to 8 bits they would lose "
            f"detail. Write img_range: {suggested_range(pixels)} in the data sets' blocks (ppliteseg data stats "
            "measures it), or convert the images to 8 bits."
        )
    return pixels


def read_values(path: str, channels: int = 3, max_pixels: int | None = None) -> NDArray[Any]:
    """`read_image` with the values as the file holds them, in their own type."""
    raster = read_raster_file(path, max_pixels=max_pixels)
    if raster is not None:
        return _with_channels(raster, channels, path)
    # With IMREAD_ANYDEPTH values of 8 bits are the same, and others are not cut.
    flags = {1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH, 3: cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH}
    pixels = _decoded(path, flags.get(channels, cv2.IMREAD_UNCHANGED), max_pixels)
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
    raster = read_raster_file(path)
    if raster is not None:
        found = raster.pixels.shape[2]
        real = found - raster.alpha
        return real if raster.alpha and np.unique(raster.pixels[..., real:]).size <= 2 else found
    mode = image_mode(path)
    if mode is None:
        raise unreadable("image", path)
    return 1 if mode[0] in "1LIF" else 3


def suggested_range(pixels: NDArray[Any]) -> list[float]:
    """A range for values like these: 0 to the largest number of their 8, 10, 12, 14, 16 or more bits, or 0 to 1; for
    others the values found."""
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if pixels.dtype.kind == "f" or low < 0:
        return [0.0, 1.0] if low >= 0 and high <= 1 else [low, max(high, low + 1e-6)]
    return [0, next(2**bits - 1 for bits in (8, 10, 12, 14, 16, 20, 24, 32, 64) if high < 2**bits)]


def _decoded(path: str, flags: int, max_pixels: int | None) -> NDArray[Any]:
    with opened("image", path, max_pixels) as (file, header):
        turn, (width, height) = orientation(header), header.size
        # OpenCV up to 4.8.0 bundles a libwebp with CVE-2023-4863.
        image: NDArray[Any] | None = _by_pillow(header, flags) if header.format == "WEBP" else None
        file.seek(0)
        content = b"" if image is not None else file.read()
    if is_cut_off_jpeg(content, width * height):
        raise ends_too_early("image", path)
    if image is None:
        # OpenCV raises for more pixels than it allows. Not imread: on Windows it cannot open a path that is not ASCII,
        # and it logs a line of its own.
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise unreadable("image", path)
    if turn == 1:
        return image
    quarters, mirrored = _TURNS[turn]
    turned = np.rot90(image, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _by_pillow(header: ImageFile.ImageFile, flags: int) -> NDArray[Any]:
    """The pixels of an RGB or RGBA image as `cv2.imdecode` gives them."""
    pixels: NDArray[Any]
    if flags == cv2.IMREAD_UNCHANGED and header.mode == "RGBA":
        pixels = cv2.cvtColor(np.asarray(header), cv2.COLOR_RGBA2BGRA)
    else:
        code = cv2.COLOR_RGB2BGR if flags & cv2.IMREAD_COLOR else cv2.COLOR_RGB2GRAY
        pixels = cv2.cvtColor(np.asarray(header.convert("RGB")), code)
    return pixels


def read_raster_file(path: str, kind: str = "image", max_pixels: int | None = None) -> Raster | None:
    """A TIFF or NPY file as it is stored; None for any other file, and for a TIFF that OpenCV reads.

    Args: kind: what the error calls the file.
    Raises: UnreadableError: if it is missing, empty or damaged. TooLargeError, DataError: as `read_image`.
    """
    if not raster_kind(path):
        return None
    shape = raster_shape(path)
    if shape is not None:
        check_readable(kind, path, shape[1], shape[0], max_pixels, channels=shape[2])
    try:
        return read_raster(path)
    except RasterFault as fault:
        raise DataError(f"{kind} {path} {fault}.") from None
    except DAMAGE:
        raise unreadable(kind, path) from None


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
    if raster_kind(path):
        shape = raster_shape(path)
        return (shape[1], shape[0]) if shape else None
    try:
        with opened("image", path) as (_, header):
            width, height = header.size
            return width, height
    except DataError:
        return None


def image_mode(path: str) -> str | None:
    """Pillow's mode ("RGB", "L", "I;16", ...) from the header; None if Pillow cannot read it."""
    try:
        with opened("image", path) as (_, header):
            return str(header.mode)
    except DataError:
        return None
