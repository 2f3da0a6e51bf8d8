"""What a graph file says of itself: classes, colors, how images enter, what wrote it.

`deploy.yaml` says it for this project's own programs; this is for others, which get the graph file alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.reading.image_form import ImageForm

if TYPE_CHECKING:
    from onnx import ModelProto

    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.reading.label_sets import LabelSet

RT_INFO = "ppliteseg"  # the section of an OpenVINO file
MODEL_API = "model_info"  # the section that OpenVINO's Model API reads, there and in ONNX


def describe_data(label_set: LabelSet, preprocess: Preprocess) -> dict[str, Any]:
    """What is known without a graph: classes, palette, ignored value, mean and deviation, resizing."""
    normalisation = preprocess.normalisation or {"scale": 1.0, "mean": [], "std": []}
    return {
        "classes": list(label_set.classes),
        "palette": [list(color) for color in label_set.palette],
        "ignore_index": label_set.ignore_index,
        **normalisation,
        "resize": preprocess.resize_policy,
    }


def metadata_of(artifact: Artifact, form: str) -> dict[str, str]:
    """What the graph of the format `form` says of itself, each value as JSON. A graph that takes images as they are
    has done what `mean`, `std` and `resize` say itself."""
    values = {
        **describe_data(artifact.label_set, artifact.preprocess),
        "model": artifact.model,
        "input": artifact.input_of(form).to_dict(),
        "output": artifact.output_of(form).to_dict(),
        "preprocess_in_graph": form in artifact.in_graph,
        "test_config": artifact.views.to_dict(),
        "precision": artifact.precision,
        "versions": artifact.versions,
    }
    return as_text(values)


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Each value as JSON: such headers hold text only."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def model_api_keys(artifact: Artifact, form: str) -> dict[str, str]:
    """What OpenVINO's Model API reads of a segmentation model. It gives its model 8-bit BGR images; labels are
    separated by blanks, so that names have none.

    Source: Model API, `docs/source/guides/model-configuration.md`.
    """
    keys = {"model_type": "Segmentation", "labels": " ".join("_".join(name.split()) for name in _names(artifact))}
    if form in artifact.in_graph or artifact.image_form != ImageForm():
        return keys
    keys["reverse_input_channels"] = "True"
    normalisation = artifact.preprocess.normalisation
    if normalisation is not None:
        for key, name in (("mean_values", "mean"), ("scale_values", "std")):
            keys[key] = " ".join(f"{value * normalisation['scale']:.9g}" for value in normalisation[name])
    steps = artifact.preprocess.resize_policy
    if all(step["type"] == "Resize" and not step.get("keep_ratio") for step in steps):
        keys["resize_type"] = "standard"
    return keys


def _names(artifact: Artifact) -> list[str]:
    return [name if name.split() else str(i) for i, name in enumerate(artifact.label_set.classes)]


def write_to_onnx(model: ModelProto, artifact: Artifact, form: str) -> ModelProto:
    """Put it into an ONNX model's `metadata_props`.

    Returns: the same model, changed.
    """
    from onnx import helper

    keys = {f"{MODEL_API} {key}": value for key, value in model_api_keys(artifact, form).items()}
    helper.set_model_props(model, {**metadata_of(artifact, form), **keys})
    return model


def write_to_openvino(model: Any, artifact: Artifact) -> None:
    """Put it into an OpenVINO model's `rt_info`."""
    sections = {RT_INFO: metadata_of(artifact, "openvino"), MODEL_API: model_api_keys(artifact, "openvino")}
    for section, values in sections.items():
        for key, value in values.items():
            model.set_rt_info(value, [section, key])
