"""Memory as a bound: what is free, and how many pixels may be read or segmented with it."""

from __future__ import annotations

import contextlib

from ppliteseg_paddle.errors import DataError

# Bytes a pixel at the peak, estimated with room to spare: decoded, turned upright and normalized; through a network in
# one piece; and more for each class where it returns scores.
READ_BYTES, SEGMENT_BYTES, SCORE_BYTES = 24, 100, 8
_READ_SHARE, _SEGMENT_SHARE = 2, 4  # one of so many parts of the free memory
_ALWAYS = 2**24  # pixels that are read without a look at the memory: 400 MB
_MAX = 2**26  # pixels in one piece, however much memory is free
_CGROUPS = (  # limit and use of a container's memory: version 2, version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class TooLargeError(DataError):
    """An image of more pixels than are allowed."""


def free_memory() -> int | None:
    """Bytes that this process can still get, in its container where it has one; None where the system does not tell."""
    found = []
    with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        found.append(next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable")))
    for limit, use in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found.append(max(0, _number(limit) - _number(use)))
    return min(found, default=None)


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def pixels_in_one_piece(classes_of_scores: int = 0) -> int:
    """The default of `max_pixels`: how many pixels may go through a network at once, a quarter of the free memory at
    100 bytes a pixel and at most 64 megapixels.

    Args: classes_of_scores: how many scores a pixel leave the network; 0 where class ids do.
    """
    free = free_memory()
    if free is None:
        return _MAX
    return max(1, min(_MAX, free // _SEGMENT_SHARE // (SEGMENT_BYTES + SCORE_BYTES * classes_of_scores)))


def check_readable(
    kind: str, path: str, width: int, height: int, max_pixels: int | None = None, channels: int = 3
) -> None:
    """Check a file's size, as its header tells it, before its pixels are decoded.

    Args: kind: what the error calls the file; max_pixels: a bound of the caller's beside that of the memory.
    Raises: TooLargeError
    """
    pixels = width * height
    if max_pixels is not None and pixels > max_pixels:
        raise TooLargeError(
            f"{kind} {path} has {width:d}x{height:d} pixels, more than the {max_pixels:d} of max_pixels: make it "
            "smaller, raise max_pixels, or let it be segmented by windows (--large_images windows)."
        )
    if pixels * max(3, channels) // 3 <= _ALWAYS:
        return
    needed = pixels * READ_BYTES * max(3, channels) // 3
    free = free_memory()
    if free is not None and needed > free // _READ_SHARE:
        raise TooLargeError(
            f"{kind} {path} claims {width:d}x{height:d} pixels: reading it takes up to {size_text(needed)}"
            f", more than half of the {size_text(free)} of memory that are free. Make it smaller, or cut it into tiles."
        )


def size_text(count: float) -> str:
    return f"{(count / 2**30):.1f} GiB" if count >= 2**30 else f"{(count / 2**20):.1f} MiB"
