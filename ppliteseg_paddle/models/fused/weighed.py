"""The attention's statistics and weighted sum by NumPy, where a model is evaluated on the CPU within `Folded`: Paddle's
kernels take five to twenty times as long for means and maxima over channels and for factors that are broadcast."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import paddle
from paddle import Tensor

from ppliteseg_paddle.models.fused import folded
from ppliteseg_paddle.models.fused.blocked import contiguous

_REDUCTIONS: dict[str, Callable[..., Any]] = {"mean": np.mean, "max": np.max}


@paddle.jit.not_to_static
def over_channels(maps: Sequence[Tensor], reductions: Sequence[str]) -> Tensor | None:
    """The "mean" or "max" of each position's channels; None where Paddle is to do it.

    Shape: (N, C, H, W) each -> (N, len(maps) * len(reductions), H, W), the first map's statistics first.
    """
    if not _applies(maps):
        return None
    maps = [contiguous(one) for one in maps]
    batch, _, height, width = maps[0].shape
    result = paddle.empty([batch, len(maps) * len(reductions), height, width])
    planes = _values(result)
    for number, one in enumerate(maps):
        for i, name in enumerate(reductions):
            _REDUCTIONS[name](_values(one), axis=1, out=planes[:, number * len(reductions) + i])
    return result


@paddle.jit.not_to_static
def mix(skip: Tensor, deep: Tensor, weight: Tensor) -> Tensor | None:
    """deep + weight * (skip - deep); None where Paddle is to do it.

    Shape: skip, deep (N, C, H, W), weight one that NumPy broadcasts to it.
    """
    if not _applies((skip, deep, weight)):
        return None
    skip, deep, weight = contiguous(skip), contiguous(deep), contiguous(weight)
    result = paddle.empty(skip.shape)
    values = _values(result)
    np.subtract(_values(skip), _values(deep), out=values)
    values *= _values(weight)
    values += _values(deep)
    return result


def _applies(tensors: Sequence[Tensor]) -> bool:
    if not paddle.in_dynamic_mode() or paddle.is_grad_enabled() or folded.active() is None:
        return False
    return all(tensor.place.is_cpu_place() and tensor.dtype == paddle.float32 for tensor in tensors)


def _values(tensor: Tensor) -> np.ndarray:
    """A contiguous CPU tensor's own memory, as long as the tensor lives."""
    numbers: Any = (ctypes.c_float * int(np.prod(tensor.shape))).from_address(tensor.data_ptr())
    return np.frombuffer(numbers, np.float32).reshape(tensor.shape)
