"""Evaluate a model on a data set: PaddleSeg's inference, one confusion matrix a batch, each rank its share of the
images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle import environment, progress, signals
from ppliteseg_paddle.config.options import EvalOptions
from ppliteseg_paddle.data.check_shapes import check_way_back
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.data_checks import lists_pairs
from ppliteseg_paddle.engine.device import device_line, select_device
from ppliteseg_paddle.engine.image_scores import Counts, write_counts
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.precision import autocast, check_precision
from ppliteseg_paddle.engine.loop.reader_errors import reader_errors
from ppliteseg_paddle.engine.loop.workers import Loader
from ppliteseg_paddle.engine.metrics import areas_on_device, confusion_on_device, scores, scores_of_areas
from ppliteseg_paddle.engine.reliability import confidences_on_device, reliability
from ppliteseg_paddle.engine.sample_rows import SampleRows, write_extremes
from ppliteseg_paddle.errors import DataError


def evaluate(model: Any, dataset: Any, counts: Counts | None = None, **options: Any) -> dict[str, Any]:
    """Evaluate `model` on every image of `dataset`, whose mode must be "val".

    With several ranks each takes its share of the images, every image once, and all get the result; batch norm's
    statistics are averaged over the ranks before.

    Args:
        counts: gets the confusion matrix, what is counted for each image, and pixels by their confidence.
        options: fields of `EvalOptions`, as in `evaluate(model, dataset, batch_size=4)`.
    Returns: `metrics.scores` and "images", their number.
    Raises: ConfigError; DataError: for an image or label that cannot be read.
    Source: PaddleSeg `core/val.py` and `core/infer.py`, whose figures it gives.
    """
    import paddle

    from ppliteseg_paddle.models.fused.folded import Folded

    chosen = EvalOptions(**options)
    if not len(dataset):
        raise DataError("the validation set is empty: there is nothing to evaluate on.")
    predict = _inference(chosen)
    distributed.average_statistics(model)
    several = bool(getattr(dataset, "planes", 0))  # classes of one pixel
    total = paddle.zeros([3 if several else dataset.num_classes, dataset.num_classes], dtype="int64")
    was_training = model.training
    model.eval()
    mine, size = distributed.share(len(dataset)), 1 if chosen.is_slide else chosen.batch_size
    shown = chosen.progress and distributed.rank() == 0

    def count(pred: Any, logits: Any, label: Any) -> Any:
        if several:
            return areas_on_device(logits > 0, label, dataset.ignore_index)
        return confusion_on_device(pred, label.reshape(pred.shape), dataset.num_classes, dataset.ignore_index)

    position, sizes = iter(mine), environment.SizeChanges()
    bar = progress.bar(total=len(mine), shown=shown, desc="evaluating", unit="image", leave=False)
    with distributed.all_or_none(), paddle.no_grad(), Folded(), reader_errors(), bar:
        for groups in _loader(dataset, mine, size, chosen.num_workers):
            signals.check()
            distributed.check_ranks()
            for group in groups:
                sizes.note(tuple(group["img"].shape))
                with autocast(chosen.precision, chosen.amp_level):
                    pred, logits = predict(model, group["img"], trans_info=group["trans_info"])
                if counts is None:
                    total += count(pred, logits, group["label"])
                else:
                    for i in range(len(group["img"])):
                        part = count(pred[i : i + 1], logits[i : i + 1] if several else None, group["label"][i : i + 1])
                        total += part
                        counts.add(next(position), part.numpy())
                    if not several:
                        sure = confidences_on_device(logits, pred, group["label"], dataset.ignore_index)
                        counts.confidences += sure.numpy()
                bar.update(len(group["img"]))
    if was_training:
        model.train()
    counted = distributed.sum_over_ranks(total.numpy())
    if counts is not None:
        counts.gather(None if several else counted)
    return {**(scores_of_areas(*counted) if several else scores(counted)), "images": len(dataset)}


def _inference(options: EvalOptions) -> Callable[..., Any]:
    """PaddleSeg's inference, as the options want it."""
    from paddleseg.core import infer

    window = dict(is_slide=options.is_slide, stride=options.stride, crop_size=options.crop_size)
    if not options.aug_eval:
        return functools.partial(infer.inference, **window)
    return functools.partial(
        infer.aug_inference,
        scales=options.scales,
        flip_horizontal=options.flip_horizontal,
        flip_vertical=options.flip_vertical,
        **window,
    )


