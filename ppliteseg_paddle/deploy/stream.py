"""Images through a `Predictor` one after the other: reading, inference and the way back overlap, in threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.pipeline import grouped, overlapped
from ppliteseg_paddle.deploy.smoothing import Smoother, small_gray
from ppliteseg_paddle.deploy.upsampling import Undo
from ppliteseg_paddle.errors import DataError

T = TypeVar("T")


class Prediction(NamedTuple):
    """One result of `Predictor.stream`.

    `image` is (H, W, 3) uint8 BGR, or what `artifact.image_form` says, as `reading.images.read_image` gives it; `mask`
    (H, W) class ids; `confidence` (H, W) float32 from 0 to 1, None unless asked for. Where an image cannot be segmented
    and the stream continues, `error` says why, and all else is None.
    """

    image: Any
    mask: Any
    confidence: Any = None
    error: DataError | None = None


class Task(NamedTuple):
    """An image on its way through the stages; `error` in place of everything else. `whole`: once and in one piece;
    `gray`: see `smoothing.small_gray`."""

    number: int
    image: Any = None
    whole: bool = True
    batch: Any = None
    undo: Sequence[Undo] = ()
    error: DataError | None = None
    output: Any = None
    gray: Any = None


class Stages:
    """What happens to an image, in steps that may each run in a thread of its own.

    Args: predictor: a `Predictor`; with_confidence: whether each pixel's confidence is wanted, too; smooth: as
        `Predictor.stream` has it.
    """

    def __init__(self, predictor: Any, with_confidence: bool = False, smooth: float = 0.0):
        self._predictor, self._with_confidence = predictor, with_confidence
        self._smoother = Smoother(smooth) if smooth else None

    def prepare(self, numbered: tuple[int, Any]) -> Task:
        """Read an image, as `Predictor.predict` takes it, and make the network's input of it."""
        index, image = numbered
        try:
            pixels = self._predictor.pixels(image)
            whole = self._predictor.goes_once(pixels)
            batch, undo = self._predictor.preprocess(pixels) if whole else (None, ())
        except DataError as error:
            return Task(index, error=error)
        gray = self.gray(pixels, batch) if self._smoother else None
        return Task(index, pixels, whole, batch, undo, gray=gray)

    def gray(self, pixels: Any, batch: Any) -> Any:
        """Of the network's input where there is one, as that is what its output covers."""
        if batch is None:
            return small_gray(pixels, channels_first=False)
        artifact = self._predictor.artifact
        return small_gray(batch[0], artifact.input_of(self._predictor.backend.graph).layout[1] == "C")

    def key(self, task: Task) -> tuple[Any, ...] | None:
        """What goes through the network together: inputs of one size for one output. An image without an input stands
        alone."""
        return None if task.batch is None else (task.batch.shape, self._predictor.needs_logits(task.undo))

    def infer(self, tasks: list[Task]) -> list[Task]:
        """Put tasks of one key through the network."""
        predictor = self._predictor
        if tasks[0].error is not None:
            return tasks
        if not tasks[0].whole:
            return [task._replace(output=predictor.segment(task.image, self._with_confidence)) for task in tasks]
        batches = [task.batch for task in tasks]
        batch = np.concatenate(batches) if len(tasks) > 1 else batches[0]
        outputs = predictor.forward(batch, predictor.needs_logits(tasks[0].undo))
        return [task._replace(output=output, batch=None) for task, output in zip(tasks, outputs)]

    def smooth(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Blend the output of each frame with those before it, in the order of the frames."""
        smoother, masks = self._smoother, self._predictor.masks
        if smoother is None:
            yield from tasks
            return
        for task in _in_order((task.number, task) for task in tasks):
            if task.error is not None:
                yield task
            elif task.whole:
                yield task._replace(output=masks.smoothed(task.output, task.undo, task.gray, smoother))
            else:
                mask, confidence = task.output
                yield task._replace(output=(smoother.ids(mask, task.gray), confidence))

    def finish(self, task: Task) -> tuple[int, Prediction]:
        """The mask at the image's size."""
        if task.error is not None:
            return task.number, Prediction(None, None, None, task.error)
        mask, confidence = (
            self._predictor.finish(task.output, task.undo, self._with_confidence) if task.whole else task.output
        )
        return task.number, Prediction(task.image, mask, confidence)


def stream(
    predictor: Any, images: Iterable[Any], with_confidence: bool, keep_going: bool, ahead: int, smooth: float
) -> Iterator[Prediction]:
    """See `Predictor.stream`. Args: predictor: a `Predictor`."""
    stages, helpers = Stages(predictor, with_confidence, smooth), helper_threads()
    prepared = overlapped(stages.prepare, enumerate(images), helpers, ahead)
    groups = grouped(prepared, stages.key, predictor.batch_size)
    inferred = overlapped(stages.infer, groups, predictor.streams, ahead)
    tasks = stages.smooth(task for group in inferred for task in group)
    with contextlib.closing(overlapped(stages.finish, tasks, helpers, ahead)) as finished:
        for prediction in _in_order(finished):
            if prediction.error is not None and not keep_going:
                raise prediction.error
            yield prediction


def _in_order(numbered: Iterable[tuple[int, T]]) -> Iterator[T]:
    """Things by their numbers, 0 and on: what comes early waits."""
    early: dict[int, T] = {}
    following = 0
    for number, thing in numbered:
        early[number] = thing
        while following in early:
            yield early.pop(following)
            following += 1


def helper_threads() -> int:
    """How many threads read images and finish masks beside the network's own."""
    return max(1, min(4, default_threads() // 2))
