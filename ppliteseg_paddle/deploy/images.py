"""Images as arrays: what the predictor takes, and one to try a model on without a photograph."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, Union

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.sources import is_address
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.image_form import COLOR, ImageForm
from ppliteseg_paddle.reading.images import read_image

if TYPE_CHECKING:
    import PIL.Image

# What is segmented: a path, an http(s) address, an array, an image of Pillow.
Image = Union[str, os.PathLike[str], NDArray[Any], "PIL.Image.Image"]


def check_image(image: Any, form: ImageForm = COLOR, what: str = "the image") -> NDArray[Any]:
    """See that an array is an image as `Predictor` takes it, not empty: (H, W, 3) uint8, BGR, or what `form` says:
    (H, W) or (H, W, 1) for one channel, (H, W, C) for others, with a range of any type.

    Returns: uint8, or levels, as `reading.images.read_image` gives them.
    Raises: DataError: with what it is instead, and how to convert it.
    """
    channels, deep = form.channels, form.value_range is not None
    wanted = "(H, W)" if channels == 1 else f"(H, W, {channels:d})"
    if not isinstance(image, np.ndarray):
        order = ", BGR" if channels == 3 else ""
        kind = f"{wanted} with values of {form.to_plain()}" if deep else f"{wanted} uint8{order}"
        raise DataError(
            f"{what} is of type {type(image).__name__}; give a path, an image of Pillow, or a NumPy array of {kind}."
        )
    if channels == 1 and image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    found = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if channels == 3 and found == 1:
        fix = "it is gray; convert it with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    elif channels == 3 and found == 4:
        fix = "it has 4 channels; drop the fourth with image[:, :, :3]"
    elif found != channels or (channels > 1 and image.ndim != 3):
        fix = f"expected {wanted}"
    elif not deep and image.dtype != np.uint8:
        fix = "expected uint8 with values 0 to 255; convert floats of 0 to 1 with (image * 255).astype('uint8')"
    elif image.dtype.kind not in "uif":
        fix = "expected numbers"
    elif image.size == 0:
        fix = "it holds no pixels"
    else:
        return form.levels(image) if deep else image
    raise DataError(f"{what} has shape {tuple(image.shape)} and dtype {image.dtype}: {fix}.")


def pixels_of(image: Image, form: ImageForm = COLOR, max_pixels: int | None = None) -> NDArray[Any]:
    """The pixels of whatever `Predictor` takes as an image, as `reading.images.read_image` gives them.

    Args: max_pixels: the largest file that is read; None leaves the limit to the free memory.
    Raises: DataError: if it cannot be read, or has another form; DownloadError: if an address does not answer.
    """
    if isinstance(image, str) and is_address(image):
        return _fetched(image, form, max_pixels)
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, *form, max_pixels=max_pixels)
    if any(base.__module__ == "PIL.Image" for base in type(image).__mro__):  # without importing Pillow
        return check_image(_of_pil(image, form), form)
    return check_image(image, form)


def _of_pil(image: Any, form: ImageForm) -> NDArray[Any]:
    """A Pillow image as `check_image` takes it, turned as its EXIF orientation says, as a file's would be.

    Shape: returns (H, W, 3) uint8, BGR; where `form` is another, the image's own channels and type.
    """
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if form == COLOR:
        return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[:, :, ::-1])
    return np.asarray(upright)


def _fetched(address: str, form: ImageForm, max_pixels: int | None) -> NDArray[Any]:
    """The image at an http or https address. Nothing of it is kept: a camera's address has another one next time."""
    from ppliteseg_paddle.weights.download import fetch, masked  # the network's modules take a while

    with tempfile.TemporaryDirectory() as folder:
        path = fetch(address, folder, "image")
        try:
            return read_image(path, *form, max_pixels=max_pixels)
        except DataError as error:
            raise type(error)(str(error).replace(path, masked(address))) from None


def generated_image(height: int, width: int, seed: int = 0, form: ImageForm = COLOR) -> NDArray[Any]:
    """An image with large shapes and fine grain, the same each time, for trials without a photograph. Shape: (H, W, 3)
    uint8, or as `form` says."""
    random = np.random.RandomState(seed)
    image = np.zeros((height, width, form.channels), np.float32)
    for cells, strength in ((4, 80), (16, 40), (64, 20)):
        noise = random.randn(cells, cells, form.channels).astype(np.float32)
        grown = cv2.resize(
            noise, (width, height), interpolation=cv2.INTER_CUBIC if form.channels <= 4 else cv2.INTER_LINEAR
        )
        image += strength * grown.reshape(image.shape)
    image = np.clip(image + 128, 0, 255).astype(form.dtype)
    return image[:, :, 0] if form.channels == 1 else image
