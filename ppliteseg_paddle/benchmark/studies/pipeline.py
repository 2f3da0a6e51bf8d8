"""Images a second of `ppliteseg predict`, from files to files, beside the model alone on the same runtime.

    python -m ppliteseg_paddle.benchmark.studies.pipeline --save_json FILE [--sources folder video ...] ...

folder      JPEGs of generated scenes to masks and overlays, PNGs
folder-jpg  the same with --overlay_format jpg; folder-half with --overlay_scale 0.5, too
video       a generated film to a video of overlays; video-half with --overlay_scale 0.5
camera      the same film as a stream that never waits; as in a recording, frames are repeated to keep its pace

All have as many images; the model alone gets them prepared. They run in turns in one process, as `predict` runs them.
What each stage costs of an image is measured by itself (`pipeline_stages`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

from ppliteseg_paddle import environment, progress
from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies.command import CLOCKS, by_clock, in_turns, run_and_report
from ppliteseg_paddle.benchmark.studies.inference import add_candidates, build_ours, open_candidates
from ppliteseg_paddle.benchmark.studies.pipeline_stages import (
    FRAME_KINDS,
    IMAGE_KINDS,
    STAGES,
    bound,
    film_stages,
    folder_stages,
)
from ppliteseg_paddle.benchmark.timing import Call, ratios, timed
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.predict_images import ImageRun, predict_images
from ppliteseg_paddle.deploy.predict_report import OVERLAY_FORMATS
from ppliteseg_paddle.deploy.predict_video import predict_video
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.sources import find_images
from ppliteseg_paddle.deploy.video import VideoWriter
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.palettes import OVERLAY_SCALE
from ppliteseg_paddle.visual.overlays import Overlays

BARE = "model alone"
NUM_CLASSES, WEIGHTS = 11, "camvid-t"  # of what is drawn
SCENES = 6  # that are drawn; further files repeat them
FPS, SPEED = 25.0, 3.0  # of the film: frames a second, pixels a frame


class Data(NamedTuple):
    """A folder of images, and a video of as many frames."""

    folder: str
    video: str
    number: int


# --------------------------------------------------------------------------------------------
# What is timed
# --------------------------------------------------------------------------------------------
class Source(NamedTuple):
    """predict: (predictor, style, data, save_dir) -> images that were segmented; stages: see `pipeline_stages`."""

    predict: Callable[[Predictor, Overlays, Data, str], int]
    stages: Callable[[Predictor, Overlays, Data, str], dict[str, dict[str, float]]]


def _folder(overlay_format: str = OVERLAY_FORMATS[0], scale: float = OVERLAY_SCALE) -> Source:
    def predict(predictor: Predictor, style: Overlays, data: Data, save_dir: str) -> int:
        run = ImageRun(save_dir, IMAGE_KINDS, overlay_format=overlay_format)
        result = predict_images(find_images(data.folder), lambda: (predictor, replace(style, scale=scale)), run)
        return int(result["images"])

    def stages(predictor: Predictor, style: Overlays, data: Data, save_dir: str) -> dict[str, dict[str, float]]:
        return folder_stages(predictor, replace(style, scale=scale), data.folder, save_dir, overlay_format)

    return Source(predict, stages)


def _film(scale: float = OVERLAY_SCALE, prefix: str = "") -> Source:
    def predict(predictor: Predictor, style: Overlays, data: Data, save_dir: str) -> int:
        opened, outputs = (predictor, replace(style, scale=scale)), Outputs(save_dir)
        return int(predict_video(prefix + data.video, lambda: opened, outputs, FRAME_KINDS)["frames"])

    def stages(predictor: Predictor, style: Overlays, data: Data, save_dir: str) -> dict[str, dict[str, float]]:
        return film_stages(predictor, replace(style, scale=scale), data.video, save_dir)

    return Source(predict, stages)


SOURCES = {
    "folder": _folder(),
    "folder-jpg": _folder("jpg"),
    "folder-half": _folder("jpg", 0.5),
    "video": _film(),
    "video-half": _film(0.5),
    "camera": _film(prefix="file://"),
}


def calls_of(
    predictors: Mapping[int, Predictor], style: Overlays, data: Data, sources: Sequence[str], folder: str
) -> dict[str, Call]:
    """The model alone, and each source by each predictor, for all images at once.

    Args: predictors: by their streams, the first runs the model alone; folder: for results, which are removed again.
    """
    predictor = next(iter(predictors.values()))
    prepared = [predictor.preprocess(read_image(item.path)) for item in find_images(data.folder)[:SCENES]]

    def model() -> None:
        for number in range(data.number):
            batch, undo = prepared[number % len(prepared)]
            predictor.forward(batch, predictor.needs_logits(undo))

    def from_files(source: str, streams: int) -> dict[str, float]:
        found: list[int] = []
        with tempfile.TemporaryDirectory(dir=folder) as save_dir:
            predict = SOURCES[source].predict
            seconds = timed(lambda: found.append(predict(predictors[streams], style, data, save_dir)))()
        if found != [data.number]:
            raise AssertionError(f"{source} gave {found[0]:d} of {data.number:d} images, so its time says nothing.")
        return seconds

    calls: dict[str, Call] = {BARE: timed(model)}
    for source in sources:
        calls.update((label(source, streams), partial(from_files, source, streams)) for streams in predictors)
    return calls


def label(source: str, streams: int) -> str:
    """What a source is called in results."""
    return source if streams == 1 else f"{source}, {streams:d} streams"


def make_data(folder: str, number: int, size: tuple[int, int]) -> Data:
    """Generated JPEGs, and a film. Args: size: (width, height)."""
    from ppliteseg_paddle.synth.film import film
    from ppliteseg_paddle.synth.writer import generate

    scenes, images, video = Path(folder, "scenes"), Path(folder, "images"), os.path.join(folder, "film.mp4")
    generate(str(scenes), train=min(SCENES, number), val=0, size=size)
    images.mkdir()
    drawn = sorted(scenes.glob("images/*.jpg"))
    for index in range(number):
        shutil.copy(drawn[index % len(drawn)], images / f"{index:04d}.jpg")
    with VideoWriter(video, FPS) as writer:
        for frame in film(0, size, number, SPEED):
            writer.write(frame.image)
    return Data(str(images), video, number)


# --------------------------------------------------------------------------------------------
# The measurement
# --------------------------------------------------------------------------------------------
def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; see the module. Raises: what `predict_images` and `predict_video` raise."""
    size, threads = tuple(args.size), args.num_threads or default_threads()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(folder, args.images, size)
        image = read_image(find_images(data.folder)[0].path)
        network = build_ours("T", NUM_CLASSES, WEIGHTS, image)
        opened = open_candidates(args.candidates, network, NUM_CLASSES, size[::-1], folder, image, threads)
        for name, (artifact, backend) in opened.items():
            predictors = {1: Predictor.of(artifact, backend)}
            for streams in args.streams:
                how = {"num_threads": threads, "streams": streams, "precision": backend.describe().get("precision")}
                predictors.setdefault(streams, Predictor(artifact.folder, backend.name, "cpu", **how))
            style = Overlays(artifact.label_set)
            calls = calls_of(predictors, style, data, args.sources, folder)
            measured = in_turns(name, {key: _quiet(call) for key, call in calls.items()}, args.warmup, args.repeats)
            share = {clock: ratios(measured, BARE, stage) for clock, stage in CLOCKS.items()}
            rows: dict[str, dict[str, Any]] = {}
            for source, one in measured.items():
                of_bare = {clock: share[clock][source]["median"] for clock in CLOCKS}
                rows[source] = {**by_clock(one.seconds, data.number), "share_of_bare": of_bare}
            for source in args.sources:
                with tempfile.TemporaryDirectory(dir=folder) as save_dir:
                    stages = SOURCES[source].stages(predictors[1], style, data, save_dir)
                rows[source].update(stages=stages, bound=bound(stages))
            results[name] = {"backend": backend.describe(), "sources": rows}
    return {
        "protocol": "round-robin",
        "size": list(size),
        "images": data.number,
        "weights": WEIGHTS,
        "num_threads": threads,
        "warmup": args.warmup,
        "repeats": args.repeats,
        "results": results,
        "machine": machine(),
    }


