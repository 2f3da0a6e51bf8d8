"""Decoded pairs kept for the next epoch: on disk, mapped into memory so that a crop reads its own pixels only, or in
memory.

A folder of `ppliteseg data cache` holds one file a pair: a header of 4096 bytes (JSON: the sources with size, time and
digest, the shapes, and for which classes the label was checked), then the image, then the label, uncompressed. A file
stands for itself, so that a broken-off run leaves nothing to mend, and one folder serves several lists.
"""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
import os
import shutil
import sys
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawArray
from typing import Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.images import UnreadableError, image_size
from ppliteseg_paddle.reading.pairs import read_pair

FORMAT = 1
HEADER_BYTES = 4096
IN_MEMORY = "memory"
_MARK = "ppliteseg data cache"
_RESERVE = 2**28  # bytes that stay free on the disk
_MEMORY_SHARE = 0.8  # of the memory that is free, which a cache may take


class Form(NamedTuple):
    """What pairs are decoded to, and for which classes a label was checked."""

    img_channels: int
    num_classes: int
    ignore_index: int


class Entry(NamedTuple):
    """A pair's file."""

    path: str
    shape: tuple[int, ...]  # of the image
    dtype: str  # of the label
    error: str  # why the pair could not be read; "" if it could


class Stale(Exception):
    """A pair's file is missing, broken, or no longer what its sources hold."""


