"""The model itself behind the interface of deployment, and the comparison of an export with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle  # after ours: on Paddle 2.6 OpenCV has to be loaded first
import paddle.nn.functional as F

from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import restore
from ppliteseg_paddle.errors import ArtifactError

# An export may differ from its model in this share of an image's pixels, and only where two classes are nearly equal:
# by less than this part of the largest score. Float sums in another order do no more; GPUs may round to TF32 (10 bits).
# What computes in 16 bits rounds every value to 11 bits.
# 8 bits move borders; here it is only seen that the graph is not broken. What they cost is measured in mIoU
# (`quantize`).
MAX_DIFFERING_PIXELS = {"cpu": 1e-3, "gpu": 5e-3, "fp16": 2e-2, "int8": 0.15}
NEAR_TIE = {"cpu": 1e-3, "gpu": 1e-2, "fp16": 5e-2, "int8": 0.5}


def mask_dtype(num_classes: int) -> str:
    """The smallest integers that hold every id. Paddle has no unsigned ones of 16 bits."""
    return "uint8" if num_classes <= 256 else "int16" if num_classes <= 1 << 15 else "int32"


class GraphForm(paddle.nn.Layer):
    """What is exported: the model's first logits, then `output_op`. The mask is as small as its ids allow: less to
    copy."""

    def __init__(self, model, output_op: str, num_classes: int):
        super().__init__()
        self.model, self.output_op = model, output_op
        # Paddle Inference has no way to hand out int16 (its copy_to_cpu takes such a tensor for float32).
        self.mask_dtype = mask_dtype(num_classes).replace("int16", "int32")

    def forward(self, x):
        logits = self.model(x)[0]
        if self.output_op == "argmax":
            return paddle.argmax(logits, axis=1).astype(self.mask_dtype)
        if self.output_op == "softmax":
            return F.softmax(logits, axis=1)
        return logits


class EagerBackend(Backend):
    """The model itself behind the interface of deployment: what an export has to equal."""

    name = "eager"

    def __init__(self, model, output_op: str, num_classes: int):
        self._form = GraphForm(model, output_op, num_classes)
        self._form.eval()
        self.device = paddle.get_device()

    def run(self, batch: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return self._form(paddle.to_tensor(batch)).numpy()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "runtime": "Paddle", "version": paddle.__version__, "device": self.device}


def compare(exported: Predictor, model, image: np.ndarray) -> dict[str, Any]:
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
    result = {"backend": exported.backend.name, "device": exported.backend.device, "input_size": list(batch.shape[2:])}
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
