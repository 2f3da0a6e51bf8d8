"""A pair's file in a data cache: a header of 4096 bytes, then the image, then the label, uncompressed.

The header is JSON: the sources with size, time and digest, the shapes, and for which classes the label was checked.
Each file is complete in itself, so that an interrupted run leaves nothing to fix, and one folder serves several lists.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.image_form import ImageForm, ValueRange
from ppliteseg_paddle.reading.images import UnreadableError
from ppliteseg_paddle.reading.pairs import read_pair

FORMAT = 1
HEADER_BYTES = 4096
_MARK = "ppliteseg data cache"


class Form(NamedTuple):
    """What pairs are decoded to, and for which classes a label was checked."""

    img_channels: int
    num_classes: int
    ignore_index: int
    value_range: ValueRange | None = None
    planes: int | None = None  # of a multi-label file; None: class ids

    @property
    def image(self) -> ImageForm:
        return ImageForm(self.img_channels, self.value_range)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel of the image."""
        return self.img_channels * np.dtype(self.image.dtype).itemsize

    @property
    def label_shape(self) -> tuple[int, ...]:
        """What follows height and width in a label's shape."""
        return (self.planes,) if self.planes else ()

    def to_dict(self) -> dict[str, Any]:
        """As a header holds it; without a range as before there were any."""
        values = {**self._asdict(), "value_range": self.image.to_plain()}
        return {key: value for key, value in values.items() if value is not None}


class Entry(NamedTuple):
    """A pair's file."""

    path: str
    shape: tuple[int, ...]  # of the image
    dtype: str  # of the label
    error: str  # why the pair could not be read; "" if it could
    image_dtype: type[np.generic] = np.uint8
    label_shape: tuple[int, ...] = ()  # after height and width


class Stale(Exception):
    """A pair's file is missing, broken, or no longer what its sources hold."""


class Job(NamedTuple):
    """A pair to decode: its sources, the name of its file in the cache, and what it is decoded to."""

    image: str
    label: str | None
    name: str
    form: Form


def _source(path: str) -> dict[str, Any]:
    """What tells later whether a file has changed; {} if it is not there."""
    try:
        status = os.stat(path)
        return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "digest": _digest(path)}
    except OSError:
        return {}


def _digest(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def form_of(dataset: Any) -> Form:
    return Form(
        dataset.img_channels,
        dataset.num_classes,
        dataset.ignore_index,
        dataset.form.value_range,
        dataset.planes or None,
    )


def jobs_of(dataset: Any) -> list[Job]:
    """A job for each pair of a data set. A file's name follows from the paths inside the data set's folder, wherever
    that lies."""
    form = form_of(dataset)
    jobs = []
    for image, label in dataset.file_list:
        names = [os.path.relpath(path, dataset.dataset_root) if path else "" for path in (image, label)]
        digest = hashlib.blake2b("\0".join(names).encode(), digest_size=12)
        jobs.append(Job(image, label, digest.hexdigest() + ".pair", form))
    return jobs


def write_pair(folder: str, job: Job) -> str:
    """Decode one pair into its file. Returns why it cannot be read, or ""."""
    image_path, label_path, name, form = job
    header: dict[str, Any] = {
        "mark": _MARK,
        "format": FORMAT,
        "form": form.to_dict(),
        "image": _source(image_path),
        "label": _source(label_path) if label_path else None,
        "shape": [0],
        "dtype": "uint8",
        "error": "",
    }
    image: np.ndarray | None
    label: np.ndarray | None
    try:
        image, label = read_pair(
            image_path, label_path, form.image, form.num_classes, form.ignore_index, form.planes or 0
        )
        header.update(shape=list(image.shape), dtype=str(label.dtype) if label is not None else "")
    except UnreadableError as error:
        image = label = None
        header["error"] = str(error)
    text = json.dumps(header).encode()
    if len(text) > HEADER_BYTES:
        raise DataError(f"{image_path}: the path is too long for a cache.")
    path = os.path.join(folder, name)
    temporary = path + ".tmp"
    with signals.held():
        try:
            with open(temporary, "wb") as file:
                file.write(text.ljust(HEADER_BYTES))
                for pixels in (image, label):
                    if pixels is not None:
                        file.write(np.ascontiguousarray(pixels).data)
            os.replace(temporary, path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
    return header["error"]


def read_entry(folder: str, job: Job) -> Entry:
    """A pair's header, checked against its sources.

    Raises: Stale: with a clause that says why.
    """
    path = os.path.join(folder, job.name)
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(HEADER_BYTES))
            length = os.fstat(file.fileno()).st_size
    except OSError:
        raise Stale("(is not in it)") from None
    except ValueError:
        raise Stale(f"(its file {os.path.basename(path)} is damaged)") from None
    if not isinstance(header, dict) or header.get("mark") != _MARK or header.get("format") != FORMAT:
        raise Stale(f"(its file {os.path.basename(path)} is of another version)")
    if header["form"] != job.form.to_dict():
        raise Stale(f"(was cached for {', '.join('{} {}'.format(*item) for item in header['form'].items())})")
    for source, kept in ((job.image, header["image"]), (job.label, header["label"])):
        if source:
            _check_source(source, kept)
    shape, dtype = tuple(header["shape"]), header["dtype"]
    pixels = (
        0
        if header["error"]
        else int(np.prod(shape)) * np.dtype(job.form.image.dtype).itemsize
        + (int(np.prod(shape[:2] + job.form.label_shape)) * np.dtype(dtype).itemsize if dtype else 0)
    )
    if length != HEADER_BYTES + pixels:
        raise Stale(f"(its file {os.path.basename(path)} is cut off)")
    return Entry(path, shape, dtype, header["error"], job.form.image.dtype, job.form.label_shape)


def _check_source(path: str, kept: dict[str, Any] | None) -> None:
    try:
        status = os.stat(path)
    except OSError:
        if kept:
            raise Stale(f"({os.path.basename(path)} is gone)") from None
        return
    if not kept or status.st_size != kept["bytes"]:
        raise Stale(f"({os.path.basename(path)} has another size)")
    # A copy or a touched file has another time and the same content.
    if status.st_mtime_ns != kept["mtime_ns"] and _digest(path) != kept["digest"]:
        raise Stale(f"({os.path.basename(path)} has changed)")
