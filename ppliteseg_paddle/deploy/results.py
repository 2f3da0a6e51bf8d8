"""What is written of predictions: masks, overlays, colors, confidences, of images or as videos.

mask        the class ids: a palette PNG up to 8 bits, a gray one of 16 bits beyond; of a video one PNG a frame
overlay     the classes' colors over the image
color       the classes' colors alone
confidence  0 (none) to 255 (certain): a palette PNG; of a video its colors
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any, Callable

from numpy.typing import NDArray

from ppliteseg_paddle.deploy.predictor import Prediction
from ppliteseg_paddle.deploy.video import VideoWriter
from ppliteseg_paddle.visual.draw import RGB, colorize, draw_confidence, overlay
from ppliteseg_paddle.visual.png import write_confidence, write_image, write_mask

_Palette = Sequence[RGB]

# kind -> its image, (H, W, 3) uint8 BGR
PICTURES: dict[str, Callable[[Prediction, _Palette], NDArray[Any]]] = {
    "overlay": lambda found, palette: overlay(found.image, found.mask, palette),
    "color": lambda found, palette: colorize(found.mask, palette),
    "confidence": lambda found, palette: draw_confidence(found.confidence),
}


def write_images(save_dir: str, name: str, found: Prediction, kinds: Sequence[str], palette: _Palette) -> None:
    """Write SAVE_DIR/KIND/NAME.png for each kind.

    Raises: DataError: if a file cannot be written; none is left half-written.
    """
    for kind in kinds:
        path = os.path.join(save_dir, kind, name + ".png")
        if kind == "mask":
            write_mask(path, found.mask, palette)
        elif kind == "confidence":
            write_confidence(path, found.confidence)
        else:
            write_image(path, PICTURES[kind](found, palette))


class VideoResults:
    """The results of a video: SAVE_DIR/KIND/NAME.EXT for each kind, and SAVE_DIR/mask/NAME/000000.png and on.

    The videos appear when they are complete: on leaving the `with` block without an error.

    Args: extension: of the videos, a key of `video.CODECS`; fps: frames a second.
    Attributes: `frames`, how many were written; `paths`, where each kind is.
    """

    def __init__(self, save_dir: str, name: str, extension: str, fps: float, kinds: Sequence[str], palette: _Palette):
        self._kinds, self._palette = tuple(kinds), palette
        self._masks = os.path.join(save_dir, "mask", name) if "mask" in kinds else None
        self._writers = {
            kind: VideoWriter(os.path.join(save_dir, kind, name + extension), fps) for kind in kinds if kind != "mask"
        }
        self._stack = contextlib.ExitStack()
        self.frames = 0

    def draw(self, found: Prediction) -> tuple[Prediction, dict[str, NDArray[Any]]]:
        """The pictures of a frame. May run in another thread than `write`."""
        return found, {kind: PICTURES[kind](found, self._palette) for kind in self._writers}

    def write(self, found: Prediction, pictures: dict[str, NDArray[Any]], times: int = 1) -> None:
        """Add a frame, `times` times to the videos."""
        for kind, picture in pictures.items():
            for _ in range(times):
                self._writers[kind].write(picture)
        if self._masks is not None:
            write_mask(os.path.join(self._masks, f"{self.frames:06d}.png"), found.mask, self._palette)
        self.frames += 1

    @property
    def paths(self) -> dict[str, str]:
        return {kind: self._masks or "" if kind == "mask" else self._writers[kind].path for kind in self._kinds}

    def __enter__(self) -> VideoResults:
        for writer in self._writers.values():
            self._stack.enter_context(writer)
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self._stack.__exit__(*exception)
