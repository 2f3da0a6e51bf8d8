"""Masks as `val` sees them: the validation transforms and `test_config`, through PaddleSeg's own inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppliteseg_paddle.engine.build import build, label_set_of, make_builder
from ppliteseg_paddle.reading.image_form import ImageForm


class _PaddleItself:
    """What runs, for reports: the model without an export."""

    def describe(self) -> dict[str, Any]:
        import paddle

        device = paddle.get_device()
        return {"name": "eager", "runtime": "Paddle", "version": paddle.__version__, "device": device}


class EvaluationPredictor:
    """Predicts as the evaluation does, test-time augmentation and sliding windows included, so that its masks have the
    mIoU that `val` reports.

    Args: model: in evaluation mode; config: from `build.load_config`.
    Attributes: `label_set`; `backend`, which says what runs; `image_form`, that of the images.
    """

    def __init__(self, model, config):
        from paddleseg.transforms import Compose

        self.model, self.label_set = model, label_set_of(config)
        self.image_form = ImageForm.of_block(config.dic.get("val_dataset") or config.dic["train_dataset"])
        self.transforms = Compose(build(make_builder(config), "val_transforms"), img_channels=self.image_form.channels)
        self.test_config = dict(config.test_config)
        self.backend = _PaddleItself()

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Shape: image as `reading.images.read_image` gives it; returns (H, W) class ids, uint8 or uint16, or with
        `use_multilabel` (H, W, classes), 0 and 1."""
        import paddle
        from paddleseg.core import infer

        test = self.test_config
        data = self.transforms({"img": image.astype("float32"), "trans_info": [], "gt_fields": []})
        batch = paddle.to_tensor(data["img"])[None]
        window = {key: test.get(key) for key in ("is_slide", "stride", "crop_size")}
        with paddle.no_grad():
            if test.get("aug_eval"):
                pred, logits = infer.aug_inference(
                    self.model,
                    batch,
                    trans_info=data["trans_info"],
                    scales=test.get("scales", 1.0),
                    flip_horizontal=test.get("flip_horizontal", False),
                    flip_vertical=test.get("flip_vertical", False),
                    **window,
                )
            else:
                pred, logits = infer.inference(self.model, batch, trans_info=data["trans_info"], **window)
        if test.get("use_multilabel"):
            return (logits[0] > 0).numpy().transpose(1, 2, 0).astype(np.uint8)
        return (
            pred.numpy().reshape(pred.shape[-2:]).astype(np.uint8 if self.label_set.num_classes <= 256 else np.uint16)
        )
