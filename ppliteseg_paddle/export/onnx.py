"""Export to ONNX. The module's name does not hide the package: imports are absolute.

paddle2onnx converts the traced model as far as its logits. What goes around it (the image's preprocessing where
asked for, argmax or softmax, the mask's way back to the image's size) is added here, in plain ONNX operators, and
ONNX Runtime folds constants and batch normalisation. So the file is the same for every runtime.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export import onnx_graph
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.files import SOURCE_ROOT

# Newest that onnxruntime 1.17 and TensorRT 8.6 read, too.
OPSET = 17
MODEL_FILE = "model.onnx"

# In a process of its own: paddle2onnx aborts the process at an operator that it cannot convert. Its default optimiser
# installs packages with pip while it runs; ONNX Runtime does that work here.
_CONVERT = """
import sys
from ppliteseg_paddle import environment
environment.prepare()
import paddle2onnx
paddle2onnx.export(sys.argv[1], sys.argv[2], sys.argv[3], opset_version=int(sys.argv[4]), auto_upgrade_opset=False,
                   optimize_tool="None")
"""


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Write the ONNX file. Returns: the file of each role."""
    return save_onnx(source.onnx_network(artifact, "onnx"), artifact, "onnx", folder)


def convert(model: str, params: str, path: str) -> None:
    """Convert a saved Paddle graph.

    Args: model, params: its two files; path: the ONNX file to write.
    Raises: ConfigError: if it holds an operator without an ONNX form.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [SOURCE_ROOT, os.environ.get("PYTHONPATH")])),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, model, params, path, str(OPSET)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode == 0 and os.path.isfile(path):
        return
    if "Adaptive only support static input shape" in done.stdout:
        raise ConfigError(
            "this model pools adaptively, which ONNX cannot express at an open size; give --input_shape 1 3 H W."
        )
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    telling = [line for line in lines if "[ERROR]" in line or "Error:" in line] or lines[-1:] or ["no message"]
    raise ConfigError(f"paddle2onnx cannot convert this model: {telling[0][:300]}")


def save_onnx(network: str, artifact: Artifact, form: str, folder: str) -> dict[str, str]:
    """Write the ONNX file.

    Args:
        network: path of the converted network, folded, whose output is the logits.
        artifact: input, output and preprocessing of what is written.
        form: "onnx", or "openvino" for the file that is converted further.
    Returns: the file of each role.
    """
    import onnx

    path = os.path.join(folder, MODEL_FILE)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        onnx_graph.fold(onnx_graph.finish(onnx.load(network), artifact, form), path, aside)
    if artifact.precision == "fp16" and form == "onnx":
        onnx.save(onnx_graph.weights_to_fp16(onnx.load(path)), path)
    return {"model": MODEL_FILE}


def fold_network(path: str, aside: str) -> str:
    """Fold a converted network by itself: where sizes are fixed, they are plain numbers then. Returns the new file's
    path."""
    import onnx

    folded = os.path.join(aside, "network_folded.onnx")
    onnx_graph.fold(onnx.load(path), folded, aside)
    return folded
