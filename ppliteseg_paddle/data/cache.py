"""Decoded pairs kept for the next epoch: on disk, mapped into memory so that a crop reads its own pixels only, or in
memory. A folder of `ppliteseg data cache` holds one file a pair, in the form of `cache_files`.
"""

from __future__ import annotations

import functools
import mmap
import os
import shutil
import sys
from collections.abc import Sequence
from multiprocessing.sharedctypes import RawArray
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.data.cache_files import HEADER_BYTES, Entry, Job, Stale, form_of, jobs_of, read_entry, write_pair
from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.images import UnreadableError, image_size
from ppliteseg_paddle.reading.limits import free_memory, size_text

IN_MEMORY = "memory"
_RESERVE = 2**28  # bytes that stay free on the disk
_MEMORY_SHARE = 0.8  # of the memory that is free, which a cache may take


# --------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------
def write_cache(
    datasets: Sequence[Any], folder: str, num_workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Decode all pairs of the data sets into `folder`. Pairs that exist and are unchanged are kept.

    Returns: pairs, written, kept, bytes (of the cache), skipped (images that cannot be read, with the reason).
    Raises: DataError: for a wrong label; ConfigError: if the folder cannot be written, or the disk has no room.
    """
    jobs = sorted({job for dataset in datasets for job in jobs_of(dataset)}, key=lambda job: job.name)
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
    skipped = {}
    errors = run_parallel(functools.partial(write_pair, folder), missing, num_workers, "decoding", "pair", progress)
    for job, error in zip(missing, errors):
        if error:
            skipped[job.image] = error
    paths = [os.path.join(folder, job.name) for job in jobs]
    return {
        "pairs": len(jobs),
        "written": len(missing) - len(skipped),
        "kept": len(jobs) - len(missing),
        "bytes": sum(os.path.getsize(path) for path in paths),
        "skipped": skipped,
        "out": folder,
    }


def check_folder(folder: str) -> None:
    """Make the folder, and check that it holds no other files. Removes what an interrupted run has left.

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


def _is_fresh(folder: str, job: Job) -> bool:
    try:
        entry = read_entry(folder, job)
    except Stale:
        return False
    return not entry.error  # what could not be read is tried again


def _estimate(job: Job) -> int:
    width, height = image_size(job.image) or (0, 0)
    return HEADER_BYTES + width * height * (job.form.pixel_bytes + (job.form.planes or 1))


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
        for job in jobs_of(dataset):
            try:
                self.entries.append(read_entry(folder, job))
            except Stale as error:
                stale.append(f"{job.image} {error}")
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
        end = HEADER_BYTES + int(np.prod(entry.shape)) * np.dtype(entry.image_dtype).itemsize
        image = content[HEADER_BYTES:end].view(entry.image_dtype).reshape(entry.shape)
        return image, content[end:].view(entry.dtype).reshape(
            entry.shape[:2] + entry.label_shape
        ) if entry.dtype else None


def _advice(folder: str) -> str:
    return f"Run: ppliteseg data cache --config FILE --out {folder}; or remove data_cache from the configuration."


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
        self._form = form_of(dataset)
        planes = self._form.planes or 1
        # Each image begins at a multiple of 4 bytes, as its floating-point numbers need it.
        starts = np.cumsum([0] + [-(-area * (self._form.pixel_bytes + planes) // 4) * 4 for area in areas])
        self._areas, self._starts, self.bytes = areas, starts[:-1].tolist(), int(starts[-1])
        free = free_memory()
        if free is not None and self.bytes > _MEMORY_SHARE * free:
            raise ConfigError(
                f"data_cache: memory needs {size_text(self.bytes)} for {len(areas):d} pairs, but only "
                f"{size_text(free)} are free. Give a folder that `ppliteseg data "
                "cache` has filled, or remove data_cache."
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
        area, start = self._areas[index], self._starts[index]
        middle = start + area * self._form.pixel_bytes
        end = middle + area * (self._form.planes or 1)
        if not height:
            image, label = self._decode(index)
            height, width = image.shape[:2]
            if height * width != area or label is None or label.dtype != np.uint8:
                return image, label  # not of the size that its header tells
            self._memory[start:middle] = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
            self._memory[middle:end] = label.reshape(-1)
            self._sizes[2 * index + 1] = width
            self._sizes[2 * index] = height  # last: from here on others read it
        channels = self._form.img_channels
        image = (
            self._memory[start:middle]
            .view(self._form.image.dtype)
            .reshape((height, width) if channels == 1 else (height, width, channels))
        )
        return image, self._memory[middle:end].reshape(height, width, *self._form.label_shape)


def open_cache(dataset, where: str):
    """The cache that `data_cache: where` asks for, for one data set.

    Raises: DataError, ConfigError: as the classes above.
    """
    return MemoryCache(dataset, dataset.decode) if where == IN_MEMORY else DiskCache(dataset, where)
