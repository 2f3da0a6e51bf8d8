"""What each stage of `ppliteseg predict` costs of an image: one stage after the other, over the same images.

read      decode the file, or a frame
prepare   normalize
network   the model
mask      the mask at the image's size, and its classes counted
draw      the overlay
write     mask and overlay; a frame of a video, the overlay alone
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any, Callable

from ppliteseg_paddle.benchmark.studies.command import CLOCKS
from ppliteseg_paddle.benchmark.timing import REST_SECONDS, timed
from ppliteseg_paddle.deploy.predict_report import OVERLAY_FORMATS
from ppliteseg_paddle.deploy.predictor import Prediction, Predictor
from ppliteseg_paddle.deploy.results import VideoResults, image_paths
from ppliteseg_paddle.deploy.sources import find_images
from ppliteseg_paddle.deploy.tally import Tally
from ppliteseg_paddle.deploy.video import VideoReader
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.visual.overlays import Overlays
from ppliteseg_paddle.visual.png import write_image, write_mask

NETWORK = "network"
STAGES = ("read", "prepare", NETWORK, "mask", "draw", "write")
IMAGE_KINDS, FRAME_KINDS = ("mask", "overlay"), ("overlay",)  # what `predict` writes unless told otherwise
IMAGES = 12  # at most, as all are in memory between two stages


class Stages:
    """Attributes: ms: stage -> milliseconds of an image by each clock of `command.CLOCKS`."""

    def __init__(self) -> None:
        self.ms: dict[str, dict[str, float]] = {}

    def each(self, stage: str, work: Callable[[Any], Any], items: Iterable[Any], again: bool = False) -> list[Any]:
        """`work` of each item, timed.

        Args: again: whether to do it once before, untimed: in a pipeline memory has been used before, which the system
            does not zero anew.
        """
        if again:
            items = list(items)
            list(map(work, items))
        found: list[Any] = []
        time.sleep(REST_SECONDS)  # the stage before has threads that spin
        seconds = timed(lambda: found.extend(map(work, items)))()
        self.ms[stage] = {clock: 1000 * seconds[name] / len(found) for clock, name in CLOCKS.items()}
        return found

    def masks(self, predictor: Predictor, images: Iterable[Any]) -> list[Any]:
        """From pixels to masks."""
        tally = Tally(predictor)

        def infer(prepared: tuple[Any, Any]) -> tuple[Any, Any]:
            batch, undo = prepared
            return predictor.forward(batch, predictor.needs_logits(undo)), undo

        def finish(inferred: tuple[Any, Any]) -> Any:
            mask = predictor.postprocess(*inferred)
            tally.add(mask)
            return mask

        prepared = self.each("prepare", predictor.preprocess, images, again=True)
        return self.each("mask", finish, self.each(NETWORK, infer, prepared))


def folder_stages(
    predictor: Predictor, style: Overlays, folder: str, save_dir: str, overlay_format: str = OVERLAY_FORMATS[0]
) -> dict[str, dict[str, float]]:
    """Of the images in a folder. Returns: see `Stages.ms`."""
    stages, outputs, items = Stages(), Outputs(save_dir), find_images(folder)[:IMAGES]
    images = stages.each("read", lambda item: predictor.pixels(item.path), items)
    masks = stages.masks(predictor, images)
    drawn = stages.each("draw", lambda pair: style.draw(*pair), zip(images, masks))

    def write(result: tuple[Any, Any, Any]) -> None:
        item, mask, overlay = result
        paths = image_paths(save_dir, item, IMAGE_KINDS, overlay_format)
        write_mask(paths["mask"], mask, style.labels.palette, outputs.write)
        write_image(paths["overlay"], overlay, outputs.write)

    stages.each("write", write, zip(items, masks, drawn))
    return stages.ms


def film_stages(predictor: Predictor, style: Overlays, video: str, save_dir: str) -> dict[str, dict[str, float]]:
    """Of the frames of a video. Returns: see `Stages.ms`."""
    stages = Stages()
    with VideoReader(video) as reader:
        images = stages.each("read", lambda frame: frame, itertools.islice(reader, IMAGES))
        fps = reader.fps
    masks = stages.masks(predictor, images)
    results = VideoResults(Outputs(save_dir), "film.mp4", fps, FRAME_KINDS, style)
    predictions = [Prediction(image, mask) for image, mask in zip(images, masks)]
    drawn = stages.each("draw", results.draw, predictions)
    with results:
        stages.each("write", lambda pair: results.write(*pair), drawn)
    return stages.ms


def bound(ms: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What the stages say of all of them together.

    Returns: "share": the network's processor time as a part of all: the share of its own rate that a pipeline can reach
        where it keeps all cores busy; "next": the stage that costs most of the others.
    """
    cpu = {stage: ms[stage]["cpu"] for stage in STAGES}
    others = {stage: value for stage, value in cpu.items() if stage != NETWORK}
    return {"share": cpu[NETWORK] / sum(cpu.values()), "next": max(others, key=lambda stage: others[stage])}
