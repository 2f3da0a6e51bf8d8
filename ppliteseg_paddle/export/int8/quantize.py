"""Quantise a converted network: calibrate it, measure its layers, and choose those that stay in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.export.int8.calibration import Calibration
from ppliteseg_paddle.export.int8.network import Network
from ppliteseg_paddle.export.int8.sensitivity import choose_float_layers


class QuantizedNetwork:
    """A network whose layers in 8 bits are chosen.

    Attributes: `report`: what was measured and chosen, plain values.
    """

    def __init__(self, network: Network, floats: Sequence[str], report: dict[str, Any]) -> None:
        self._network, self._floats, self.report = network, list(floats), report

    def write(self, form: str) -> str:
        """Write the network in the form of a format ("onnx", "openvino", "tensorrt"). Returns: its path, good until the
        next call."""
        return self._network.quantized(keep=self._floats, form=form)


def quantize_network(path: str, artifact: Artifact, calibration: Calibration, aside: str) -> QuantizedNetwork:
    """Calibrate a folded network and choose its layers.

    Args: path: the ONNX file, float NCHW in, logits out; artifact: how images enter; aside: a folder for files in
        between.
    Raises: ArtifactError: if it loses too much with every number of float layers that was tried. ConfigError: if there
        is no layer to quantise. DataError: for an image or label that cannot be read.
    """
    network = Network(path, artifact, aside)
    network.layers()  # refused before the images are read
    images = network.calibrate(calibration)
    found: dict[str, Any] = {"sensitivity_images": 0, "labels": False, "layers": [], "float_layers": [], "trials": []}
    if calibration.sensitivity:
        found = choose_float_layers(network, calibration)
    report = {"method": calibration.method, "images": images, **found, "always_float": network.always_float}
    return QuantizedNetwork(network, found["float_layers"], report)
