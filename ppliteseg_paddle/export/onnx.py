"""Export to ONNX. The module's name does not hide the package: imports are absolute.

The network is converted as far as its logits. What goes around it (the image's preprocessing where asked for, argmax or
softmax, the mask's way back to the image's size) is added here, in plain ONNX operators, and ONNX Runtime folds
constants and batch normalisation. So the file is the same for every runtime.
"""

from __future__ import annotations

import os
import tempfile

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export import onnx_graph
from ppliteseg_paddle.export.formats import DEFAULT_OPSET, GRAPHS
from ppliteseg_paddle.export.metadata import write_to_onnx
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.export.opsets import to_opset
from ppliteseg_paddle.export.plain_graph import simplify

MODEL_FILE = "model.onnx"


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Write the ONNX file. Returns: the file of each role."""
    return save_onnx(source.onnx_network(artifact, "onnx"), artifact, "onnx", folder, source.graph, source.opset)


def save_onnx(
    network: str, artifact: Artifact, form: str, folder: str, graph: str = GRAPHS[0], opset: int = DEFAULT_OPSET
) -> dict[str, str]:
    """Write the ONNX file.

    Args:
        network: path of the converted network, folded, whose output is the logits.
        artifact: input, output and preprocessing of what is written.
        form: "onnx", or "openvino" for the file that is converted further.
        graph: one of `GRAPHS`; opset: of the form "onnx".
    Returns: the file of each role.
    """
    import onnx

    path = os.path.join(folder, MODEL_FILE)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        onnx_graph.fold(onnx_graph.finish(onnx.load(network), artifact, form, graph), path, aside)
    model = onnx.load(path)
    if graph == "plain":
        simplify(model)
    if form == "onnx":
        if artifact.precision == "fp16":
            onnx_graph.weights_to_fp16(model)
        model = write_to_onnx(to_opset(model, opset), artifact, form)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return {"model": MODEL_FILE}
