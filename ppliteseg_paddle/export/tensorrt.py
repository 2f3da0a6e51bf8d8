"""Export to TensorRT: ONNX in the form that it builds engines of. The module's name does not hide the package: imports
are absolute.

TensorRT itself is not needed to write it: engines fit one GPU and one version, so the machine that runs them builds
them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.errors import DependencyError
from ppliteseg_paddle.export import onnx_graph
from ppliteseg_paddle.export.compare import Original, compare, compare_format, require_equal
from ppliteseg_paddle.export.metadata import write_to_onnx
from ppliteseg_paddle.export.network import Source

if TYPE_CHECKING:
    from onnx import ModelProto

MODEL_FILE, FP16_FILE = "tensorrt.onnx", "tensorrt_fp16.onnx"


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Write the graph and, for fp16, one beside it that computes in 16 bits: since version 11 TensorRT does not lower
    the precision by itself.

    Returns: the file of each role.
    """
    import onnx

    from ppliteseg_paddle.export.fp16 import to_fp16

    network = source.onnx_network(artifact, "tensorrt")
    artifact = replace(artifact, output=artifact.output_of("tensorrt"))
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        folded = os.path.join(aside, MODEL_FILE)
        onnx_graph.fold(onnx_graph.finish(onnx.load(network), artifact, "tensorrt"), folded, aside)
        model = bytes_by_float(float_biases(onnx.load(folded)))  # after folding, which would join the casts
    _save(write_to_onnx(model, artifact, "tensorrt"), os.path.join(folder, MODEL_FILE))
    if artifact.precision != "fp16":
        return {"model": MODEL_FILE}
    _save(to_fp16(model), os.path.join(folder, FP16_FILE))
    return {"model": MODEL_FILE, "fp16": FP16_FILE}


def check_on_gpu(
    written: Artifact, original: Original, images: Sequence[NDArray[Any]], save_dir: str
) -> dict[str, Any]:
    """Compare the fp16 graph, and the engine where there is a GPU to build one.

    Raises: ArtifactError: if one differs from the model.
    """
    found = {}
    roles = written.graphs["tensorrt"]
    if "fp16" in roles:
        fp16 = replace(written, graphs={"tensorrt": {"model": roles["fp16"]}})
        found["fp16"] = compare_format("tensorrt", fp16, original, images)
        require_equal(found["fp16"], save_dir, "fp16")
    try:
        backend = open_backend("tensorrt", written)
    except DependencyError:  # no GPU or no TensorRT: the machine that runs it will build it
        return found
    found["engine"] = compare(Predictor.of(written, backend), original, images)
    require_equal(found["engine"], save_dir, written.precision)
    return found


def _save(model: ModelProto, path: str) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def float_biases(model: ModelProto) -> ModelProto:
    """Turn 32-bit integer biases back into floats. ONNX Runtime makes them of an 8-bit convolution's while it folds,
    and TensorRT dequantises 8-bit integers only.

    Returns: the same model, changed.
    """
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        bias = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if bias is None or bias.data_type != TensorProto.INT32:
            continue
        scale = constants[node.input[1]]  # one for each channel, or one for all
        values = numpy_helper.to_array(bias) * numpy_helper.to_array(scale)
        model.graph.initializer.append(numpy_helper.from_array(values.astype("float32"), node.output[0]))
        model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def bytes_by_float(model: ModelProto) -> ModelProto:
    """Let 8-bit integers enter and leave by way of floats: TensorRT casts them from and to nothing else, and computes
    with them nowhere. Ids below 2048 are exact in a 16-bit float, too.

    Returns: the same model, changed.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.value_info[:]  # types that no longer hold
    uint8, int64, float32 = TensorProto.UINT8, TensorProto.INT64, TensorProto.FLOAT
    for value in graph.input:
        if value.type.tensor_type.elem_type == uint8:
            name = value.name + "_float"
            for node in graph.node:
                node.input[:] = [name if given == value.name else given for given in node.input]
            graph.node.insert(0, helper.make_node("Cast", [value.name], [name], name=name + "/Cast", to=float32))
    for node in graph.node:  # a mask stays what argmax gives until it leaves
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == uint8:
                attribute.i = int64
    for value in graph.output:
        if value.type.tensor_type.elem_type == uint8:
            name = value.name + "_ids"
            last = next(node for node in graph.node if value.name in node.output)
            last.output[:] = [name if made == value.name else made for made in last.output]
            graph.node.append(
                helper.make_node("Cast", [name], [name + "_float"], name=name + "_float/Cast", to=float32)
            )
            graph.node.append(
                helper.make_node("Cast", [name + "_float"], [value.name], name=value.name + "/Cast", to=uint8)
            )
    return model
