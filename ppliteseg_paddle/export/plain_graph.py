"""The form of an ONNX graph that importers with few operators and little shape inference read: OpenCV's DNN module,
ncnn, MNN, TFLite.

A graph is faster in the forms of `onnx_graph.Style`; these use operators that such importers lack (NonZero, ScatterND).
A plain graph has none of them, and says outright what others infer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_RESIZE_ATTRIBUTES = ("mode", "coordinate_transformation_mode")
_REPEATED = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def simplify(model: ModelProto) -> ModelProto:
    """Say a folded graph in the plainest form. The values stay the same.

    Returns: the same model, changed.
    """
    plain = _Plain(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            plain.state_kernel(node)
        elif node.op_type == "Resize":
            plain.state_size(node)
        elif node.op_type == "Split":
            plain.state_parts(node)
        elif node.op_type == "Mul":
            plain.widen_weight(node)
    del model.graph.value_info[:]  # shapes before widening
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _scale(before: int, after: int) -> Any:
    """The smallest float32 from `after / before` on that times `before` is `after`, rounded down as runtimes do."""
    scale = np.float32(after / before)
    while int(np.float32(before) * scale) < after or int(before * float(scale)) < after:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


class _Plain:
    def __init__(self, model: ModelProto) -> None:
        import onnx

        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self._graph = model.graph
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._shapes = {
            value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
            for value in [*inferred.input, *inferred.value_info, *inferred.output]
        }

    def state_kernel(self, node: NodeProto) -> None:
        """`kernel_shape`, which may be left to the weight's shape; OpenCV 4 wants it."""
        from onnx import helper

        weight = self._weights.get(node.input[1])
        if weight is not None and not any(attribute.name == "kernel_shape" for attribute in node.attribute):
            node.attribute.append(helper.make_attribute("kernel_shape", list(weight.dims)[2:]))

    def state_size(self, node: NodeProto) -> None:
        """A linear Resize with constant scales, without attributes of other modes: ncnn's converter takes no other,
        and OpenCV reads sizes wrongly. A map of one cell is repeated: OpenCV 5.0 reads past its end otherwise."""
        from onnx import helper

        if not any(attribute.name == "mode" and attribute.s == b"linear" for attribute in node.attribute):
            return
        kept = [attribute for attribute in node.attribute if attribute.name in _RESIZE_ATTRIBUTES]
        before, after = (self._shapes.get(name, []) for name in (node.input[0], node.output[0]))
        del node.attribute[:]
        node.attribute.extend(kept)
        if len(before) != 4 or len(after) != 4 or min(before[2:] + after[2:]) < 1:
            return
        scales = [1, 1, *(_scale(*sides) for sides in zip(before[2:], after[2:]))]
        node.input[:] = [node.input[0], "", self._constant(node, "scales", np.asarray(scales, np.float32))]
        if before[2:] == [1, 1]:
            del node.attribute[:]
            node.attribute.extend(helper.make_attribute(name, value) for name, value in _REPEATED.items())

    def state_parts(self, node: NodeProto) -> None:
        """The sizes of an even Split, which ncnn wants."""
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        whole = self._shapes.get(node.input[0], [])
        if len(node.input) == 1 and len(whole) > axis and whole[axis] > 0:
            parts = np.full(len(node.output), whole[axis] // len(node.output), np.int64)
            node.input.append(self._constant(node, "parts", parts))

    def widen_weight(self, node: NodeProto) -> None:
        """One weight a position, times C channels: make it C equal weights, by repeating the convolution that gives
        it. OpenCV 5.0 fails at a product of one channel with several; the convolution is a thousandth of the work."""
        shapes = [self._shapes.get(name, []) for name in node.input]
        if len(shapes) != 2 or any(len(shape) != 4 for shape in shapes) or sorted(shape[1] for shape in shapes)[0] != 1:
            return
        narrow = int(shapes[1][1] == 1)
        channels = shapes[1 - narrow][1]
        maker = self._makers.get(node.input[narrow])
        convolution = self._makers.get(maker.input[0]) if maker is not None and maker.op_type == "Sigmoid" else None
        if maker is None or convolution is None or convolution.op_type != "Conv" or channels < 2:
            return
        constants = [self._weights.get(name) for name in convolution.input[1:]]
        if any(tensor is None for tensor in constants) or not self._used_once(maker, convolution):
            return
        for i, tensor in enumerate(constants, start=1):
            convolution.input[i] = self._repeated(convolution, tensor, channels, i)

    def _used_once(self, *nodes: NodeProto) -> bool:
        outputs = {output.name for output in self._graph.output}
        names = [name for each in self._graph.node for name in each.input]
        return all(names.count(node.output[0]) == 1 and node.output[0] not in outputs for node in nodes)

    def _repeated(self, node: NodeProto, tensor: TensorProto | None, channels: int, i: int) -> str:
        from onnx import numpy_helper

        values: Any = numpy_helper.to_array(tensor)
        return self._constant(node, f"repeated_{i:d}", np.repeat(values, channels, axis=0))

    def _constant(self, node: NodeProto, kind: str, values: Any) -> str:
        from onnx import numpy_helper

        name = f"{node.output[0]}_{kind}"
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
