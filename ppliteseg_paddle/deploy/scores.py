"""From scores to classes: the best class of each pixel, how sure it is, and which pixels are too unsure for a class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.reading.label_sets import LabelSet


def best_class(scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The class with the highest score, the first one of equals, and that score.

    Shape: scores (C, H, W); returns ids (H, W), uint8 up to 256 classes, else uint16, and (H, W) float32.
    """
    # Plane by plane: NumPy's argmax over the first axis jumps through memory and takes several times as long.
    ids: NDArray[Any] = np.zeros(scores.shape[1:], id_dtype(len(scores)))
    best = scores[0].astype(np.float32)
    for i in range(1, len(scores)):
        np.copyto(ids, ids.dtype.type(i), where=scores[i] > best)
        np.maximum(best, scores[i], out=best)
    return ids, best


def softmax_of_best(scores: NDArray[Any], best: NDArray[Any]) -> NDArray[Any]:
    """The probability that belongs to the best of some logits: 1 / sum(exp(score - best)).

    Shape: scores (C, H, W), best (H, W); returns (H, W) float32.
    """
    total = np.zeros_like(best)
    for plane in scores:
        total += np.exp(plane - best)
    return 1.0 / total


def planes(scores: NDArray[Any], logits: bool, with_confidence: bool) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The classes of each pixel where it may be of several: those of a probability above one half.

    Args: logits: whether scores are logits, or probabilities.
    Shape: scores (C, H, W); returns (H, W, C) uint8, 0 and 1, and the probabilities (H, W, C), None unless asked for.
    """
    found = np.ascontiguousarray((scores > (0.0 if logits else 0.5)).transpose(1, 2, 0)).view(np.uint8)
    if not with_confidence:
        return found, None
    values = np.ascontiguousarray(scores.transpose(1, 2, 0), np.float32)
    # Of the two forms of the sigmoid the one that does not overflow.
    return found, np.float32(0.5) * (1 + np.tanh(values / 2)) if logits else values


def id_dtype(count: int) -> type[np.unsignedinteger[Any]]:
    """The smallest unsigned type that holds `count` class ids."""
    return np.uint8 if count <= 256 else np.uint16


def unknown_id(label_set: LabelSet) -> int:
    """The value of pixels that are no class for certain: the label set's ignored value, so that such a mask can serve
    as a label.

    Where that is the id of a class (as with more than 255 of them), it is 65535.
    """
    ignored = label_set.ignore_index
    return ignored if label_set.num_classes <= ignored <= 255 else 65535


def mark_unknown(ids: NDArray[Any], confidence: NDArray[Any], below: float, value: int) -> NDArray[Any]:
    """Give pixels that are less sure than `below` the id `value`; in place where the type of `ids` allows it.

    Shape: all (H, W).
    """
    if value > np.iinfo(ids.dtype).max:
        ids = ids.astype(np.uint16)
    ids[confidence < below] = value
    return ids
