"""Check one pair of image and label: what is wrong with it, and what its label holds."""

from __future__ import annotations

import hashlib
import os
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import UnreadableError, image_mode, image_size, read_image
from ppliteseg_paddle.reading.labels import check_label, read_label
from ppliteseg_paddle.reading.pairs import check_sizes
from ppliteseg_paddle.reading.planes import read_planes


class Form(NamedTuple):
    """What the labels and images of a data set have to be."""

    num_classes: int
    ignore_index: int = 255
    image: ImageForm = ImageForm()
    planes: int = 0  # of a multi-label file; 0: class ids

    @classmethod
    def of(cls, dataset: Any) -> Form:
        return cls(dataset.num_classes, dataset.ignore_index, ImageForm.of(dataset), getattr(dataset, "planes", 0))

    @property
    def values(self) -> int:
        """How many values a label may hold: what pixels are counted in."""
        return 256 if max(self.num_classes - 1, self.ignore_index) < 256 else 65536


class PairReport(NamedTuple):
    """What is kept of a pair."""

    problems: list[tuple[str, str]]  # (key of `findings.KINDS`, message)
    size: tuple[int, int] | None = None  # width, height
    pixels: np.ndarray | None = None  # int64 (Form.values,): pixels of each label value, or class of a multi-label file
    image_digest: bytes = b""
    label_digest: bytes = b""
    area: int = 0  # pixels of the label


def inspect_pair(pair: tuple[str, str | None], form: Form, images: bool = True) -> PairReport:
    """Read an image and its label, and say what is wrong with them.

    Args: images: False looks at the label alone.
    """
    image_path, label_path = pair
    problems: list[tuple[str, str]] = []
    image = _try(problems, "image_form", image_path, read_image, *form.image) if images else None
    size, image_digest = None, b""
    if image is not None:
        size, image_digest = (image.shape[1], image.shape[0]), _digest(image)
        mode = image_mode(image_path)  # None for formats that OpenCV alone reads
        if form.image == ImageForm() and mode not in ("RGB", None):
            problems.append(("channels_of_image", f"{image_path} ({mode})"))
    if label_path is None:
        return PairReport(problems, size, None, image_digest)
    if os.path.realpath(image_path) == os.path.realpath(label_path):
        return PairReport(problems + [("same_file", image_path)], size, None, image_digest)
    if form.planes:
        shape = size or image_size(image_path)
        label = _try(problems, "planes", label_path, read_planes, form.planes, shape and shape[::-1], form.ignore_index)
    else:
        label = _try(problems, "channels", label_path, read_label)
    if label is None:
        return PairReport(problems, size, None, image_digest)
    if not form.planes:
        if image is not None:
            _try(problems, "size", image, check_sizes, label, image_path, label_path)
        _try(problems, "values", label, check_label, label_path, form.num_classes, form.ignore_index)
    pixels = count_values(label, form)
    if not known_pixels(pixels, form).any() and not form.planes and not any(kind == "values" for kind, _ in problems):
        problems.append(("empty_label", label_path))
    return PairReport(problems, size, pixels, image_digest, _digest(label), label.shape[0] * label.shape[1])


def count_values(label: np.ndarray, form: Form) -> np.ndarray:
    """Pixels of each label value, other values skipped; of planes the pixels of each class and the ignored ones.

    Shape: label (H, W) or planes (H, W, form.planes); returns int64 (form.values,).
    """
    if not form.planes:
        inside = label if label.dtype == np.uint8 else label[(label >= 0) & (label < form.values)]
        return np.bincount(inside.ravel(), minlength=form.values)
    pixels = np.zeros(form.values, np.int64)
    added = form.num_classes - form.planes  # in front: 1 where a pixel is of no class
    pixels[:added] = (label == 0).all(axis=-1).sum()
    pixels[added : form.num_classes] = (label == 1).sum(axis=(0, 1))
    pixels[form.ignore_index] = (label == form.ignore_index).sum()
    return pixels


def _try(problems, kind, first, function, *arguments):
    """`function(first, *arguments)`; its complaint becomes a problem, and the result None."""
    try:
        return function(first, *arguments)
    except UnreadableError as error:
        missing = isinstance(first, str) and not os.path.exists(first)
        problems.append(("missing" if missing else "unreadable", str(error)))
    except DataError as error:
        problems.append((kind, str(error)))
    return None


def _digest(pixels: np.ndarray) -> bytes:
    """Equal for equal pixels, whatever file format they are in."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=12)
    digest.update(repr(pixels.shape).encode())
    return digest.digest()


def known_pixels(pixels: np.ndarray, form: Form) -> np.ndarray:
    """`count_values` of the classes alone. Shape: returns (form.num_classes,)."""
    known = pixels[: form.num_classes].copy()
    if 0 <= form.ignore_index < form.num_classes:
        known[form.ignore_index] = 0
    return known
