"""Evaluate weights on the validation images of a configuration: mIoU, accuracy, kappa, Dice, IoU of each class."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from ppliteseg_paddle import environment
from ppliteseg_paddle.cli.common import TEST_FLAGS, add_flags, config_for, test_config_from
from ppliteseg_paddle.cli.ranks import add_rank_flags, launched_instead
from ppliteseg_paddle.config.options import EvalOptions
from ppliteseg_paddle.files import check_writable
from ppliteseg_paddle.reading.label_sets import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, "config", "model_path", "save_json", "overwrite", model_path={"required": True})
    add_flags(
        parser,
        "save_dir",
        save_dir={
            "help": "write the confusion matrix (PNG, CSV, JSON), the scores of each image, the worst first (CSV, "
            "JSON), how far confidence is from accuracy (JSON), and pictures of the worst and the best images",
            "default": None,
        },
    )
    add_flags(parser, *TEST_FLAGS, "use_multilabel")
    add_flags(
        parser,
        "batch_size",
        batch_size={
            "help": "images at once where their sizes agree; of use on a GPU (default: %(default)s)",
            "default": EvalOptions.batch_size,
        },
    )
    add_flags(parser, "device", "num_workers", "precision", "amp_level", "opts", "verbose")
    add_rank_flags(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    result = launched_instead(args)
    if result is not None:
        return result
    from ppliteseg_paddle.engine.loop.notes import noting

    with noting() as note:
        note["result"] = _val(args)
    return note["result"]


def _val(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.engine.build import load_config
    from ppliteseg_paddle.engine.loop.distributed import rank
    from ppliteseg_paddle.outputs import check_result, write_result

    config = load_config(config_for(args), args.opts)
    if args.save_json and rank() == 0:
        check_result(args.save_json, args.overwrite)
    with _outputs(args) if args.save_dir and rank() == 0 else contextlib.nullcontext():
        result = _measure(args, config)
    if args.save_json and rank() == 0:
        write_result(args.save_json, result)
    return result


def _outputs(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    from ppliteseg_paddle.engine.image_scores import FILES, PICTURES
    from ppliteseg_paddle.outputs import Outputs

    check_writable(os.path.join(args.save_dir, FILES[0]))
    return Outputs(args.save_dir, args.overwrite).replacing(*FILES, *PICTURES)


def _measure(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    from ppliteseg_paddle.engine.val import val

    environment.keep_freed_memory()
    return val(
        config,
        args.model_path,
        device=args.device,
        num_workers=args.num_workers,
        precision=args.precision,
        amp_level=args.amp_level,
        test_config=test_config_from(args, config.test_config),
        verbose=args.verbose,
        batch_size=args.batch_size,
        save_dir=args.save_dir,
    )


def summary(result: dict[str, Any]) -> str:
    if "rank" in result:
        return f"rank {result['rank']} is done"
    title, *names = aligned(["class", *result["class_names"]])
    lines = [f"{title} {'IoU':>8} {'precision':>10} {'recall':>8}"]
    rows = zip(names, result["class_iou"], result["class_precision"], result["class_recall"], result["present"])
    for name, iou, precision, recall, present in rows:
        note = "" if present else "   (does not occur; counts as 0)"
        lines.append(f"{name} {iou:8.4f} {precision:10.4f} {recall:8.4f}{note}")
    lines.append("")
    lines.append(
        f"{result['images']:d} images: mIoU {result['mIoU']:.4f}, acc {result['acc']:.4f}, kappa "
        f"{result['kappa']:.4f}, dice {result['dice']:.4f}"
    )
    if not all(result["present"]):
        lines.append(f"Over the {sum(result['present']):d} classes that occur: mIoU {result['mIoU_present']:.4f}")
    if result.get("ece") is not None:
        lines.append(f"Expected calibration error of the confidence: {result['ece']:.4f}")
    worst = [f"{row['image']} ({row['mIoU']:.4f})" for row in result.get("worst_images", ()) if row["mIoU"] is not None]
    if worst:
        lines.append(f"Worst images: {', '.join(worst)}")
    lines += [f"written: {path}" for path in result.get("files", ())]
    return "\n".join(lines)
