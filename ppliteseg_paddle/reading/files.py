"""Image files before their pixels are decoded: regular files only, and what their headers tell."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

# Each registers the format that it reads.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.limits import check_readable

# The formats that are read. Not all of `Image.open`, whose own limit of pixels is the same on every machine.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", "GIF")
_WRONG_HEADER = (SyntaxError, IndexError, TypeError, struct.error)
# What Pillow raises for a file that it cannot decode.
PILLOW_ERRORS = (*_WRONG_HEADER, OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError)

_ORIENTATION = 0x0112  # EXIF's tag
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xff\xd8", 0xD9, 0xDA
_JPEG_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
# In a JPEG of Huffman codes a block of 8x8 pixels takes one bit at least.
_PIXELS_A_BYTE = 8 * 8 * 8
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class UnreadableError(DataError):
    """A file that is missing, empty or damaged: a run can continue without it, if there are few."""


class Opened(NamedTuple):
    """An image file: `file`, at any place, and `header`, Pillow's image, which has decoded no pixels yet."""

    file: BinaryIO
    header: ImageFile.ImageFile


@contextlib.contextmanager
def opened(kind: str, path: str, max_pixels: int | None = None) -> Iterator[Opened]:
    """Open an image, and check what its header claims before anything is decoded.

    Args: kind: what the error calls the file: "image", "label", "mask"; max_pixels: as `limits.check_readable` has it.
    Raises: UnreadableError: if it is missing, no regular file, empty, or in no format that is known here; also for
        what Pillow raises in the block. TooLargeError: if it has more pixels than memory allows.
    """
    try:
        with open_regular(path) as file:
            yield Opened(file, checked_header(kind, file, path, max_pixels))
    except PILLOW_ERRORS:
        raise unreadable(kind, path) from None


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading. A pipe, which would block until somebody writes, a device or a socket is not opened.

    Raises: OSError
    """
    # Not blocking: a pipe may have taken the file's place since its kind was asked for.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no regular file")
    return open(handle, "rb")


def checked_header(kind: str, file: BinaryIO, path: str, max_pixels: int | None = None) -> ImageFile.ImageFile:
    """Pillow's image of a file that may be in memory, before its pixels are decoded.

    Args: as `opened` has them.
    Raises: TooLargeError; one of `PILLOW_ERRORS`.
    """
    header = _header(file, path)
    check_readable(kind, path, *header.size, max_pixels)
    return header


def _header(file: BinaryIO, path: str) -> ImageFile.ImageFile:
    prefix = file.read(16)
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(prefix) is True:
            file.seek(0)
            header: ImageFile.ImageFile = factory(file, path)
            return header
    raise UnidentifiedImageError


def orientation(header: ImageFile.ImageFile) -> int:
    """EXIF's number, 1 to 8, of how the stored pixels lie; 1 without one, and for TIFF, whose pixels OpenCV
    turns itself."""
    if not header.info.get("exif") or isinstance(header, TiffImagePlugin.TiffImageFile):
        return 1
    exif = Image.Exif()
    try:
        exif.load(header.info["exif"])
        found = exif.get(_ORIENTATION)
    except PILLOW_ERRORS:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def is_cut_off_jpeg(content: bytes, pixels: int) -> bool:
    """Whether a JPEG ends before its image does. Decoders fill what is missing with gray and do not tell.

    Source: ITU-T T.81, B.1 (markers), F.1 (a code has one bit at least).
    """
    if not content.startswith(_JPEG_START):
        return False
    place = 2
    while place + 1 < len(content):
        if content[place] != 0xFF:  # no marker where one must be: decoders look for the next
            place = content.find(b"\xff", place)
            if place < 0:
                return True
            continue
        marker = content[place + 1]
        if marker == _JPEG_END:
            return False
        if marker == 0xFF:
            place += 1
            continue
        if marker in _HUFFMAN_FRAMES and len(content) * _PIXELS_A_BYTE < pixels:
            return True
        place += 2
        if marker in _JPEG_ALONE:
            continue
        place += int.from_bytes(content[place : place + 2], "big") if place + 2 <= len(content) else 2
        if marker == _JPEG_SCAN:
            found = _MARKER_IN_SCAN.search(content, place)
            if found is None:
                return True
            place = found.start()
    return True


def unreadable(kind: str, path: str) -> UnreadableError:
    """The error for a file that cannot be decoded: it says which of the possible reasons holds.

    Args: kind: what the file should be: "image", "label".
    """
    if not os.path.exists(path):
        return UnreadableError(f"{kind} {path} does not exist: correct the path, the list, or dataset_root.")
    if os.path.isdir(path):
        return UnreadableError(f"{kind} {path} is a folder: give a file, or correct the list.")
    if not os.path.isfile(path):
        return UnreadableError(f"{kind} {path} is no regular file, but a pipe, a device or a socket: give a file.")
    if not os.access(path, os.R_OK):
        return UnreadableError(f"{kind} {path} cannot be read: permission denied.")
    if os.path.getsize(path) == 0:
        return UnreadableError(f"{kind} {path} is empty (0 bytes): replace it, or take it off the list.")
    with contextlib.suppress(OSError), open_regular(path) as file:
        if is_cut_off_jpeg(file.read(), 0):  # within its header, at which every decoder gives up
            return ends_too_early(kind, path)
    return UnreadableError(
        f"{kind} {path} cannot be decoded: it is damaged, no image, or in an unsupported format. Replace it, or take "
        "it off the list."
    )


def ends_too_early(kind: str, path: str) -> UnreadableError:
    return UnreadableError(
        f"{kind} {path} ends too early: the remaining pixels are missing. Copy or download it again, or take it off "
        "the list."
    )
