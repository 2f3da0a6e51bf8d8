"""Reading of one list, one image, one label, with a clear line for whatever is wrong with it.

Neither paddle nor paddleseg is needed here: the checks of whole data sets run these functions in many processes.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ppliteseg_paddle.errors import DataError


class UnreadableError(DataError):
    """A file that is missing, empty or damaged: training can go on without it, if there are few."""


def read_list(
    list_path: str, dataset_root: str, separator: str = " ", needs_label: bool = True
) -> list[tuple[str, str | None, int]]:
    """Read a list file: one `image label` pair a line, relative to `dataset_root`. Blank lines are passed over.

    Returns: (image path, label path or None, line number) of each line.
    Raises: DataError: if the file is missing, empty, or a line has another form.
    Source: PaddleSeg `datasets/dataset.py`.
    """
    try:
        with open(list_path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"list {list_path} is not UTF-8 text ({error}).") from None
    except OSError as error:
        raise DataError(
            f"list {list_path} cannot be read: {error.strerror}. It holds one 'image label' pair a line, relative to "
            f"dataset_root ({dataset_root})."
        ) from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        names = line.strip().split(separator)
        if len(names) != 2 and (needs_label or len(names) != 1):
            raise DataError(
                f"{list_path}:{number:d}: expected 'image{separator}label', found {len(names):d} field(s): "
                f"'{line.strip()[:120]}'. Put one pair a line, or set "
                "`separator` if names hold blanks."
            )
        label = os.path.join(dataset_root, names[1]) if len(names) == 2 else None
        pairs.append((os.path.join(dataset_root, names[0]), label, number))
    if not pairs:
        raise DataError(f"list {list_path} is empty: it needs one 'image label' pair a line.")
    return pairs


def read_image(path: str, img_channels: int = 3) -> np.ndarray:
    """Decode an image: uint8, BGR or, with `img_channels` 1, grey.

    Shape: (H, W, 3), or (H, W).
    Raises: DataError: if the file is missing or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        raise UnreadableError(_unreadable("image", path)) from None
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if img_channels == 1 else cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UnreadableError(_unreadable("image", path))
    if _is_cut_off_jpeg(data):
        raise UnreadableError(
            f"image {path} ends too early: the rest of the picture is grey. Copy or download it again, or take "
            "it off the list."
        )
    return image


def _is_cut_off_jpeg(data: np.ndarray) -> bool:
    """OpenCV fills what is missing of a JPEG with grey and says nothing to the program: the end marker must follow the
    last scan (thumbnails inside the header have markers of their own)."""
    if data[:2].tobytes() != b"\xff\xd8" or data[-2:].tobytes() == b"\xff\xd9":
        return False
    content = data.tobytes()
    return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")


def read_label(path: str) -> np.ndarray:
    """Decode a label as it is stored: class ids of a grey PNG, or the indices of a palette PNG.

    Shape: (H, W), uint8 where the values allow it.
    Raises: DataError: if the file is missing, no image, or has several channels.
    """
    try:
        with Image.open(path) as file:
            label, mode = np.asarray(file), file.mode
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        raise UnreadableError(_unreadable("label", path)) from None
    if label.ndim != 2:
        raise DataError(
            f"label {path} has {label.shape[2]:d} channels ({mode}): a label is one channel of class ids. Convert its "
            "colors to ids "
            "(0, 1, 2, ...; 255 = ignored) and save it as a grey or palette PNG."
        )
    if label.dtype != np.uint8 and label.size and label.min() >= 0 and label.max() <= 255:
        label = label.astype(np.uint8)
    return label


def read_pair(
    image_path: str, label_path: str | None, img_channels: int, num_classes: int, ignore_index: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode a pair and check it: image (BGR or grey, uint8) and label (None without one).

    Raises: UnreadableError, DataError: for whatever is wrong with it.
    """
    image = read_image(image_path, img_channels)
    if label_path is None:
        return image, None
    label = read_label(label_path)
    check_sizes(image, label, image_path, label_path)
    check_label(label, label_path, num_classes, ignore_index)
    return image, label


def _unreadable(kind: str, path: str) -> str:
    if not os.path.exists(path):
        return f"{kind} {path} does not exist: correct the list or dataset_root."
    if os.path.isdir(path):
        return f"{kind} {path} is a folder: correct the list."
    if os.path.getsize(path) == 0:
        return f"{kind} {path} is empty (0 bytes): replace it, or take it off the list."
    return f"{kind} {path} cannot be decoded: it is damaged or no image. Replace it, or take it off the list."


def check_label(label: np.ndarray, path: str, num_classes: int, ignore_index: int) -> None:
    """See that a label holds class ids and the ignored value only.

    Raises: DataError: naming the values and how to mend them.
    """
    if label.dtype == np.uint8:
        # A table look-up instead of np.unique: well below a millisecond for 2048x1024, so every reading can afford it.
        allowed = np.zeros(256, np.uint8)
        allowed[:num_classes] = 1
        if 0 <= ignore_index <= 255:
            allowed[ignore_index] = 1
        bad_pixels = label.size - cv2.countNonZero(cv2.LUT(np.ascontiguousarray(label), allowed))
        if not bad_pixels:
            return
    values = np.unique(label)
    bad = values[((values < 0) | (values >= num_classes)) & (values != ignore_index)]
    if not bad.size:
        return
    shown = ", ".join(str(v) for v in bad[:8]) + (", ..." if bad.size > 8 else "")
    pixels = int(np.isin(label, bad).sum())
    known = values[values != ignore_index]
    if known.min() == 1 and known.max() == num_classes:
        mend = "The values seem to count from 1: subtract 1."
    else:
        mend = f"Map them to class ids or to {ignore_index:d}, or raise num_classes."
    raise DataError(
        f"label {path} holds the value{('s' if bad.size > 1 else '')} {shown} ({pixels:d} "
        f"pixel{('s' if pixels > 1 else '')}), but the classes are 0 to {num_classes - 1:d} and {ignore_index:d} is "
        f"ignored. {mend}"
    )


def check_sizes(image: np.ndarray, label: np.ndarray, image_path: str, label_path: str) -> None:
    """See that a label covers its image pixel by pixel.

    Raises: DataError: naming both files and both sizes.
    """
    (height, width), (label_height, label_width) = image.shape[:2], label.shape[:2]
    if (height, width) == (label_height, label_width):
        return
    turned = (height, width) == (label_width, label_height)
    mend = (
        "The image may carry an EXIF rotation, which is applied: save it upright."
        if turned
        else "Make the label again from the image, or resize it with nearest-neighbour interpolation."
    )
    raise DataError(
        f"label {label_path} is {label_width:d}x{label_height:d} pixels, but its image {image_path} is "
        f"{width:d}x{height:d}. {mend}"
    )
