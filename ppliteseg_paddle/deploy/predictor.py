"""Images in, masks out."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy import scores as scoring
from ppliteseg_paddle.deploy import stream as streaming
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_streams
from ppliteseg_paddle.deploy.foreign import open_folder
from ppliteseg_paddle.deploy.images import Image, pixels_of
from ppliteseg_paddle.deploy.interface import Backend, Options, check_size
from ppliteseg_paddle.deploy.masks import Mask, Masks
from ppliteseg_paddle.deploy.pool import Pool
from ppliteseg_paddle.deploy.predict_options import LARGE_IMAGES, PredictOptions, need_scores
from ppliteseg_paddle.deploy.shown import Result
from ppliteseg_paddle.deploy.sliding import Sliding, window_within
from ppliteseg_paddle.deploy.smooth_option import check_smooth
from ppliteseg_paddle.deploy.stream import Prediction as Prediction
from ppliteseg_paddle.deploy.upsampling import Piece, Undo, piece, upsampled
from ppliteseg_paddle.deploy.views import View
from ppliteseg_paddle.deploy.windows import Windows
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.reading.limits import check_readable, pixels_in_one_piece

log = logging.getLogger("ppliteseg_paddle")


class Predictor:
    """Runs an exported model. It needs the exported folder and one runtime, neither paddleseg nor training code.

        predictor = Predictor("export")
        mask = predictor.predict("street.jpg")      # (H, W) uint8
        predictor.label_set.classes[mask[0, 0]]     # "sky"
        predictor("street.jpg").save("overlay.png")

    It may be used from several threads; `streams` says how many of them infer at once. A process that gets it pickled
    opens the folder again; so does a forked one, where Paddle alone cannot run and says so.

    Args:
        model_dir: the folder that `ppliteseg export` wrote, PaddleSeg's or PaddleX's export, or "camvid-t".
        backend: a key of `deploy.runtimes.RUNTIMES`, or "auto" for the fastest that works here.
        device: "cpu", "gpu" or "gpu:N"; None takes a GPU where the runtime sees one.
        num_threads: CPU threads, for all streams together; None takes all that the process may use.
        batch_size: images that `predict_batch` and `stream`, or windows that `is_slide`, put through the network at
            once.
        streams: copies of the opened model that work side by side, each with its share of the threads.
        unknown_below: pixels whose confidence is lower get the id `unknown_id` in place of a class; None leaves every
            pixel its best class. Confidence is the probability of that class, 0 to 1.
        is_slide: segment images by a sliding window (see `deploy.sliding`), or not; None does as the artifact's
            `test_config` says.
        crop_size, stride: size and step of the window, (width, height) in pixels. `crop_size` is the network's size by
            default where that is fixed, `stride` two thirds of it.
        max_pixels: how many pixels go through the network in one piece; None derives it from the free memory
            (`reading.limits.pixels_in_one_piece`). It is no matter of images that are resized to fewer.
        large_images: what becomes of larger ones: "windows" segments them by overlapping windows, "refuse" refuses
            them before they are decoded.
        mask_resize: how a mask gets to the image's size where the network's input has another: "bilinear" resizes the
            logits, as `val` does, "nearest" the class ids, which is faster; None does as the artifact says.
        label_set: of a folder that does not name its classes, as PaddleSeg's: a `LabelSet`, or the name of a known one.
        precision: what a float export is computed in: "fp32", or "bf16" by OpenVINO or Paddle Inference on a CPU with
            AVX512_BF16 or AMX; None as it was exported.
    Attributes: `artifact` (what the folder says), `backend` (what runs it), `label_set` (class names and colors),
        `unknown_id` (the value of pixels below `unknown_below`), `mask_resize`, `masks` (how outputs become masks).
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
        is_slide: bool | None = None,
        crop_size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        max_pixels: int | None = None,
        large_images: str = LARGE_IMAGES[0],
        mask_resize: str | None = None,
        label_set: LabelSet | str | None = None,
        precision: str | None = None,
    ):
        options = PredictOptions(
            batch_size, unknown_below, is_slide, crop_size, stride, max_pixels, large_images, mask_resize
        )
        artifact = open_folder(model_dir, label_set)
        # What opens it again, in another process.
        self._arguments: dict[str, Any] | None = {
            "model_dir": os.path.abspath(artifact.folder),
            "backend": backend,
            "device": device,
            "num_threads": num_threads,
            "streams": streams,
            "precision": precision,
            "label_set": label_set,
            **options._asdict(),
        }
        options.check(artifact, streams)
        how = Options(device, num_threads, precision)
        self._assemble(artifact, Pool(lambda: open_streams(backend, artifact, streams, how)), options)

    @classmethod
    def of(cls, artifact: Artifact, backend: Backend, **options: Any) -> Predictor:
        """A predictor on a backend that is open already. Options are those of `Predictor`, but for `streams`."""
        predictor = cls.__new__(cls)
        predictor._arguments = None
        how = PredictOptions(**options)
        how.check(artifact, 1)
        predictor._assemble(artifact, Pool(lambda: [backend], reopens=False), how)
        return predictor

    def _assemble(self, artifact: Artifact, pool: Pool, how: PredictOptions) -> None:
        self.artifact, self._pool, self.label_set = artifact, pool, artifact.label_set
        self.batch_size, self.streams, self.unknown_below = how.batch_size, len(pool.backends), how.unknown_below
        self.unknown_id = scoring.unknown_id(artifact.label_set)
        self.masks = Masks(artifact, self.backend, how.mask_resize, how.unknown_below)
        self.mask_resize = self.masks.resize
        self.sliding = how.sliding(artifact, self.backend, self.masks)
        self._views = artifact.views.views
        scores = 0 if artifact.output.op == "argmax" else artifact.label_set.num_classes
        self.max_pixels, self.large_images = how.max_pixels or pixels_in_one_piece(scores), how.large_images

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise TypeError("a Predictor of a backend that is open already cannot be pickled: open an exported folder.")
        return functools.partial(Predictor, **self._arguments), ()

    @property
    def backend(self) -> Backend:
        return self._pool.backends[0]

    @property
    def windows(self) -> Windows | None:
        """Size and step of the sliding window; None without one."""
        return self.sliding.windows if self.sliding else None

    # ----------------------------------------------------------------------------------------
    # One image, several, a stream of them
    # ----------------------------------------------------------------------------------------
    def predict(self, image: Image) -> NDArray[Any]:
        """Segment one image.

        Args: image: a path, an http(s) address, a Pillow image, or an array of (H, W, 3) uint8 in BGR order, as OpenCV
            reads it. A model of other channels (`artifact.image_form`) takes (H, W, C) in the file's order, of one
            channel (H, W); one with a range of values takes them as they are, of any type.
        Shape: returns (H, W) uint8 class ids at the image's own size (uint16 above 256 classes), of a multi-label
            model (`artifact.multilabel`) planes (H, W, classes) uint8, 0 and 1.
        Raises: DataError: if the image is missing, unreadable, of another form, or of a size that the model does not
            take.
        """
        return self.segment(self.pixels(image), False)[0]

    def __call__(self, image: Image, *, with_confidence: bool = False) -> Result:
        """Segment one image, as `predict` takes it, and return what shows and saves itself (see `shown.Result`).

        Args: with_confidence: whether `Result.confidence` is wanted, too.
        Raises: as `predict`.
        """
        if with_confidence:
            self.check_scores("confidence")
        pixels = self.pixels(image)
        mask, confidence = self.segment(pixels, with_confidence)
        return Result(pixels, mask, self.label_set, confidence)

    def predict_with_confidence(self, image: Image) -> tuple[NDArray[Any], NDArray[Any]]:
        """Segment one image and say how sure each pixel is.

        Args: image: as `predict` takes it.
        Shape: returns the mask, and float32 of its shape: the probability of each pixel's class, 0 to 1.
        Raises: as `predict`. ArtifactError: if class ids are all that leaves the graph.
        """
        self.check_scores("confidence")
        mask, confidence = self.segment(self.pixels(image), True)
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
        self,
        images: Iterable[Image],
        *,
        with_confidence: bool = False,
        keep_going: bool = False,
        ahead: int = 2,
        smooth: float = 0.0,
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
            smooth: of a video: the largest share of earlier frames, 0 (off) to below 1 (see `deploy.smoothing`).
        Returns: a `Prediction` of each, in their order.
        Raises: as `predict`, after the results of all images before; what `images` raises; ConfigError for `smooth`.
        """
        if with_confidence:
            self.check_scores("confidence")
        check_smooth(smooth)
        return streaming.stream(self, images, with_confidence, keep_going, ahead, smooth)

    # ----------------------------------------------------------------------------------------
    # The three stages of `predict`, apart: the benchmark times them
    # ----------------------------------------------------------------------------------------
    def preprocess(
        self, image: NDArray[Any], done: Callable[[str], None] = lambda step: None
    ) -> tuple[NDArray[Any], list[Undo]]:
        """Image, as `read_image` gives it -> the network's input, and how the mask gets back to the image's size.

        A graph that preprocesses by itself takes the image unchanged, and its mask needs no way back.

        Args: done: as `Preprocess` has it.
        """
        if self.backend.graph in self.artifact.in_graph:
            return np.ascontiguousarray(image)[np.newaxis], []
        batch, undo = self.artifact.preprocess(image, done)
        return self._seen(batch, undo, self._views[0])

    def _seen(self, batch: NDArray[Any], undo: list[Undo], view: View) -> tuple[NDArray[Any], list[Undo]]:
        """What the network gets of its input in a view, and the whole way back."""
        size = batch.shape[2:]
        batch, back = view.of(batch)
        check_size(self.artifact, batch, size)
        undo = [*undo, *back]
        if any(step.kind == "resize" for step in undo) or len(self._views) > 1:
            undo.append(Undo("resize", (batch.shape[2], batch.shape[3])))  # by the network, of its small logits
        return batch, undo

    def needs_logits(self, undo: Sequence[Undo]) -> bool:
        """Whether `forward` is to return logits for the way back."""
        return self.masks.needs_logits(undo)

    def forward(self, batch: NDArray[Any], logits: bool = False) -> NDArray[Any]:
        """The network's input -> its output, or its second output, the logits; returns when that is there."""
        return self._pool.run(batch, logits)

    def postprocess(self, output: NDArray[Any], undo: Sequence[Undo]) -> NDArray[Any]:
        """The output for one image (the logits where `needs_logits`) -> class ids at the image's own size."""
        return self.finish(output[0], undo, False)[0]

    def check_scores(self, what: str) -> None:
        """Raises: ArtifactError: if class ids are all that leaves the graph, so that there is no confidence."""
        need_scores(self.artifact, what)

    def pixels(self, image: Image) -> NDArray[Any]:
        """An image's pixels, read unless they are given."""
        limit = self.max_pixels if self.large_images == "refuse" else None
        return pixels_of(image, self.artifact.image_form, limit)

    def windows_for(self, pixels: NDArray[Any]) -> Sliding | None:
        """The windows by which an image is segmented; None if it goes through the network in one piece.

        Raises: TooLargeError: if it has more than `max_pixels` and such images are refused.
        """
        if self.sliding is not None:
            return self.sliding
        height, width = pixels.shape[:2]
        if self.large_images == "refuse":
            check_readable("image", "given as an array", width, height, self.max_pixels)
        if height * width <= self.max_pixels:
            return None
        if self.backend.graph not in self.artifact.in_graph:
            if not self.artifact.input.dynamic:
                return None
            height, width = (
                max(view.size(side) for view in self._views)
                for side in self.artifact.preprocess.input_size(height, width)
            )
            if height * width <= self.max_pixels:
                return None
        return self._of_large_images

    @functools.cached_property
    def _of_large_images(self) -> Sliding:
        side = window_within(self.max_pixels)
        log.warning(
            "images of more than %d pixels are segmented by windows of %dx%d (see max_pixels and large_images)",
            *(self.max_pixels, side, side),
        )
        return Sliding(self.artifact, self.backend.graph, self.masks.scores, (side, side), None)

    def goes_once(self, pixels: NDArray[Any]) -> bool:
        """Whether an image goes through the network once and in one piece, so that several can go together."""
        return len(self._views) == 1 and self.windows_for(pixels) is None

    def segment(self, pixels: NDArray[Any], with_confidence: bool) -> Mask:
        """Mask and confidence of an image, None where that is not asked for."""
        windows = self.windows_for(pixels)
        if windows is None and len(self._views) == 1:
            batch, undo = self.preprocess(pixels)
            return self.finish(self.forward(batch, self.needs_logits(undo))[0], undo, with_confidence)
        if windows is not None and self._views == [View()]:
            strips = windows.outputs(pixels, self._of_windows, self.batch_size)
            masks = self.masks
            return masks.joined(masks.decide(strip, with_confidence, masks.logits) for strip in strips)
        return self.masks.of_logits(list(self._pieces(pixels, windows)), with_confidence)

    def finish(self, output: NDArray[Any], undo: Sequence[Undo], with_confidence: bool) -> Mask:
        """The network's output for one image -> mask and confidence at the image's own size."""
        return self.masks.finish(output, undo, with_confidence)

    def _pieces(self, pixels: NDArray[Any], windows: Sliding | None) -> Iterator[Piece]:
        """The logits of each view with their way back."""
        batch, undo = self.artifact.preprocess(pixels)
        for view in self._views:
            if windows is not None:
                seen, back = view.of(batch)
                yield piece(windows.scores(seen, self._of_windows, self.batch_size), [*undo, *back])
            else:
                seen, steps = self._seen(batch, undo, view)
                yield piece(self.forward(seen, self.masks.logits)[0], steps)

    def _of_windows(self, batch: NDArray[Any]) -> Iterable[NDArray[Any]]:
        """The output of each window, at its size."""
        if not self.masks.logits:
            return self.forward(batch)
        undo = [Undo("resize", (batch.shape[2], batch.shape[3]))]
        return [upsampled(logits, undo) for logits in self.forward(batch, True)]
