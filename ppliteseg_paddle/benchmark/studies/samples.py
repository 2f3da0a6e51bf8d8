"""How long one training sample takes: PaddleSeg's own data set and transforms, and ours from files and from the caches.

    python -m ppliteseg_paddle.benchmark.studies.samples --save_json FILE [--cases NAME ...] [--images N] [--repeats N]

Images are generated scenes (`data synth`) with sensor noise that brings a 2048x1024 PNG to the size of one of
Cityscapes'. All candidates are timed round-robin, sample by sample, in one process and with one thread. What is drawn
differs from sample to sample, and a sample scaled by 0.125 costs less than one scaled by 1.5: so the figures are means
over many samples.

Source: PaddleSeg `datasets/dataset.py`, `transforms/transforms.py`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE
from ppliteseg_paddle.benchmark.studies.command import in_turns, run_and_report
from ppliteseg_paddle.benchmark.timing import Measurement, describe, timed
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.lists import read_list

NUM_CLASSES = 11
NOISE = 0.3  # standard deviation, levels: with zlib's level 6, 2.3 MB for a PNG of 2048x1024


class Case(NamedTuple):
    """An image size with the augmentation of a recipe."""

    size: tuple[int, int]
    crop_size: tuple[int, int]
    scales: tuple[float, float, float]
    colors: float
    suffix: str = "png"


CASES = {
    "2048x1024": Case((2048, 1024), (1024, 512), (0.125, 1.5, 0.125), 0.5),
    "2048x1024 JPEG": Case((2048, 1024), (1024, 512), (0.125, 1.5, 0.125), 0.5, "jpg"),
    "480x360": Case((480, 360), (480, 360), (0.5, 2.0, 0.125), 0.4),
    "480x360 crop 240x180": Case((480, 360), (240, 180), (0.5, 2.0, 0.125), 0.4),
}


# --------------------------------------------------------------------------------------------
# Data and candidates
# --------------------------------------------------------------------------------------------
def make_images(folder: str, case: Case, count: int) -> str:
    """Generated pairs of the case's size and file format. Returns their folder."""
    from ppliteseg_paddle.synth import generate

    scenes = os.path.join(folder, "scenes_{}x{}".format(*case.size))
    generate(scenes, count, 1, case.size, seed=0, num_workers=1)
    if case.suffix == "jpg":
        return scenes
    root = scenes + "_" + case.suffix
    if os.path.isdir(root):
        return root
    os.makedirs(root)
    random = np.random.default_rng(0)
    lines = []
    for index in range(count):
        image = read_image(os.path.join(scenes, "images", f"train_{index:05d}.jpg"))
        image = np.clip(image + random.normal(0, NOISE, image.shape), 0, 255).round().astype(np.uint8)
        label = read_label(os.path.join(scenes, "labels", f"train_{index:05d}.png"))
        names = f"{index:02d}.png", f"{index:02d}_label.png"
        for name, pixels in zip(names, (image, label)):
            cv2.imwrite(os.path.join(root, name), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        lines.append("{} {}\n".format(*names))
    with open(os.path.join(root, "train.txt"), "w", encoding="utf-8") as file:
        file.writelines(lines)
    return root


def candidates(root: str, case: Case, cache: str) -> dict[str, Callable[[int], Any]]:
    """name -> what makes the training sample of an image."""
    from paddleseg import transforms
    from paddleseg.datasets import Dataset

    from ppliteseg_paddle.data.cache import write_cache
    from ppliteseg_paddle.data.dataset import CheckedDataset
    from ppliteseg_paddle.data.transforms import FusedAugment

    colors = {name + "_range": case.colors for name in ("brightness", "contrast", "saturation")}
    arguments = {
        "mode": "train",
        "dataset_root": root,
        "num_classes": NUM_CLASSES,
        "train_path": os.path.join(root, "train.txt"),
    }
    theirs = Dataset(
        transforms=[
            transforms.ResizeStepScaling(*case.scales),
            transforms.RandomPaddingCrop(case.crop_size),
            transforms.RandomHorizontalFlip(),
            transforms.RandomDistort(**colors),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ],
        **arguments,
    )
    ours = [
        CheckedDataset(transforms=[FusedAugment(case.crop_size, *case.scales, distort=colors)], **arguments)
        for _ in range(3)
    ]
    write_cache(ours[:1], cache, num_workers=0)
    ours[1].use_cache(cache)
    ours[2].use_cache("memory")
    names = ("ours, files", "ours, data_cache: DIR", "ours, data_cache: memory")
    return {BASELINE: theirs.__getitem__, **{name: dataset.__getitem__ for name, dataset in zip(names, ours)}}


def run(cases: list[str], images: int, warmup: int, repeats: int) -> dict[str, Any]:
    """Measure; see the module."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    results = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in cases:
                case = CASES[name]
                root = make_images(folder, case, images)
                makers = candidates(root, case, os.path.join(folder, "cache " + name))
                calls = {who: timed(_cycling(make, images)) for who, make in makers.items()}
                measured = in_turns(name, calls, max(warmup, images), repeats, rest=0.0)
                results[name] = {
                    "size": case.size,
                    "crop_size": case.crop_size,
                    "scales": case.scales,
                    "colors": case.colors,
                    "image_bytes": _image_bytes(root),
                    "candidates": _rows(measured),
                }
    finally:
        cv2.setNumThreads(threads)
    return {
        "protocol": "round-robin, one thread",
        "images": images,
        "warmup": max(warmup, images),
        "repeats": repeats,
        "results": results,
        "machine": machine(),
    }


def _cycling(make: Callable[[int], Any], images: int) -> Callable[[], Any]:
    numbers = itertools.cycle(range(images))
    return lambda: make(next(numbers))


def _image_bytes(root: str) -> int:
    """Of an image file, on average."""
    sizes = [os.path.getsize(pair.image) for pair in read_list(os.path.join(root, "train.txt"))]
    return sum(sizes) // len(sizes)


def _rows(measured: dict[str, Measurement]) -> dict[str, Any]:
    sums = {name: {clock: sum(one.seconds[clock]) for clock in ("total", "cpu")} for name, one in measured.items()}
    return {
        name: {
            **{clock: describe(seconds) for clock, seconds in one.seconds.items()},
            "times_faster": {clock: sums[BASELINE][clock] / sums[name][clock] for clock in ("total", "cpu")},
        }
        for name, one in measured.items()
    }


# --------------------------------------------------------------------------------------------
# What a person reads
# --------------------------------------------------------------------------------------------
def table(result: dict[str, Any]) -> str:
    lines = [
        f"one training sample, one thread, means over {result['repeats']:d}, {result['machine']['processor']}, load "
        f"{result['machine']['load_average']}"
    ]
    for name, case in result["results"].items():
        megabytes = case["image_bytes"] / 1e6
        lines += [
            "",
            f"{f'{name} (files of {megabytes:.2f} MB)':40} {'ms':>10} {'ratio':>10} {'cpu ms':>10} {'cpu ratio':>10}",
        ]
        for who, row in case["candidates"].items():
            lines.append(
                f"{who!s:40} {row['total']['mean_ms']:10.1f} {row['times_faster']['total']:9.2f}x "
                f"{row['cpu']['mean_ms']:10.1f} {row['times_faster']['cpu']:9.2f}x"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME", help=", ".join(CASES)
    )
    parser.add_argument("--images", type=int, default=4, help="generated for each case")
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=120)
    parser.add_argument("--save_json", default="bench_data.json")
    args = parser.parse_args()
    return run_and_report(lambda: run(args.cases, args.images, args.warmup, args.repeats), table, args.save_json)


if __name__ == "__main__":
    sys.exit(main())
