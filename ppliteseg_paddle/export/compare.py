"""The comparison of an export with the model that it was made of."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.upsampling import Undo, upsampled
from ppliteseg_paddle.deploy.views import ViewPlan
from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.export.eager import EagerBackend
from ppliteseg_paddle.export.formats import FORMATS
from ppliteseg_paddle.models.fused.folded import Folded

# An export may differ from its model in this share of an image's pixels, and only where two classes are nearly equal:
# by less than this part of the largest score. Float sums in another order do no more; GPUs may round to TF32 (10 bits).
# What computes in 16 bits rounds every value to 11 bits.
# 8 bits move borders; here it is only seen that the graph is not broken. What they cost is measured in mIoU
# (`int8.accuracy`).
MAX_DIFFERING_PIXELS = {"cpu": 1e-3, "gpu": 5e-3, "fp16": 2e-2, "int8": 0.15}
NEAR_TIE = {"cpu": 1e-3, "gpu": 1e-2, "fp16": 5e-2, "int8": 0.5}

_KEPT = 4  # results of the model: an image's logits, transformed and as evaluated, are two


def open_format(name: str, artifact: Artifact, device: str = "cpu") -> Predictor:
    """One graph of an artifact on the first runtime of `deploy` that reads it."""
    runs = FORMATS[name].compared_as or name
    in_graph = (runs,) if name in artifact.in_graph else ()
    alone = replace(artifact, graphs={runs: artifact.graphs[name]}, in_graph=in_graph, output=artifact.output_of(name))
    return Predictor.of(alone, open_backend("auto:table", alone, device=device))


class Original:
    """The model that exports are made of, and what it gives for the latest images: several formats ask for the same.
    It must not change meanwhile."""

    def __init__(self, model: Any) -> None:
        self._model, self._backend, self._folded = model, EagerBackend(model, "none", 0), Folded()
        self._latest: OrderedDict[tuple[Any, ...], NDArray[Any]] = OrderedDict()

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Logits of a transformed image, at its size. Shape: returns (1, classes, H, W)."""
        return self._kept(batch, ("run",), lambda: self._backend.run(batch))

    def evaluate(self, batch: NDArray[Any], undo: Sequence[Undo], views: ViewPlan) -> NDArray[Any]:
        """`evaluation_logits` of the model."""
        with self._folded:
            return self._kept(
                batch, ("evaluate", *undo, views), lambda: evaluation_logits(self._model, batch, undo, views)
            )

    def _kept(self, batch: NDArray[Any], how: tuple[Any, ...], compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        key = (hashlib.sha256(batch.tobytes()).digest(), batch.shape, batch.dtype.str, repr(how))
        if key not in self._latest:
            self._latest[key] = compute()
            while len(self._latest) > _KEPT:
                self._latest.popitem(last=False)
        self._latest.move_to_end(key)
        return self._latest[key]


def compare_format(name: str, written: Artifact, original: Original, images: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """`compare` for the graph of one format."""
    device = paddle.get_device() if FORMATS[name].on_model_device else "cpu"
    return compare(open_format(name, written, device if device.startswith("gpu") else "cpu"), original, images)


def compare(exported: Predictor, original: Original, images: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """Compare an exported model's masks with those of an evaluation of the model that it was made of: by PaddleSeg's
    own inference, `test_config` included. Where class ids are resized (`mask_resize` nearest), before that.

    Returns: `differing_pixels` (share), `largest_margin` (the largest gap between the two best logits among
        differing pixels, as a part of the largest logit; 0 where all agree), `max_difference` of scores if
        scores leave the graph, and what was compared.
    """
    results = [_compare_one(exported, original, image) for image in images]
    pixels = [result.pop("pixels") for result in results]
    share = sum(result["differing_pixels"] * count for result, count in zip(results, pixels)) / sum(pixels)
    keys = ("largest_margin", "max_difference")
    largest: dict[str, Any] = {key: max(result[key] for result in results) for key in keys if key in results[0]}
    return {**results[0], **largest, "differing_pixels": share, "images": len(results)}


def _compare_one(exported: Predictor, original: Original, image: NDArray[Any]) -> dict[str, Any]:
    given, left = exported.preprocess(image)
    batch, undo = exported.artifact.preprocess(image)
    result: dict[str, Any] = {
        "backend": exported.backend.name,
        "device": exported.backend.device,
        "input_size": list((given if given.ndim == 4 and given.dtype == np.float32 else batch).shape[2:]),
    }
    if exported.mask_resize == "nearest" and left:
        found, logits = exported.finish(exported.forward(given)[0], [], False)[0][np.newaxis], original.run(given)
    else:
        found = exported.segment(image, False)[0][np.newaxis]
        logits = original.evaluate(batch, undo, exported.artifact.views)
    multilabel = exported.artifact.multilabel
    expected = (logits > 0).transpose(0, 2, 3, 1) if multilabel else logits.argmax(axis=1)
    if found.shape != expected.shape:
        raise ArtifactError(
            f"the exported graph returns masks of {list(found.shape)} where the model returns {list(expected.shape)}; "
            "report this, it is a defect."
        )
    if exported.artifact.has_logits(exported.backend.graph):
        small, size = exported.forward(given, logits=True)[0], (given.shape[2], given.shape[3])
        result["max_difference"] = _difference(upsampled(small, [Undo("resize", size)]), original.run(given)[0])
    elif exported.artifact.output.op != "argmax":
        scores = paddle.to_tensor(original.run(given) if given.dtype == np.float32 else logits)
        op = exported.artifact.output.op
        scores = F.softmax(scores, axis=1) if op == "softmax" else F.sigmoid(scores) if op == "sigmoid" else scores
        result["max_difference"] = _difference(exported.forward(given), scores.numpy())
    differing = found != expected
    if multilabel:
        margins = np.abs(logits).transpose(0, 2, 3, 1)[differing]
    else:
        ids = np.clip(found.astype(np.int64), 0, logits.shape[1] - 1)[:, np.newaxis]
        margins = (logits.max(axis=1) - np.take_along_axis(logits, ids, axis=1)[:, 0])[differing]
    result["differing_pixels"], result["pixels"] = float(differing.mean()), differing.size
    result["largest_margin"] = float(margins.max() / max(np.abs(logits).max(), 1e-12)) if margins.size else 0.0
    return result


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(found - expected).max())


def evaluation_logits(model: Any, batch: NDArray[Any], undo: Sequence[Undo], views: ViewPlan) -> NDArray[Any]:
    """What an evaluation takes the best class of, at the image's size, by PaddleSeg's own inference.

    Args: batch: the transformed image; undo: how its size came about.
    Shape: returns (1, classes, H, W).
    """
    from paddleseg.core import infer

    window = {}
    if views.windows is not None:
        window = {"is_slide": True, **views.windows._asdict()}
    flips = {name: getattr(views, name) for name in ("flip_horizontal", "flip_vertical")}
    with paddle.no_grad():
        _, logits = infer.aug_inference(
            model, paddle.to_tensor(batch), list(undo), scales=list(views.scales), **flips, **window
        )
    return np.asarray(logits.numpy())


def require_equal(check: Mapping[str, Any], save_dir: str, precision: str = "fp32") -> None:
    """Raises: ArtifactError: if a comparison is past the bounds for its device, or for what computes in 16 bits."""
    kind = precision if precision in MAX_DIFFERING_PIXELS else check["device"].split(":")[0]
    if kind == "int8" and check["differing_pixels"] > MAX_DIFFERING_PIXELS[kind]:
        raise ArtifactError(
            f"INT8 changes the class of {100 * check['differing_pixels']:.3g} % of the check image's pixels (allowed: "
            f"{100 * MAX_DIFFERING_PIXELS[kind]:g} %), so {save_dir} was not written: the calibration images may be of "
            "another kind, or the network hardly trained. Give more images with --calib_data, try another "
            "--calib_method, or export with --precision fp16."
        )
    if check["differing_pixels"] > MAX_DIFFERING_PIXELS[kind] or check["largest_margin"] > NEAR_TIE[kind]:
        raise ArtifactError(
            f"the exported model differs from the trained one in {100 * check['differing_pixels']:.3g} % of the check "
            f"image's pixels (allowed: {100 * MAX_DIFFERING_PIXELS[kind]:g} %, "
            f"and only near-ties) when run by '{check['backend']}' on {check['device']}, so {save_dir} was not "
            "written. Export with another Paddle version "
            "(3.2.2 is the best tested)."
        )
