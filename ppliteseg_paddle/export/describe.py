"""What `deploy.yaml` will say of an export: input, output, preprocessing, the model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.steps import KINDS
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.export.formats import FORMATS
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.reading.label_sets import LabelSet

INPUT_NAME = "x"
# Sizes (H, W) that tell whether a pipeline ends at one size, whatever enters.
_PROBES = ((97, 61), (333, 517), (720, 960), (1024, 2048))


def describe(model: Any, options: ExportOptions) -> Artifact:
    """The artifact of an export, without a folder and graphs yet.

    Raises: ConfigError: if the graph is to do the preprocessing and a transform has no form inside a graph.
    """
    import paddle

    from ppliteseg_paddle import __version__

    shape, label_set = options.shape, options.label_set
    parameters = sum(int(np.prod(parameter.shape)) for parameter in model.parameters() if not parameter.stop_gradient)
    artifact = Artifact(
        folder="",
        model={
            "type": type(model).__name__,
            "num_classes": label_set.num_classes,
            "parameters": parameters,
            **options.description,
        },
        label_set=label_set,
        preprocess=options.preprocess if options.views.windows else ending_at(shape[2:], options.preprocess),
        input=Tensor(INPUT_NAME, "float32", "NCHW", shape, color_order="RGB" if shape[1] == 3 else None),
        output=output_tensor(str(options.output_op), label_set, shape),
        graphs={},
        versions={
            "ppliteseg_paddle": __version__,
            "paddle": paddle.__version__,
            "python": ".".join(map(str, sys.version_info[:3])),
        },
        dynamic_shape=options.shape_range,
        precision=options.precision,
        image_form=options.image_form,
        mask_resize=options.mask_resize,
        views=options.views,
    )
    if artifact.output.op != "none" and _needs_logits(artifact):
        artifact = replace(
            artifact, logits=replace(output_tensor("none", label_set, (shape[0], 3, -1, -1)), name="logits")
        )
    return _taking_images(artifact, options.formats) if options.preprocess_in_graph else artifact


def _needs_logits(artifact: Artifact) -> bool:
    """Whether masks of some images are made of logits: resized, or of several views."""
    resizes = artifact.views.scales != (1.0,) or any(
        KINDS[kind].undo == "resize" for kind, _ in artifact.preprocess.steps
    )
    several = len(artifact.views.views) > 1 or artifact.views.windows is not None
    return several or (resizes and artifact.mask_resize == "bilinear")


def output_tensor(op: str, label_set: LabelSet, input_shape: Sequence[int]) -> Tensor:
    """What leaves the graph after `op`."""
    batch, _, height, width = input_shape
    if op == "argmax":
        return Tensor("mask", mask_dtype(label_set.num_classes), "NHW", (batch, height, width), op=op)
    return Tensor("scores", "float32", "NCHW", (batch, label_set.num_classes, height, width), op=op)


def mask_dtype(num_classes: int) -> str:
    """The smallest integers that hold every id. Paddle has no unsigned ones of 16 bits."""
    return "uint8" if num_classes <= 256 else "int16" if num_classes <= 1 << 15 else "int32"


def ending_at(size: Sequence[int], preprocess: Preprocess) -> Preprocess:
    """`preprocess`, with a Resize added where a fixed input size (H, W) would otherwise depend on the image's."""
    height, width = size
    if height == -1:
        return preprocess

    def ends_at_size(image_size: tuple[int, int]) -> bool:
        try:
            return preprocess.input_size(*image_size) == (height, width)
        except DataError:  # a Padding step that the image does not fit in: refused when it is predicted, too
            return True

    if all(ends_at_size(image_size) for image_size in _PROBES):
        return preprocess
    steps = preprocess.to_transforms()
    before = len(steps) - 1 if steps and steps[-1]["type"] == "Normalize" else len(steps)
    steps = steps[:before] + [{"type": "Resize", "target_size": [width, height]}] + steps[before:]
    return Preprocess(steps, channels=preprocess.channels)


def _taking_images(artifact: Artifact, formats: Sequence[str]) -> Artifact:
    from ppliteseg_paddle.export.onnx_graph import IMAGE_INPUT, check_preprocess

    check_preprocess(artifact.preprocess)
    shape = (artifact.input.size_of("N"),) + IMAGE_INPUT.shape[1:]
    return replace(
        artifact,
        image_input=replace(IMAGE_INPUT, shape=shape),
        in_graph=tuple(name for name in formats if FORMATS[name].takes_images),
    )
