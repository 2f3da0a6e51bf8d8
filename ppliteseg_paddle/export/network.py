"""A model on its way into several formats: what more than one of them needs is made once."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export.describe import output_tensor
from ppliteseg_paddle.export.formats import DEFAULT_OPSET, GRAPHS

if TYPE_CHECKING:
    from ppliteseg_paddle.export.int8.calibration import Calibration
    from ppliteseg_paddle.export.int8.quantize import QuantizedNetwork


class Source:
    """What the formats' writers take the network from.

    Args: model: in evaluation mode; calibration: for int8; aside: a folder for files in between; graph: one of
        `formats.GRAPHS`; opset: of ONNX files.
    Attributes: `quantized`, the 8-bit network once a format has asked for it.
    """

    def __init__(
        self,
        model: Any,
        calibration: Calibration | None,
        aside: str,
        graph: str = GRAPHS[0],
        opset: int = DEFAULT_OPSET,
    ) -> None:
        self.graph, self.opset = graph, opset
        self.model, self.calibration, self._aside = model, calibration, aside
        self._onnx: str | None = None
        self.quantized: QuantizedNetwork | None = None

    def onnx_network(self, artifact: Artifact, form: str) -> str:
        """Path of the network in ONNX, float NCHW in and logits out; in 8 bits, as the format `form` needs them, where
        the artifact says so."""
        if artifact.precision != "int8" or self.calibration is None:
            return self._float_network(artifact)
        if self.quantized is None:
            from ppliteseg_paddle.export.int8.quantize import quantize_network

            self.quantized = quantize_network(self._float_network(artifact), artifact, self.calibration, self._aside)
        return self.quantized.write(form)

    def _float_network(self, artifact: Artifact) -> str:
        if self._onnx is None:
            import onnx

            from ppliteseg_paddle.export.convert import convert
            from ppliteseg_paddle.export.onnx_graph import fold
            from ppliteseg_paddle.export.trace import inference_copy, save_graph

            output = output_tensor("none", artifact.label_set, artifact.input.shape)
            logits = replace(artifact, output=output, logits=None)
            graph = save_graph(inference_copy(self.model, logits, adaptive_pooling=False), logits, self._aside)
            path = os.path.join(self._aside, "network.onnx")
            convert(os.path.join(self._aside, graph["model"]), os.path.join(self._aside, graph["params"]), path)
            # Folded by itself: where sizes are fixed, they are plain numbers then.
            self._onnx = os.path.join(self._aside, "network_folded.onnx")
            fold(onnx.load(path), self._onnx, self._aside)
        return self._onnx
