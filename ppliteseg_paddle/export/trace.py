"""Copy the model for inference, and trace the copy into a saved Paddle graph."""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any

import paddle

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export.describe import INPUT_NAME
from ppliteseg_paddle.export.eager import GraphForm


def inference_copy(model: Any, artifact: Artifact, adaptive_pooling: bool = True) -> GraphForm:
    """A copy of the model in evaluation mode, without what only training needs, followed by the output's operator."""
    inference = copy.deepcopy(model)
    inference.eval()
    height, width = artifact.input.shape[2:]
    if hasattr(inference, "prepare_for_export"):
        inference.prepare_for_export((height, width) if height > 0 and width > 0 else None, adaptive_pooling)
    with_logits = artifact.has_logits("paddle")
    return GraphForm(inference, str(artifact.output.op), artifact.label_set.num_classes, with_logits)


def save_graph(form: GraphForm, artifact: Artifact, folder: str, stem: str = "model") -> dict[str, str]:
    """Trace and save as `stem` with the extensions of the installed Paddle. Returns: the file of each role."""
    form.eval()
    shape = [None if size == -1 else size for size in artifact.input.shape]
    traced = paddle.jit.to_static(
        form, full_graph=True, input_spec=[paddle.static.InputSpec(shape, "float32", name=INPUT_NAME)]
    )
    # Saved aside: Paddle 2.6 adds a file that only training needs.
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        paddle.jit.save(traced, os.path.join(aside, stem))
        names = os.listdir(aside)
        graph = {
            "model": next(stem + end for end in (".json", ".pdmodel") if stem + end in names),
            "params": stem + ".pdiparams",
        }
        for name in graph.values():
            os.replace(os.path.join(aside, name), os.path.join(folder, name))
    return graph
