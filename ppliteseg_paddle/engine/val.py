"""Evaluate a model on a data set: PaddleSeg's inference, one confusion matrix a batch, each rank its share of the
images."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.device import device_line, select_device
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.precision import autocast, check_precision
from ppliteseg_paddle.engine.loop.surroundings import loop_module, reader_errors, replaced
from ppliteseg_paddle.engine.metrics import confusion_on_device, scores
from ppliteseg_paddle.errors import DataError


def evaluate(
    model,
    dataset,
    aug_eval: bool = False,
    scales=1.0,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    is_slide: bool = False,
    stride: Sequence[int] | None = None,
    crop_size: Sequence[int] | None = None,
    precision: str = "fp32",
    amp_level: str = "O1",
    num_workers: int = 0,
    progress: bool = True,
    batch_size: int = 1,
) -> dict[str, Any]:
    """Evaluate `model` on every image of `dataset`, whose mode must be "val".

    With several ranks each takes its share of the images, every image once, and all get the result; batch norm's
    statistics
    are averaged over the ranks before.

    Args:
        aug_eval: average over `scales` and flips; is_slide: by windows of `crop_size` every `stride`, both (width,
            height).
        precision: fp16 or bf16 runs under Paddle's automatic mixed precision.
        progress: show a progress bar on stderr.
        batch_size: images at once, as far as neighbours have one size. Worth it on GPUs; windows go one by one.

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
    distributed.average_statistics(model)
    total = paddle.zeros([dataset.num_classes, dataset.num_classes], dtype="int64")
    was_training = model.training
    model.eval()
    mine, size = distributed.share(len(dataset)), 1 if is_slide else batch_size
    bar = tqdm(
        total=len(mine), desc="evaluating", unit="image", disable=not progress or distributed.rank() > 0, leave=False
    )
    with paddle.no_grad(), reader_errors(), bar:
        for groups in _loader(dataset, mine, size, num_workers):
            for group in groups:
                with autocast(precision, amp_level):
                    pred, _ = run(model, group["img"], trans_info=group["trans_info"], **augmentation, **window)
                total += confusion_on_device(
                    pred, group["label"].reshape(pred.shape), dataset.num_classes, dataset.ignore_index
                )
                bar.update(len(group["img"]))
    if was_training:
        model.train()
    return {**scores(distributed.sum_over_ranks(total.numpy())), "images": len(dataset)}


def _loader(dataset, indices: Sequence[int], batch_size: int, num_workers: int):
    import paddle

    if not len(indices):  # more ranks than images
        return ()
    return paddle.io.DataLoader(
        paddle.io.Subset(dataset, list(indices)),
        batch_size=batch_size,
        shuffle=False,
        drop_last=False,
        num_workers=num_workers,
        return_list=True,
        collate_fn=stack_equals,
    )


def stack_equals(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Batches of those neighbours that one forward pass can take: of one size, and of one way back to their label's
    size.

    Args: samples: as a data set in mode "val" gives them, with "img", "label" and "trans_info".
    Shape: "img" (N, 3, H, W) and "label" (N, 1, H', W') of each batch.
    """
    groups: list[dict[str, Any]] = []
    last = None
    for sample in samples:
        key = (sample["img"].shape, sample["label"].shape, repr(sample["trans_info"]))
        if key != last:
            groups.append({"img": [], "label": [], "trans_info": sample["trans_info"]})
        groups[-1]["img"].append(sample["img"])
        groups[-1]["label"].append(sample["label"])
        last = key
    return [{**group, "img": np.stack(group["img"]), "label": np.stack(group["label"])} for group in groups]


@contextlib.contextmanager
def fast_evaluation():
    """Let PaddleSeg's loop evaluate by `evaluate`, which gives the same figures.

    Reason: the loop's evaluation counts each class by itself, several times slower than it need be; with several ranks
        each
    uses batch norm's statistics of its own, and three transfers are made for every image.
    """
    module = loop_module()
    slow, logger = module.evaluate, module.logger

    def evaluate_fast(model, dataset, auc_roc=False, print_detail=True, **arguments):
        if auc_roc:
            return slow(model, dataset, auc_roc=True, print_detail=print_detail, **arguments)
        result = evaluate(
            model, dataset, progress=print_detail and sys.stderr.isatty(), **arguments
        )  # a bar would litter a log
        if print_detail and distributed.rank() == 0:
            logger.info(f"[EVAL] {scores_line(result)}")
            logger.info(f"[EVAL] Class IoU: {' '.join(f'{value:.4f}' for value in result['class_iou'])}")
        return (
            result["mIoU"],
            result["acc"],
            np.array(result["class_iou"]),
            np.array(result["class_precision"]),
            result["kappa"],
        )

    with replaced(module, "evaluate", evaluate_fast):
        yield


def scores_line(result: dict[str, Any]) -> str:
    """What was measured, in one line."""
    return (
        f"#Images: {result['images']} mIoU: {result['mIoU']:.4f} Acc: {result['acc']:.4f} "
        f"Kappa: {result['kappa']:.4f} Dice: {result['dice']:.4f}"
    )


def val(
    config,
    model_path: str | None = None,
    device: str | None = None,
    num_workers: int = 0,
    precision: str = "fp32",
    amp_level: str = "O1",
    test_config: dict[str, Any] | None = None,
    progress: bool = True,
    verbose: bool = False,
    batch_size: int = 1,
) -> dict[str, Any]:
    """Evaluate the configured model with the weights of `model_path` on the configured validation set.

    Args:
        config: from `build.load_config`.
        test_config: in place of the configuration's own.

    Returns: mIoU, mIoU_present, acc, kappa, dice, class_iou, class_names, images, and what was evaluated how.
    Raises: ConfigError, DataError, WeightsError
    """
    from ppliteseg_paddle.weights.load import load_weights

    chosen, why = select_device(device)
    check_precision(precision, chosen)
    if distributed.rank() == 0:
        print(device_line(chosen, why), flush=True)
    dataset = build.build_val_dataset(config, verbose)
    model = build.build_model(config, pretrained=model_path is None, verbose=verbose)
    if model_path is not None:
        load_weights(model, model_path, strict=True)
    arguments = dict(config.test_config if test_config is None else test_config)
    for unused in ("auc_roc", "print_detail"):
        arguments.pop(unused, None)
    measured = evaluate(
        model,
        dataset,
        num_workers=num_workers,
        precision=precision,
        amp_level=amp_level,
        progress=progress,
        batch_size=batch_size,
        **arguments,
    )
    first = {key: measured.pop(key) for key in ("mIoU", "acc", "kappa", "dice", "class_iou")}
    names = list(build.label_set_of(config).classes)
    return {
        **first,
        "class_names": names,
        "images": measured.pop("images"),
        **measured,
        "config": config.source.path,
        "model_path": model_path,
        "device": chosen,
        "precision": precision,
        "test_config": arguments,
    }
