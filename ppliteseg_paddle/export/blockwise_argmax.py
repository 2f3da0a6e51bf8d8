"""Blockwise argmax: from the network's small map of logits to the mask. Upsampling and argmax are most of what an
ordinary export spends outside its convolutions.

Bilinear upsampling mixes four neighbouring cells with weights that are not negative and sum to one. Where the same
class wins in all four, it wins between them, too, so the block of pixels between the four centres is that class, and no
score of it is computed. The remaining blocks are those that a border crosses; their pixels get the same weighted sums
that upsampling would have given them. The mask is the same in every pixel (but for ties within rounding), at a small
part of the cost where borders are few, and below the ordinary form's cost where they are everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from ppliteseg_paddle.export.onnx_nodes import Nodes


def last_resize(graph: GraphProto, logits: str) -> NodeProto | None:
    """The resizing that makes `logits`, looking through Identity nodes; None if something else does."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(logits)
    while node is not None and node.op_type == "Identity":
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Resize" or len(node.input) < 3 or not _is_bilinear(node):
        return None
    return node


def add_blockwise_argmax(model: ModelProto, nodes: Nodes, logits: str, num_classes: int) -> str:
    """Replace the last resizing of the graph by blockwise argmax.

    Args: nodes: where it is added.
    Returns: the name of the mask (1, H, W) in uint8 (int32 above 256 classes). "" where it does not apply, with the
        graph unchanged: sizes are open, the batch is not 1, or the factor is no even integer.
    """
    resize = last_resize(model.graph, logits)
    shape = _factor(model, resize) if resize is not None else None
    if resize is None or shape is None:
        return ""
    (channels, height, width), factor = shape
    model.graph.node.remove(resize)
    dtype, kind = (np.uint8, 2) if num_classes <= 256 else (np.int32, 6)
    flat = nodes.constant([-1], np.int64)
    small = resize.input[0]
    cells = nodes.add(
        "Reshape",
        nodes.add("Transpose", small, perm=[0, 2, 3, 1]),
        nodes.constant([height * width, channels], np.int64),
    )
    # Of every block, the numbers of the four cells around it.
    around = nodes.constant(_corners(height, width), np.int64)
    winners = nodes.add("Cast", nodes.add("ArgMax", small, axis=1, keepdims=0), to=6)
    winners = nodes.add("Gather", nodes.add("Reshape", winners, flat), around, axis=0)
    highest, lowest = (nodes.add(operator, winners, axes=[1], keepdims=1) for operator in ("ReduceMax", "ReduceMin"))
    differing = nodes.add("Reshape", nodes.add("Sub", highest, lowest), flat)
    # The first block always counts as crossed: ONNX Runtime before 1.20 refuses a product without rows.
    first = nodes.constant(np.eye(1, (height + 1) * (width + 1))[0], np.int32)
    crossed = nodes.add("NonZero", nodes.add("Add", differing, first))
    # The crossed blocks' pixels: a small product for each, planes of classes beside each other, which argmax likes
    # best.
    corners = nodes.add("Gather", around, nodes.add("Reshape", crossed, flat), axis=0)
    scores = nodes.add("Transpose", nodes.add("Gather", cells, corners, axis=0), perm=[0, 2, 1])
    scores = nodes.add("MatMul", scores, nodes.constant(_weights(factor).T, np.float32))
    pixels = nodes.add("Cast", nodes.add("ArgMax", scores, axis=1, keepdims=0), to=kind)
    # All blocks, as if none were crossed; OpenVINO multiplies faster than it expands.
    ones = nodes.constant(np.ones((1, factor * factor)), np.float32)
    blocks = nodes.add("Cast", nodes.add("Mul", nodes.add("Cast", highest, to=1), ones), to=kind)
    blocks = nodes.add("ScatterND", blocks, nodes.add("Transpose", crossed, perm=[1, 0]), pixels)
    grid = [height + 1, width + 1]
    blocks = nodes.add("Reshape", blocks, nodes.constant(grid + [factor, factor], np.int64))
    mask = nodes.add(
        "Reshape",
        nodes.add("Transpose", blocks, perm=[0, 2, 1, 3]),
        nodes.constant([1] + [side * factor for side in grid], np.int64),
    )
    start = [factor // 2] * 2  # the outer blocks lie half outside
    end = [factor // 2 + side * factor for side in (height, width)]
    return nodes.add("Slice", mask, *(nodes.constant(values, np.int64) for values in (start, end, [1, 2])))


def _is_bilinear(resize: NodeProto) -> bool:
    values = _attributes(resize)
    return (
        values.get("mode") == b"linear"
        and values.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
        and not values.get("antialias")
    )


def _attributes(node: NodeProto) -> dict[str, object]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _factor(model: ModelProto, resize: NodeProto) -> tuple[list[int], int] | None:
    """((channels, height, width) before the resizing, factor), where both are known and the factor is even."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in [*inferred.input, *inferred.value_info, *inferred.output]
    }
    before, after = (shapes.get(name, []) for name in (resize.input[0], resize.output[0]))
    if len(before) != 4 or len(after) != 4 or min(before + after) < 1 or before[0] != 1 or before[:2] != after[:2]:
        return None
    factor = after[2] // before[2]
    exact = [side * factor for side in before[2:]] == after[2:]
    return (before[1:], factor) if exact and factor % 2 == 0 else None


def _corners(height: int, width: int) -> NDArray[Any]:
    """((height + 1) * (width + 1), 4): blocks by rows; the outermost have cells on one side only, which count twice."""
    rows, columns = (np.clip(np.arange(-1, side + 1), 0, side - 1) for side in (height, width))
    numbers = rows[:, np.newaxis] * width + columns
    around = [numbers[:-1, :-1], numbers[:-1, 1:], numbers[1:, :-1], numbers[1:, 1:]]
    return np.asarray(np.stack(around, axis=-1).reshape(-1, 4))


def _weights(factor: int) -> NDArray[Any]:
    """(factor * factor, 4): each pixel's weights of the four cells around its block, with half-pixel centres."""
    second = (np.arange(factor) + 0.5) / factor
    one = np.stack([1 - second, second], axis=1)
    return np.asarray(np.einsum("ia,jb->ijab", one, one).reshape(factor * factor, 4))
