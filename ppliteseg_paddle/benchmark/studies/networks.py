"""The networks of the speed tables, and how each is exported: ours our way, PaddleSeg's its own way.

Weights are random unless files are given; see `WEIGHTS_NOTE`. Batch statistics are those of a few images, so that
values stay in a
usual range and masks show many classes; without that a comparison of masks would say nothing.

Source: paper, table 2; PaddleSeg `deploy/export.py::WrappedModel`, `tools/export.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.benchmark.paper import CAMVID, LARGE, REPORTED, SMALL
from ppliteseg_paddle.deploy.artifact import Artifact, Tensor, writing
from ppliteseg_paddle.deploy.preprocess import Preprocess, generated_image
from ppliteseg_paddle.errors import ArtifactError, ConfigError, suggest
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

NUM_CLASSES = 19
WEIGHTS_NOTE = (
    "Random weights, on which the speed of a network does not depend, with one exception: our ONNX and OpenVINO graphs "
    "upsample a "
    "mask by blocks and compute only those that a border between classes crosses. Random weights give masks full of "
    "borders, "
    "so ours is rather slower here than with trained weights."
)
_NORMALIZE = {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
# PaddleSeg's arguments of T and B.
_WIDTHS = {
    "T": {"arm_out_chs": [32, 64, 128], "seg_head_inter_chs": [32, 64, 64]},
    "B": {"arm_out_chs": [64, 96, 128], "seg_head_inter_chs": [64, 64, 64]},
}
_BACKBONES = {"T": "STDC1", "B": "STDC2"}


class Network(NamedTuple):
    """A row: its name, network input (height, width), how it is built, whether it is ours, and the row of PaddleSeg's
    own
    that it is compared with."""

    name: str
    size: tuple[int, int]
    build: Callable[[], Any]
    ours: bool = False
    against: str | None = None


def _ours(kind: str) -> Callable[[], Any]:
    def build():
        import ppliteseg_paddle

        return getattr(ppliteseg_paddle, "pp_liteseg_" + kind.lower())(num_classes=NUM_CLASSES)

    return build


def _paddleseg(kind: str) -> Callable[[], Any]:
    def build():
        from paddleseg import models
        from paddleseg.models import backbones

        return models.PPLiteSeg(NUM_CLASSES, getattr(backbones, _BACKBONES[kind])(), **_WIDTHS[kind])

    return build


def _stdc_seg(backbone: str) -> Callable[[], Any]:
    def build():
        from paddleseg import models
        from paddleseg.models import backbones

        return models.STDCSeg(NUM_CLASSES, getattr(backbones, backbone)())

    return build


def _by_name(name: str) -> Callable[[], Any]:
    def build():
        from paddleseg import models

        return getattr(models, name)(num_classes=NUM_CLASSES)

    return build


def _pair(key: str, kind: str, size: tuple[int, int], suffix: str = "") -> dict[str, Network]:
    """Ours, and PaddleSeg's own of the same kind and size."""
    return {
        key: Network(f"PP-LiteSeg-{key.split('-')[0]}" + suffix, size, _ours(kind), True, "PaddleSeg-" + key),
        "PaddleSeg-" + key: Network(f"PaddleSeg's PP-LiteSeg-{key.split('-')[0]}" + suffix, size, _paddleseg(kind)),
    }


