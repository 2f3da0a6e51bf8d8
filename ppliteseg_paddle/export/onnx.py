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
from ppliteseg_paddle.export.metadata import write_to_onnx
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.export.opsets import to_opset
from ppliteseg_paddle.export.plain_graph import simplify

MODEL_FILE = "model.onnx"


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Write the ONNX file. Returns: the file of each role."""
    return save_onnx(source, artifact, "onnx", folder)


def save_onnx(source: Source, artifact: Artifact, form: str, folder: str) -> dict[str, str]:
    """Write the ONNX file.

    Args:
        source: where the network comes from, and the form and operator set of its graph.
        artifact: input, output and preprocessing of what is written.
        form: "onnx", or "openvino" for the file that is converted further.
    Returns: the file of each role.
    """
    import onnx

    path = os.path.join(folder, MODEL_FILE)
    network = onnx.load(source.onnx_network(artifact, form))
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        onnx_graph.fold(onnx_graph.finish(network, artifact, form, source.graph), path, aside)
    model = onnx.load(path)
    if source.graph == "plain":
        simplify(model)
    if form == "onnx":
        if artifact.precision == "fp16":
            onnx_graph.weights_to_fp16(model)
        model = write_to_onnx(to_opset(model, source.opset), artifact, form)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return {"model": MODEL_FILE}