# --------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------
def write_cache(
    datasets: Sequence[Any], folder: str, num_workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Decode all pairs of the data sets into `folder`. Pairs that are there and unchanged stay.

    Returns: pairs, written, kept, bytes (of the whole cache), left_out (images that cannot be read, with the reason).
    Raises: DataError: for a wrong label; ConfigError: if the folder cannot be written, or the disk has no room.
    """
    jobs = sorted(
        {
            (image, label, relative_name(dataset, image, label), form_of(dataset))
            for dataset in datasets
            for image, label in dataset.file_list
        }
    )
    check_folder(folder)
    missing = [job for job in jobs if not _is_fresh(folder, job)]
    needed = sum(_estimate(job) for job in missing)
    room = shutil.disk_usage(folder).free
    if needed + _RESERVE > room:
        raise ConfigError(
            f"--out {folder}: the cache needs {size_text(needed)} more, but the disk has only {size_text(room)} free. "
            "Choose another disk."
        )
    if progress:
        print(
            f"{len(missing):d} of {len(jobs):d} pairs to decode: {size_text(needed)} of the {size_text(room)} that are "
            "free",
            file=sys.stderr,
        )
    left_out = {}
    errors = run_parallel(functools.partial(_write_pair, folder), missing, num_workers, "decoding", "pair", progress)
    for job, error in zip(missing, errors):
        if error:
            left_out[job[0]] = error
    paths = [os.path.join(folder, job[2]) for job in jobs]
    return {
        "pairs": len(jobs),
        "written": len(missing) - len(left_out),
        "kept": len(jobs) - len(missing),
        "bytes": sum(os.path.getsize(path) for path in paths),
        "left_out": left_out,
        "out": folder,
    }


def check_folder(folder: str) -> None:
    """Make the folder, and see that nothing of somebody else's is in it. Removes what a broken-off run has left.

    Raises: ConfigError
    """
    try:
        os.makedirs(folder, exist_ok=True)
        names = os.listdir(folder)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be written: {error.strerror}.") from None
    foreign = [name for name in names if not name.endswith((".pair", ".pair.tmp"))]
    if foreign:
        raise ConfigError(
            f"--out {folder} holds other files ({foreign[0]}): give an empty folder, or one that `data cache` made."
        )
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--out {folder} cannot be written: choose another folder, or change its permissions.")
    for name in names:
        if name.endswith(".tmp"):
            os.remove(os.path.join(folder, name))


def _is_fresh(folder: str, job) -> bool:
    image, label, name, form = job
    try:
        entry = read_entry(os.path.join(folder, name), image, label, form)
    except Stale:
        return False
    return not entry.error  # what could not be read is tried again


def _estimate(job) -> int:
    image, _, _, form = job
    width, height = image_size(image) or (0, 0)
    return HEADER_BYTES + width * height * (form.img_channels + 1)


def _write_pair(folder: str, job) -> str:
    """Decode one pair into its file. Returns why it cannot be read, or ""."""
    image_path, label_path, name, form = job
    header = {
        "mark": _MARK,
        "format": FORMAT,
        "form": form._asdict(),
        "image": _source(image_path),
        "label": _source(label_path) if label_path else None,
        "shape": [0],
        "dtype": "uint8",
        "error": "",
    }
    try:
        image, label = read_pair(image_path, label_path, form.img_channels, form.num_classes, form.ignore_index)
        header.update(shape=list(image.shape), dtype=str(label.dtype) if label is not None else "")
    except UnreadableError as error:
        image = label = None
        header["error"] = str(error)
    text = json.dumps(header).encode()
    if len(text) > HEADER_BYTES:
        raise DataError(f"{image_path}: the path is too long for a cache.")
    path = os.path.join(folder, name)
    temporary = path + ".tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(text.ljust(HEADER_BYTES))
            for pixels in (image, label):
                if pixels is not None:
                    file.write(np.ascontiguousarray(pixels))
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return header["error"]


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


def relative_name(dataset, image: str, label: str | None) -> str:
    """The name of a pair's file: of the paths in the data set's folder, wherever that lies."""
    names = [os.path.relpath(path, dataset.dataset_root) if path else "" for path in (image, label)]
    return hashlib.blake2b("\0".join(names).encode(), digest_size=12).hexdigest() + ".pair"


def form_of(dataset) -> Form:
    return Form(dataset.img_channels, dataset.num_classes, dataset.ignore_index)


# --------------------------------------------------------------------------------------------
# Reading from disk
# --------------------------------------------------------------------------------------------
class DiskCache:
    """The pairs of a data set in a folder that `write_cache` has filled.

    Raises: DataError: if the folder lacks a pair, or a source has changed since (size, or time and content).
    """

    def __init__(self, dataset, folder: str):
        self.entries: list[Entry] = []
        stale = []
        if not os.path.isdir(folder):
            raise DataError(f"data_cache {folder} does not exist. {_advice(folder)}")
        for image, label in dataset.file_list:
            try:
                self.entries.append(
                    read_entry(
                        os.path.join(folder, relative_name(dataset, image, label)), image, label, form_of(dataset)
                    )
                )
            except Stale as error:
                stale.append(f"{image} {error}")
        if stale:
            raise DataError(
                f"data_cache {folder} does not fit the data: {len(stale):d} of {len(dataset.file_list):d} pairs are "
                f"not as they were cached, the first is {stale[0]}. {_advice(folder)}"
            )

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image and label as read-only views of the file: only pages that are looked at are read.

        Raises: UnreadableError: if the pair could not be decoded.
        """
        entry = self.entries[index]
        if entry.error:
            raise UnreadableError(entry.error)
        try:
            with open(entry.path, "rb") as file:
                content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except (OSError, ValueError) as error:
            raise DataError(f"{entry.path} of the data cache cannot be read: {error}.") from None
        end = HEADER_BYTES + int(np.prod(entry.shape))
        image = content[HEADER_BYTES:end].reshape(entry.shape)
        return image, content[end:].view(entry.dtype).reshape(entry.shape[:2]) if entry.dtype else None


def read_entry(path: str, image: str, label: str | None, form: Form) -> Entry:
    """A pair's header, checked against its sources.

    Raises: Stale: with a clause that says why.
    """
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
    if header["form"] != form._asdict():
        raise Stale(f"(was cached for {', '.join('{} {}'.format(*item) for item in header['form'].items())})")
    for source, kept in ((image, header["image"]), (label, header["label"])):
        if source:
            _check_source(source, kept)
    shape, dtype = tuple(header["shape"]), header["dtype"]
    pixels = (
        0
        if header["error"]
        else int(np.prod(shape)) + (int(np.prod(shape[:2])) * np.dtype(dtype).itemsize if dtype else 0)
    )
    if length != HEADER_BYTES + pixels:
        raise Stale(f"(its file {os.path.basename(path)} is cut off)")
    return Entry(path, shape, dtype, header["error"])


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


def _advice(folder: str) -> str:
    return f"Run: ppliteseg data cache --config FILE --out {folder}; or take data_cache out of the configuration."


# --------------------------------------------------------------------------------------------
# Keeping in memory
# --------------------------------------------------------------------------------------------
class MemoryCache:
    """Pairs kept in memory once they have been read, in a block that worker processes share and outlive.

    Args: decode: reads the pair of an index from its files.
    Raises: ConfigError: if the memory that is free does not hold them.
    """

    def __init__(self, dataset, decode: Callable[[int], tuple[np.ndarray, np.ndarray | None]]):
        self._dataset, self._decode = dataset, decode
        areas = [width * height for width, height in (image_size(image) or (0, 0) for image, _ in dataset.file_list)]
        starts = np.cumsum([0] + [area * (dataset.img_channels + 1) for area in areas])
        self._areas, self._starts, self.bytes = areas, starts[:-1].tolist(), int(starts[-1])
        free = free_memory()
        if free is not None and self.bytes > _MEMORY_SHARE * free:
            raise ConfigError(
                f"data_cache: memory needs {size_text(self.bytes)} for {len(areas):d} pairs, but only "
                f"{size_text(free)} are free. Give a folder that `ppliteseg data "
                "cache` has filled, or leave data_cache out."
            )
        self._memory = np.frombuffer(mmap.mmap(-1, max(self.bytes, 1)), np.uint8)
        self._sizes = RawArray("I", 2 * len(areas))  # height and width, 0 until the pair is there

    def __reduce__(self):
        # Where worker processes are spawned, not forked, each keeps its own.
        return MemoryCache, (self._dataset, self._decode)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image and label; they are not to be written to.

        Raises: what `decode` raises.
        """
        height, width = self._sizes[2 * index], self._sizes[2 * index + 1]
        channels, area, start = self._dataset.img_channels, self._areas[index], self._starts[index]
        if not height:
            image, label = self._decode(index)
            height, width = image.shape[:2]
            if height * width != area or label is None or label.dtype != np.uint8:
                return image, label  # not of the size that its header tells
            self._memory[start : start + area * channels] = image.reshape(-1)
            self._memory[start + area * channels : start + area * (channels + 1)] = label.reshape(-1)
            self._sizes[2 * index + 1] = width
            self._sizes[2 * index] = height  # last: from here on others read it
        image = self._memory[start : start + area * channels].reshape(
            (height, width, 3) if channels == 3 else (height, width)
        )
        return image, self._memory[start + area * channels : start + area * (channels + 1)].reshape(height, width)


def free_memory() -> int | None:
    """Bytes that programs can still get; None where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def size_text(count: float) -> str:
    return f"{(count / 2**30):.1f} GiB" if count >= 2**30 else f"{(count / 2**20):.1f} MiB"


def open_cache(dataset, where: str):
    """The cache that `data_cache: where` asks for, for one data set.

    Raises: DataError, ConfigError: as the classes above.
    """
    return MemoryCache(dataset, dataset.decode) if where == IN_MEMORY else DiskCache(dataset, where)
