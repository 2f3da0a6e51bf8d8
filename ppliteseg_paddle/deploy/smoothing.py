"""Masks of a video that flicker less: what leaves the network is blended with what the frames before have left.

The past first follows the picture's motion (dense optical flow between small gray images). Then

    share = smooth * (1 - disagreement),    blend = (1 - share) * now + share * past,

cell by cell, in logits or probabilities at the network's own size, before the way back to the image's. Disagreement is
the largest difference of a class's probability: what the frames agree on is averaged, what has changed is taken from
the new frame. Class ids cannot be averaged: there the frames vote, each earlier one with `smooth` times the weight of
the next. A cut, where disagreement is large on average, starts anew.

Source of the flow: OpenCV's DISOpticalFlow (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016).
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.smooth_option import check_smooth
from ppliteseg_paddle.errors import ConfigError

# Mean disagreement, 0 to 1, from which two frames have nothing in common. Measured by `benchmark.studies.smoothing` on
# 192 generated films, logits and class ids: 0.01 to 0.24 within films (2880 pairs), 0.36 to 0.80 at cuts (160).
CUT = 0.35
_FLOW_SIDE = 256  # pixels: longer side of the gray images
_MIN_SIDE = 16  # pixels: a smaller image has no flow
_CHANNELS = 512  # OpenCV moves no more at once


class Smoother:
    """The blend over time of one video: give it each frame's output, in order.

    Args: smooth: the largest share of the past, 0 to below 1.
    Attributes: `cuts`: how often it has started anew; `disagreement`: of the last frame with the one before, 0 to 1,
        None where there was none of its size.
    """

    def __init__(self, smooth: float):
        check_smooth(smooth)
        self._smooth, self._motion = smooth, _Motion()
        self._past: Any = None  # the frame before, as it was shown
        self._form: tuple[Any, ...] = ()
        self.cuts = 0
        self.disagreement: float | None = None

    def scores(self, now: NDArray[Any], gray: NDArray[Any], activation: str) -> NDArray[Any]:
        """Blend a frame's scores.

        Args: gray: the frame, from `small_gray`; activation: a key of `ACTIVATIONS`: how scores become probabilities.
        Shape: (C, h, w) of any size that covers the frame; returns the same, float32.
        """
        cells = np.ascontiguousarray(now.transpose(1, 2, 0), np.float32)
        return self._next(_Scores(cells, activation), gray).transpose(2, 0, 1)

    def ids(self, now: NDArray[Any], gray: NDArray[Any]) -> NDArray[Any]:
        """Let a frame's class ids vote. Shape: (h, w) uint8 or uint16; returns the same.

        Raises: ConfigError: for planes (h, w, classes).
        """
        if now.ndim != 2:
            raise ConfigError(
                "smooth needs the scores of a model that decides each class by itself (use_multilabel), and windows or "
                "several views (test_config) leave decided classes only: leave smooth out, or is_slide and test_config."
            )
        return self._next(_Votes(now, self._smooth), gray)

    def _next(self, now: _Scores | _Votes, gray: NDArray[Any]) -> NDArray[Any]:
        past, form = self._past, (type(now), now.shown.shape, gray.shape)
        known = past is not None and form == self._form
        self.disagreement = now.disagreement(past, self._motion.to(gray)) if known else None
        if self.disagreement is None:
            self._motion.start(gray)
        elif self.disagreement > CUT:
            self.cuts += 1
            self._motion.start(gray)
        else:
            now.follow(self._smooth)
        self._past, self._form = now, form
        return now.shown


class _Motion:
    """Where the pixels of a small gray image were in the image before it."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def start(self, gray: NDArray[Any]) -> None:
        """The first image of a scene: its brightness is that of all."""
        self._middle, self._spread = float(gray.mean()), max(float(gray.std()), 1e-6)
        self._before = self._levels(gray)

    def to(self, gray: NDArray[Any]) -> NDArray[np.float32]:
        """Shape: gray (h, w); returns (h, w, 2), x and y in pixels."""
        before, self._before = self._before, self._levels(gray)
        if min(gray.shape) < _MIN_SIDE:
            return np.zeros((*gray.shape, 2), np.float32)
        flow: NDArray[np.float32] = self._flow.calc(self._before, before, None)
        return flow

    def _levels(self, gray: NDArray[Any]) -> NDArray[np.uint8]:
        """Three standard deviations either side fill the 256 levels."""
        levels = (gray - self._middle) * (42 / self._spread) + 128
        return np.clip(levels, 0, 255).astype(np.uint8)


