"""Parameters and multiply-adds by part, feature shapes, strides and memory of a configured model.

Multiply-adds are counted as paddle.flops counts them. No data set is needed, and no weights are loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.cli.common import add_flags, positive_int
from ppliteseg_paddle.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, "config", config={"required": True})
    parser.add_argument(
        "--input_shape",
        type=positive_int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="shape of the input (default: one image of the training crop's size)",
    )
    add_flags(parser, "opts", "verbose")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.engine.build import build_model, load_config
    from ppliteseg_paddle.models.complexity import measure

    config = load_config(args.config, args.opts)
    model = build_model(config, pretrained=False, verbose=args.verbose)
    _check_model(model, args.config)
    shape = args.input_shape or _default_shape(config.dic)
    if shape[1] != 3:
        raise ConfigError(f"--input_shape {' '.join(map(str, shape))}: images have 3 channels: give N 3 H W.")
    return {"config": args.config, "num_classes": model.num_classes, **measure(model, shape)}


def _check_model(model: Any, path: str) -> None:
    if not all(hasattr(model, name) for name in ("backbone", "neck", "head", "seg_heads")):
        raise ConfigError(f"{path}: info describes PPLiteSegNet, but model.type is {type(model).__name__}.")


def _default_shape(values: dict[str, Any]) -> list[int]:
    for transform in values["train_dataset"].get("transforms", []):
        if "crop_size" in transform:
            width, height = transform["crop_size"]
            return [1, 3, height, width]
    return [1, 3, 512, 1024]


def summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['config']}, {result['num_classes']:d} classes, input {'x'.join(map(str, result['input_shape']))}",
        "",
        f"{'part'!s:22} {'parameters'!s:>12} {'learned'!s:>12} {'GMACs'!s:>10} {'of these conv'!s:>14}",
    ]
    rows = [(name, part) for name, part in result["parts"].items() if not name.startswith("auxiliary")]
    for name, part in rows + [("total, inference", result["total"])]:
        lines.append(_row(name, part))
    for name, part in result["parts"].items():
        if name.startswith("auxiliary"):
            lines.append(_row(name, part) + "   (training only)")
    lines += ["", f"{'feature'!s:22} {'shape'!s:18} {'stride'}"]
    for row in result["features"]:
        lines.append(f"{row['name']!s:22} {'x'.join(map(str, row['shape']))!s:18} {_stride(row['stride'])}")
    memory = result["memory"]
    lines += [
        "",
        "memory, float32: weights {}; largest layer's input and output {}; kept for gradients at least {}".format(
            *tuple(_megabytes(memory[key]) for key in ("weights", "largest_layer", "kept_for_gradients"))
        ),
        "parameters include running statistics; learned are those that training changes.",
        f"GMACs as paddle.flops counts them; not counted: {result['not_counted']}.",
    ]
    return "\n".join(lines)


def _row(name: str, part: dict[str, Any]) -> str:
    return (
        f"{name:22} {part['parameters']:12,} {part['learned']:12,} "
        f"{part['macs'] / 1e9:10.3f} {part['conv_macs'] / 1e9:14.3f}"
    )


def _stride(pair: Sequence[float]) -> str:
    height, width = (f"{number:g}" for number in pair)
    return height if height == width else f"{height} x {width}"


def _megabytes(count: int) -> str:
    return f"{(count / 1e6):.1f} MB"
