"""Cross entropy over pixels, plain and with online hard example mining (OHEM).

Both work on every supported Paddle, where PaddleSeg 2.8.0's own mix float32 with int64 and fail on Paddle 3.
Both take logits that are smaller than the label and upsample them bilinearly; on a CPU that is far cheaper
than to upsample them before (see `upsampled_softmax`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.losses import upsampled_softmax
from ppliteseg_paddle.models.layers import small_logits

# Keeps the mean over no pixels at 0. PaddleSeg's losses use 1e-8 (plain) and 1e-5 (OHEM).
EPS_PLAIN, EPS_OHEM = 1e-8, 1e-5


class PixelLoss(nn.Layer):
    """A weighted mean of the pixels' cross entropies; subclasses say how much each pixel counts.

    Args: ignore_index: label of pixels that do not count.
    Shape: logits (N, C, h, w), label (N, H, W) or (N, 1, H, W) of integers, h <= H and w <= W (smaller logits are
        upsampled bilinearly); returns one number without dimensions.
    Raises: DataError: if a label is neither a class nor `ignore_index`.
    """

    eps = EPS_PLAIN
    needs_losses = False  # whether `factors` looks at the losses
    upsamples_logits = True  # tells `PPLiteSegNet.loss_computation` that it need not

    def __init__(self, ignore_index: int = 255):
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits, label):
        label = label.squeeze(1) if label.ndim == 4 else label
        if paddle.in_dynamic_mode() and logits.place.is_cpu_place():  # a graph's tensors have no place
            return _CPULoss.apply(small_logits(logits).astype("float32"), label.numpy(), self)
        return self._on_device(logits, label.astype("int64"))

    def factors(self, losses, label, counted, array):
        """How much each pixel counts, float32, 0 where not `counted`; all (N, H, W), of the module `array`: numpy or
        paddle.

        `losses` may be None where `needs_losses` is false.
        """
        raise NotImplementedError

    def likely_bound(self, counted: np.ndarray) -> float | None:
        """Where `needs_losses`: the loss above which a pixel is likely to count 1, and else 0; None if that is unknown.

        A right guess saves a pass over the pixels; it changes no bit of a result.
        """
        return None

    def _on_device(self, logits, label):
        """The same by Paddle's operators, for devices other than the CPU."""
        if list(logits.shape[2:]) != list(label.shape[1:]):
            logits = F.interpolate(logits, label.shape[1:], mode="bilinear", align_corners=False)
        losses = F.cross_entropy(
            logits.astype("float32"), label.unsqueeze(1), ignore_index=self.ignore_index, axis=1, reduction="none"
        ).squeeze(1)
        counted = label != self.ignore_index
        with paddle.no_grad():
            factors = self.factors(
                losses.detach(), paddle.where(counted, label, paddle.zeros_like(label)), counted, paddle
            )
        return (losses * factors).sum() / (factors.sum() + self.eps * factors.size)


class _CPULoss(PyLayer):
    """Value and gradient of a `PixelLoss` at once."""

    @staticmethod
    def forward(ctx, logits, label, loss):
        values = logits.numpy()
        counted = label != loss.ignore_index
        _check_label(label, counted, values.shape[1], loss.ignore_index)
        label = np.where(counted, label, 0)
        wants_gradient = not logits.stop_gradient
        losses = gradient = bound = None
        if loss.needs_losses:
            # Where the loss knows which pixels it is likely to take, their gradient is computed at once.
            bound = loss.likely_bound(counted) if wants_gradient else None
            factors = None if bound is None else counted.astype(np.float32)
            losses, gradient = upsampled_softmax.pixel_losses(values, label, counted, factors, bound)
        factors = loss.factors(losses, label, counted, np)
        if losses is not None and bound is not None and not np.array_equal(factors, counted & (losses > bound)):
            gradient = None
        if losses is None or (wants_gradient and gradient is None):
            losses, gradient = upsampled_softmax.pixel_losses(
                values, label, counted, factors if wants_gradient else None
            )
        mean = np.float32(1 / (factors.sum(dtype=np.float64) + loss.eps * factors.size))
        if wants_gradient:
            small_width, width = values.shape[3], label.shape[2]
            gradient = paddle.to_tensor(gradient)
            if small_width != width:
                gradient = paddle.matmul(
                    gradient, paddle.to_tensor(upsampled_softmax.upsampling_matrix(small_width, width))
                )
            ctx.gradient, ctx.mean = gradient, float(mean)
        value = np.einsum("nhw,nhw->", losses, factors, dtype=np.float64) * mean
        return paddle.to_tensor(np.float32(value))

    @staticmethod
    def backward(ctx, upstream):
        return ctx.gradient * (upstream * ctx.mean)


