"""`data stats`."""

from __future__ import annotations

from ppliteseg_paddle.cli.common import add_flags, count, positive_int
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.label_sets import aligned

HELP = "class frequencies, loss weights, mean and deviation, and figures of them"


def add_arguments(parser) -> None:
    add_flags(parser, "config", config={"required": True})
    parser.add_argument("--split", choices=["train", "val"], default="train", help="which list")
    add_flags(parser, "save_dir", save_dir={"default": "output/data_stats", "help": "where the figures go"})
    add_flags(parser, "overwrite")
    parser.add_argument("--samples", type=positive_int, default=6, metavar="N", help="images in samples.png")
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="which images those are")
    add_flags(parser, "palette")
    add_flags(
        parser,
        "num_workers",
        "opts",
        num_workers={"type": count, "default": None, "help": "processes (default: one per core)"},
    )


def run(args) -> dict:
    from ppliteseg_paddle.engine.build import load_config
    from ppliteseg_paddle.engine.data_tools import describe_config

    config = load_config(args.config, args.opts)
    with Outputs(args.save_dir, args.overwrite).replacing("distribution.png", "samples.png"):
        return describe_config(
            config, args.split, args.save_dir, args.samples, args.seed, args.palette, num_workers=args.num_workers
        )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range_lines(result: dict) -> list[str]:
    """The range of values of images of more than 8 bits."""
    if not result["found_range"]:
        return []
    lines = [f"range {result['found_range']}   (of 99.8 % of each channel's values)"]
    if result["img_range"] == result["found_range"]:
        lines.append(f"      for the data sets' blocks: img_range: {result['found_range']}; mean and std are for it")
    return lines


def summary(result: dict) -> str:
    title, *names = aligned(["class", *(row["name"] for row in result["classes"])])
    lines = [f"{title} {'pixels':>10} {'images':>10} {'median freq.':>12} {'ENet':>8}"]
    for name, row in zip(names, result["classes"]):
        lines.append(
            f"{name} {100 * row['share']:8.3f} % {100 * row['image_share']:8.1f} % "
            f"{_number(row['median_frequency'], 3):>12} {_number(row['enet'], 2):>8}"
        )
    lines += [
        "",
        f"{result['images']:d} images of {result['split']}, {100 * result['ignored_share']:.1f} % of the pixels "
        "ignored",
        f"mean  [{', '.join(f'{value:.4f}' for value in result['mean'])}]",
        f"std   [{', '.join(f'{value:.4f}' for value in result['std'])}]   (for Normalize, of color RGB)",
        *_range_lines(result),
        "",
        "weights for CELoss, by median frequency and by ENet's rule (1 where a class does not occur):",
    ]
    for key in ("median_frequency", "enet"):
        lines.append(
            f"  weight: [{', '.join(f'{(1 if row[key] is None else row[key]):.3f}' for row in result['classes'])}]"
        )
    return "\n".join(lines + [""] + result["pictures"])
