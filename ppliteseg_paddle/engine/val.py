"""Evaluate a model on a data set: PaddleSeg's inference, one confusion matrix, one progress bar."""
from __future__ import annotations

import contextlib
from typing import Any, Dict, Optional, Sequence

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.device import device_line, select_device
from ppliteseg_paddle.engine.loop import reader_errors
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores
from ppliteseg_paddle.errors import ConfigError, DataError


def evaluate(model, dataset, aug_eval: bool = False, scales=1.0, flip_horizontal: bool = False,
             flip_vertical: bool = False, is_slide: bool = False, stride: Optional[Sequence[int]] = None,
             crop_size: Optional[Sequence[int]] = None, precision: str = "fp32", amp_level: str = "O1",
             num_workers: int = 0, progress: bool = True) -> Dict[str, Any]:
    """Evaluate `model` on every image of `dataset`, whose mode must be "val".

    Args:
        aug_eval: average over `scales` and flips; is_slide: by windows of `crop_size` every `stride`, both (width, height).
        precision: fp16 runs under Paddle's automatic mixed precision.
        progress: show a progress bar on stderr.

    Returns: `metrics.scores` and "images", their number.
    Raises: DataError: for an image or label that cannot be read.
    Source: PaddleSeg `core/val.py` and `core/infer.py`, whose figures it gives.
    """
    import paddle
    from paddleseg.core import infer
    from tqdm import tqdm
    if not len(dataset):
        raise DataError("the validation set is empty: there is nothing to evaluate on.")
    window = dict(is_slide=is_slide, stride=stride, crop_size=crop_size)
    augmentation = dict(scales=scales, flip_horizontal=flip_horizontal, flip_vertical=flip_vertical) if aug_eval else {}
    run = infer.aug_inference if aug_eval else infer.inference
    matrix = 0
    was_training = model.training
    model.eval()
    loader = paddle.io.DataLoader(dataset, batch_size=1, shuffle=False, drop_last=False, num_workers=num_workers,
                                  return_list=True)
    with paddle.no_grad(), reader_errors():
        for data in tqdm(loader, total=len(dataset), desc="evaluating", unit="image", disable=not progress, leave=False):
            with _precision(paddle, precision, amp_level):
                pred, _ = run(model, data["img"], trans_info=data["trans_info"], **augmentation, **window)
            matrix = matrix + confusion_matrix(pred.numpy(), data["label"].numpy().reshape(pred.shape),
                                               dataset.num_classes, dataset.ignore_index)
    if was_training:
        model.train()
    return {**scores(matrix), "images": len(dataset)}


def _precision(paddle, precision: str, amp_level: str):
    if precision != "fp16":
        return contextlib.nullcontext()
    # The lists are those with which PaddleSeg's loop trains.
    return paddle.amp.auto_cast(level=amp_level, enable=True, custom_black_list={"bilinear_interp_v2"},
                                custom_white_list={"elementwise_add", "batch_norm", "sync_batch_norm"})


def val(config, model_path: Optional[str] = None, device: Optional[str] = None, num_workers: int = 0,
        precision: str = "fp32", amp_level: str = "O1", test_config: Optional[Dict[str, Any]] = None,
        progress: bool = True, verbose: bool = False) -> Dict[str, Any]:
    """Evaluate the configured model with the weights of `model_path` on the configured validation set.

    Args:
        config: from `build.load_config`.
        test_config: in place of the configuration's own.

    Returns: mIoU, mIoU_present, acc, kappa, dice, class_iou, class_names, images, and what was evaluated how.
    Raises: ConfigError, DataError, WeightsError
    """
    from ppliteseg_paddle.models.weights import load_weights
    chosen, why = select_device(device)
    check_precision(precision, chosen)
    print(device_line(chosen, why), flush=True)
    dataset = build.build_val_dataset(config, verbose)
    model = build.build_model(config, pretrained=model_path is None, verbose=verbose)
    if model_path is not None:
        load_weights(model, model_path, strict=True)
    arguments = dict(config.test_config if test_config is None else test_config)
    for unused in ("auc_roc", "print_detail"):
        arguments.pop(unused, None)
    measured = evaluate(model, dataset, num_workers=num_workers, precision=precision, amp_level=amp_level,
                        progress=progress, **arguments)
    first = {key: measured.pop(key) for key in ("mIoU", "acc", "kappa", "dice", "class_iou")}
    names = list(build.label_set_of(config).classes)
    return {**first, "class_names": names, "images": measured.pop("images"), **measured, "config": config.source.path,
            "model_path": model_path, "device": chosen, "precision": precision, "test_config": arguments}


def check_precision(precision: str, device: str) -> None:
    """Raises: ConfigError: for fp16 without a GPU, where Paddle would fail in the middle of the first step."""
    if precision == "fp16" and not device.startswith("gpu"):
        raise ConfigError("--precision fp16 needs a GPU, but the device is %s: use --precision fp32." % device)
