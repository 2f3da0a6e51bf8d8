"""Export to OpenVINO. The module's name does not hide the package: imports are absolute."""

from __future__ import annotations

import os
import tempfile

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.openvino import shared_core
from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.export.metadata import write_to_openvino
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.export.onnx import save_onnx


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Convert the ONNX form with OpenVINO's own reader. In fp16 weights are kept in 16 bits; a CPU computes in 32 all
    the same.

    Returns: the file of each role.
    """
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        network = source.onnx_network(artifact, "openvino")
        graph = save_onnx(network, artifact, "openvino", aside, source.graph)
        return _convert(os.path.join(aside, graph["model"]), folder, artifact)


def _convert(onnx_path: str, folder: str, artifact: Artifact) -> dict[str, str]:
    import openvino

    try:
        # Not `convert_model`, which does the same and reports it to OpenVINO's makers over the network.
        model = shared_core(openvino.Core).read_model(onnx_path)
        write_to_openvino(model, artifact)
        openvino.save_model(model, os.path.join(folder, "model.xml"), compress_to_fp16=artifact.precision == "fp16")
    except (RuntimeError, ValueError, OSError) as error:
        raise ArtifactError(
            f"OpenVINO {openvino.__version__} cannot convert the ONNX graph: {str(error).strip()[-300:]}."
        ) from error
    return {"model": "model.xml", "weights": "model.bin"}
