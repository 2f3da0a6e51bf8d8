"""Images in, masks out."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy import scores as scoring
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.images import check_image
from ppliteseg_paddle.deploy.interface import Backend, default_threads
from ppliteseg_paddle.deploy.pipeline import grouped, overlapped
from ppliteseg_paddle.deploy.preprocess import Undo, restore
from ppliteseg_paddle.deploy.sliding import Sliding
from ppliteseg_paddle.deploy.windows import Windows
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError
from ppliteseg_paddle.reading.images import read_image

Image = Union[str, os.PathLike[str], NDArray[Any]]


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


class _Task(NamedTuple):
    """An image on its way through the stages of a stream; `error` in place of everything else."""

    number: int
    image: Any = None
    batch: Any = None
    undo: Sequence[Undo] = ()
    error: DataError | None = None
    output: Any = None


class Predictor:
    """Runs an exported model. It needs the exported folder and one runtime, neither paddleseg nor training code.

        predictor = Predictor("export")
        mask = predictor.predict("street.jpg")      # (H, W) uint8
        predictor.label_set.classes[mask[0, 0]]     # "sky"

    It may be used from several threads; `streams` says how many of them infer at once.

    Args:
        model_dir: the folder that `ppliteseg export` wrote.
        backend: a key of `deploy.runtimes.RUNTIMES`, or "auto" for the fastest that works here.
        device: "cpu", "gpu" or "gpu:N"; None takes a GPU where the runtime sees one.
        num_threads: CPU threads, for all streams together; None takes all that the process may use.
        batch_size: images that `predict_batch` and `stream`, or windows that `is_slide`, put through the network at
            once.
        streams: copies of the opened model that work side by side, each with its share of the threads.
        unknown_below: pixels whose confidence is lower get the id `unknown_id` in place of a class; None leaves every
            pixel its best class. Confidence is the probability of that class, 0 to 1.
        is_slide: segment images by a sliding window; see `deploy.sliding`.
        crop_size, stride: size and step of the window, (width, height) in pixels. `crop_size` is the network's size by
            default where that is fixed, `stride` two thirds of it.
    Attributes: `artifact` (what the folder says), `backend` (what runs it), `label_set` (class names and colors),
        `unknown_id` (the value of pixels below `unknown_below`).
    Raises: ArtifactError: if the folder or a file in it is missing, damaged, or not readable here, or if an option
        needs scores and the graph returns class ids only. ConfigError: for an option that is not possible.
        DependencyError: if the backend is not installed.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        backend: str = "auto",
        device: str | None = None,
        num_threads: int | None = None,
        *,
        batch_size: int = 1,
        streams: int = 1,
        unknown_below: float | None = None,
        is_slide: bool = False,
        crop_size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
    ):
        artifact = Artifact.read(os.fspath(model_dir))
        _check_options(artifact, batch_size, streams, unknown_below)
        if streams > 1:
            num_threads = max(1, (num_threads or default_threads()) // streams)
        backends = [open_backend(backend, artifact, device, num_threads)]
        for _ in range(streams - 1):
            backends.append(open_backend(backends[0].name, artifact, device, num_threads))
        self._assemble(artifact, backends, batch_size, unknown_below, is_slide, crop_size, stride)

    @classmethod
    def of(
        cls,
        artifact: Artifact,
        backend: Backend,
        *,
        batch_size: int = 1,
        unknown_below: float | None = None,
        is_slide: bool = False,
        crop_size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
    ) -> Predictor:
        """A predictor on a backend that is open already."""
        predictor = cls.__new__(cls)
        _check_options(artifact, batch_size, 1, unknown_below)
        predictor._assemble(artifact, [backend], batch_size, unknown_below, is_slide, crop_size, stride)
        return predictor

    def _assemble(
        self,
        artifact: Artifact,
        backends: list[Backend],
        batch_size: int,
        unknown_below: float | None,
        is_slide: bool,
        crop_size: Sequence[int] | None,
        stride: Sequence[int] | None,
    ) -> None:
        self.artifact, self.backend, self.label_set = artifact, backends[0], artifact.label_set
        self.batch_size, self.streams, self.unknown_below = batch_size, len(backends), unknown_below
        self.unknown_id = scoring.unknown_id(artifact.label_set)
        if not is_slide and (crop_size or stride):
            raise ConfigError("crop_size and stride are the sliding window's: add is_slide.")
        self.sliding = Sliding(artifact, self.backend.graph, crop_size, stride) if is_slide else None
        self._idle: queue.LifoQueue[Backend] = queue.LifoQueue()
        for backend in reversed(backends):
            self._idle.put(backend)

    @property
    def windows(self) -> Windows | None:
        """Size and step of the sliding window; None without one."""
        return self.sliding.windows if self.sliding else None

    # ----------------------------------------------------------------------------------------
    # One image, several, a stream of them
    # ----------------------------------------------------------------------------------------
    def predict(self, image: Image) -> NDArray[Any]:
        """Segment one image.

        Args: image: a path, or an array of (H, W, 3) uint8 in BGR order, as OpenCV reads it. A model of other channels
            (`artifact.image_form`) takes (H, W, C) in the file's order, of one channel (H, W); one with a range of
            values takes them as they are, of any type.
        Shape: returns (H, W) uint8 class ids at the image's own size (uint16 above 256 classes).
        Raises: DataError: if the image is missing, unreadable, of another form, or of a size that the model does not
            take.
        """
        return self._predict(self._pixels(image), False)[0]

    def predict_with_confidence(self, image: Image) -> tuple[NDArray[Any], NDArray[Any]]:
        """Segment one image and say how sure each pixel is.

        Args: image: as `predict` takes it.
        Shape: returns the mask (H, W), and (H, W) float32: the probability of each pixel's class, 0 to 1.
        Raises: as `predict`. ArtifactError: if class ids are all that leaves the graph.
        """
        self.check_scores("confidence")
        mask, confidence = self._predict(self._pixels(image), True)
        assert confidence is not None  # noqa: S101 - it was asked for
        return mask, confidence

    def predict_batch(self, images: Sequence[Image]) -> list[NDArray[Any]]:
        """Segment several images; those of one size go through the network together, up to `batch_size` at once.

        Args: images: each as `predict` takes it; sizes may differ.
        Returns: the mask of each, in order.
        Raises: as `predict`.
        """
        if isinstance(images, (str, os.PathLike)):
            raise DataError(f"predict_batch takes a list of images, not one path; give [{os.fspath(images)!r}].")
        return [result.mask for result in self.stream(images)]

    def stream(
        self, images: Iterable[Image], *, with_confidence: bool = False, keep_going: bool = False, ahead: int = 2
    ) -> Iterator[Prediction]:
        """Segment images one after the other, such as a video's frames: reading, inference and whatever the caller does
        with the results overlap, in threads.

            for image, mask, _, _ in predictor.stream(frames): ...

        Args:
            images: a list, a generator, anything that yields images as `predict` takes them. It is iterated in a
                thread.
            with_confidence: whether each pixel's confidence is wanted, too.
            keep_going: whether an image that cannot be read is yielded with its error, rather than ending the stream.
            ahead: how many images may wait between two stages; it bounds memory.
        Returns: one `Prediction` for each image, in their order.
        Raises: as `predict`, after the results of all images before; and what `images` itself raises.
        """
        if with_confidence:
            self.check_scores("confidence")
        return self._stream(images, with_confidence, keep_going, ahead)

    def _stream(
        self, images: Iterable[Image], with_confidence: bool, keep_going: bool, ahead: int
    ) -> Iterator[Prediction]:
        helpers = max(1, min(4, default_threads() // 2))
        whole = self.sliding is not None

        def prepare(numbered: tuple[int, Image]) -> _Task:
            index, image = numbered
            try:
                pixels = self._pixels(image)
                batch, undo = (None, ()) if whole else self.preprocess(pixels)
            except DataError as error:
                return _Task(index, error=error)
            return _Task(index, pixels, batch, undo)

        def infer(tasks: list[_Task]) -> list[_Task]:
            if tasks[0].error is not None:
                return tasks
            if whole:
                return [task._replace(output=self._predict(task.image, with_confidence)) for task in tasks]
            outputs = self.forward(np.concatenate([task.batch for task in tasks]) if len(tasks) > 1 else tasks[0].batch)
            return [task._replace(output=output, batch=None) for task, output in zip(tasks, outputs)]

        def finish(task: _Task) -> tuple[int, Prediction]:
            if task.error is not None:
                return task.number, Prediction(None, None, None, task.error)
            mask, confidence = task.output if whole else self._finish(task.output, task.undo, with_confidence)
            return task.number, Prediction(task.image, mask, confidence)

        prepared = overlapped(prepare, enumerate(images), helpers, ahead)
        groups = grouped(prepared, _group_key, 1 if whole else self.batch_size)
        inferred = overlapped(infer, groups, self.streams, ahead)
        tasks = (task for group in inferred for task in group)
        early: dict[int, Prediction] = {}
        following = 0
        with contextlib.closing(overlapped(finish, tasks, helpers, ahead)) as finished:
            for index, prediction in finished:
                early[index] = prediction
                while following in early:
                    prediction = early.pop(following)
                    if prediction.error is not None and not keep_going:
                        raise prediction.error
                    yield prediction
                    following += 1

    # ----------------------------------------------------------------------------------------
    # The three stages of `predict`, apart: the benchmark times them
    # ----------------------------------------------------------------------------------------
    def preprocess(self, image: NDArray[Any]) -> tuple[NDArray[Any], list[Undo]]:
        """Image, as `read_image` gives it -> the network's input, and how the mask gets back to the image's size.

        A graph that preprocesses by itself takes the image unchanged, and its mask needs no way back.
        """
        if self.backend.graph in self.artifact.in_graph:
            return np.ascontiguousarray(image)[np.newaxis], []
        batch, undo = self.artifact.preprocess(image)
        for dimension, found in zip("HW", batch.shape[2:]):
            wanted = self.artifact.input.size_of(dimension)
            if wanted not in (-1, found):
                raise DataError(
                    "the model was exported for inputs of "
                    f"{self.artifact.input.size_of('W'):d}x{self.artifact.input.size_of('H'):d} pixels (width x "
                    f"height), and an image of {image.shape[1]:d}x{image.shape[0]:d} gives "
                    f"{batch.shape[3]:d}x{batch.shape[2]:d}; resize it, or export without --input_shape."
                )
        return batch, undo

    def forward(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The network's input -> its output; returns when that is there."""
        backend = self._idle.get()
        try:
            return backend.run(batch)
        finally:
            self._idle.put(backend)

    def postprocess(self, output: NDArray[Any], undo: Sequence[Undo]) -> NDArray[Any]:
        """The output for one image -> class ids at the image's own size."""
        return self._finish(output[0], undo, False)[0]

    def check_scores(self, what: str) -> None:
        """Raises: ArtifactError: if class ids are all that leaves the graph, so that there is no confidence."""
        _need_scores(self.artifact, what)

    def _pixels(self, image: Image) -> NDArray[Any]:
        form = self.artifact.image_form
        return read_image(image, *form) if isinstance(image, (str, os.PathLike)) else check_image(image, form)

    def _predict(self, pixels: NDArray[Any], with_confidence: bool) -> tuple[NDArray[Any], NDArray[Any] | None]:
        if self.sliding is None:
            batch, undo = self.preprocess(pixels)
            return self._finish(self.forward(batch)[0], undo, with_confidence)
        strips = [
            self._decide(strip, with_confidence)
            for strip in self.sliding.outputs(pixels, self.forward, self.batch_size)
        ]
        masks, confidences = zip(*strips)
        return np.concatenate(masks), np.concatenate(confidences) if with_confidence else None

    def _finish(
        self, output: NDArray[Any], undo: Sequence[Undo], with_confidence: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        return self._decide(restore(output, undo), with_confidence)

    def _decide(self, output: NDArray[Any], with_confidence: bool) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Class ids (H, W), or scores (C, H, W), at the image's size -> mask and confidence."""
        if output.ndim == 2:
            return output.astype(scoring.id_dtype(self.label_set.num_classes), copy=False), None
        ids, best = scoring.best_class(output)
        if self.unknown_below is None and not with_confidence:
            return ids, None
        if self.artifact.output.op == "none":
            best = scoring.softmax_of_best(output, best)
        if self.unknown_below is not None:
            ids = scoring.mark_unknown(ids, best, self.unknown_below, self.unknown_id)
        return ids, best if with_confidence else None


def _group_key(task: _Task) -> tuple[int, ...] | None:
    """What goes through the network together: inputs of one size. An image without an input stands alone."""
    return None if task.batch is None else task.batch.shape


def _check_options(artifact: Artifact, batch_size: int, streams: int, unknown_below: float | None) -> None:
    for name, value in (("batch_size", batch_size), ("streams", streams)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} is {value!r}; give an integer of at least 1.")
    if artifact.input.size_of("N") not in (-1, batch_size):
        raise ConfigError(
            f"batch_size is {batch_size:d}, but {artifact.folder} takes {artifact.input.size_of('N'):d} image at a "
            "time; export with --input_shape -1 3 H W, or without --input_shape."
        )
    if unknown_below is not None:
        if isinstance(unknown_below, bool) or not isinstance(unknown_below, (int, float)) or not 0 < unknown_below <= 1:
            raise ConfigError(
                f"unknown_below is {unknown_below!r}; give a confidence above 0 and up to 1, such as 0.5."
            )
        _need_scores(artifact, "unknown_below")


def _need_scores(artifact: Artifact, what: str) -> None:
    if artifact.output.op == "argmax":
        raise ArtifactError(
            f"{what} needs probabilities, but the model in {artifact.folder} returns class ids only; export it with "
            "--output_op softmax."
        )
