"""An image with its label, decoded and checked against each other."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import check_label, read_label


def read_pair(
    image_path: str, label_path: str | None, form: ImageForm, num_classes: int, ignore_index: int
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Decode a pair and check it: image, as `read_image` gives it, and label (None without one).

    Raises: UnreadableError: if a file cannot be decoded. DataError: for whatever else is wrong with the pair.
    """
    image = read_image(image_path, *form)
    if label_path is None:
        return image, None
    label = read_label(label_path)
    check_sizes(image, label, image_path, label_path)
    check_label(label, label_path, num_classes, ignore_index)
    return image, label


def check_sizes(image: NDArray[Any], label: NDArray[Any], image_path: str, label_path: str) -> None:
    """Check that a label covers its image pixel by pixel.

    Raises: DataError: naming both files and both sizes.
    """
    (height, width), (label_height, label_width) = image.shape[:2], label.shape[:2]
    if (height, width) == (label_height, label_width):
        return
    turned = (height, width) == (label_width, label_height)
    fix = (
        "The image may carry an EXIF rotation, which is applied: save it upright."
        if turned
        else "Make the label again from the image, or resize it with nearest-neighbor interpolation."
    )
    raise DataError(
        f"label {label_path} is {label_width:d}x{label_height:d} pixels, but its image {image_path} is "
        f"{width:d}x{height:d}. {fix}"
    )
