"""Put a network's arithmetic into fp16, for runtimes that compute in the types of the graph, as TensorRT 11 does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

# Inputs that stay what they are, by operator: of Resize, the region and the scales.
_KEPT_INPUTS = {"Resize": (1, 2, 3)}
# Operators that begin the fp16 part. What comes before them (normalising an image) and the arithmetic on sizes, which
# 16 bits cannot hold exactly, stay in 32 bits.
_FIRST = ("Conv", "ConvTranspose", "Gemm")


def to_fp16(model: ModelProto) -> ModelProto:
    """Convert an ONNX model. Its inputs and outputs keep their types, and so do integers.

    Returns: the same model, changed.
    """
    from onnx import TensorProto, helper

    types = _types(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    in_fp16: set[str] = set()
    casts: dict[str, str] = {}
    outputs = {output.name for output in model.graph.output}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type not in _FIRST and not any(name in in_fp16 for name in node.input):
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if i in _KEPT_INPUTS.get(node.op_type, ()) or name in in_fp16 or types.get(name) != TensorProto.FLOAT:
                continue
            if name not in casts:
                casts[name] = name + "_fp16"
                if name in weights:
                    model.graph.initializer.append(_to_fp16(weights[name], casts[name]))
                else:
                    nodes.append(
                        helper.make_node(
                            "Cast", [name], [casts[name]], name=casts[name] + "/Cast", to=TensorProto.FLOAT16
                        )
                    )
            node.input[i] = casts[name]
        back: list[NodeProto] = []
        for i, name in enumerate(node.output):
            if types.get(name) != TensorProto.FLOAT:
                continue
            if node.op_type == "Cast":  # of integers that the fp16 part has made
                continue
            if name in outputs:
                node.output[i] = name + "_fp16"
                back.append(
                    helper.make_node("Cast", [node.output[i]], [name], name=name + "/Cast", to=TensorProto.FLOAT)
                )
            in_fp16.add(node.output[i])
        nodes += [node] + back
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _to_fp16(tensor: TensorProto, name: str) -> TensorProto:
    from onnx import numpy_helper

    largest = float(np.finfo(np.float16).max)
    return numpy_helper.from_array(np.clip(numpy_helper.to_array(tensor), -largest, largest).astype(np.float16), name)


def _types(model: ModelProto) -> dict[str, int]:
    """The element type of every tensor."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    return types
