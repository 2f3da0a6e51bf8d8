"""Whether images of all sizes in a data set fit into batches, and predictions back onto their labels: tried on those of
extreme sizes, before hours of training end at the first of them."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.data.randomness import Draws
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.images import image_size

HEADER_SECONDS = 5.0  # for reading the sizes of all images; of more than can be read in it, a part is taken
_MIN_TRIES = 4  # transforms may draw a size at random

Shape = tuple[int, ...]


def shape_problems(dataset: Any, batch_size: int) -> list[str]:
    """What does not fit of the smallest, largest, widest, tallest ... image, one line each.

    Args: dataset: with `file_list` and `mode`; batch_size: of the training, for mode "train".
    """
    if not hasattr(dataset, "transforms"):  # of another package, with a way of its own
        return []
    indices = extreme_images(dataset.file_list)
    with _drawing_apart(dataset):
        try:
            if getattr(dataset, "mode", None) == "train":
                return list(_problems_of_batches(dataset, indices, batch_size))
            return list(_problems_of_ways_back(dataset, indices))
        except _TransformError as error:
            return [str(error)]


def check_way_back(dataset: Any) -> None:
    """Raises: DataError: if predictions do not come back to the size of the labels of a set in mode "val"."""
    for problem in shape_problems(dataset, 1):
        raise DataError(problem)


def extreme_images(pairs: Sequence[Sequence[Any]]) -> list[int]:
    """Indices of the images of extreme width, height, area and aspect ratio, by their headers."""
    sizes: dict[int, Shape] = {}
    deadline = time.monotonic() + HEADER_SECONDS
    for index in _spread_first(len(pairs)):
        size = image_size(pairs[index][0])
        if size is not None:
            sizes[index] = size
        if time.monotonic() > deadline:
            break
    measures = (lambda s: s[0] * s[1], lambda s: s[0], lambda s: s[1], lambda s: s[0] / s[1])
    chosen = [pick(sizes, key=lambda i: measure(sizes[i])) for measure in measures for pick in (min, max) if sizes]
    return list({sizes[index]: index for index in chosen}.values())


def _spread_first(count: int) -> Iterable[int]:
    """All indices, such that the first ones are spread over the whole list."""
    step = max(count // 64, 1)
    return itertools.chain.from_iterable(range(start, count, step) for start in range(step))


def _problems_of_batches(dataset: Any, indices: Sequence[int], batch_size: int) -> Iterator[str]:
    found: dict[Shape, str] = {}
    tries = -(-_MIN_TRIES // max(len(indices), 1))
    for sample, name in _samples(dataset, [index for index in indices for _ in range(tries)]):
        shape = tuple(sample["img"].shape[1:])
        if "label" in sample and tuple(sample["label"].shape[-2:]) != shape:
            yield f"{name} becomes {_size(shape)}, but its label {_size(sample['label'].shape[-2:])}: {_LABELS_TOO}"
            return
        found.setdefault(shape, name)
    if batch_size > 1 and len(found) > 1:
        (one, name), (other, other_name) = list(found.items())[:2]
        yield (
            f"{name} becomes {_size(one)} and {other_name} {_size(other)}, but a batch of {batch_size:d} takes images "
            "of one size: add a crop (RandomPaddingCrop with crop_size) or a Resize with target_size at the end of "
            "train_dataset.transforms, or give batch_size 1."
        )


_LABELS_TOO = "use transforms that change both."


def _problems_of_ways_back(dataset: Any, indices: Sequence[int]) -> Iterator[str]:
    for sample, name in _samples(dataset, indices):
        if "label" not in sample:
            continue
        label = tuple(sample["label"].shape[-2:])
        back = _way_back(tuple(sample["img"].shape[1:]), sample["trans_info"])
        if back != label:
            yield (
                f"{name}: its label is {_size(label)}, but the prediction comes back as {_size(back)}: "
                "val_dataset.transforms may only hold what can be undone (Normalize, Resize, ResizeByLong, "
                "ResizeByShort, LimitLong, Padding, PaddingByAspectRatio): no crop, and nothing random."
            )
            return


def _way_back(shape: Shape, trace: Sequence[Any]) -> Shape:
    """The size that PaddleSeg's `core/infer.py::reverse_transform` brings a prediction of `shape` to."""
    for kind, size in reversed([(step[0] if isinstance(step[0], str) else step[0][0], step[1]) for step in trace]):
        shape = tuple(size) if kind == "resize" else tuple(map(min, shape, size))
    return shape


class _TransformError(Exception):
    """One line about a transform that an image does not get through."""


def _samples(dataset: Any, indices: Iterable[int]) -> Iterator[tuple[dict[str, Any], str]]:
    """Samples, each with what to call its image; files that cannot serve are skipped: they are reported where files are
    read.

    Raises: _TransformError
    """
    for index in indices:
        try:
            found = _transformed(dataset, index)
        except DataError:
            continue
        yield found


def _transformed(dataset: Any, index: int) -> tuple[dict[str, Any], str]:
    """One of `_samples`.

    Raises: DataError: for an image or label that cannot serve; _TransformError.
    """
    path = dataset.file_list[index][0]
    size = image_size(path)
    name = f"{path} ({_size(size[::-1])})" if size else path
    try:
        return dataset[index], name
    except DataError:
        raise
    except Exception as error:  # whatever a transform of another package raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _TransformError(
            f"{name}: {_failing_step(error, dataset.transforms.transforms)} fails: {reason[:200].rstrip('. ')}. Change "
            f"{dataset.mode}_dataset.transforms so that they take images of this size."
        ) from error


def _failing_step(error: BaseException, steps: Sequence[Any]) -> str:
    found, trace = "a transform", error.__traceback__
    while trace is not None:
        step = trace.tb_frame.f_locals.get("self")
        if any(step is one for one in steps):
            found = type(step).__name__
        trace = trace.tb_next
    return found


@contextlib.contextmanager
def _drawing_apart(dataset: Any) -> Iterator[None]:
    """Random numbers as if nothing had been drawn inside."""
    python, numpy, draws = random.getstate(), np.random.get_state(), getattr(dataset, "draws", None)
    if draws is not None:
        dataset.draws = Draws(len(dataset.file_list), seed=0)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if draws is not None:
            dataset.draws = draws


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]:d}x{shape[0]:d}"