def _loader(dataset: Any, indices: Sequence[int], batch_size: int, num_workers: int) -> Any:
    import paddle

    if not len(indices):  # more ranks than images
        return ()
    return Loader(
        paddle.io.Subset(dataset, list(indices)),
        batch_size=batch_size,
        shuffle=False,
        drop_last=False,
        num_workers=num_workers,
        return_list=True,
        collate_fn=stack_equals,
        make=paddle.io.DataLoader,
    )


def stack_equals(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Batches of those neighbors that one forward pass can take: of one size, and of one way back to the size of their
    label.

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


def _pairs(dataset: Any) -> Sequence[Sequence[str]]:
    """Paths of images and labels; numbers where a data set of another package does not tell them."""
    return getattr(dataset, "file_list", None) or [(str(index), "") for index in range(len(dataset))]


def val(
    config: Any,
    model_path: str | None = None,
    device: str | None = None,
    test_config: Mapping[str, Any] | None = None,
    verbose: bool = False,
    save_dir: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate the configured model with the weights of `model_path` on the configured validation set.

    Args:
        config: from `build.load_config`.
        device: "cpu", "gpu", "gpu:1", ...; None takes a GPU where there is one.
        test_config: in place of the configuration's own.
        save_dir: gets the confusion matrix, each image's scores (`engine.image_scores`), the worst and best images.
        options: fields of `EvalOptions`, as in `val(config, path, precision="fp16", num_workers=2)`.

    Returns: mIoU, mIoU_present, acc, kappa, dice, class_iou, class_names, images, and what was evaluated how.
    Raises: ConfigError, DataError, WeightsError
    """
    from ppliteseg_paddle.weights.load import load_weights

    test = dict(config.test_config if test_config is None else test_config)
    for unused in ("auc_roc", "print_detail"):
        test.pop(unused, None)
    how = {key: value for key, value in test.items() if key != "use_multilabel"}  # the data set says that
    chosen = EvalOptions(**{**how, **options})
    device, why = select_device(device)
    check_precision(chosen.precision, device, training=False)
    if distributed.rank() == 0:
        print(device_line(device, why), flush=True)
    dataset = build.build_val_dataset(config, verbose)
    if lists_pairs(dataset):
        check_way_back(dataset)
    model = build.build_model(config, pretrained=model_path is None, verbose=verbose)
    if model_path is not None:
        load_weights(model, model_path, strict=True)
    counts = None
    if save_dir:
        counts = Counts(len(dataset), dataset.num_classes, several=bool(getattr(dataset, "planes", 0)))
    measured = evaluate(model, dataset, counts, **{**how, **options})
    first = {key: measured.pop(key) for key in ("mIoU", "acc", "kappa", "dice", "class_iou")}
    names = list(build.label_set_of(config).classes)
    if save_dir and counts is not None and distributed.rank() == 0:
        rows = counts.rows(_pairs(dataset), getattr(dataset, "dataset_root", ""))
        measured["files"] = write_counts(save_dir, counts, rows, names)
        measured["ece"] = reliability(counts.confidences)["ece"]
        if hasattr(dataset, "read"):
            samples = SampleRows(dataset, config, chosen.precision, chosen.amp_level, {**test, **options})
            measured["files"] += write_extremes(save_dir, model, samples, rows)
        measured["worst_images"] = [{key: row[key] for key in ("image", "mIoU")} for row in rows[:3]]
    return {
        **first,
        "class_names": names,
        "images": measured.pop("images"),
        **measured,
        "config": config.source.path,
        "model_path": model_path,
        "device": device,
        "precision": chosen.precision,
        "test_config": test,
    }