NETWORKS: dict[str, Network] = {
    **_pair("T1", "T", SMALL),
    **_pair("B1", "B", SMALL),
    **_pair("T2", "T", LARGE),
    **_pair("B2", "B", LARGE),
    "STDC1-Seg50": Network("STDC1-Seg50", SMALL, _stdc_seg("STDC1")),
    "STDC2-Seg50": Network("STDC2-Seg50", SMALL, _stdc_seg("STDC2")),
    "STDC1-Seg75": Network("STDC1-Seg75", LARGE, _stdc_seg("STDC1")),
    "STDC2-Seg75": Network("STDC2-Seg75", LARGE, _stdc_seg("STDC2")),
    **_pair("T-CamVid", "T", CAMVID, " CamVid"),
    **_pair("B-CamVid", "B", CAMVID, " CamVid"),
    "STDC1-CamVid": Network("STDC1-Seg CamVid", CAMVID, _stdc_seg("STDC1")),
    "STDC2-CamVid": Network("STDC2-Seg CamVid", CAMVID, _stdc_seg("STDC2")),
    "BiSeNetV2": Network("BiSeNetV2", SMALL, _by_name("BiSeNetV2")),
    "DDRNet-23": Network("DDRNet-23", (1024, 2048), _by_name("DDRNet_23")),
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


def export(
    key: str,
    folder: str,
    formats: Sequence[str],
    size: tuple[int, int] | None = None,
    batch: int = 1,
    weights: str | None = None,
    precision: str = "fp32",
    calibration=None,
    preprocess_in_graph: bool = False,
) -> Artifact:
    """Build a network and export it; an earlier export at `folder` is replaced.

    Args:
        formats: as `export_model` has them, and the last three arguments too; PaddleSeg's networks have "paddle",
            "onnx" and
            "tensorrt" (the ONNX file, and for fp16 the same in 16 bits), no INT8 and no preprocessing in the graph.
        size: (height, width) in place of the row's own; batch: images at once, -1 for any number.
        weights: a file of trained weights; None leaves them random.
    Raises: ConfigError: if a network cannot be converted. ArtifactError: if the folder cannot be written.
    """
    row = network(key)
    size = size or row.size
    import paddle

    paddle.seed(0)  # the same network in every precision: masks are compared
    model = row.build()
    if weights:
        from ppliteseg_paddle.weights.load import load_weights

        load_weights(model, weights)
        model.eval()
    else:
        settle(model)
    if row.ours:
        from ppliteseg_paddle.export.options import ExportOptions
        from ppliteseg_paddle.export.pipeline import export_model

        export_model(
            model,
            folder,
            ExportOptions(
                formats=tuple(formats),
                label_set=LABEL_SETS["cityscapes"],
                transforms=[_NORMALIZE],
                input_shape=(batch, 3, *size),
                precision=precision,
                calibration=calibration,
                preprocess_in_graph=preprocess_in_graph,
                description={"network": key, "weights": weights or "random"},
            ),
        )
    else:
        if precision == "int8" or preprocess_in_graph:
            raise ConfigError(
                f"{key} is PaddleSeg's own and exported its way, which has neither INT8 nor preprocessing in the graph."
            )
        _export_as_paddleseg(key, model, folder, formats, (batch, 3, *size), weights, precision)
    return Artifact.read(folder, verify=False)


def settle(model, images: int = 2, size: tuple[int, int] = (128, 256), rounds: int = 10) -> None:
    """Give a network with random weights the batch statistics of a few images, and equal chances to all classes."""
    import paddle

    batch = np.stack([generated_image(*size, seed=i) for i in range(images)]).transpose(0, 3, 1, 2) / 127.5 - 1.0
    model.train()
    with paddle.no_grad():
        for _ in range(rounds):
            model(paddle.to_tensor(batch.astype(np.float32)))
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.Conv2D) and layer.weight.shape[0] == NUM_CLASSES:
                # Without a mean over the inputs, which are all positive: else one class would win everywhere.
                layer.weight.set_value(layer.weight - layer.weight.mean(axis=1, keepdim=True))
    model.eval()


def _export_as_paddleseg(
    key: str,
    model,
    folder: str,
    formats: Sequence[str],
    shape: Sequence[int],
    weights: str | None,
    precision: str = "fp32",
) -> None:
    """PaddleSeg's wrapper around the network, int32 class ids out, and nothing else done to it; ONNX by paddle2onnx."""
    import paddle
    from paddleseg.deploy.export import WrappedModel

    from ppliteseg_paddle import __version__
    from ppliteseg_paddle.export.onnx import convert

    wrapped = WrappedModel(model, "argmax")
    wrapped.eval()
    spec = paddle.static.InputSpec([None if side == -1 else side for side in shape], "float32", name="x")
    with writing(folder) as made, tempfile.TemporaryDirectory() as aside:
        paddle.jit.save(paddle.jit.to_static(wrapped, input_spec=[spec]), os.path.join(aside, "model"))
        names = os.listdir(aside)
        files = {
            "model": next((name for name in ("model.json", "model.pdmodel") if name in names), ""),
            "params": "model.pdiparams",
        }
        if not all(name in names for name in files.values()):
            raise ArtifactError(f"Paddle {paddle.__version__} wrote no graph for {key}.")
        graphs: dict[str, dict[str, str]] = {}
        if "onnx" in formats or "tensorrt" in formats:
            convert(
                os.path.join(aside, files["model"]),
                os.path.join(aside, files["params"]),
                os.path.join(made, "model.onnx"),
            )
            graphs["onnx"] = {"model": "model.onnx"}
        if "tensorrt" in formats:
            graphs["tensorrt"] = {"model": "model.onnx", **_fp16(made, precision)}
        if "paddle" in formats:
            for name in files.values():
                os.replace(os.path.join(aside, name), os.path.join(made, name))
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
                "network": key,
                "weights": weights or "random",
                "exported": "as PaddleSeg 2.8.0 does",
            },
            input=Tensor("x", "float32", "NCHW", tuple(shape), color_order="RGB"),
            output=Tensor("mask", "int32", "NHW", (shape[0], *shape[2:]), op="argmax"),
            precision=precision,
            versions={
                "ppliteseg_paddle": __version__,
                "paddle": paddle.__version__,
                "python": ".".join(map(str, sys.version_info[:3])),
            },
        ).write()


def _fp16(folder: str, precision: str) -> dict[str, str]:
    """The ONNX file in 16 bits beside it, made as ours are: TensorRT since 11 does not lower the precision by
    itself."""
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