def _quiet(call: Call) -> Call:
    """Without the bars of `predict`."""

    def quiet() -> dict[str, float]:
        with progress.quiet():
            return call()

    return quiet


def table(result: Mapping[str, Any]) -> str:
    """What a person reads."""
    width, height = result["size"]
    lines = [
        f"PP-LiteSeg-T ({result['weights']}), {result['images']:d} images of {width:d}x{height:d}, "
        f"{result['num_threads']:d} threads, {result['machine']['processor']}, load {result['machine']['load_average']}"
    ]
    for name, candidate in result["results"].items():
        lines += ["", f"{name:22} {'images/s':>9} {'share':>6} {'cpu ms':>7}   stages, cpu ms"]
        lines[-1] += "".join(f"{stage:>9}" for stage in STAGES) + f" {'bound':>6}  most beside the network"
        for source, row in candidate["sources"].items():
            line = f"{source:22} {row['wall']['fps']:9.2f} {row['share_of_bare']['wall']:6.2f} "
            line += f"{row['cpu']['median_ms']:7.1f}"
            if "stages" in row:
                line += " " * 17 + "".join(f"{row['stages'][stage]['cpu']:9.1f}" for stage in STAGES)
                line += f" {row['bound']['share']:6.2f}  {row['bound']['next']}"
            lines.append(line)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    add_candidates(parser, "onnxruntime:fp32", "openvino:int8")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), default=[1280, 720], help="of the images")
    parser.add_argument("--images", type=int, default=24, help="in each call (default: %(default)s)")
    parser.add_argument("--streams", type=int, nargs="+", default=[], help="further numbers of streams, beside one")
    parser.add_argument("--num_threads", type=int, help="default: all cores")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save_json", default="bench_pipeline.json")
    args = parser.parse_args()
    environment.keep_freed_memory()  # as `ppliteseg predict` does
    return run_and_report(lambda: run(args), table, args.save_json)


if __name__ == "__main__":
    sys.exit(main())
