"""Logits of the network on their way to the image's size, and to classes, without a full-size map of them.

Resizing, cropping and flipping work along each axis by itself, so that a whole way back (of a map of logits to the
network's input, from there to the image) is one sum over a few cells for each row and each column: `Axis`. A pixel
whose cells all have the same best class is of that class, as the weights are not negative and sum to one; scores are
computed for the other pixels only, in tiles.

Source: the way back is that of PaddleSeg's `core/infer.py` (bilinear, `align_corners=False`), coordinates rounded as
Paddle's `interpolate` rounds them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TILE = (16, 64)  # pixels of a tile, rows and columns: its scores lie in a core's second-level cache
_STRIP_VALUES = 4_000_000  # scores that are held at once where all are wanted: 16 MB


class Undo(NamedTuple):
    """How one step is taken back: `kind` is "resize", "padding" or "flip"; `size` the (H, W) before it, or for a flip
    whether it is (vertical, horizontal)."""

    kind: str
    size: tuple[int, int]


class Axis(NamedTuple):
    """Each pixel along one axis as a weighted sum of neighboring cells.

    `first` (n,): each pixel's first cell; `weights` (n, k) float32: of it and the next ones, which may lie beyond the
    last cell where they are 0; `cells`: their number.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.float64]
    cells: int

    @classmethod
    def of(cls, cells: int) -> Axis:
        """The cells themselves."""
        return cls(np.arange(cells), np.ones((cells, 1)), cells)

    def resized(self, size: int) -> Axis:
        """Resized bilinearly to `size` pixels."""
        before = len(self.first)
        if size == before:
            return self
        # In float32, as Paddle computes coordinates.
        half = np.float32(0.5)
        at = np.maximum(np.float32(before) / np.float32(size) * (np.arange(size, dtype=np.float32) + half) - half, 0)
        low = np.minimum(at.astype(np.int64), before - 1)
        high = np.minimum(low + 1, before - 1)
        part = (at - low)[:, np.newaxis]
        first = np.minimum(self.first[low], self.first[high])
        count = self.weights.shape[1]
        weights = np.zeros((size, count + int(np.abs(self.first[low] - self.first[high]).max())))
        for source, share in ((low, 1 - part), (high, part)):
            at_cells = (self.first[source] - first)[:, np.newaxis] + np.arange(count)
            np.add.at(weights, (np.arange(size)[:, np.newaxis], at_cells), share * self.weights[source])
        used = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
        return Axis(first, weights[:, :used], self.cells)

    def cropped(self, size: int) -> Axis:
        """The first `size` pixels."""
        return Axis(self.first[:size], self.weights[:size], self.cells)

    def flipped(self) -> Axis:
        """The last pixel first."""
        return Axis(self.first[::-1], self.weights[::-1], self.cells)

    def matrix(self, start: int, stop: int) -> tuple[slice, NDArray[np.float32]]:
        """The cells that the pixels from `start` to `stop` are made of, and their weights (pixels, cells)."""
        first, weights = self.first[start:stop], self.weights[start:stop]
        count = weights.shape[1]
        low = int(first.min())
        width = int(first.max()) + count - low
        matrix = np.zeros((len(first), width), np.float32)
        np.put_along_axis(matrix, (first - low)[:, np.newaxis] + np.arange(count), weights.astype(np.float32), axis=1)
        high = min(low + width, self.cells)
        return slice(low, high), np.ascontiguousarray(matrix[:, : high - low])


class Piece(NamedTuple):
    """Scores (C, h, w) and how each pixel of the image is made of them, along rows and columns."""

    scores: NDArray[Any]
    rows: Axis
    columns: Axis


def piece(scores: NDArray[Any], undo: Sequence[Undo]) -> Piece:
    """Scores and their way back.

    Args: undo: what was done to the image, in order: it is taken back from the last step to the first.
    """
    return Piece(scores, *_axes(scores.shape[1:], tuple(undo)))


@functools.lru_cache(maxsize=64)
def _axes(cells: tuple[int, int], undo: tuple[Undo, ...]) -> tuple[Axis, Axis]:
    axes = [Axis.of(cells[0]), Axis.of(cells[1])]
    for kind, size in reversed(undo):
        for i, side in enumerate(size):
            if kind == "resize":
                axes[i] = axes[i].resized(side)
            elif kind == "padding":
                axes[i] = axes[i].cropped(side)
            elif side:
                axes[i] = axes[i].flipped()
    return axes[0], axes[1]


def classes(one: Piece, dtype: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """The best class of each pixel, the first one of equals.

    Shape: returns (H, W) of `dtype`.
    """
    best = one.scores.argmax(axis=0).astype(dtype)
    cells = np.ascontiguousarray(one.scores.transpose(1, 2, 0), np.float32)
    height, width = len(one.rows.first), len(one.columns.first)
    ids: NDArray[Any] = np.empty((height, width), dtype)
    across = [(left, *one.columns.matrix(left, left + _TILE[1])) for left in range(0, width, _TILE[1])]
    for top in range(0, height, _TILE[0]):
        band, weights = one.rows.matrix(top, top + _TILE[0])
        mixed = None
        for left, columns, column_weights in across:
            tile = ids[top : top + _TILE[0], left : left + _TILE[1]]
            around = best[band, columns]
            if (around == around[0, 0]).all():
                tile[:] = around[0, 0]
                continue
            if mixed is None:
                mixed = (weights @ cells[band].reshape(weights.shape[1], -1)).reshape(len(weights), *cells.shape[1:])
            tile[:] = np.matmul(column_weights, mixed[:, columns]).argmax(axis=-1)
    return ids


def strips(pieces: Sequence[Piece]) -> Iterator[NDArray[np.float32]]:
    """The mean of the pieces' scores at the image's size.

    Shape: yields (C, rows of pixels, W), from top to bottom.
    """
    channels = len(pieces[0].scores)
    height, width = len(pieces[0].rows.first), len(pieces[0].columns.first)
    count = max(1, _STRIP_VALUES // (channels * width))
    for top in range(0, height, count):
        total: NDArray[np.float32] = np.zeros((channels, min(count, height - top), width), np.float32)
        for one in pieces:
            band, weights = one.rows.matrix(top, top + count)
            mixed = np.matmul(weights, np.asarray(one.scores[:, band], np.float32))
            for left in range(0, width, _TILE[1]):
                columns, column_weights = one.columns.matrix(left, left + _TILE[1])
                total[:, :, left : left + _TILE[1]] += np.matmul(mixed[:, :, columns], column_weights.T)
        yield total / len(pieces) if len(pieces) > 1 else total


def upsampled(scores: NDArray[Any], undo: Sequence[Undo]) -> NDArray[np.float32]:
    """All of `strips` of one piece. Shape: scores (C, h, w); returns (C, H, W)."""
    return np.concatenate(list(strips([piece(scores, undo)])), axis=1)
