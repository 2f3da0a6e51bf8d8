"""Parameters, multiply-adds, feature shapes and memory of a model, by part.

The counting rule is that of `paddle.flops`, which PaddleSeg's tools print, so that figures can be compared: a
convolution counts one multiply-add for each weight it applies, and one for its bias; a normalisation counts two for
each number; average pooling counts its additions. Not counted, as there: activations, resizing, element-wise sums and
products, the statistics of attention, and the final argmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppliteseg_paddle.models.sppm import SPPM

PARTS = ("backbone", "neck", "head", "seg_heads")
NOT_COUNTED = "activations, resizing, element-wise sums and products, attention's statistics, argmax"
_NORMS = (nn.BatchNorm2D, nn.SyncBatchNorm, nn.BatchNorm)
_BYTES = 4  # of a float32


def measure(model, input_shape: Sequence[int]) -> dict[str, Any]:
    """Count what `model` holds and does for one batch of `input_shape` in evaluation.

    Args:
        model: a `PPLiteSegNet`; it is in evaluation mode afterwards.
        input_shape: (N, C, H, W) in pixels.
    Returns: "parts" (name -> parameters, macs, conv_macs, in training only or not), "total", "features" (name, shape,
        stride),
        "memory" in bytes, "input_shape", "not_counted".
    Source: `paddle.flops` for the rule.
    """
    model.eval()
    counter = _counted(model, input_shape)
    parts = {}
    for name in PARTS:
        layer = getattr(model, name)
        if name == "seg_heads":
            parts["seg_head"] = _part(layer[0], counter)
            if len(layer) > 1:
                auxiliary = [_part(other, counter) for other in list(layer)[1:]]
                parts["auxiliary seg_heads"] = {key: sum(part[key] for part in auxiliary) for key in auxiliary[0]}
        else:
            parts[name] = _part(layer, counter)
    inference = [part for name, part in parts.items() if name != "auxiliary seg_heads"]
    total = {key: sum(part[key] for part in inference) for key in inference[0]}
    total["parameters_in_training"] = sum(part["parameters"] for part in parts.values())
    return {
        "input_shape": list(input_shape),
        "parts": parts,
        "total": total,
        "features": _features(model, counter, input_shape),
        "memory": {
            "weights": total["parameters"] * _BYTES,
            "largest_layer": counter.largest_layer * _BYTES,
            "kept_for_gradients": counter.outputs * _BYTES,
        },
        "not_counted": NOT_COUNTED,
    }


def in_training(model: nn.Layer, input_shape: Sequence[int]) -> dict[str, int]:
    """Count one forward pass in training, of all segmentation heads, which changes the running statistics.

    Args: model: is in training mode afterwards.
    Returns: "macs": multiply-adds of all convolutions; "outputs": numbers that come out of convolutions and
        normalisations.
    """
    model.train()
    counter = _counted(model, input_shape)
    convolutions = (layer for layer in model.sublayers() if isinstance(layer, nn.Conv2D))
    return {"macs": sum(counter.macs.get(id(layer), 0) for layer in convolutions), "outputs": counter.outputs}


def _counted(model: nn.Layer, input_shape: Sequence[int]) -> _Counter:
    """What one forward pass does, in the mode that the model is in."""
    counter = _Counter()
    with paddle.no_grad():
        handles = counter.watch(model)
        try:
            model(paddle.zeros(list(input_shape)))
        finally:
            for handle in handles:
                handle.remove()
    return counter


def _part(layer: nn.Layer, counter: _Counter) -> dict[str, int]:
    inside = [layer, *layer.sublayers()]
    tensors = dict(layer.named_parameters())
    learned = {name: tensor for name, tensor in tensors.items() if not tensor.stop_gradient}
    # Running statistics are Paddle parameters without a gradient.
    return {
        "parameters": sum(_numel(tensor) for tensor in tensors.values()),
        "learned": sum(_numel(tensor) for tensor in learned.values()),
        "macs": sum(counter.macs.get(id(each), 0) for each in inside),
        "conv_macs": sum(counter.macs.get(id(each), 0) for each in inside if isinstance(each, nn.Conv2D)),
    }


def _features(model, counter: _Counter, input_shape: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    for name in ("backbone", "neck", "head"):
        for i, shape in enumerate(counter.shapes[id(getattr(model, name))]):
            label = name if name == "neck" else f"{name}.{i:d}"
            rows.append(
                {"name": label, "shape": shape, "stride": [round(a / b, 3) for a, b in zip(input_shape[2:], shape[2:])]}
            )
    return rows


class _Counter:
    """Watches one forward: multiply-adds of each layer by its id, shapes of the results, sizes of the maps."""

    def __init__(self):
        self.macs: dict[int, int] = {}
        self.shapes: dict[int, list[list[int]]] = {}
        self.largest_layer = 0  # numbers going into and out of the largest single layer
        self.outputs = 0  # numbers that come out of all convolutions and normalisations

    def watch(self, model):
        handles = [
            getattr(model, name).register_forward_post_hook(self._note_shapes) for name in ("backbone", "neck", "head")
        ]
        for layer in model.sublayers():
            rule = next((rule for kinds, rule in _RULES if isinstance(layer, kinds)), None)
            if rule is not None:
                handles.append(layer.register_forward_post_hook(self._hook(rule)))
        return handles

    def _note_shapes(self, layer, inputs, outputs):
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        self.shapes[id(layer)] = [list(output.shape) for output in outputs]

    def _hook(self, rule):
        def hook(layer, inputs, output):
            x = inputs[0]
            self.macs[id(layer)] = self.macs.get(id(layer), 0) + rule(layer, x, output)
            self.largest_layer = max(self.largest_layer, _numel(x) + _numel(output))
            if isinstance(layer, (nn.Conv2D, *_NORMS)):
                self.outputs += _numel(output)

        return hook


def _numel(tensor) -> int:
    return int(np.prod(tensor.shape))


def _conv(layer, x, output) -> int:
    return _numel(output) * (int(np.prod(layer.weight.shape[1:])) + (layer.bias is not None))


def _norm(layer, x, output) -> int:
    return 2 * _numel(x)


def _pool(layer, x, output) -> int:
    return _numel(output)


def _adaptive(shape: Sequence[int], out: Sequence[int]) -> int:
    """Additions of one window, rounded down as `paddle.flops` does, and a division, for each bin."""
    window = int(np.prod([size // bins for size, bins in zip(shape[2:], out)]))
    return int(np.prod(shape[:2])) * int(np.prod(out)) * (window + 1)


def _adaptive_layer(layer, x, output) -> int:
    return _adaptive(x.shape, output.shape[2:])


def _sppm(layer, x, output) -> int:
    """SPPM's pooling, which is a function call in it; its convolutions count by themselves."""
    return sum(_adaptive(x.shape, (bins, bins)) for bins in layer.bin_sizes)


_RULES = (
    (nn.Conv2D, _conv),
    (_NORMS, _norm),
    (nn.AvgPool2D, _pool),
    (nn.AdaptiveAvgPool2D, _adaptive_layer),
    (SPPM, _sppm),
)
