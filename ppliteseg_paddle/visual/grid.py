"""A figure to show: images, ground truth, predictions and errors side by side, with headings and a legend."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.visual.draw import RGB, VOID_COLOR, VOID_STRIPE, colorize, stripe_pattern
from ppliteseg_paddle.visual.error_map import IGNORED, WRONG
from ppliteseg_paddle.visual.text import font_for, shortened, text_width

_PAPER, _INK, _GRAY, _LINE = (255, 255, 255), (28, 30, 36), (112, 118, 128), (222, 225, 230)
_MARGIN, _GAP, _RADIUS = 36, 14, 8  # pixels
_TITLE, _SUBTITLE, _HEADING, _CAPTION, _LEGEND = 34, 19, 21, 16, 18  # font sizes in pixels
_ALL_CLASSES = 32  # up to which the legend names all classes, not only those that occur
_SMOOTH = 4  # round corners are drawn this many times larger and reduced


class Row(NamedTuple):
    """One row of a grid: `image` BGR, masks of the same size, `truth` None where it is not known; `errors` BGR, as
    `draw_errors` makes it."""

    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray
    caption: str = ""
    errors: np.ndarray | None = None


def grid(
    rows: Sequence[Row],
    label_set,
    title: str = "",
    subtitle: str = "",
    headings: tuple[str, str, str] = ("Image", "Ground truth", "Prediction"),
    cell_width: int = 480,
    errors: tuple[str, str] = ("Errors", "wrong"),
) -> np.ndarray:
    """Draw rows of image, truth, prediction and errors; without the columns that no row has.

    Args:
        label_set: class names and colors.
        title, subtitle: one line each above the table; empty for none.
        cell_width: pixels.
        errors: the heading of the last column, and what the legend calls its red pixels.
    Shape: returns (H, W, 3) uint8, BGR.
    Raises: DataError: if there are no rows.
    """
    if not rows:
        raise DataError("a grid needs at least one image.")
    rows = [Row(*row) for row in rows]
    with_truth, with_errors = (any(getattr(row, part) is not None for row in rows) for part in ("truth", "errors"))
    columns = [heading for heading in headings if with_truth or heading != headings[1]] + [errors[0]] * with_errors
    left = _MARGIN
    width = 2 * left + len(columns) * cell_width + (len(columns) - 1) * _GAP
    heights = [max(1, round(cell_width * row.image.shape[0] / row.image.shape[1])) for row in rows]
    legend = _legend_layout(_legend_entries(rows, label_set, errors[1]), width - 2 * left)
    title_height = _TITLE + (16 if subtitle else 30)
    head = _MARGIN + (title_height if title else 0) + (_SUBTITLE + 30 if subtitle else 0)
    body = _HEADING + 14 + sum(heights) + _GAP * (len(rows) - 1) + sum(_CAPTION + 10 for row in rows if row.caption)
    canvas = _Canvas(width, head + body + 26 + legend.height + _MARGIN)

    y = _MARGIN
    if title:
        canvas.text((left, y), title, _TITLE, _INK)
        y += title_height
    if subtitle:
        canvas.text((left, y), subtitle, _SUBTITLE, _GRAY)
        y += _SUBTITLE + 30
    for i, heading in enumerate(columns):
        canvas.text((left + i * (cell_width + _GAP), y), heading, _HEADING, _INK)
    y += _HEADING + 14
    for row, height in zip(rows, heights):
        cells = [_fit(row.image, cell_width, height)]
        if with_truth:
            cells.append(_mask_cell(row.truth, label_set, cell_width, height))
        cells.append(_mask_cell(row.prediction, label_set, cell_width, height))
        if with_errors:
            cells.append(_blank(cell_width, height) if row.errors is None else _fit(row.errors, cell_width, height))
        for i, cell in enumerate(cells):
            canvas.paste((left + i * (cell_width + _GAP), y), cell)
        y += height
        if row.caption:
            canvas.text((left, y + 4), shortened(row.caption, _CAPTION, width - 2 * left), _CAPTION, _GRAY)
            y += _CAPTION + 10
        y += _GAP
    y += 26 - _GAP
    canvas.line((left, y), (width - left, y))
    _draw_legend(canvas, legend, left, y + 22)
    return canvas.bgr()


# --------------------------------------------------------------------------------------------
# Cells
# --------------------------------------------------------------------------------------------
def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    shrinks = image.shape[1] >= width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _mask_cell(mask: np.ndarray | None, label_set, width: int, height: int) -> np.ndarray:
    """A colored mask with smooth borders: enlarged by whole pixels first, then averaged down. No mask gives a blank."""
    if mask is None:
        return _blank(width, height)
    factor = max(1, math.ceil(2 * width / mask.shape[1]))
    if mask.ndim == 3:  # planes, colors of which mix
        large = cv2.resize(
            colorize(mask, label_set.palette), None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST
        )
        return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    large = cv2.resize(mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    cell = cv2.resize(colorize(large, label_set.palette, stripes=False), (width, height), interpolation=cv2.INTER_AREA)
    void = (large >= label_set.num_classes).astype(np.float32)
    # Stripes are drawn at the figure's scale, so that they look alike in all cells and in the legend.
    void = cv2.resize(void, (width, height), interpolation=cv2.INTER_AREA) > 0.5
    cell[void & stripe_pattern(height, width)] = VOID_STRIPE[::-1]
    return cell


def _blank(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 246, np.uint8)


# --------------------------------------------------------------------------------------------
# Legend
# --------------------------------------------------------------------------------------------
class _Legend(NamedTuple):
    entries: list[tuple[str, RGB | None]]
    columns: int
    column_width: int
    height: int


_SWATCH, _LEGEND_ROW = (30, 20), 34


def _legend_entries(rows: Sequence[Row], label_set, wrong: str) -> list[tuple[str, RGB | None]]:
    """Names and colors; None is the stripes of pixels without a class."""
    masks = [mask for row in rows for mask in (row.truth, row.prediction) if mask is not None]
    shown: Iterable[int] = range(label_set.num_classes)
    if label_set.num_classes > _ALL_CLASSES:
        occurring = {number for mask in masks for number in _classes_in(mask) if number < label_set.num_classes}
        shown = sorted(occurring) or shown
    entries: list[tuple[str, RGB | None]] = [
        (label_set.classes[number].replace("_", " "), label_set.palette[number]) for number in shown
    ]
    if any(mask.ndim == 2 and bool((mask >= label_set.num_classes).any()) for mask in masks):
        entries.append(("unlabelled", None))
    maps = [row.errors for row in rows if row.errors is not None]
    if maps:
        entries.append((wrong, WRONG))
    if any((errors == IGNORED[::-1]).all(axis=-1).any() for errors in maps):
        entries.append(("ignored", IGNORED))
    return entries


def _classes_in(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask.any(axis=(0, 1))).tolist() if mask.ndim == 3 else np.unique(mask).tolist()


def _legend_layout(entries: list[tuple[str, RGB | None]], width: int) -> _Legend:
    room = width - _SWATCH[0] - 38
    entries = [(shortened(name, _LEGEND, room), color) for name, color in entries]
    widest = max(text_width(name, _LEGEND) for name, _ in entries)
    columns = max(1, min(len(entries), width // (int(widest) + _SWATCH[0] + 38)))
    rows = math.ceil(len(entries) / columns)
    columns = math.ceil(len(entries) / rows)  # even rows rather than a short last one
    return _Legend(entries, columns, width // columns, rows * _LEGEND_ROW)


def _draw_legend(canvas: _Canvas, legend: _Legend, left: int, top: int) -> None:
    for i, (name, color) in enumerate(legend.entries):
        x, y = left + (i % legend.columns) * legend.column_width, top + (i // legend.columns) * _LEGEND_ROW
        swatch = np.empty((_SWATCH[1], _SWATCH[0], 3), np.uint8)
        swatch[:] = (color or VOID_COLOR)[::-1]
        if color is None:
            swatch[stripe_pattern(*swatch.shape[:2])] = VOID_STRIPE[::-1]
        canvas.paste((x, y), swatch, radius=4)
        canvas.text((x + _SWATCH[0] + 10, y + _SWATCH[1] // 2), name, _LEGEND, _INK, anchor="lm")


# --------------------------------------------------------------------------------------------
# Canvas
# --------------------------------------------------------------------------------------------
class _Canvas:
    """A white page to draw on, in RGB."""

    def __init__(self, width: int, height: int):
        from PIL import Image, ImageDraw

        self._page = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self._page)

    def text(self, position: tuple[int, int], text: str, size: int, color, anchor: str = "la") -> None:
        font, drawn = font_for(text, size)
        self._draw.text(position, drawn, font=font, fill=color, anchor=anchor)

    def line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        self._draw.line([start, end], fill=_LINE, width=1)

    def paste(self, position: tuple[int, int], image: np.ndarray, radius: int = _RADIUS) -> None:
        """A BGR image with round corners."""
        from PIL import Image

        self._page.paste(
            Image.fromarray(np.ascontiguousarray(image[:, :, ::-1])),
            position,
            _rounded(image.shape[1], image.shape[0], radius),
        )

    def bgr(self) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(self._page)[:, :, ::-1])


@functools.lru_cache(maxsize=8)
def _rounded(width: int, height: int, radius: int):
    from PIL import Image, ImageDraw

    large = Image.new("L", (width * _SMOOTH, height * _SMOOTH), 0)
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, width * _SMOOTH - 1, height * _SMOOTH - 1), radius * _SMOOTH, fill=255
    )
    return large.resize((width, height), Image.Resampling.BOX)