class _Scores:
    """A frame's scores. Attributes: `shown` (h, w, C): first as they came, then with the past."""

    def __init__(self, shown: NDArray[np.float32], activation: str):
        self.shown, self._probabilities = shown, ACTIVATIONS[activation]
        self._moved = self._differing = shown

    def disagreement(self, past: Any, flow: NDArray[np.float32]) -> float:
        """The mean over all cells, 0 to 1."""
        self._moved = _moved(past.shown, _places(flow, self.shown), cv2.INTER_LINEAR)
        difference = np.abs(self._probabilities(self._moved) - self._probabilities(self.shown))
        self._differing = difference.max(axis=-1, keepdims=True)
        return float(self._differing.mean())

    def follow(self, smooth: float) -> None:
        self._moved -= self.shown
        self._moved *= np.float32(smooth) * (1 - self._differing)
        self.shown += self._moved


class _Votes:
    """A frame's class ids. Attributes: `shown` (h, w): first as they came, then what has most votes.

    One class is kept for each pixel, with its votes less those for others, in 255ths: Boyer and Moore's majority vote,
    that forgets.
    """

    def __init__(self, shown: NDArray[Any], smooth: float):
        self.shown, self._tables = shown, _vote_tables(smooth)
        self._lead: NDArray[np.uint8] = np.full(shown.shape, round(255 * (1 - smooth)), np.uint8)

    def disagreement(self, past: Any, flow: NDArray[np.float32]) -> float:
        """The share of pixels that differ."""
        places = _places(flow, self.shown)
        self._ids, self._votes = (_moved(values, places, cv2.INTER_NEAREST) for values in (past.shown, past._lead))
        self._same = self._ids == self.shown
        return 1.0 - np.count_nonzero(self._same) / self.shown.size

    def follow(self, smooth: float) -> None:
        agreed, contested, kept = (cv2.LUT(self._votes, table) for table in self._tables)
        self.shown = np.where(kept.view(bool), self._ids, self.shown)  # where they agree both are the same
        self._lead = np.where(self._same, agreed, contested)


@functools.lru_cache(maxsize=8)
def _vote_tables(smooth: float) -> tuple[NDArray[np.uint8], ...]:
    """Of each lead before: the lead after a vote for the class, that after one against it, whether it then stays."""
    votes = np.arange(256) / 255 * smooth
    against = votes - (1 - smooth)
    leads = ((values * 255).round().astype(np.uint8) for values in (votes + (1 - smooth), np.abs(against)))
    return (*leads, (against >= 0).astype(np.uint8))


def small_gray(pixels: NDArray[Any], channels_first: bool) -> NDArray[np.float32]:
    """A frame, or the network's input of it, as a small gray image, for its motion.

    Shape: (H, W), (H, W, C) or (C, H, W); returns (h, w), the longer side at most 256 pixels.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    rows, columns = (1, 2) if channels_first else (0, 1)
    height, width = pixels.shape[rows], pixels.shape[columns]
    # Every so many pixels, then the mean of those: the mean of all takes four times as long of (512, 1024, 3) bytes, 13
    # to 16 times of (1024, 2048, 3) (one thread of a Zen 4, OpenCV 4.5.5 and 5.0.0).
    step = max(1, max(height, width) // (2 * _FLOW_SIDE))
    thin = pixels[:, ::step, ::step] if channels_first else pixels[::step, ::step]
    gray = thin.mean(axis=0 if channels_first else 2, dtype=np.float32)
    scale = min(1.0, _FLOW_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: NDArray[np.float32] = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return small


def _places(flow: NDArray[np.float32], values: NDArray[Any]) -> NDArray[np.float32]:
    """Where in the frame before each of some values (h, w, ...) was. Shape: (h, w, 2), x and y."""
    height, width = values.shape[:2]
    shrinks = height * width < flow.shape[0] * flow.shape[1]
    places: NDArray[np.float32] = cv2.resize(
        flow, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    places *= np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    places += _grid(height, width)
    return places


def _moved(values: NDArray[Any], places: NDArray[Any], interpolation: int) -> NDArray[Any]:
    """Values (h, w) or (h, w, C) at those places; beyond the frame it is the border's."""

    def moved(part: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = cv2.remap(part, places, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
        return found.reshape(part.shape)

    if values.ndim == 2 or values.shape[2] <= _CHANNELS:
        return moved(values)
    starts = range(0, values.shape[2], _CHANNELS)
    return np.concatenate([moved(np.ascontiguousarray(values[..., at : at + _CHANNELS])) for at in starts], axis=2)


@functools.lru_cache(maxsize=4)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Each pixel's own place. Shape: (h, w, 2), x and y."""
    rows, columns = np.mgrid[:height, :width]
    grid: NDArray[np.float32] = np.stack([columns, rows], axis=-1).astype(np.float32)
    return grid


def _softmax(scores: NDArray[Any]) -> NDArray[Any]:
    powers: NDArray[Any] = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def _sigmoid(scores: NDArray[Any]) -> NDArray[Any]:
    halves: NDArray[Any] = np.tanh(scores / 2)  # of its two forms the one that does not overflow
    return np.float32(0.5) * (1 + halves)


# How scores (..., C) become probabilities; "none": they are.
ACTIVATIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "none": lambda scores: scores,
}