def _check_label(label, counted, num_classes: int, ignore_index: int) -> None:
    wrong = counted & ((label < 0) | (label >= num_classes))
    if wrong.any():
        raise DataError(
            f"a label has the value {label[wrong][0]:d}, but the model has the classes 0 to {num_classes - 1:d}, and "
            f"{ignore_index:d} is ignored: `ppliteseg data check` "
            "finds the file."
        )


class CELoss(PixelLoss):
    """Mean cross entropy over the pixels that are not ignored.

    Args:
        weight: one factor a class; the mean is then weighted by them.
        ignore_index: label of pixels that do not count.
    Shape, Raises: see `PixelLoss`. ConfigError: if there are not as many weights as classes.
    Source: PaddleSeg `models/losses/cross_entropy_loss.py` with its default `avg_non_ignore`.
    """

    def __init__(self, weight: Sequence[float] | None = None, ignore_index: int = 255):
        super().__init__(ignore_index)
        self.weight = None if weight is None else np.asarray(weight, np.float32)

    def forward(self, logits, label):
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ConfigError(
                f"CELoss has {len(self.weight):d} weights, but the logits have {logits.shape[1]:d} classes."
            )
        return super().forward(logits, label)

    def factors(self, losses, label, counted, array):
        factors = counted.astype("float32")
        if self.weight is None:
            return factors
        weight = self.weight if array is np else paddle.to_tensor(self.weight)
        return factors * array.take(weight, label)


class OhemCELoss(PixelLoss):
    """Mean cross entropy over the hard pixels: those whose true class gets a probability below a threshold.

    The threshold is `thresh`, or as much more as it takes to keep `min_kept` pixels of a batch (`min_kept` - 1
    in fact, as in PaddleSeg: the pixel that sets the threshold is not below it). Where a batch has no more than
    `min_kept` pixels that count, all of them do. No pixel is sorted: the threshold has to be searched only if
    fewer than `min_kept` are below `thresh`, and then by partition (CPU) or by bisection (other devices).

    Args:
        thresh: probability from which a pixel is easy, in (0, 1).
        min_kept: pixels of a batch to keep at least.
        ignore_index: label of pixels that do not count.
    Shape: see `PixelLoss`.
    Raises: ConfigError: if `thresh` or `min_kept` is out of range. DataError: see `PixelLoss`.
    Source: PaddleSeg `models/losses/ohem_cross_entropy_loss.py`, whose values and gradients it equals.
    """

    eps, needs_losses = EPS_OHEM, True

    def __init__(self, thresh: float = 0.7, min_kept: int = 10000, ignore_index: int = 255):
        super().__init__(ignore_index)
        if not 0 < thresh < 1:
            raise ConfigError(f"OhemCELoss: thresh is {thresh!r}, but must be between 0 and 1.")
        if not isinstance(min_kept, int) or min_kept < 0:
            raise ConfigError(f"OhemCELoss: min_kept is {min_kept!r}, but must be an integer, 0 or more.")
        self.thresh, self.min_kept = thresh, min_kept
        self._enough = True  # whether, at the last call, `min_kept` pixels were below `thresh`

    @property
    def _bound(self) -> float:
        """A probability below `thresh` is a loss above this."""
        return -float(np.log(self.thresh))

    def likely_bound(self, counted):
        return self._bound if self._enough and 0 < self.min_kept < int(counted.sum()) else None

    def factors(self, losses, label, counted, array):
        """1 for the pixels to keep."""
        if not 0 < self.min_kept < int(counted.sum()):
            return counted.astype("float32")
        hard = array.logical_and(counted, losses > self._bound)
        self._enough = int(hard.sum()) >= self.min_kept
        if not self._enough:
            # The easy pixels' losses are all at most the bound, so the one that is searched for is, too.
            hard = array.logical_and(counted, losses > self._min_kept_loss(losses, counted))
        return hard.astype("float32")

    def _min_kept_loss(self, losses, counted):
        """The loss that is the `min_kept`-th from the largest."""
        if isinstance(losses, np.ndarray):
            values = losses[counted]
            return np.partition(values, values.size - self.min_kept)[values.size - self.min_kept]
        return kth_largest(paddle.where(counted, losses, paddle.zeros_like(losses)), self.min_kept)


def kth_largest(values, k: int):
    """The k-th largest of `values`, float32 and none below 0, without sorting and without waiting for the device.

    The bits of such numbers, read as integers, are in the numbers' order; 31 halvings of their range find the one.
    """
    bits = values.flatten().view("int32")
    low, high = paddle.zeros([1], "int64"), paddle.full([1], 2**31 - 1, "int64")
    for _ in range(31):
        middle = (low + high + 1) // 2
        enough = (bits >= middle.astype("int32")).astype("int64").sum() >= k
        low = paddle.where(enough, middle, low)
        high = paddle.where(enough, high, middle - 1)
    return low.astype("int32").view("float32")
