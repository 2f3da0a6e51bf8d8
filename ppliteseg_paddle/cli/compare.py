"""Compare two models on the same images: IoU of each class with 95 % intervals, where their masks differ, how fast they
are.

A and B are exported folders, folders of training runs (their best weights, else the last), or camvid-t. A list with
labels (`image label` a line) gives IoU; a folder of images tells where the models differ, and their speed. Intervals
are of the difference, B minus A, by a bootstrap over the images; * marks differences whose interval excludes 0.

Writes to --save_dir: compare.json, and differences.png with the images whose masks differ most."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.cli.common import add_backend, add_flags, count, positive_int
from ppliteseg_paddle.errors import ConfigError

RESULT = "compare.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="exported folder, folder of a run, or camvid-t")
    parser.add_argument("second", metavar="B", help="the other one")
    add_flags(
        parser,
        "image_path",
        "save_dir",
        "overwrite",
        image_path={"required": True, "help": "a list of images with their labels, a folder of images, an image"},
        save_dir={"default": "output/compare"},
    )
    add_backend(parser, "{}; one for both models, or one for A and one for B", nargs="+", default=["auto"])
    add_flags(parser, "num_threads")
    parser.add_argument(
        "--warmup", type=count, metavar="N", help="calls before timing starts (default: until times are steady)"
    )
    parser.add_argument("--repeats", type=positive_int, metavar="N", help="timed calls (default: 3 s, at least 20)")
    add_flags(parser, "device", "plugin")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.comparison import PICTURE, Comparison, compare
    from ppliteseg_paddle.deploy.sources import find_images, is_video
    from ppliteseg_paddle.files import write_json
    from ppliteseg_paddle.outputs import Outputs

    if is_video(args.image_path):
        raise ConfigError("compare takes images, not a video: take frames as images (ffmpeg -i VIDEO %06d.png).")
    if len(args.backend) > 2:
        raise ConfigError(f"--backend names {len(args.backend):d} runtimes; give one for both models, or two.")
    items = find_images(args.image_path, args.save_dir, ())
    first = _opened(args.first, args.backend[0], args)
    second = _opened(args.second, args.backend[-1], args)
    what = Comparison(first, second, _names(args.first, args.second), args.warmup, args.repeats)
    what.check()
    with Outputs(args.save_dir, args.overwrite).replacing(RESULT, PICTURE):
        result = compare(what, items, args.save_dir)
        picture = os.path.join(args.save_dir, PICTURE)
        if picture not in result["files"] and os.path.exists(picture):
            os.remove(picture)  # an earlier comparison's
        result["files"].append(os.path.join(args.save_dir, RESULT))
        write_json(result["files"][-1], result)
    return result


def _names(first: str, second: str) -> tuple[str, str]:
    """What to call them: the folders' names where these differ."""
    short = [os.path.basename(os.path.normpath(path)) for path in (first, second)]
    if short[0] != short[1]:
        return short[0], short[1]
    return (f"{short[0]} (A)", f"{short[1]} (B)") if first == second else (first, second)


def _opened(model: str, backend: str, args: argparse.Namespace) -> Any:
    """A predictor of an exported folder, or of a run's weights.

    Raises: ConfigError, WeightsError, ArtifactError: if it is neither.
    """
    from ppliteseg_paddle.reading.run_files import CONFIG_FILE

    config = os.path.join(model, CONFIG_FILE)
    if not os.path.isfile(config):
        from ppliteseg_paddle.deploy.predictor import Predictor

        return Predictor(model, backend, args.device, args.num_threads)
    from ppliteseg_paddle.export.trained import load_trained, trained_predictor
    from ppliteseg_paddle.weights.read import weights_in

    found = weights_in(model)
    if not found:
        raise ConfigError(f"{model} is a run's folder, but holds no weights yet: give the folder of another run.")
    return trained_predictor(*load_trained(config, found[0], device=args.device), with_scores=False)


def summary(result: dict[str, Any]) -> str:
    first, second = result["names"]
    lines = [f"A: {first}   B: {second}   {result['images']:d} images, {result['labelled']:d} with labels"]
    if "mIoU" in result:
        lines += ["", *_accuracy_lines(result)]
    a_ms, b_ms = result["speed"]["median_ms"]
    ratio = result["speed"]["times_as_fast"]
    size = "x".join(map(str, result["speed"]["image_size"]))
    lines += [
        "",
        f"masks:  {100 * result['agreement']:.2f} % of the pixels have one class in both",
        f"speed:  {a_ms:.1f} ms and {b_ms:.1f} ms an image of {size}: B is {ratio['median']:.2f} times as fast "
        f"({ratio['p25']:.2f} to {ratio['p75']:.2f})",
    ]
    worst = [
        f"{os.path.basename(row['image'])} ({100 * row['differing']:.1f} %)" for row in result["most_different"][:3]
    ]
    if worst:
        lines.append(f"most different: {', '.join(worst)}")
    return "\n".join([*lines, *(f"written: {path}" for path in result["files"])])


def _accuracy_lines(result: dict[str, Any]) -> Sequence[str]:
    from ppliteseg_paddle.reading.label_sets import aligned

    rows = [*result["classes"], {**result["mIoU"], "name": "mIoU"}]
    title, *names = aligned(["class", *(row["name"] for row in rows)])
    lines = [f"{title} {'A':>7} {'B':>7} {'B - A':>8}   95 % interval"]
    for name, row in zip(names, rows):
        (a, b), (low, high) = row["values"], row["interval"]
        interval = f"{100 * low:+.2f} to {100 * high:+.2f}{' *' if row['clear'] else ''}"
        lines.append(f"{name} {100 * a:7.2f} {100 * b:7.2f} {100 * row['difference']:+8.2f}   {interval}")
    return lines
