"""A float network in ONNX, and its forms in 8 bits, written by ONNX Runtime's own tools.

They put QuantizeLinear / DequantizeLinear pairs ("QDQ") into the graph, which ONNX Runtime and OpenVINO both compute in
8 bits. Weights take 7 of their 8 bits, one scale a channel: processors without VNNI (AVX2) add two products in 16 bits,
which 8-bit weights overflow, silently.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export.int8.calibration import Calibration, measure_ranges

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# What is quantised; all else (attention, resizing, argmax) is a few percent of the time and most of the harm.
OPERATORS = ("Conv", "Relu", "Concat", "AveragePool")
# In TensorRT's graph ranges without a sign, for what ReLU leaves, would need a zero point.
_NOT_IN_TENSORRT = ("Relu",)
# Convolutions with fewer outputs (the attention's) are not worth the conversions around them.
MIN_CHANNELS = 8
# Layers that are measured alone, at most.
MAX_LAYERS = 100


class Network:
    """A float network in ONNX, and its forms in 8 bits.

    Attributes: `always_float`: the convolutions that are never quantised: the smallest, and the one that makes the
        scores, which 256 steps are too few for.
    """

    def __init__(self, path: str, artifact: Artifact, aside: str) -> None:
        import onnx

        self.path, self.artifact, self._aside = path, artifact, aside
        self._bytes = onnx.load(path).SerializeToString()
        self._ranges: Any = None
        graph = self.model().graph
        self.input_name: str = graph.input[0].name
        self._convolutions: dict[str, NodeProto] = {node.name: node for node in graph.node if node.op_type == "Conv"}
        self._weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        small = [
            name for name, node in self._convolutions.items() if self._weights.get(node.input[1], [0])[0] < MIN_CHANNELS
        ]
        self.always_float = list(dict.fromkeys(small + list(self._convolutions)[-1:]))

    def model(self) -> ModelProto:
        """A copy of the float network."""
        import onnx

        return onnx.load_from_string(self._bytes)

    def layers(self) -> list[str]:
        """The convolutions to quantise, in order.

        Raises: ConfigError: if all stay in float.
        """
        found = [name for name in self._convolutions if name not in self.always_float]
        if not found:
            raise ConfigError("the network holds no convolution that INT8 could serve.")
        return found[:MAX_LAYERS]

    def form_of(self, layer: str) -> str:
        """What a convolution is, as in "3x3, 128 -> 64"."""
        node = self._convolutions[layer]
        outputs, inputs, height, width = self._weights[node.input[1]]
        apart = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        return f"{height:d}x{width:d}, {(f'{outputs:d} apart' if apart else f'{inputs:d} -> {outputs:d}')}"

    def batch(self, image: str) -> NDArray[Any]:
        """The network's input for an image file."""
        from ppliteseg_paddle.reading.images import read_image

        given = self.artifact.preprocess(read_image(image, *self.artifact.image_form))[0]
        return self.artifact.views.views[0].of(given)[0]

    def calibrate(self, calibration: Calibration) -> int:
        """Measure the ranges. Returns: the number of images that they come from."""
        self._ranges, images = measure_ranges(
            self.path, self.input_name, OPERATORS, self.batch, calibration, self._aside
        )
        return images

    def quantized(self, only: str | None = None, keep: Sequence[str] = (), form: str = "onnx") -> str:
        """Write the network with 8 bits in `only` this layer, or in all but those to `keep`. Returns: its path."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        # Between 8-bit convolutions joining and pooling stay in 8 bits, too; alone they would only add noise of their
        # own.
        operators = list(OPERATORS) if only is None else ["Conv"]
        # TensorRT knows neither zero points nor integer biases, and its processors do not saturate.
        tensorrt = form == "tensorrt"
        if tensorrt:
            operators = [name for name in operators if name not in _NOT_IN_TENSORRT]
        quantizer = QDQQuantizer(
            self.model(),
            per_channel=True,
            reduce_range=not tensorrt,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=None if only is None else [only],
            nodes_to_exclude=[*self.always_float, *keep],
            op_types_to_quantize=operators,
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False} if tensorrt else {},
        )
        with _quiet():
            quantizer.quantize_model()
        path = os.path.join(self._aside, "quantized.onnx")
        quantizer.model.save_model_to_file(path)
        return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's tools give advice at every call that does not concern a graph folded already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
