"""The networks of the speed tables, and how each is exported: ours our way, PaddleSeg's own its own way.

Weights are random unless files are given; see `random_weights`.

Source: paper, table 2; `baseline`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.benchmark import random_weights
from ppliteseg_paddle.benchmark.paper import CAMVID, LARGE, REPORTED, SMALL
from ppliteseg_paddle.benchmark.studies import baseline
from ppliteseg_paddle.benchmark.studies.baseline import NUM_CLASSES
from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.folder import writing
from ppliteseg_paddle.deploy.images import generated_image
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

if TYPE_CHECKING:
    from ppliteseg_paddle.export.int8.calibration import Calibration

_NORMALIZE = {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


class Network(NamedTuple):
    """A row: its name, network input (height, width), how it is built, whether it is ours, and the row of the baseline
    that it is compared with."""

    name: str
    size: tuple[int, int]
    build: Callable[[], Any]
    ours: bool = False
    against: str | None = None


def _stdc_seg(backbone: str) -> Any:
    models = baseline.paddleseg_models()
    return models.STDCSeg(NUM_CLASSES, getattr(models.backbones, backbone)())


def _by_name(name: str) -> Any:
    return getattr(baseline.paddleseg_models(), name)(num_classes=NUM_CLASSES)


def _pair(key: str, kind: str, size: tuple[int, int], suffix: str = "") -> dict[str, Network]:
    """Ours, and PaddleSeg's own of the same kind and size."""
    return {
        key: Network(
            f"PP-LiteSeg-{key.split('-')[0]}" + suffix,
            size,
            partial(baseline.build_ours, kind),
            True,
            "PaddleSeg-" + key,
        ),
        "PaddleSeg-" + key: Network(
            f"PaddleSeg's PP-LiteSeg-{key.split('-')[0]}" + suffix, size, partial(baseline.build, kind)
        ),
    }


NETWORKS: dict[str, Network] = {
    **_pair("T1", "T", SMALL),
    **_pair("B1", "B", SMALL),
    **_pair("T2", "T", LARGE),
    **_pair("B2", "B", LARGE),
    "STDC1-Seg50": Network("STDC1-Seg50", SMALL, partial(_stdc_seg, "STDC1")),
    "STDC2-Seg50": Network("STDC2-Seg50", SMALL, partial(_stdc_seg, "STDC2")),
    "STDC1-Seg75": Network("STDC1-Seg75", LARGE, partial(_stdc_seg, "STDC1")),
    "STDC2-Seg75": Network("STDC2-Seg75", LARGE, partial(_stdc_seg, "STDC2")),
    **_pair("T-CamVid", "T", CAMVID, " CamVid"),
    **_pair("B-CamVid", "B", CAMVID, " CamVid"),
    "STDC1-CamVid": Network("STDC1-Seg CamVid", CAMVID, partial(_stdc_seg, "STDC1")),
    "STDC2-CamVid": Network("STDC2-Seg CamVid", CAMVID, partial(_stdc_seg, "STDC2")),
    "BiSeNetV2": Network("BiSeNetV2", SMALL, partial(_by_name, "BiSeNetV2")),
    "DDRNet-23": Network("DDRNet-23", (1024, 2048), partial(_by_name, "DDRNet_23")),
}
TABLE2: list[str] = [
    "PaddleSeg-T1",
    "T1",
    "PaddleSeg-B1",
    "B1",
    "STDC1-Seg50",
    "STDC2-Seg50",
    "PaddleSeg-T2",
    "T2",
    "PaddleSeg-B2",
    "B2",
    "STDC1-Seg75",
    "STDC2-Seg75",
]


def network(key: str) -> Network:
    """Raises: ConfigError: for an unknown key."""
    if key not in NETWORKS:
        raise ConfigError(f"unknown network '{key}'.{suggest(key, NETWORKS)}")
    return NETWORKS[key]


def baselines_of(keys: Sequence[str]) -> dict[str, str]:
    """Network -> the baseline that it is compared with, where that is one of the networks, too."""
    return {key: against for key in keys if (against := NETWORKS[key].against) is not None and against in keys}


def parse_weights(items: Sequence[str]) -> dict[str, str]:
    """ "T1=FILE" ... as a table. Raises: ConfigError: for another form, or an unknown network."""
    for item in items:
        if "=" not in item or item.split("=", 1)[0] not in NETWORKS:
            raise ConfigError(f"--weights takes NETWORK=FILE with one of {', '.join(NETWORKS)}, not '{item}'.")
    return dict(item.split("=", 1) for item in items)


def accuracy_of(key: str) -> dict[str, Any] | None:
    """The paper's mIoU on Cityscapes val for a network, marked as the paper's; PaddleSeg's own PP-LiteSeg is the same
    network."""
    row = REPORTED.get(key[len("PaddleSeg-") :] if key.startswith("PaddleSeg-") else key)
    return {"miou": row.val_miou, "reported": True} if row and row.val_miou else None


@dataclass(frozen=True)
class Export:
    """What is exported, and how.

    Args:
        key: of `NETWORKS`.
        formats: PaddleSeg's networks have "paddle", "onnx" and "tensorrt" (the ONNX file, and for fp16 the same in 16
            bits), and no INT8.
        size: (height, width) in place of the row's own; batch: images at once, -1 for any number.
        weights: a file of trained weights; None leaves them random.
        precision, calibration: as `export.options.ExportOptions` has them.
    """

    key: str
    formats: Sequence[str]
    size: tuple[int, int] | None = None
    batch: int = 1
    weights: str | None = None
    precision: str = "fp32"
    calibration: Calibration | None = None


