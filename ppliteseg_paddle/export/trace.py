"""Copy the model for inference, and trace the copy into a saved Paddle graph."""

from __future__ import annotations

import copy
import os
import tempfile
from typing import Any

import paddle

from ppliteseg_paddle import compat
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export.describe import INPUT_NAME
from ppliteseg_paddle.export.eager import GraphForm
from ppliteseg_paddle.models.fused.blocked import is_untouched

# Whose layers decide nothing by a tensor's values, and ask for sizes in a way that graphs of any size know.
_TRACED_AS_THEY_ARE = ("ppliteseg_paddle.models.", "paddle.nn.")


def inference_copy(model: Any, artifact: Artifact, adaptive_pooling: bool = True) -> GraphForm:
    """A copy of the model in evaluation mode, without what only training needs, followed by the output's operator."""
    inference = copy.deepcopy(model)
    inference.eval()
    height, width = artifact.input.shape[2:]
    if hasattr(inference, "prepare_for_export"):
        inference.prepare_for_export((height, width) if height > 0 and width > 0 else None, adaptive_pooling)
    with_logits = artifact.has_logits("paddle")
    kind = _RunAsItIs if _is_traced_as_it_is(inference) else GraphForm
    return kind(inference, str(artifact.output.op), artifact.label_set.num_classes, with_logits)


class _RunAsItIs(GraphForm):
    """Traced without Paddle's rewriting of Python code, which takes most of an export's time: for `if` and `for` over
    tensors, which our layers do without."""

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]  # paddle is not followed
    def forward(self, x: paddle.Tensor) -> Any:
        return super().forward(x)


def _is_traced_as_it_is(model: paddle.nn.Layer) -> bool:
    """Whether all layers are ours or Paddle's, without hooks: others may need the rewriting."""
    return all(
        type(layer).__module__.startswith(_TRACED_AS_THEY_ARE) and is_untouched(layer)
        for layer in model.sublayers(include_self=True)
    )


def save_graph(form: GraphForm, artifact: Artifact, folder: str, stem: str = "model") -> dict[str, str]:
    """Trace and save as `stem` with the extensions of the installed Paddle. Returns: the file of each role."""
    form.eval()
    shape = [None if size == -1 else size for size in artifact.input.shape]
    traced = paddle.jit.to_static(
        form, full_graph=True, input_spec=[paddle.static.InputSpec(shape, "float32", name=INPUT_NAME)]
    )
    # Saved aside: Paddle 2.6 adds a file that only training needs.
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        with compat.quick_tracing():
            paddle.jit.save(traced, os.path.join(aside, stem))
        names = os.listdir(aside)
        graph = {
            "model": next(stem + end for end in (".json", ".pdmodel") if stem + end in names),
            "params": stem + ".pdiparams",
        }
        for name in graph.values():
            os.replace(os.path.join(aside, name), os.path.join(folder, name))
    return graph
