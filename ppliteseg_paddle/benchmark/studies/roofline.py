"""The roofline of a network: the time that its multiply-adds and its bytes take at this machine's measured ceilings.

Both ceilings are measured through the runtime that runs the network: dense 1x1 convolutions for arithmetic, one pass
over a large tensor for memory. Multiply-adds are those of convolutions and matrix products. Bytes are what every
operator that is not element-wise reads and writes, weights included: element-wise ones are taken to be part of the
operator before them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1}
# Operators that runtimes compute within the one before them, or that cost nothing.
_FUSED = {
    "Relu",
    "Sigmoid",
    "Clip",
    "HardSigmoid",
    "HardSwish",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "BatchNormalization",
    "Identity",
    "Constant",
    "Shape",
    "Gather",
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    "Flatten",
    "Floor",
}
_CHANNELS = 1024


def count(path: str) -> dict[str, int]:
    """Multiply-adds of an ONNX graph at its own input size, and numbers that it reads and writes.

    Raises: ValueError: if the graph leaves sizes open.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    sizes: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        sizes.setdefault(value.name, tuple(max(side.dim_value, 1) for side in value.type.tensor_type.shape.dim))
    macs = numbers = 0
    for node in graph.node:
        output = int(np.prod(sizes.get(node.output[0], (0,))))
        if node.op_type == "Conv":
            macs += output * int(np.prod(_weight(node.input[1], graph, sizes)[1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            macs += output * sizes.get(node.input[0], (0,))[-1]
        if node.op_type not in _FUSED:
            numbers += output + sum(int(np.prod(sizes.get(name, (0,)))) for name in node.input if name)
    if not macs:
        raise ValueError(f"{path} has no convolution of known size")
    return {"macs": macs, "numbers": numbers}


def _weight(name: str, graph: GraphProto, sizes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """A convolution's weight, also behind a DequantizeLinear node."""
    if name in sizes:
        return sizes[name]
    source = next((node for node in graph.node if name in node.output), None)
    return sizes.get(source.input[0], (0, 0)) if source is not None else (0, 0)


def bounds(
    counted: dict[str, int], ceilings: dict[str, float], precision: str, batch: int, measured_ms: float
) -> dict[str, float]:
    """Milliseconds that multiply-adds and bytes take at the ceilings, and how many times longer the measured time
    is."""
    compute = 1000.0 * batch * counted["macs"] / ceilings["macs_per_second"]
    memory = 1000.0 * batch * counted["numbers"] * BYTES[precision] / ceilings["bytes_per_second"]
    return {"compute_ms": compute, "memory_ms": memory, "distance": measured_ms / max(compute, memory)}


# --------------------------------------------------------------------------------------------
# What the ceilings are measured with
# --------------------------------------------------------------------------------------------
def arithmetic(folder: str, precision: str, large: bool) -> tuple[Artifact, int]:
    """Dense 1x1 convolutions, one after the other. Returns the artifact, and its multiply-adds."""
    from onnx import helper, numpy_helper

    layers, side = (8, 64) if large else (2, 32)
    random, nodes, constants, last = np.random.RandomState(0), [], [], "x"
    for i in range(layers):
        weight = (random.randn(_CHANNELS, _CHANNELS, 1, 1) / _CHANNELS**0.5).astype(np.float32)
        source, name = last, f"w{i:d}"
        if precision == "int8":
            scales = [
                numpy_helper.from_array(np.float32(value), f"{kind}{i:d}")
                for kind, value in (("sx", 0.05), ("sw", 0.002))
            ]
            zero = numpy_helper.from_array(np.int8(0), f"zero{i:d}")
            constants += [
                *scales,
                zero,
                numpy_helper.from_array(np.clip(weight / 0.002, -127, 127).astype(np.int8), name + "q"),
            ]
            nodes += [
                helper.make_node("QuantizeLinear", [last, f"sx{i:d}", f"zero{i:d}"], [f"xq{i:d}"]),
                helper.make_node("DequantizeLinear", [f"xq{i:d}", f"sx{i:d}", f"zero{i:d}"], [f"xd{i:d}"]),
                helper.make_node("DequantizeLinear", [name + "q", f"sw{i:d}", f"zero{i:d}"], [name]),
            ]
            source = f"xd{i:d}"
        else:
            constants.append(numpy_helper.from_array(weight, name))
        nodes += [
            helper.make_node("Conv", [source, name], [f"c{i:d}"]),
            helper.make_node("Relu", [f"c{i:d}"], [f"y{i:d}"]),
        ]
        last = f"y{i:d}"
    shape = (1, _CHANNELS, side, side)
    return _artifact(folder, nodes, constants, last, shape, precision), layers * _CHANNELS**2 * side * side


def memory(folder: str, precision: str, large: bool) -> tuple[Artifact, int]:
    """One pass over a large tensor. Returns the artifact, and the bytes that it reads and writes."""
    from onnx import helper, numpy_helper

    shape = (1, 16, 2048, 2048) if large else (1, 4, 2048, 2048)
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"])]
    made = _artifact(folder, nodes, [numpy_helper.from_array(np.float32(2), "two")], "y", shape, precision)
    return made, 2 * 4 * int(np.prod(shape))  # float32: it is the memory's speed that counts


def _artifact(
    folder: str,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    last: str,
    shape: tuple[int, ...],
    precision: str,
) -> Artifact:
    """A graph from "x" to `last`, both float32 of one shape, in every form that the runtimes read."""
    import onnx
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "ceiling",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(last, kind, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    roles = {"model": "model.onnx"}
    if precision == "fp16":
        from ppliteseg_paddle.export.fp16 import to_fp16

        onnx.save(to_fp16(model), os.path.join(folder, "fp16.onnx"))
        roles["fp16"] = "fp16.onnx"
    tensor = Tensor("x", "float32", "NCHW", tuple(shape), color_order="RGB")
    return Artifact(
        folder,
        {"type": "ceiling"},
        LabelSet("ceiling", tuple(f"channel {i}" for i in range(shape[1])), palette_for(shape[1])),
        Preprocess([]),
        tensor,
        Tensor(last, "float32", "NCHW", tuple(shape), op="none"),
        {"onnx": {"model": "model.onnx"}, "tensorrt": roles},
        {},
        precision="fp32" if precision == "tf32" else precision,
    )
