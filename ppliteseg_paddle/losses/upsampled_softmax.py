"""Upsampling, softmax and cross entropy in one pass over blocks of rows, with the gradient, for the CPU.

Deep supervision compares small logits with labels of the image's size. Done operator by operator, each
output costs three full-size maps of all classes and as many walks through memory, most of a loss's time on
a CPU. Here a block of rows is upsampled, normalised, compared and turned into its share of the gradient
while it lies in the cache; no full-size map outlives its image.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import cv2
import numpy as np

from ppliteseg_paddle.environment import compute_threads

BLOCK_VALUES = 100_000  # of a block's logits: 400 kB, which a core's second-level cache holds
_scratch = threading.local()


@lru_cache(maxsize=32)
def upsampling_matrix(small: int, large: int) -> np.ndarray:
    """(large, small) float32: bilinear interpolation along one axis with half-pixel centres, as `F.interpolate`
    does."""
    at = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    left = np.floor(at).astype(np.int64)
    right = np.minimum(left + 1, small - 1)
    matrix = np.zeros((large, small), np.float32)
    np.add.at(matrix, (np.arange(large), left), 1 - (at - left))
    np.add.at(matrix, (np.arange(large), right), at - left)
    return matrix


def pixel_losses(
    logits: np.ndarray,
    label: np.ndarray,
    counted: np.ndarray,
    factor: np.ndarray | None = None,
    above: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Cross entropy of every pixel between upsampled logits and labels.

    Args:
        logits: float32 (N, C, h, w), at most the label's size.
        label: integers (N, H, W), each in [0, C) where `counted` is true.
        counted: bool (N, H, W); the other pixels get a loss of 0.
        factor: float32 (N, H, W), 0 where a pixel does not count: asks for the gradient of the sum of
            losses times factor.
        above: losses that are not above it get no gradient.
    Returns: losses float32 (N, H, W), and None or the gradient for `logits`, float32 (N, C, h, W): its last axis is
        still to be multiplied with `upsampling_matrix(w, W)`, which is one large product for the whole batch.
    """
    count, channels, small_height = logits.shape[:3]
    height, width = label.shape[1:]
    losses = np.empty(label.shape, np.float32)
    gradient = None if factor is None else np.zeros((count, channels, small_height, width), np.float32)

    def one(n):
        _one_image(
            logits[n],
            label[n],
            counted[n],
            losses[n],
            None if factor is None else factor[n],
            None if gradient is None else gradient[n],
            above,
        )

    threads = min(compute_threads(), count)
    if threads > 1:
        list(_pool(threads).map(one, range(count)))
    else:
        for n in range(count):
            one(n)
    return losses, gradient


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="pixel_losses")


def _one_image(logits, label, counted, losses, factor, gradient, above) -> None:
    """Fill `losses`, and `gradient` if wanted, of one image."""
    channels, small_height = logits.shape[:2]
    height, width = label.shape
    upsampled = _upsample(logits, height, width)
    flat = upsampled.reshape(-1)
    # Where the logit of each pixel's class lies in `flat`.
    own = np.where(counted, label, 0).astype(np.int64)
    own *= height * width
    own += np.arange(height * width).reshape(height, width)
    rows = max(1, BLOCK_VALUES // (channels * width))
    transposed = upsampling_matrix(small_height, height).T
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        block, own_block = upsampled[:, part], own[part]
        largest = block.max(axis=0)
        own_logit = flat.take(own_block)
        np.subtract(block, largest, out=block)
        np.exp(block, out=block)
        total = block.sum(axis=0)
        loss = np.log(total)
        loss += largest
        loss -= own_logit
        np.multiply(loss, counted[part], out=losses[part])
        if gradient is None:
            continue
        here = factor[part] if above is None else factor[part] * (losses[part] > above)
        # d loss / d logit is the probability, less 1 for the pixel's own class.
        np.multiply(block, here / total, out=block)
        flat[own_block] = np.expm1(-loss) * here
        used = np.flatnonzero(transposed[:, part].any(axis=1))
        band = slice(used[0], used[-1] + 1)
        gradient[:, band] += np.matmul(transposed[band, part], block)


def _upsample(logits, height: int, width: int) -> np.ndarray:
    """(C, h, w) -> (C, height, width), in memory that this thread uses again for its next image."""
    shape = (len(logits), height, width)
    values = getattr(_scratch, "values", None)
    if values is None or values.shape != shape:
        values = _scratch.values = np.empty(shape, np.float32)
    if logits.shape == shape:
        values[:] = logits
    else:
        for channel, upsampled in zip(logits, values):
            cv2.resize(channel, (width, height), dst=upsampled, interpolation=cv2.INTER_LINEAR)
    return values