def export(what: Export, folder: str) -> Artifact:
    """Build a network and export it; an earlier export at `folder` is replaced.

    Raises: ConfigError: if a network cannot be converted. ArtifactError: if the folder cannot be written.
    """
    row = network(what.key)
    shape = (what.batch, 3, *(what.size or row.size))
    import paddle

    paddle.seed(0)  # the same network in every precision: masks are compared
    model = row.build()
    if what.weights:
        from ppliteseg_paddle.weights.load import load_weights

        load_weights(model, what.weights)
        model.eval()
    else:
        calibrate(model)
    if row.ours:
        _export_ours(what, model, shape, folder)
    elif what.precision == "int8":
        raise ConfigError(f"{what.key} is PaddleSeg's own and exported its way, which has no INT8.")
    else:
        _export_as_paddleseg(what, model, shape, folder)
    return Artifact.read(folder, verify=False)


def calibration_of(images: Sequence[np.ndarray], folder: str, sensitivity: bool = False) -> Calibration:
    """Images (H, W, 3) as files in `folder`, which the ranges for INT8 are measured on."""
    import cv2

    from ppliteseg_paddle.export.int8.calibration import Calibration

    paths = [os.path.join(folder, f"{i:d}.png") for i in range(len(images))]
    for path, image in zip(paths, images):
        cv2.imwrite(path, image)
    return Calibration([(path, None) for path in paths], sensitivity=sensitivity, progress=False)


def calibrate(model: Any, images: int = 2, size: tuple[int, int] = (128, 256)) -> None:
    """Give a network with random weights the batch statistics of a few images, and equal chances to all classes."""
    import paddle

    batch = np.stack([generated_image(*size, seed=i) for i in range(images)]).transpose(0, 3, 1, 2) / 127.5 - 1.0
    classifiers = [
        layer
        for layer in model.sublayers()
        if isinstance(layer, paddle.nn.Conv2D) and layer.weight.shape[0] == NUM_CLASSES
    ]
    random_weights.calibrate(model, batch.astype(np.float32), classifiers)


def _export_ours(what: Export, model: Any, shape: Sequence[int], folder: str) -> None:
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    options = ExportOptions(
        label_set=LABEL_SETS["cityscapes"],
        transforms=[_NORMALIZE],
        formats=tuple(what.formats),
        input_shape=shape,
        precision=what.precision,
        calibration=what.calibration,
        description={"network": what.key, "weights": what.weights or "random"},
    )
    export_model(model, folder, options)


def _export_as_paddleseg(what: Export, model: Any, shape: Sequence[int], folder: str) -> None:
    """`baseline.export` as an artifact; ONNX by paddle2onnx."""
    import paddle

    from ppliteseg_paddle import __version__
    from ppliteseg_paddle.export.convert import convert
    from ppliteseg_paddle.export.formats import check_installed

    check_installed(what.formats)
    with writing(folder) as made, tempfile.TemporaryDirectory() as aside:
        files = baseline.export(model, shape, aside)
        graphs: dict[str, dict[str, str]] = {}
        if "onnx" in what.formats or "tensorrt" in what.formats:
            graph, params = (os.path.join(aside, files[role]) for role in ("model", "params"))
            convert(graph, params, os.path.join(made, "model.onnx"))
            graphs["onnx"] = {"model": "model.onnx"}
        if "tensorrt" in what.formats:
            graphs["tensorrt"] = {"model": "model.onnx", **_fp16(made, what.precision)}
        if "paddle" in what.formats:
            for name in files.values():
                shutil.move(os.path.join(aside, name), os.path.join(made, name))
            graphs["paddle"] = files
        parameters = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
        resize = {"type": "Resize", "target_size": [shape[3], shape[2]]}
        Artifact(
            folder=made,
            label_set=LABEL_SETS["cityscapes"],
            preprocess=Preprocess([resize, _NORMALIZE]),
            graphs=graphs,
            model={
                "type": type(model).__name__,
                "num_classes": NUM_CLASSES,
                "parameters": parameters,
                "network": what.key,
                "weights": what.weights or "random",
                "exported": f"as PaddleSeg {metadata.version('paddleseg')} does",
            },
            input=Tensor("x", "float32", "NCHW", tuple(shape), color_order="RGB"),
            output=Tensor("mask", "int32", "NHW", (shape[0], *shape[2:]), op="argmax"),
            precision=what.precision,
            versions={
                "ppliteseg_paddle": __version__,
                "paddle": paddle.__version__,
                "python": ".".join(map(str, sys.version_info[:3])),
            },
        ).write()


def _fp16(folder: str, precision: str) -> dict[str, str]:
    """The ONNX file in fp16 beside it, made as ours are: TensorRT since 11 does not lower the precision by itself."""
    if precision != "fp16":
        return {}
    import onnx

    from ppliteseg_paddle.export.fp16 import to_fp16
    from ppliteseg_paddle.export.onnx_graph import fold

    with tempfile.TemporaryDirectory() as aside:
        folded = os.path.join(aside, "model.onnx")
        fold(onnx.load(os.path.join(folder, "model.onnx")), folded, aside)
        onnx.save(to_fp16(onnx.load(folded)), os.path.join(folder, "model_fp16.onnx"))
    return {"fp16": "model_fp16.onnx"}
