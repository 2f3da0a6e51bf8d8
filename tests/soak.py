"""Thousands of images of random sizes, frames and crops: does memory stay bounded, does the rate stay?

    bash scripts/soak.sh --images 5000 --frames 20000 --json soak.json

Each runtime segments in processes of its own, as `ppliteseg predict` does: files are read, masks and overlays written.
The start is the moment after the first result, whose image is of the largest size. The network is PP-LiteSeg-T with
random weights. Status 1 if memory rises by more than the bound above the start. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RUNTIMES = ("paddle", "onnxruntime", "openvino", "tensorrt")
BOUND = 300  # MB above the start
SMALLEST, LARGEST, FRAME = 64, 640, (128, 160)
CROPS, BATCH = (32, 256), 2
COLUMNS = ("runtime", "what", "number", "start_mb", "end_mb", "highest_mb", "start_rate", "end_rate")
HEADS = ("Runtime", "What", "Number", "MB at start", "MB at end", "Highest", "Images/s at start", "Images/s at end")


@dataclass
class Row:
    """One line of the table. Rates (images/s) are of the first and of the last tenth; memory is the process's resident
    set."""

    runtime: str
    what: str
    number: int
    start_mb: float
    end_mb: float
    highest_mb: float
    start_rate: float
    end_rate: float

    @property
    def bounded(self):
        return self.highest_mb - self.start_mb <= BOUND


class Watch:
    """Notes time and memory after each result."""

    def __init__(self):
        self.times, self.memory = [], []

    def tick(self):
        with open("/proc/self/statm") as file:
            self.memory.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        self.times.append(time.monotonic())

    def row(self, runtime, what, each=1):
        tenth = max(1, (len(self.times) - 1) // 10)
        rates = [
            round(each * tenth / (times[-1] - times[0]), 1)
            for times in (self.times[: tenth + 1], self.times[-tenth - 1 :])
        ]
        memory = [round(value) for value in (self.memory[0], self.memory[-1], max(self.memory))]
        return Row(runtime, what, len(self.times), *memory, *rates)


# --------------------------------------------------------------------------------------------
# What is segmented
# --------------------------------------------------------------------------------------------
def photograph():
    from exported import photograph

    return photograph(2 * LARGEST, 2 * LARGEST)


def write_images(folder, number):
    import cv2

    folder.mkdir()
    draws, pixels = random.Random(0), photograph()
    for index in range(number):
        height, width = (draws.randint(SMALLEST, LARGEST) if index else LARGEST for _ in "HW")
        top, left = draws.randint(0, LARGEST), draws.randint(0, LARGEST)
        cv2.imwrite(str(folder / f"{index:06d}.jpg"), pixels[top : top + height, left : left + width])


def write_video(path, number):
    from ppliteseg_paddle.deploy.video import VideoWriter

    draws, pixels = random.Random(0), photograph()
    with VideoWriter(str(path), 25.0) as video:
        for _ in range(number):
            top, left = draws.randint(0, LARGEST), draws.randint(0, LARGEST)
            video.write(np.ascontiguousarray(pixels[top : top + FRAME[0], left : left + FRAME[1]]))


def export(folder, runtimes):
    from exported import LABELS, TRANSFORMS, model

    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    formats = tuple({"onnxruntime": "onnx"}.get(runtime, runtime) for runtime in runtimes)
    sides = [(1, 3, side, side) for side in (SMALLEST, 256, LARGEST)] if "tensorrt" in runtimes else None
    export_model(model(), str(folder), ExportOptions(LABELS, TRANSFORMS, formats=formats, dynamic_shape=sides))


# --------------------------------------------------------------------------------------------
# A process each: `python soak.py --part NAME`
# --------------------------------------------------------------------------------------------
def images(work, runtime, watch):
    from ppliteseg_paddle.deploy.predict_images import ImageRun, predict_images
    from ppliteseg_paddle.deploy.sources import find_images

    run = ImageRun(str(work / "results"), ("mask",))
    predict_images(find_images(str(work / "images")), lambda: _opened(work, runtime, watch), run)


def frames(work, runtime, watch):
    from ppliteseg_paddle.deploy.predict_video import predict_video
    from ppliteseg_paddle.outputs import Outputs

    opener = lambda: _opened(work, runtime, watch)  # noqa: E731
    predict_video(str(work / "video.mp4"), opener, Outputs(str(work / "results")), ("overlay",))


def _opened(work, runtime, watch):
    from ppliteseg_paddle.deploy.predictor import Predictor
    from ppliteseg_paddle.visual.overlays import Overlays

    class Watched(Predictor):
        def finish(self, *arguments):
            found = super().finish(*arguments)
            watch.tick()
            return found

    predictor = Watched(work / "export", runtime)
    return predictor, Overlays(predictor.label_set)


def training(number, watch):
    """Steps of the network, its losses and its optimizer, each with a crop of another size; the first is the
    largest."""
    import paddle

    from ppliteseg_paddle import pp_liteseg_t
    from ppliteseg_paddle.losses.cross_entropy import OhemCELoss

    draws = random.Random(0)
    net, loss = pp_liteseg_t(num_classes=11), OhemCELoss()
    net.train()
    optimizer = paddle.optimizer.Momentum(0.001, parameters=net.parameters())
    for step in range(number):
        height, width = (draws.randint(*CROPS) if step else CROPS[1] for _ in "HW")
        crop = paddle.rand([BATCH, 3, height, width])
        label = paddle.randint(0, 11, [BATCH, height, width])
        sum(loss(logits, label) for logits in net(crop)).backward()
        optimizer.step()
        optimizer.clear_grad()
        watch.tick()


def part(work, name, number):
    """Returns: the row of "RUNTIME WHAT"."""
    from ppliteseg_paddle import environment

    environment.prepare()
    runtime, what = name.split()
    watch = Watch()
    if what == "crops":
        training(number, watch)
        return watch.row(runtime, what, BATCH)
    {"images": images, "frames": frames}[what](work, runtime, watch)
    return watch.row(runtime, what)


# --------------------------------------------------------------------------------------------
# All of them
# --------------------------------------------------------------------------------------------
def all_rows(work, numbers, runtimes):
    """Args: numbers: what -> how many. Yields: rows."""
    if runtimes:
        _run(work, "export", ",".join(runtimes))
        if numbers["images"]:
            write_images(work / "images", numbers["images"])
        if numbers["frames"]:
            write_video(work / "video.mp4", numbers["frames"])
    parts = [(runtime, what) for runtime in runtimes for what in ("images", "frames")] + [("training", "crops")]
    for runtime, what in parts:
        if numbers[what]:
            yield Row(**json.loads(_run(work, f"{runtime} {what}", str(numbers[what]))))


def _run(work, name, argument):
    """A part in a process of its own, as memory is that of processes."""
    command = [sys.executable, str(Path(__file__)), "--part", name, "--work", str(work), argument]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {name} ended with status {done.returncode:d}.")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def table(rows):
    """Markdown."""
    body = [[str(getattr(row, column)) for column in COLUMNS] for row in rows]
    rules = ["---", "---", *["---:"] * (len(COLUMNS) - 2)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [HEADS, rules, *body])


def available():
    """The runtimes that can be tried here."""
    from ppliteseg_paddle.benchmark.environment import gpus
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES as known

    return [name for name in RUNTIMES if known[name].installed and ("cpu" in known[name].devices or gpus())]


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak.sh", description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000, help="images of random sizes, per runtime (default: 5000)")
    parser.add_argument("--frames", type=int, default=20000, help="of a video, per runtime (default: 20000)")
    parser.add_argument("--crops", type=int, default=500, help="steps of training, each of a new size (default: 500)")
    parser.add_argument(
        "--runtimes", nargs="*", choices=RUNTIMES, metavar="NAME", help=f"default: those here of {RUNTIMES}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too, with the machine")
    args = parser.parse_args()
    runtimes = available() if args.runtimes is None else args.runtimes
    from ppliteseg_paddle.benchmark.environment import machine

    where, rows = machine(), []
    with tempfile.TemporaryDirectory(prefix="ppliteseg_soak_") as work:
        numbers = {"images": args.images, "frames": args.frames, "crops": args.crops}
        for row in all_rows(Path(work), numbers, runtimes):
            rows.append(row)
            print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    print(f"{where['processor']}, {where['cpus_usable']} CPUs\n\n{table(rows)}")
    if args.json:
        args.json.write_text(
            json.dumps({"bound_mb": BOUND, "rows": [asdict(row) for row in rows], "machine": where}, indent=2)
        )
    over = [f"{row.runtime} {row.what}" for row in rows if not row.bounded]
    if over:
        print(f"memory rises by more than {BOUND} MB: {', '.join(over)}")
    return 1 if over else 0


def main_of_part(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--part")
    parser.add_argument("--work", type=Path)
    parser.add_argument("argument")
    args = parser.parse_args(arguments)
    if args.part == "export":
        export(args.work / "export", args.argument.split(","))
        return
    print(json.dumps(asdict(part(args.work, args.part, int(args.argument)))))


if __name__ == "__main__":
    sys.exit(main_of_part(sys.argv[1:]) if "--part" in sys.argv else main())
