"""ONNX in the form that TensorRT builds engines of. The module's name does not hide the package: imports are absolute.

TensorRT itself is not needed to write it: engines fit one GPU and one version, so the machine that runs them builds
    them.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export import onnx_graph

MODEL_FILE, HALF_FILE = "tensorrt.onnx", "tensorrt_fp16.onnx"


def save_tensorrt(network: str, artifact: Artifact, folder: str, half: bool) -> dict[str, str]:
    """Write the graph, and beside it one that computes in 16 bits.

    Args:
        network: path of the converted network in ONNX, whose output is the logits.
        artifact: input, output and preprocessing of what is written.
        half: whether to write the 16-bit graph, too: TensorRT since 11 does not lower the precision by itself.
    Returns: the file of each role.
    """
    import onnx

    from ppliteseg_paddle.export.fp16 import to_fp16

    artifact = replace(artifact, output=artifact.output_of("tensorrt"))
    path = os.path.join(folder, MODEL_FILE)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        folded = os.path.join(aside, MODEL_FILE)
        onnx_graph.fold(onnx_graph.finish(onnx.load(network), artifact, "tensorrt"), folded, aside)
        model = bytes_by_float(float_biases(onnx.load(folded)))  # after folding, which would join the casts
    _save(model, path)
    if not half:
        return {"model": MODEL_FILE}
    _save(to_fp16(model), os.path.join(folder, HALF_FILE))
    return {"model": MODEL_FILE, "half": HALF_FILE}


def _save(model, path: str) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def float_biases(model):
    """Turn biases in 32-bit integers back into floats: ONNX Runtime makes them of an 8-bit convolution's while it
    folds, and
    TensorRT dequantises 8-bit integers only.

    Returns: the same model, changed.
    """
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        whole = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if whole is None or whole.data_type != TensorProto.INT32:
            continue
        values = numpy_helper.to_array(whole) * numpy_helper.to_array(
            constants[node.input[1]]
        )  # one scale for each, or one for all
        model.graph.initializer.append(numpy_helper.from_array(values.astype("float32"), node.output[0]))
        model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def bytes_by_float(model):
    """Let 8-bit integers enter and leave by way of floats: TensorRT casts them from and to nothing else, and computes
    with them nowhere. Ids below 2048 are exact in a 16-bit float, too.

    Returns: the same model, changed.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.value_info[:]  # types that no longer hold
    eight, whole, real = TensorProto.UINT8, TensorProto.INT64, TensorProto.FLOAT
    for value in graph.input:
        if value.type.tensor_type.elem_type == eight:
            name = value.name + "_float"
            for node in graph.node:
                node.input[:] = [name if given == value.name else given for given in node.input]
            graph.node.insert(0, helper.make_node("Cast", [value.name], [name], name=name + "/Cast", to=real))
    for node in graph.node:  # a mask stays what argmax gives until it leaves
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == eight:
                attribute.i = whole
    for value in graph.output:
        if value.type.tensor_type.elem_type == eight:
            name = value.name + "_ids"
            last = next(node for node in graph.node if value.name in node.output)
            last.output[:] = [name if made == value.name else made for made in last.output]
            graph.node.append(helper.make_node("Cast", [name], [name + "_float"], name=name + "_float/Cast", to=real))
            graph.node.append(
                helper.make_node("Cast", [name + "_float"], [value.name], name=value.name + "/Cast", to=eight)
            )
    return model
