"""Cross entropy over pixels, plain and with online hard example mining (OHEM).

Both work on every supported Paddle, where PaddleSeg 2.8.0's own mix float32 with int64 and fail on Paddle 3.
"""
from __future__ import annotations

from typing import Optional, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppliteseg_paddle.errors import ConfigError

# Keeps the mean over no pixels at 0. PaddleSeg's losses use 1e-8 (plain) and 1e-5 (OHEM).
EPS_PLAIN, EPS_OHEM = 1e-8, 1e-5


def pixel_losses(logits, label, ignore_index: int):
    """Cross entropy of every pixel, 0 where the label is `ignore_index`.

    Shape: logits (N, C, H, W), label (N, H, W) or (N, 1, H, W) of integers; returns losses and the mask of
        pixels that count, both float32 (N, 1, H, W).
    """
    label = label.astype("int64")
    label = label.unsqueeze(1) if label.ndim == 3 else label
    losses = F.cross_entropy(logits, label, ignore_index=ignore_index, axis=1, reduction="none")
    return losses, (label != ignore_index).astype(losses.dtype)


class CELoss(nn.Layer):
    """Mean cross entropy over the pixels that are not ignored.

    Args:
        weight: one factor a class; the mean is then weighted by them.
        ignore_index: label of pixels that do not count.
    Shape: logits (N, C, H, W), label (N, H, W) or (N, 1, H, W); returns one number without dimensions.
    Raises: ConfigError: if there are not as many weights as classes.
    Source: PaddleSeg `models/losses/cross_entropy_loss.py` with its default `avg_non_ignore`.
    """

    def __init__(self, weight: Optional[Sequence[float]] = None, ignore_index: int = 255):
        super().__init__()
        self.ignore_index = ignore_index
        self.weight = None if weight is None else paddle.to_tensor(np.asarray(weight, np.float32))

    def forward(self, logits, label):
        losses, counts = pixel_losses(logits, label, self.ignore_index)
        if self.weight is not None:
            if self.weight.shape[0] != logits.shape[1]:
                raise ConfigError("CELoss has %d weights, but the logits have %d classes." % (self.weight.shape[0], logits.shape[1]))
            classes = paddle.where(counts > 0, label.astype("int64").reshape(counts.shape), paddle.zeros(counts.shape, "int64"))
            counts = counts * paddle.gather(self.weight, classes.flatten()).reshape(counts.shape)
        return (losses * counts).sum() / (counts.sum() + EPS_PLAIN * counts.size)


class OhemCELoss(nn.Layer):
    """Mean cross entropy over the hard pixels: those whose true class gets a probability below a threshold.

    The threshold is `thresh`, or as much more as it takes to keep `min_kept` pixels of a batch (`min_kept` - 1
    in fact, as in PaddleSeg: the pixel that sets the threshold is not below it). Where a batch has no more than
    `min_kept` pixels that count, all of them do. No pixel is sorted: the threshold has to be searched only if
    fewer than `min_kept` are below `thresh`, and then by partition.

    Args:
        thresh: probability from which a pixel is easy, in (0, 1).
        min_kept: pixels of a batch to keep at least.
        ignore_index: label of pixels that do not count.
    Shape: logits (N, C, H, W), label (N, H, W) or (N, 1, H, W); returns one number without dimensions.
    Raises: ConfigError: if `thresh` or `min_kept` is out of range.
    Source: PaddleSeg `models/losses/ohem_cross_entropy_loss.py`, whose values and gradients it equals.
    """

    def __init__(self, thresh: float = 0.7, min_kept: int = 10000, ignore_index: int = 255):
        super().__init__()
        if not 0 < thresh < 1:
            raise ConfigError("OhemCELoss: thresh is %r, but must be between 0 and 1." % (thresh,))
        if not isinstance(min_kept, int) or min_kept < 0:
            raise ConfigError("OhemCELoss: min_kept is %r, but must be a whole number, 0 or more." % (min_kept,))
        self.thresh, self.min_kept, self.ignore_index = thresh, min_kept, ignore_index

    def forward(self, logits, label):
        losses, counts = pixel_losses(logits, label, self.ignore_index)
        with paddle.no_grad():
            hard = self._hard_pixels(losses, counts)
        return (losses * hard).sum() / (hard.sum() + EPS_OHEM * hard.size)

    def _hard_pixels(self, losses, counts):
        """Mask of the pixels to keep. A probability below p is a loss above -log(p)."""
        if not 0 < self.min_kept < int(counts.sum()):
            return counts
        hard = counts * (losses > -float(np.log(self.thresh))).astype(counts.dtype)
        if int(hard.sum()) >= self.min_kept:
            return hard
        values = losses.numpy().ravel()
        values = values[counts.numpy().ravel() > 0]
        bound = float(np.partition(values, values.size - self.min_kept)[values.size - self.min_kept])
        bound = min(bound, -float(np.log(self.thresh)))
        return counts * (losses > bound).astype(counts.dtype)
