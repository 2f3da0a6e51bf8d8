"""Export to Paddle Inference. The module's name does not hide the package: imports are absolute."""

from __future__ import annotations

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export.network import Source
from ppliteseg_paddle.export.trace import inference_copy, save_graph


def write(source: Source, artifact: Artifact, folder: str) -> dict[str, str]:
    """Write the graph and its weights. Returns: the file of each role."""
    return save_graph(inference_copy(source.model, artifact), artifact, folder)
