"""An image with its label, decoded and checked against each other."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import check_label, read_label
from ppliteseg_paddle.reading.planes import read_planes


def read_pair(
    image_path: str, label_path: str | None, form: ImageForm, num_classes: int, ignore_index: int, planes: int = 0
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Decode a pair and check it: image, as `read_image` gives it, and label (None without one).

    Args: planes: of a multi-label file; 0 for class ids.
    Raises: UnreadableError: if a file cannot be decoded. DataError: for whatever else is wrong with the pair.
    """
    image = read_image(image_path, *form)
    if label_path is None:
        return image, None
    if planes:
        return image, read_planes(label_path, planes, (image.shape[0], image.shape[1]), ignore_index)
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
    stacked = (label_height == height and not label_width % width) or (
        label_width == width and not label_height % height
    )
    turned = (height, width) == (label_width, label_height)
    if turned:
        fix = "The image may carry an EXIF rotation, which is applied: save it upright."
    elif stacked:
        fix = "If it holds a plane of 0 and 1 for each class, set test_config.use_multilabel; else make it again."
    else:
        fix = "Make the label again from the image, or resize it with nearest-neighbor interpolation."
    raise DataError(
        f"label {label_path} is {label_width:d}x{label_height:d} pixels, but its image {image_path} is "
        f"{width:d}x{height:d}. {fix}"
    )
