"""The exports and images of `studies.gpu`."""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from ppliteseg_paddle import progress
from ppliteseg_paddle.benchmark.studies.networks import Export, calibration_of, export, network
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError

if TYPE_CHECKING:
    pass

_EXPORTED_AS = {"tf32": "fp32"}  # the others have a folder of their own
# What ends one network's measurement, not the run.
MISTAKES = (ArtifactError, ConfigError, DataError, DependencyError)


class Exports:
    """The folder of all exports.

    Args: args: of the command line; images: that INT8 is calibrated on; batched: whether larger batches are tried;
        failures: where what cannot be exported is noted.
    """

    def __init__(
        self, args: argparse.Namespace, images: list[np.ndarray], batched: bool, failures: dict[str, str]
    ) -> None:
        self._args, self._images, self._batched, self._failures = args, images, batched, failures
        self.folder: str = args.exports or os.path.join(args.save_dir, "exports")
        for key in args.networks:
            network(key)

    def size(self, key: str) -> tuple[int, int]:
        """Height and width of a network's input."""
        return tuple(self._args.size) if self._args.size else network(key).size

    def path(self, key: str, precision: str, batched: bool = False) -> str:
        height, width = self.size(key)
        exported_as = _EXPORTED_AS.get(precision, precision)
        return os.path.join(self.folder, f"{key}_{height}x{width}_{exported_as}{'_batch' if batched else ''}")

    def done(self, key: str, precision: str, batched: bool = False) -> bool:
        return os.path.isfile(os.path.join(self.path(key, precision, batched), "deploy.yaml"))

    def artifact(self, key: str, precision: str, batched: bool = False) -> Artifact:
        return Artifact.read(self.path(key, precision, batched), verify=False)

    def make_all(self) -> None:
        """Export what is missing; what cannot be exported is noted."""
        on_gpu = self._args.device.startswith("gpu")
        wanted = [
            (key, precision, batched)
            for key in self._args.networks
            for precision in dict.fromkeys(_EXPORTED_AS.get(name, name) for name in self._args.precisions)
            for batched in (False, True)
            if (precision != "int8" or network(key).ours)
            and (not batched or self._batched)
            and (on_gpu or precision != "fp16")
        ]
        for key, precision, batched in progress.bar(wanted, desc="exports"):
            try:
                self._make(key, precision, batched)
            except MISTAKES as error:
                self._failures[f"export of {key} in {precision}{', any batch' if batched else ''}"] = str(error)

    def _make(self, key: str, precision: str, batched: bool) -> None:
        weights = self._args.weights.get(key)
        if self.done(key, precision, batched):
            held = self.artifact(key, precision, batched).model.get("weights")
            if held == (weights or "random"):
                return
        formats = ("onnx", "tensorrt") + (("paddle",) if precision == "fp32" and not batched else ())
        with tempfile.TemporaryDirectory() as aside:
            sensitivity = bool(self._args.weights)
            calibration = calibration_of(self._images, aside, sensitivity) if precision == "int8" else None
            batch = -1 if batched else 1
            what = Export(key, formats, self.size(key), batch, weights, precision, calibration)
            export(what, self.path(key, precision, batched))


def read_images(path: str | None, count: int) -> tuple[list[str], list[np.ndarray]]:
    """Names and pixels: of a folder or list; else two photographs that come with scikit-learn; else a generated one."""
    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    if path:
        if os.path.isdir(path):
            paths = sorted(
                os.path.join(path, name)
                for name in os.listdir(path)
                if name.lower().endswith((".png", ".jpg", ".jpeg"))
            )
        else:
            paths = [path]
        if not paths:
            raise DataError(f"{path} holds no image (.png, .jpg).")
        chosen = paths[:: max(1, len(paths) // count)][:count]
        return [os.path.basename(item) for item in chosen], [read_image(item) for item in chosen]
    try:
        from sklearn.datasets import load_sample_image  # type: ignore[import-untyped]
    except ImportError:
        return ["generated"], [generated_image(512, 1024)]
    names = ["china.jpg", "flower.jpg"]
    return names, [np.ascontiguousarray(load_sample_image(name)[:, :, ::-1]) for name in names]
