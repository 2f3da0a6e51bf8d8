"""Images through a `Predictor` one after the other: reading, inference and the way back overlap, in threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.pipeline import grouped, overlapped
from ppliteseg_paddle.deploy.upsampling import Undo
from ppliteseg_paddle.errors import DataError


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
    """An image on its way through the stages; `error` in place of everything else. `whole`: once and in one piece."""

    number: int
    image: Any = None
    whole: bool = True
    batch: Any = None
    undo: Sequence[Undo] = ()
    error: DataError | None = None
    output: Any = None


class Stages:
    """What happens to an image, in three steps that may each run in a thread of its own.

    Args: predictor: a `Predictor`; with_confidence: whether each pixel's confidence is wanted, too.
    """

    def __init__(self, predictor: Any, with_confidence: bool = False):
        self._predictor, self._with_confidence = predictor, with_confidence

    def prepare(self, numbered: tuple[int, Any]) -> Task:
        """Read an image, as `Predictor.predict` takes it, and make the network's input of it."""
        index, image = numbered
        try:
            pixels = self._predictor.pixels(image)
            whole = self._predictor.goes_once(pixels)
            batch, undo = self._predictor.preprocess(pixels) if whole else (None, ())
        except DataError as error:
            return Task(index, error=error)
        return Task(index, pixels, whole, batch, undo)

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

    def finish(self, task: Task) -> tuple[int, Prediction]:
        """The mask at the image's size."""
        if task.error is not None:
            return task.number, Prediction(None, None, None, task.error)
        mask, confidence = (
            self._predictor.finish(task.output, task.undo, self._with_confidence) if task.whole else task.output
        )
        return task.number, Prediction(task.image, mask, confidence)


def stream(
    predictor: Any, images: Iterable[Any], with_confidence: bool, keep_going: bool, ahead: int
) -> Iterator[Prediction]:
    """See `Predictor.stream`. Args: predictor: a `Predictor`."""
    stages, helpers = Stages(predictor, with_confidence), helper_threads()
    prepared = overlapped(stages.prepare, enumerate(images), helpers, ahead)
    groups = grouped(prepared, stages.key, predictor.batch_size)
    inferred = overlapped(stages.infer, groups, predictor.streams, ahead)
    tasks = (task for group in inferred for task in group)
    early: dict[int, Prediction] = {}
    following = 0
    with contextlib.closing(overlapped(stages.finish, tasks, helpers, ahead)) as finished:
        for index, prediction in finished:
            early[index] = prediction
            while following in early:
                prediction = early.pop(following)
                if prediction.error is not None and not keep_going:
                    raise prediction.error
                yield prediction
                following += 1


def helper_threads() -> int:
    """How many threads read images and finish masks beside the network's own."""
    return max(1, min(4, default_threads() // 2))
