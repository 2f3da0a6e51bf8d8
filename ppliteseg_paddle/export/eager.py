"""The model itself behind the interface of deployment: what an export has to equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.export.describe import describe, mask_dtype
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.models.fused.folded import Folded
from ppliteseg_paddle.models.layers import resize, spatial_size
from ppliteseg_paddle.reading.image_form import COLOR, ImageForm
from ppliteseg_paddle.reading.label_sets import LabelSet


class GraphForm(paddle.nn.Layer):  # type: ignore[misc]  # paddle is not followed
    """What is exported: the model's first logits, then `output_op`.

    The mask is as small as its ids allow: less to copy.

    Args: with_logits: whether the logits are a second output, at the network's own stride where the model tells them
        (`small_logits`), else at the input's size.
    """

    def __init__(self, model: paddle.nn.Layer, output_op: str, num_classes: int, with_logits: bool = False) -> None:
        super().__init__()
        self.model, self.output_op, self.with_logits = model, output_op, with_logits
        # Paddle Inference has no way to hand out int16 (its copy_to_cpu takes such a tensor for float32).
        self.mask_dtype = mask_dtype(num_classes).replace("int16", "int32")

    def forward(self, x: paddle.Tensor) -> Any:
        if not self.with_logits:
            return self.decided(self.model(x)[0])
        logits = small = self.logits(x)
        if hasattr(self.model, "small_logits"):
            logits = resize(small, spatial_size(x))  # type: ignore[no-untyped-call]  # nor is paddle
        return self.decided(logits), small

    def logits(self, x: paddle.Tensor) -> paddle.Tensor:
        """The second output."""
        return (self.model.small_logits(x) if hasattr(self.model, "small_logits") else self.model(x))[0]

    def decided(self, logits: paddle.Tensor) -> paddle.Tensor:
        """The first output, of logits at the input's size."""
        if self.output_op == "argmax":
            return paddle.argmax(logits, axis=1).astype(self.mask_dtype)
        if self.output_op == "softmax":
            return F.softmax(logits, axis=1)
        if self.output_op == "sigmoid":
            return F.sigmoid(logits)
        return logits


class EagerBackend(Backend):
    """Runs the model without an export. It is put in evaluation mode, and must not change from the first run on."""

    name = "eager"

    def __init__(self, model: paddle.nn.Layer, output_op: str, num_classes: int) -> None:
        self._form = GraphForm(model, output_op, num_classes)
        self._form.eval()
        self._folded = Folded()
        self.device = paddle.get_device()

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        with paddle.no_grad(), self._folded:
            return np.asarray(self._form(paddle.to_tensor(batch)).numpy())

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        with paddle.no_grad(), self._folded:
            return np.asarray(self._form.logits(paddle.to_tensor(batch)).numpy())

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "runtime": "Paddle", "version": paddle.__version__, "device": self.device}


def eager_predictor(
    model: paddle.nn.Layer,
    label_set: LabelSet,
    preprocess: Preprocess,
    output_op: str = "argmax",
    image_form: ImageForm = COLOR,
    test_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Predictor:
    """A `Predictor` that runs the model itself, with options as `Predictor` has them. It is put in evaluation mode.

    Args: test_config: how an evaluation puts images through the network.
    """
    how: dict[str, Any] = {"output_op": output_op, "image_form": image_form, "test_config": test_config or {}}
    artifact = describe(model, ExportOptions(label_set, preprocess, **how))
    return Predictor.of(artifact, EagerBackend(model, output_op, label_set.num_classes), **options)
