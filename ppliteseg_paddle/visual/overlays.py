"""Overlays as a person wants them: the background left as it is, and a legend below that names the colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.reading.palettes import OPACITY, OVERLAY_SCALE
from ppliteseg_paddle.visual.areas import class_areas
from ppliteseg_paddle.visual.draw import overlay
from ppliteseg_paddle.visual.text import font_for, shortened, text_width

NONE = "none"  # in place of classes: all are colored
_BACKGROUNDS = {"background", "_background_", "__background__", "bg"}
_PAPER, _INK, _LINE = (255, 255, 255), (28, 30, 36), (120, 124, 132)
_SMALLEST, _LARGEST, _FONT_SHARE = 11, 24, 0.026  # font size: of the picture's width, within these pixels
_MAX_SHARE = 0.5  # of the picture's height, that a legend may have


@dataclass(frozen=True)
class Overlays:
    """How overlays are drawn.

    Args:
        labels: names and colors of the classes.
        opacity: of the colors, 0 to 1.
        legend: whether a strip below the image names the colors.
        transparent: names of the classes that are left uncolored; None leaves the background so, see `background_of`.
        scale: of the sides, above 0, at most 1: the image is shrunk before the classes are drawn.
    Raises: ConfigError: for an opacity, a class or a scale that is not possible.
    """

    labels: LabelSet
    opacity: float = OPACITY
    legend: bool = True
    transparent: Sequence[str] | None = None
    scale: float = OVERLAY_SCALE

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"--opacity {self.opacity} is not allowed: give a number from 0 to 1.")
        if not 0 < self.scale <= 1:
            raise ConfigError(f"--overlay_scale {self.scale} is not allowed: give a number above 0, at most 1.")
        for name in self.transparent or ():
            if name not in self.labels.classes and self.transparent != [NONE]:
                raise ConfigError(f"--transparent {name}: no class has this name.{suggest(name, self.labels.classes)}")

    @cached_property
    def hidden(self) -> tuple[int, ...]:
        """Ids of the classes that are left uncolored."""
        if self.transparent is None:
            return background_of(self.labels)
        return tuple(self.labels.classes.index(name) for name in self.transparent if name in self.labels.classes)

    def hidden_in(self, mask: np.ndarray) -> tuple[int, ...]:
        """Ids of the classes that overlays of a mask leave uncolored, and `rle` and `geojson` omit. Planes have no
        background: pixels of none are bare anyway."""
        return () if mask.ndim == 3 and self.transparent is None else self.hidden

    def frame(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The overlay without a legend, as the frames of a video need it.

        Shape: image (H, W, 3) uint8, BGR; mask (H, W), or planes (H, W, classes); returns (H, W, 3) uint8, BGR, or
            `scale` times these sides.
        Raises: DataError: if image and mask differ in size.
        """
        return self._colored(*self._shrunk(image, mask))

    def _colored(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return overlay(image, mask, self.labels.palette, self.opacity, self.hidden_in(mask))

    def _shrunk(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask in the overlay's size."""
        before = image.shape[:2]
        height, width = (_shrunk_side(side, self.scale) for side in before)
        if (height, width) == before or mask.shape[:2] != before:  # `overlay` says what is wrong with the latter
            return image, mask
        rows, columns = ((np.arange(to) + 0.5) * side / to for side, to in zip(before, (height, width)))
        small = mask.take(rows.astype(np.intp), axis=0).take(columns.astype(np.intp), axis=1)
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), small

    def draw(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The overlay of an image, with a legend of the classes in its mask.

        Shape: image (H, W, 3) uint8, BGR; mask (H, W), or planes (H, W, classes); returns (H or more, W or more, 3)
            uint8, BGR, with `scale` times these sides.
        Raises: DataError: if image and mask differ in size.
        """
        image, mask = self._shrunk(image, mask)
        drawn = self._colored(image, mask)
        if not self.legend:
            return drawn
        counts = class_areas(mask, self.labels.num_classes)
        hidden = self.hidden_in(mask)
        found = [number for number in range(self.labels.num_classes) if counts[number] and number not in hidden]
        # The largest first: there may be too many for the legend.
        return self._with_legend(drawn, sorted(found, key=lambda number: -counts[number]))

    def _with_legend(self, picture: np.ndarray, ids: Sequence[int]) -> np.ndarray:
        height, width = picture.shape[:2]
        page = _layout([self.labels.classes[number].replace("_", " ") for number in ids], ids, width, height)
        if not page.cells:
            return picture
        strip = _draw(page, tuple(tuple(color) for color in self.labels.palette))
        whole = np.full((height + len(strip), max(width, page.width), 3), 255, np.uint8)
        whole[:height, :width] = picture
        whole[height:] = strip
        return whole


def _shrunk_side(side: int, scale: float) -> int:
    """Even sides stay even and odd ones odd: which codec a video can have goes by that."""
    return max(side - 2 * round(side * (1 - scale) / 2), 2 - side % 2)


def background_of(labels: LabelSet) -> tuple[int, ...]:
    """The class that overlays leave uncolored by default: the first one, if it is called background, or is the first of
    two that have numbers for names, as in masks of 0 and 1."""
    first = labels.classes[0].lower()
    return (0,) if first in _BACKGROUNDS or (labels.num_classes == 2 and first in ("class_0", "0")) else ()


# --------------------------------------------------------------------------------------------
# Legend
# --------------------------------------------------------------------------------------------
class _Page(NamedTuple):
    """A strip to draw: `cells` are (x, y, text, class id or None), in pixels from its upper left."""

    width: int
    height: int
    size: int
    cells: tuple[tuple[int, int, str, int | None], ...]


def _layout(names: Sequence[str], ids: Sequence[int], width: int, height: int) -> _Page:
    """Entries in columns of one width. Those that would make the strip higher than `_MAX_SHARE` of the picture are
    counted in a last entry."""
    if not names:
        return _Page(width, 0, 0, ())
    size = int(min(max(width * _FONT_SHARE, _SMALLEST), _LARGEST))
    swatch, row, margin = round(1.5 * size), round(1.75 * size), round(0.8 * size)
    room = max(width - 2 * margin, 8 * size)
    names = [shortened(name, size, room - swatch - margin) for name in names]
    step = int(max(text_width(name, size) for name in names)) + swatch + 2 * margin
    columns = max(1, min(len(names), (room + margin) // step))
    rows = -(-len(names) // columns)
    max_rows = max(1, int(_MAX_SHARE * height) // row)
    entries: list[tuple[str, int | None]] = list(zip(names, ids))
    if rows > max_rows:
        rows, kept = max_rows, max_rows * columns - 1
        entries = [*sorted(entries[:kept], key=lambda entry: entry[1] or 0), (f"+ {len(names) - kept:d}", None)]
    else:
        entries = sorted(entries, key=lambda entry: entry[1] or 0)
        columns = -(-len(entries) // rows)  # even rows, no short last one
    cells = tuple(
        (margin + (i % columns) * step, margin // 2 + (i // columns) * row, name, number)
        for i, (name, number) in enumerate(entries)
    )
    return _Page(max(width, 2 * margin + columns * step - margin), rows * row + margin, size, cells)


@lru_cache(maxsize=8)  # images of one folder often show the same classes
def _draw(page: _Page, palette: tuple[tuple[int, ...], ...]) -> np.ndarray:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (page.width, page.height), _PAPER)
    pen = ImageDraw.Draw(strip)
    height, swatch = round(1.75 * page.size), round(1.5 * page.size)
    for x, y, text, number in page.cells:
        left = x
        if number is not None:
            top = y + (height - page.size) // 2
            pen.rounded_rectangle(
                (x, top, x + swatch - 1, top + page.size - 1), page.size // 5, fill=palette[number], outline=_LINE
            )
            left += swatch + page.size // 2
        font, drawn = font_for(text, page.size)
        pen.text((left, y + height // 2), drawn, font=font, fill=_INK, anchor="lm")
    return np.asarray(strip)[:, :, ::-1]
