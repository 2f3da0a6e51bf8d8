"""Evaluate weights on the validation images of a configuration: mIoU, accuracy, kappa, Dice, IoU of each class."""

from __future__ import annotations

from ppliteseg_paddle.cli.common import TEST_FLAGS, add_flags, test_config_from
from ppliteseg_paddle.cli.ranks import add_rank_flags, launched_instead


def add_arguments(parser) -> None:
    add_flags(parser, "config", "model_path", "save_json", config={"required": True}, model_path={"required": True})
    add_flags(parser, *TEST_FLAGS)
    add_flags(
        parser,
        "batch_size",
        batch_size={
            "help": "images at once where their sizes agree; of use on a GPU (default: %(default)s)",
            "default": 1,
        },
    )
    add_flags(parser, "device", "num_workers", "precision", "amp_level", "opts", "verbose")
    add_rank_flags(parser)


def run(args) -> dict:
    result = launched_instead(args)
    if result is not None:
        return result
    from ppliteseg_paddle.engine.loop.launch import noting

    with noting() as note:
        note["result"] = _val(args)
    return note["result"]


def _val(args) -> dict:
    from ppliteseg_paddle.engine.build import load_config
    from ppliteseg_paddle.engine.loop.distributed import rank
    from ppliteseg_paddle.engine.val import val
    from ppliteseg_paddle.files import check_writable, write_json

    config = load_config(args.config, args.opts)
    if args.save_json and rank() == 0:
        check_writable(args.save_json)
    result = val(
        config,
        args.model_path,
        device=args.device,
        num_workers=args.num_workers,
        precision=args.precision,
        amp_level=args.amp_level,
        test_config=test_config_from(args, config.test_config),
        verbose=args.verbose,
        batch_size=args.batch_size,
    )
    if args.save_json and rank() == 0:
        write_json(args.save_json, result)
    return result


def summary(result: dict) -> str:
    if "rank" in result:
        return "rank {} is done".format(result["rank"])
    width = max([5] + [len(name) for name in result["class_names"]])
    lines = ["%-*s %8s %10s %8s" % (width, "class", "IoU", "precision", "recall")]
    rows = zip(
        result["class_names"], result["class_iou"], result["class_precision"], result["class_recall"], result["present"]
    )
    for name, iou, precision, recall, present in rows:
        note = "" if present else "   (does not occur; counts as 0)"
        lines.append("%-*s %8.4f %10.4f %8.4f%s" % (width, name, iou, precision, recall, note))
    lines.append("")
    lines.append(
        "%d images: mIoU %.4f, acc %.4f, kappa %.4f, dice %.4f"
        % (result["images"], result["mIoU"], result["acc"], result["kappa"], result["dice"])
    )
    if not all(result["present"]):
        lines.append("Over the %d classes that occur: mIoU %.4f" % (sum(result["present"]), result["mIoU_present"]))
    return "\n".join(lines)
