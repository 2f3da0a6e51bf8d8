"""The baseline of all studies: PaddleSeg's own PP-LiteSeg, its loss, its export and its configuration.

Source: PaddleSeg `models/pp_liteseg.py`, `models/losses/ohem_cross_entropy_loss.py`, `deploy/export.py::WrappedModel`,
`tools/export.py`, `configs/pp_liteseg`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from ppliteseg_paddle import compat
from ppliteseg_paddle.errors import ArtifactError

# In results and tables.
BASELINE, OURS = "paddleseg", "ppliteseg_paddle"
NUM_CLASSES = 19
# Its CamVid recipe, brought to the size of our recipe.
CONFIG = "configs/camvid/paddleseg_t_camvid_480x360.yml"
# Its OHEM loss, but for `min_kept`.
OHEM: dict[str, Any] = {"thresh": 0.7, "ignore_index": 255}


class Variant(NamedTuple):
    """PaddleSeg's backbone and arguments of a model, and the name of our preset of it."""

    backbone: str
    arguments: dict[str, list[int]]
    preset: str


VARIANTS = {
    "T": Variant("STDC1", {"arm_out_chs": [32, 64, 128], "seg_head_inter_chs": [32, 64, 64]}, "pp_liteseg_t"),
    "B": Variant("STDC2", {"arm_out_chs": [64, 96, 128], "seg_head_inter_chs": [64, 64, 64]}, "pp_liteseg_b"),
}


def paddleseg_models() -> Any:
    """PaddleSeg's `models`, with what fails on the installed Paddle fixed."""
    from ppliteseg_paddle.registry import register

    register()
    from paddleseg import models

    return models


def build(variant: str, num_classes: int = NUM_CLASSES, like: Any = None) -> Any:
    """PaddleSeg's `PPLiteSeg` with random weights, or with those of our model of the same variant."""
    row, models = VARIANTS[variant], paddleseg_models()
    model = models.PPLiteSeg(num_classes, getattr(models.backbones, row.backbone)(), **row.arguments)
    if like is not None:
        copy_weights(like, model)
    return model


def build_ours(variant: str, num_classes: int = NUM_CLASSES) -> Any:
    """Our model of the same variant."""
    import ppliteseg_paddle

    return getattr(ppliteseg_paddle, VARIANTS[variant].preset)(num_classes=num_classes)


def copy_weights(ours: Any, baseline: Any) -> None:
    """Give the baseline the weights of our model."""
    from ppliteseg_paddle.weights.names import to_paddleseg

    state = to_paddleseg({name: tensor.numpy() for name, tensor in ours.state_dict().items()})
    tensors = baseline.state_dict()
    shapes = [{name: list(array.shape) for name, array in each.items()} for each in (state, tensors)]
    differing = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    if differing:
        raise AssertionError(f"the models differ in {', '.join(differing[:3])}, so a comparison says nothing.")
    for name, array in state.items():
        tensors[name].set_value(array)


def ohem_loss(min_kept: int) -> Any:
    """Its OHEM loss, unmodified: on Paddle 3 PaddleSeg 2.8.0's computes within `mixed_types` only."""
    return paddleseg_models().losses.OhemCrossEntropyLoss(min_kept=min_kept, **OHEM)


def export(model: Any, shape: Sequence[int], folder: str) -> dict[str, str]:
    """Write a model as PaddleSeg's own export does: traced with its wrapper, int32 class ids, and nothing else done.

    Args: shape: (N, 3, H, W), -1 where open; folder: must exist.
    Returns: the file of each role.
    Raises: ArtifactError: if Paddle writes none.
    """
    import paddle
    from paddleseg.deploy.export import WrappedModel

    model.eval()
    wrapped = WrappedModel(model, "argmax")
    wrapped.eval()
    spec = paddle.static.InputSpec([None if side == -1 else side for side in shape], "float32", name="x")
    with tempfile.TemporaryDirectory() as aside:
        with compat.quick_tracing():
            paddle.jit.save(paddle.jit.to_static(wrapped, input_spec=[spec]), os.path.join(aside, "model"))
        names = os.listdir(aside)
        graph = next((name for name in ("model.json", "model.pdmodel") if name in names), "")
        files = {"model": graph, "params": "model.pdiparams"}
        if not all(name in names for name in files.values()):
            raise ArtifactError(f"Paddle {paddle.__version__} wrote no graph for {type(model).__name__}.")
        for name in files.values():
            shutil.move(os.path.join(aside, name), os.path.join(folder, name))
    return files
