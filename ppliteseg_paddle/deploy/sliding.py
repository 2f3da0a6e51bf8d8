"""An image through the network by a sliding window.

Where the network takes any size, windows are cut from its input, as PaddleSeg does it. Where its size is fixed, they
have that size and are cut from the image itself: sliding avoids resizing the whole image to one window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.preprocess import Preprocess, restore
from ppliteseg_paddle.deploy.upsampling import Undo
from ppliteseg_paddle.deploy.windows import Box, Windows, averaged, stitched
from ppliteseg_paddle.errors import ConfigError

Forward = Callable[[NDArray[Any]], Iterable[NDArray[Any]]]  # a batch to an output each
_LARGEST_SIDE = 2048


def window_within(pixels: int) -> int:
    """The side of the largest square window of so many pixels: a multiple of 32 where it has that many, up to 2048."""
    side = min(_LARGEST_SIDE, math.isqrt(pixels))
    return side // 32 * 32 or max(1, side)


class Sliding:
    """How an artifact's graph is run over windows.

    Args: graph: which of its graphs; scores: whether scores come of a window, not class ids; crop_size, stride: (width,
        height) in pixels, as `Predictor` has them.
    Attributes: `windows`; `joined`, how their results become one: "averaged" scores, or class ids "stitched".
    Raises: ConfigError: for a window that is missing, or not the network's size where that is fixed.
    """

    def __init__(
        self,
        artifact: Artifact,
        graph: str,
        scores: bool,
        crop_size: Sequence[int] | None,
        stride: Sequence[int] | None,
    ):
        self._in_graph = graph in artifact.in_graph
        fixed = None
        if not self._in_graph and not artifact.input.dynamic:
            fixed = (artifact.input.size_of("W"), artifact.input.size_of("H"))
        size = crop_size or fixed
        if size is None:
            raise ConfigError(
                "is_slide needs the window: give crop_size (width, height), and stride if not two thirds of it."
            )
        self.windows = Windows.checked(size, stride)
        if fixed is not None and self.windows.crop_size != fixed:
            raise ConfigError(
                "crop_size is {} {}, but the model was exported for inputs of {}x{} pixels; give crop_size {} {}, or "
                "export without --input_shape.".format(*self.windows.crop_size, *fixed, *fixed)
            )
        self._fixed = fixed
        self.joined = "averaged" if scores else "stitched"
        # Steps that change the size stay only where the network takes any size, and go over the whole image.
        self._whole = (
            artifact.preprocess if fixed is None and not self._in_graph and artifact.preprocess.resize_policy else None
        )
        normalise = [step for step in artifact.preprocess.to_transforms() if step["type"] == "Normalize"]
        self._each = Preprocess(normalise, channels=artifact.image_form.channels)

    def outputs(self, image: NDArray[Any], forward: Forward, batch_size: int = 1) -> Iterator[NDArray[Any]]:
        """Run an image through the network.

        Args: forward: runs a batch of windows, of which there are up to `batch_size`.
        Shape: image (H, W, 3) uint8 BGR; yields class ids (h, W) or scores (C, h, W) at the image's size, strip by
            strip from top to bottom.
        """
        canvas: NDArray[Any] = image
        prepare = self._prepared
        undo: list[Undo] = []
        if self._whole is not None:
            batch, undo = self._whole(image)
            canvas, prepare = batch[0].transpose(1, 2, 0), _planes
        rows = self.windows.rows(*canvas.shape[:2])
        results = self._results(canvas, [box for row in rows for box in row], forward, batch_size, prepare)
        if self.joined == "stitched":
            yield restore(stitched(rows, results), undo)
        elif undo:
            yield restore(np.concatenate(list(averaged(rows, results)), axis=1), undo)
        else:
            yield from averaged(rows, results)

    def scores(self, batch: NDArray[Any], forward: Forward, batch_size: int = 1) -> NDArray[Any]:
        """The averaged scores of a network's input, (1, C, H, W), whatever its size. Shape: returns (classes, H, W)."""
        canvas = batch[0].transpose(1, 2, 0)
        rows = self.windows.rows(*canvas.shape[:2])
        results = self._results(canvas, [box for row in rows for box in row], forward, batch_size, _planes)
        return np.concatenate(list(averaged(rows, results)), axis=1)

    def _results(
        self,
        canvas: NDArray[Any],
        boxes: Sequence[Box],
        forward: Forward,
        batch_size: int,
        prepare: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> Iterator[NDArray[Any]]:
        """The output of each window, in order. All are of one size."""
        for start in range(0, len(boxes), batch_size):
            some = boxes[start : start + batch_size]
            outputs = forward(np.concatenate([prepare(self._cut(canvas, box)) for box in some]))
            for box, output in zip(some, outputs):
                yield output[..., : box.bottom - box.top, : box.right - box.left]

    def _cut(self, canvas: NDArray[Any], box: Box) -> NDArray[Any]:
        piece = canvas[box.top : box.bottom, box.left : box.right]
        if self._fixed is not None:  # an image smaller than the window: its last row and column are repeated
            width, height = self._fixed
            margins = [(0, height - piece.shape[0]), (0, width - piece.shape[1]), (0, 0)]
            piece = np.pad(piece, margins[: piece.ndim], mode="edge")
        return piece

    def _prepared(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A window of the image as the graph takes it."""
        pixels = np.ascontiguousarray(pixels)
        return pixels[np.newaxis] if self._in_graph else self._each(pixels)[0]


def _planes(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[np.newaxis]
