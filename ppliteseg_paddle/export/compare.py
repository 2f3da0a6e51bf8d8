"""The comparison of an export with the model that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import restore
from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.export.eager import EagerBackend
from ppliteseg_paddle.export.formats import FORMATS

# An export may differ from its model in this share of an image's pixels, and only where two classes are nearly equal:
# by less than this part of the largest score. Float sums in another order do no more; GPUs may round to TF32 (10 bits).
# What computes in 16 bits rounds every value to 11 bits.
# 8 bits move borders; here it is only seen that the graph is not broken. What they cost is measured in mIoU
# (`int8.accuracy`).
MAX_DIFFERING_PIXELS = {"cpu": 1e-3, "gpu": 5e-3, "fp16": 2e-2, "int8": 0.15}
NEAR_TIE = {"cpu": 1e-3, "gpu": 1e-2, "fp16": 5e-2, "int8": 0.5}


def open_format(name: str, artifact: Artifact, device: str = "cpu") -> Predictor:
    """One graph of an artifact on the first runtime of `deploy` that reads it."""
    runs = FORMATS[name].compared_as or name
    alone = replace(
        artifact, graphs={runs: artifact.graphs[name]}, in_graph=(runs,) if name in artifact.in_graph else ()
    )
    return Predictor.of(alone, open_backend("auto", alone, device=device))


def compare_format(name: str, written: Artifact, model: Any, image: NDArray[Any]) -> dict[str, Any]:
    """`compare` for the graph of one format."""
    device = paddle.get_device() if FORMATS[name].on_model_device else "cpu"
    return compare(open_format(name, written, device if device.startswith("gpu") else "cpu"), model, image)


def compare(exported: Predictor, model: Any, image: NDArray[Any]) -> dict[str, Any]:
    """Compare an exported model with the model that it was made of, on one image, at the size of what leaves the graph.

    Returns: `differing_pixels` (share), `largest_margin` (the largest gap between the two best logits among
        differing pixels, as a part of the largest logit; 0 where all agree), `max_difference` of scores if
        scores leave the graph, and what was compared.
    """
    batch, undo = exported.artifact.preprocess(image)
    logits = EagerBackend(model, "none", exported.label_set.num_classes).run(batch)
    given, left = exported.preprocess(image)
    output = exported.forward(given)
    mask = output.ndim == 3
    if undo and not left:  # the graph has brought it back to the image's size; so must we
        logits = (
            np.stack([restore(plane, undo) for plane in logits[0]])[np.newaxis]
            if mask
            else restore(logits[0], undo)[np.newaxis]
        )
    found, expected = (output if mask else output.argmax(axis=1)).astype(np.int64), logits.argmax(axis=1)
    result: dict[str, Any] = {
        "backend": exported.backend.name,
        "device": exported.backend.device,
        "input_size": list(batch.shape[2:]),
    }
    if found.shape != expected.shape:
        raise ArtifactError(
            f"the exported graph returns masks of {list(found.shape)} where the model returns {list(expected.shape)}; "
            "report this, it is a defect."
        )
    if not mask:
        scores = (
            F.softmax(paddle.to_tensor(logits), axis=1).numpy() if exported.artifact.output.op == "softmax" else logits
        )
        result["max_difference"] = float(np.abs(output - scores).max())
    differing = found != expected
    chosen = np.take_along_axis(logits, np.clip(found, 0, logits.shape[1] - 1)[:, np.newaxis], axis=1)[:, 0]
    margins = (logits.max(axis=1) - chosen)[differing]
    result["differing_pixels"] = float(differing.mean())
    result["largest_margin"] = float(margins.max() / max(np.abs(logits).max(), 1e-12)) if margins.size else 0.0
    return result


def require_equal(check: Mapping[str, Any], save_dir: str, precision: str = "fp32") -> None:
    """Raises: ArtifactError: if a comparison is past the bounds for its device, or for what computes in 16 bits."""
    kind = precision if precision in MAX_DIFFERING_PIXELS else check["device"].split(":")[0]
    if check["differing_pixels"] > MAX_DIFFERING_PIXELS[kind] or check["largest_margin"] > NEAR_TIE[kind]:
        raise ArtifactError(
            f"the exported model differs from the trained one in {100 * check['differing_pixels']:.3g} % of the check "
            f"image's pixels (allowed: {100 * MAX_DIFFERING_PIXELS[kind]:g} %, "
            f"and only near-ties) when run by '{check['backend']}' on {check['device']}, so {save_dir} was not "
            "written. Export with another Paddle version "
            "(3.2.2 is the best tested)."
        )
