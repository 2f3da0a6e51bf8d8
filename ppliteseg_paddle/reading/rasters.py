"""Files that hold any number of channels in any depth: TIFF and NPY, as they are stored, and where TIFFs lie on Earth.

tifffile reads TIFF: pure Python and small, and it knows bands, planes, pages and floating point, which OpenCV and
Pillow do not. Its values need no georeferencing; that is four tags, which a mask takes over unchanged (`geo_tags`), so
GDAL is not needed either.
"""

from __future__ import annotations

import contextlib
import lzma
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DependencyError
from ppliteseg_paddle.reading.files import open_regular

if TYPE_CHECKING:
    import tifffile

# What NumPy and tifffile raise for a file that they cannot decode.
DAMAGE = (
    *(OSError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error, lzma.LZMAError),
)
# GeoTIFF 1.1, section 6: pixel scale, tie points, transformation, key directory, its doubles and texts.
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # either order of bytes; the last two have offsets of 64 bits
_NPY_START = b"\x93NUMPY"
_NODATA_TAG = 42113  # GDAL's: the value of pixels without data, as text
_PLAIN = (0, 1, 2, 3, 6)  # of the tag PhotometricInterpretation: gray, RGB, palette, YCbCr
_ALPHA = (1, 2)  # of the tag ExtraSamples: associated and unassociated


class Raster(NamedTuple):
    """An image as it is stored.

    Attributes: `pixels` (H, W, C), channels in the file's order; `alpha`, how many of them, at the end, the file calls
        transparency.
    """

    pixels: NDArray[Any]
    alpha: int = 0


class RasterFault(Exception):
    """Why a file cannot be read, as a clause."""


def raster_kind(path: str) -> str | None:
    """ "tiff" or "npy" by the file's first bytes, whatever it is called; None for another file, and what is no regular
    file."""
    try:
        with open_regular(path) as file:
            start = file.read(len(_NPY_START))
    except OSError:
        return None
    return "npy" if start == _NPY_START else "tiff" if start.startswith(_TIFF_STARTS) else None


def read_raster(path: str) -> Raster | None:
    """Decode a TIFF or NPY file. None for a TIFF of 8 bits and no more than color and transparency, which OpenCV reads.

    Raises: RasterFault: for a stack of images, or values that are no numbers; DependencyError: for a compression that
        needs imagecodecs; and what the readers raise for damaged files (`DAMAGE`).
    """
    if raster_kind(path) == "npy":
        return Raster(_height_width_channels(_numbers(np.load(path, allow_pickle=False))))
    with _opened(path) as file:
        if _is_plain(file):
            return None
        series = file.series[0]
        try:
            pixels = series.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                compression = file.pages.first.compression  # a number where tifffile knows no name
                raise DependencyError(
                    f"{path} is compressed ({getattr(compression, 'name', compression)}), which needs imagecodecs: "
                    "pip install '.[geo]' (or: pip install imagecodecs)."
                ) from None
            raise
        kept = [place for place, axis in enumerate(series.axes) if series.shape[place] > 1 or axis in "YX"]
        axes, shape = "".join(series.axes[place] for place in kept), [series.shape[place] for place in kept]
        pixels = _numbers(pixels.reshape(shape))
        if axes == "SYX":
            pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        elif len(axes) > 3 or (len(axes) == 3 and axes != "YXS" and not axes.endswith("YX")):
            raise RasterFault(f"holds a stack of images (axes {series.axes}): save each by itself")
        elif axes != "YXS":  # pages: one for each channel, or for each row of an array (H, W, C)
            pixels = _height_width_channels(pixels)
        pixels = pixels.reshape(pixels.shape[0], pixels.shape[1], -1)
        alpha = [int(kind) in _ALPHA for kind in file.pages.first.extrasamples]
        return Raster(_without_nodata(pixels, file), sum(alpha) if pixels.shape[2] > 1 and alpha and alpha[-1] else 0)


def raster_shape(path: str) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of a TIFF or NPY file; None if it cannot be read."""
    try:
        if raster_kind(path) == "npy":
            shape = _hwc(np.load(path, allow_pickle=False, mmap_mode="r").shape)
        else:
            with _opened(path) as file:
                series = file.series[0]
                sides = dict(zip(series.axes, series.shape))
                count = int(np.prod(series.shape)) // (sides["Y"] * sides["X"])
                pages = len(series.pages) > 1 and count > 1
                shape = _hwc((count, sides["Y"], sides["X"])) if pages else (sides["Y"], sides["X"], count)
        return shape
    except (*DAMAGE, RasterFault, DependencyError):
        return None


def geo_tags(path: str) -> list[tuple[int, int, int, Any, bool]]:
    """The tags that say where a TIFF lies on Earth, in the form that tifffile writes them (`extratags`); [] without."""
    if raster_kind(path) != "tiff":
        return []
    try:
        with _opened(path) as file:
            tags = file.pages.first.tags
            found = [tags[code] for code in GEO_TAGS if code in tags]
            return [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in found]
    except (*DAMAGE, DependencyError):
        return []


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tifffile.TiffFile]:
    """Raises: what is in `DAMAGE`. In the tifffile that Python 3.9 has, its own error is no ValueError."""
    try:
        import tifffile
    except ImportError as error:
        raise DependencyError(f"TIFF files need tifffile ({error}): pip install tifffile.") from None
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error


def _is_plain(file: tifffile.TiffFile) -> bool:
    """Whether OpenCV reads all of it: one page of 8 bits, gray or color, with no more than one channel of transparency
    that is nothing else."""
    page = file.pages.first
    if (
        len(file.pages) > 1
        or page.bitspersample > 8
        or page.sampleformat != 1
        or int(page.photometric or 0) not in _PLAIN
    ):
        return False
    return page.samplesperpixel in (1, 3) and not page.extrasamples


def _without_nodata(pixels: NDArray[Any], file: tifffile.TiffFile) -> NDArray[Any]:
    """NaN in place of the value that a floating-point file declares to be no data."""
    tag = file.pages.first.tags.get(_NODATA_TAG)
    if tag is None or pixels.dtype.kind != "f":
        return pixels
    try:
        value = float(str(tag.value).strip("\0 "))
    except ValueError:
        return pixels
    return np.where(pixels == pixels.dtype.type(value), pixels.dtype.type(np.nan), pixels)


def _numbers(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if pixels.dtype.kind not in "uif":
        raise RasterFault(f"holds values of type {pixels.dtype}, which are no plain numbers")
    return pixels


def _height_width_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    height, width, channels = _hwc(pixels.shape)
    if pixels.shape == (channels, height, width) and pixels.shape != (height, width, channels):
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return pixels.reshape(height, width, channels)


def _hwc(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of an array (H, W), (H, W, C) or (C, H, W): there are fewer channels than rows and columns."""
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if len(shape) != 3 or not all(shape):
        raise RasterFault(f"has the shape {shape}; an image has (H, W) or (H, W, C)")
    return (shape[1], shape[2], shape[0]) if shape[0] < min(shape[1:]) else (shape[0], shape[1], shape[2])
