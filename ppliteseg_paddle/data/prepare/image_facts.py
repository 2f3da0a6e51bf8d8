"""What the images of a folder are: their channels, and the range, mean and deviation of values of more than 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.files import unreadable
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import channels_of, image_size, read_values, suggested_range

_SAMPLE = 64  # images whose values are looked at
_PIXELS = 4096  # of each


class ImageFacts(NamedTuple):
    """What the starter configuration says of the images. `mean` and `std`: one a channel, None for 8-bit color and
    gray, which the usual 0.5 serves."""

    form: ImageForm
    mean: list[float] | None = None
    std: list[float] | None = None

    def describe(self) -> str:
        """A line for people; "" for 8-bit color."""
        if self.form == ImageForm():
            return ""
        count = self.form.channels
        pairs = self.form.to_plain() or ()
        ranges = ", ".join(dict.fromkeys(f"{low:g} to {high:g}" for low, high in pairs))
        depth = f", values from {ranges} become black to white" if ranges else ""
        return f"images of {count:d} channel{'s' if count > 1 else ''}{depth}"


def image_facts(paths: Sequence[str], num_workers: int | None = None, progress: bool = True) -> ImageFacts:
    """Look at a sample of images.

    Raises: DataError: if they have different numbers of channels, other than gray beside color; for a file that cannot
        be read.
    """
    step = max(1, len(paths) // _SAMPLE)
    chosen = paths[::step][:_SAMPLE]
    found = dict(zip(chosen, run_parallel(_values_of, chosen, num_workers, "looking at images", progress=progress)))
    counts = {values.shape[1]: path for path, values in found.items()}
    if len(counts) > 1 and set(counts) != {1, 3}:
        shown = ", ".join(f"{path} has {count:d}" for count, path in sorted(counts.items()))
        raise DataError(
            f"the images have different numbers of channels ({shown}): prepare them apart, or convert them."
        )
    channels = max(counts)
    deep = [values for values in found.values() if values.dtype != np.uint8]
    if not deep:
        return ImageFacts(ImageForm(channels), *_moments(list(found.values()), ImageForm(channels)))
    form = ImageForm.checked(channels, _range_of(list(found.values()), deep[0].dtype.kind))
    return ImageFacts(form, *_moments(list(found.values()), form))


def sizes_of(paths: Sequence[str], num_workers: int | None = None, progress: bool = True) -> list[tuple[int, int]]:
    """(width, height) of images as their headers tell it; `data check` reports those that cannot be read.

    Raises: UnreadableError: if none can.
    """
    found = [size for size in run_parallel(image_size, paths, num_workers, "sizes", progress=progress) if size]
    if not found:
        raise unreadable("image", paths[0])
    return found


def _values_of(path: str) -> NDArray[Any]:
    """(n, C): some of an image's pixels, in the file's order."""
    channels = channels_of(path)
    values = read_values(path, channels)
    flat = values.reshape(-1, channels)
    return np.ascontiguousarray(flat[:: max(1, len(flat) // _PIXELS), :: -1 if channels == 3 else 1])


def _range_of(samples: Sequence[NDArray[Any]], kind: str) -> Any:
    """Of integers the range of their bits; of other values that of each channel."""
    values = np.concatenate([values.astype(np.float64) for values in samples])
    if kind == "u" or (kind == "i" and values.min() >= 0):
        return suggested_range(values.astype(np.uint64))
    pairs = [suggested_range(channel) for channel in values.T]
    pairs = [[float(f"{low:.4g}"), float(f"{high:.4g}")] for low, high in pairs]
    return pairs[0] if all(pair == pairs[0] for pair in pairs) else pairs


def _moments(samples: Sequence[NDArray[Any]], form: ImageForm) -> tuple[list[float], list[float]] | tuple[()]:
    """Mean and deviation of each channel, of values from 0 to 1."""
    if form.plain:
        return ()
    order = slice(None, None, -1 if form.channels == 3 else 1)  # `levels` takes BGR
    levels = [form.levels(values[:, np.newaxis, order])[:, 0, order] / 255 for values in samples]
    values = np.concatenate(levels).astype(np.float64)
    std = np.maximum(values.std(axis=0), 1e-3)  # a constant channel has none
    return [round(float(v), 4) for v in values.mean(axis=0)], [round(float(v), 4) for v in std]
