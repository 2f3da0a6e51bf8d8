"""First convolutions that were trained on RGB, for images of other channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.weights.rules import StateDict

RGB = 3


def for_channels(
    state: StateDict, targets: Mapping[str, Sequence[int]]
) -> tuple[StateDict, list[tuple[str, int, int]]]:
    """A state dict in which convolutions of RGB images take as many channels as the model's do.

    Args: targets: the model's names and shapes.
    Returns: the state dict, the same but for such convolutions, and (name, channels before, after) of each.
    """
    extended = [
        (name, RGB, int(targets[name][1]))
        for name, array in state.items()
        if name in targets and array.ndim == 4 and array.shape[1] == RGB and _differs_in_channels(array, targets[name])
    ]
    return {**state, **{name: extend_filters(state[name], after) for name, _, after in extended}}, extended


def extend_filters(weight: NDArray[np.generic], channels: int) -> NDArray[np.generic]:
    """Filters of RGB images for `channels` channels.

    With three channels or more, the first three keep their filters and each further one gets the mean of the three;
    with one or two, each gets the mean. All are multiplied by 3 / channels: an image whose channels are equal gives
    the activations that it gave in gray, whatever the number of channels.

    Shape: weight (out, 3, h, w); returns (out, channels, h, w) of its type.
    """
    values = weight.astype(np.float64)
    mean = values.mean(axis=1, keepdims=True)
    parts = [values] if channels >= RGB else []
    parts += [mean] * (channels - RGB if channels >= RGB else channels)
    return (np.concatenate(parts, axis=1) * (RGB / channels)).astype(weight.dtype)


def _differs_in_channels(array: NDArray[np.generic], wanted: Sequence[int]) -> bool:
    found = list(array.shape)
    return found != list(wanted) and [found[0], *found[2:]] == [wanted[0], *wanted[2:]]
