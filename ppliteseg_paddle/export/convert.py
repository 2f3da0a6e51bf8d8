"""Convert a saved Paddle graph to ONNX with paddle2onnx, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export.formats import DEFAULT_OPSET
from ppliteseg_paddle.files import SOURCE_ROOT

# In a process of its own: paddle2onnx aborts the process at an operator that it cannot convert. Its default optimiser
# installs packages with pip while it runs; ONNX Runtime does that work here.
PROGRAM = """
import sys
from ppliteseg_paddle import environment
environment.prepare()
import paddle2onnx
paddle2onnx.export(sys.argv[1], sys.argv[2], sys.argv[3], opset_version=int(sys.argv[4]), auto_upgrade_opset=False,
                   optimize_tool="None")
"""


def convert(model: str, params: str, path: str) -> None:
    """Convert a saved Paddle graph.

    Args: model, params: its two files; path: the ONNX file to write.
    Raises: ConfigError: if it holds an operator without an ONNX form.
    """
    status, said = run_converter(model, params, path)
    if status == 0 and os.path.isfile(path):
        return
    if "Adaptive only support static input shape" in said:
        raise ConfigError(
            "this model pools adaptively, which ONNX cannot express at an open size; give --input_shape 1 3 H W."
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "[ERROR]" in line or "Error:" in line] or lines[-1:] or ["no message"]
    raise ConfigError(f"paddle2onnx cannot convert this model: {telling[0][:300]}")


def run_converter(model: str, params: str, path: str) -> tuple[int, str]:
    """Returns: the exit status of paddle2onnx's process, and all that it said."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [SOURCE_ROOT, os.environ.get("PYTHONPATH")])),
    }
    done = subprocess.run(  # noqa: S603 - this Python, our code
        [sys.executable, "-c", PROGRAM, model, params, path, str(DEFAULT_OPSET)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout
