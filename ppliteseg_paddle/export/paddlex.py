"""What PaddleX reads beside the graph: `inference.yml`; or why PaddleX would give other masks.

PaddleX reads an image as RGB, resizes it, normalizes it, and takes the one output of `inference.json` for class ids.
Its command line, its servers and its pipelines all do.

Source: PaddleX 3.7 `inference/models/semantic_segmentation`; PaddleSeg `tools/export.py --for_fd`.
"""

from __future__ import annotations

import os
from typing import Any

import yaml

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.reading.image_form import COLOR

CONFIG_FILE = "inference.yml"
# How PaddleX calls the network, by the number of convolutions in its STDC backbone (PaddleSeg's class has as many).
_NAMES = {29: "PP-LiteSeg-T", 53: "PP-LiteSeg-B"}
_ORDERS: tuple[list[str], ...] = ([], ["Normalize"], ["Resize", "Normalize"])


def network_name(model: Any) -> str | None:
    """PaddleX's name for a network, ours or PaddleSeg's; None for one that it does not know."""
    import paddle

    backbone: Any = getattr(model, "backbone", None)
    if not type(model).__name__.startswith("PPLiteSeg") or not type(backbone).__name__.startswith("STDC"):
        return None
    return _NAMES.get(sum(isinstance(layer, paddle.nn.Conv2D) for layer in backbone.sublayers()))


def unable(artifact: Artifact, name: str | None) -> str | None:
    """Why PaddleX cannot run this export; None if it can."""
    kinds = [kind for kind, _ in artifact.preprocess.steps]
    faults = (
        (name is None, f"it knows no network {artifact.model['type']}"),
        (artifact.output.op != "argmax", f"it takes class ids, not --output_op {artifact.output.op}"),
        (kinds not in _ORDERS, f"it has no transforms {', '.join(kinds)} in this order, only Resize, Normalize"),
        (not artifact.views.plain, "it does not know test_config"),
        (artifact.image_form != COLOR, "it reads color images of 8 bits"),
    )
    return next((reason for wrong, reason in faults if wrong), None)


def write_config(artifact: Artifact, name: str, files: dict[str, str], folder: str) -> str:
    """Write `inference.yml`. Args: name: of the network; files: of the graph with one output. Returns: the file."""
    steps = [
        # PaddleX rounds sizes up to a multiple of 32 unless told otherwise.
        {**step, "size_divisor": step.get("size_divisor")} if step["type"] == "Resize" else step
        for step in artifact.preprocess.to_transforms()
    ]
    values: dict[str, Any] = {
        "Global": {"model_name": name},
        "Deploy": {
            **files,
            "transforms": steps or [{"type": "Normalize", "mean": [0.0] * 3, "std": [1 / 255] * 3}],
            "input_shape": list(artifact.input.shape),
            "output_op": artifact.output.op,
            "output_dtype": artifact.output_of("paddle").dtype,
        },
        "PostProcess": {"label_list": list(artifact.label_set.classes)},
    }
    if _shapes(artifact):
        # Built twice, since YAML would write a second use as a reference to the first.
        paddle, tensorrt = ({artifact.input.name: _shapes(artifact)} for _ in range(2))
        backends = {"paddle_infer": {"trt_dynamic_shapes": paddle}, "tensorrt": {"dynamic_shapes": tensorrt}}
        values["Hpi"] = {"backend_configs": backends}
    with open(os.path.join(folder, CONFIG_FILE), "w", encoding="utf-8") as file:
        yaml.safe_dump(values, file, sort_keys=False, allow_unicode=True)
    return CONFIG_FILE


def _shapes(artifact: Artifact) -> list[list[int]]:
    """Smallest, usual and largest input, which TensorRT wants to know; [] where sizes are open."""
    bounds = artifact.dynamic_shape
    if bounds is not None:
        return [list(bounds.min), list(bounds.opt), list(bounds.max)]
    batch, *sizes = artifact.input.shape
    return [[max(batch, 1), *sizes] for _ in range(3)] if min(sizes) > 0 else []
