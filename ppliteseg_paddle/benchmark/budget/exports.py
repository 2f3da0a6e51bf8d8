"""A network with random weights as ONNX files of many sizes: converted once, at an open size, which is then filled in.

An export at a fixed size takes several seconds, most of them for tracing and converting; this takes one, and the graph
is the same but for how the neck's windows come about.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Any

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export.formats import FORMATS
from ppliteseg_paddle.export.network import Source

FORMAT = "onnx"
# (height, width) of the generated images: those that give a network its statistics and INT8 its ranges, and the one
# that its masks are fitted to.
_IMAGE, _LARGER = (128, 256), (512, 1024)


class _FilledIn(Source):
    """The network in ONNX, converted once for each precision at an open size, with an artifact's size filled in."""

    def __init__(self, model: Any, calibration: Any, aside: str) -> None:
        super().__init__(model, calibration, aside)
        self._folder = aside
        self._open: dict[str, str] = {}

    def onnx_network(self, artifact: Artifact, form: str) -> str:
        """Path of the network at the artifact's size."""
        import onnx

        from ppliteseg_paddle.export.onnx_graph import fold

        shape = artifact.input.shape
        if artifact.precision not in self._open:
            opened = replace(artifact, input=replace(artifact.input, shape=(*shape[:2], -1, -1)))
            copy = os.path.join(self._folder, artifact.precision + ".onnx")  # the next call replaces what it wrote
            self._open[artifact.precision] = shutil.copyfile(super().onnx_network(opened, form), copy)
        model = onnx.load(self._open[artifact.precision])
        for dimension, side in zip(model.graph.input[0].type.tensor_type.shape.dim, shape):
            dimension.Clear()
            dimension.dim_value = side
        del model.graph.value_info[:]  # sizes that were open
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        path = os.path.join(self._folder, "filled_in.onnx")
        fold(model, path, self._folder)
        return path


class SizedNetwork:
    """A configuration's network, to be exported at any size and precision.

    Args: config: loaded, of a network with `seg_heads`; aside: a folder for files in between.
    Raises: ConfigError: if the network cannot be built or converted.
    """

    def __init__(self, config: Any, aside: str) -> None:
        import cv2
        import paddle

        from ppliteseg_paddle.deploy.images import generated_image
        from ppliteseg_paddle.deploy.preprocess import Preprocess
        from ppliteseg_paddle.engine.build import build_model, label_set_of
        from ppliteseg_paddle.export.int8.calibration import Calibration
        from ppliteseg_paddle.export.trained import val_transforms

        steps = val_transforms(config).to_transforms()
        self._preprocess = Preprocess([step for step in steps if step["type"] == "Normalize"])
        self._label_set = label_set_of(config)
        os.makedirs(aside)
        image = os.path.join(aside, "calibration.png")
        cv2.imwrite(image, generated_image(*_IMAGE))
        self._calibration = Calibration([(image, None)], sensitivity=False, progress=False)
        paddle.seed(0)
        self._model = build_model(config, pretrained=False)
        self._calibrate_batch_norm()
        self._source = _FilledIn(self._model, self._calibration, aside)

    def artifact(self, size: tuple[int, int], precision: str, folder: str) -> Artifact:
        """Export it. Args: size: (height, width) of the input, multiples of 32."""
        from ppliteseg_paddle.export.describe import describe
        from ppliteseg_paddle.export.options import ExportOptions

        options = ExportOptions(
            label_set=self._label_set,
            transforms=self._preprocess,
            formats=(FORMAT,),
            input_shape=(1, 3, *size),
            precision=precision,
            calibration=self._calibration if precision == "int8" else None,
        )
        artifact = describe(self._model, options)
        return replace(artifact, folder=folder, graphs={FORMAT: FORMATS[FORMAT].write(self._source, artifact, folder)})

    def _calibrate_batch_norm(self) -> None:
        import numpy as np

        from ppliteseg_paddle.benchmark.random_weights import calibrate, draw_borders
        from ppliteseg_paddle.deploy.images import generated_image

        batch = np.concatenate([self._preprocess(generated_image(*_IMAGE, seed=seed))[0] for seed in range(2)])
        classifier = self._model.seg_heads[0].classifier
        calibrate(self._model, batch, [classifier])
        draw_borders(self._model, self._preprocess(generated_image(*_LARGER))[0], classifier)
