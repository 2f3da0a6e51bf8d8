"""What is timed: the protocols `latency`, `paper` and `throughput` of `ppliteseg benchmark`.

Several candidates (exported folders, runtimes) are timed round-robin in one run, and every result says what it was
measured on. `throughput` is in a module of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable

import cv2
import numpy as np

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.timing import REST_SECONDS, Measurement, Progress, describe, measure_round_robin, ratios
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess

# What happens to an image, in order; "convert" makes 8 bits of wider class ids. A graph or a runtime may do several in
# one:
# then "forward" holds them.
PARTS = ("resize", "normalise", "copy_in", "forward", "copy_out", "argmax", "resize_back", "convert")
# The paper's three, and what each is made of.
GROUPS = {
    "preprocess": ("resize", "normalise"),
    "inference": ("copy_in", "forward", "copy_out", "argmax"),
    "postprocess": ("resize_back", "convert"),
}
# The image of the paper's protocol: (height, width) of Cityscapes.
PAPER_IMAGE = (1024, 2048)


@dataclass(frozen=True)
class Candidate:
    """An exported folder on a runtime. `open` may be called more than once, for several streams."""

    name: str
    artifact: Artifact
    backend: str = "auto"
    device: str | None = None
    num_threads: int | None = None
    precision: str | None = None

    def open(self, num_threads: int | None = None) -> Predictor:
        """Raises: as `open_backend`."""
        threads = num_threads or self.num_threads
        return Predictor.of(
            self.artifact, open_backend(self.backend, self.artifact, self.device, threads, precision=self.precision)
        )


def latency(
    candidates: Sequence[Candidate],
    images: Mapping[str, np.ndarray],
    warmup: int | None = None,
    repeats: int | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Steady-state latency: one image at a time, from decoded pixels to a mask of the image's size.

    Every stage ends when its device is done. Reading and decoding the file is not part of it.

    Args: as `timing.measure_round_robin` has them; images: candidate's name -> (H, W, 3) uint8, BGR.
    Returns: a row for each candidate, plain values, ready for JSON.
    """
    predictors = {candidate.name: candidate.open() for candidate in candidates}
    for name, predictor in predictors.items():
        predictor.predict(images[name])  # refuses an image of a size that the graph does not take
    calls = {name: timed_call(predictor, images[name]) for name, predictor in predictors.items()}
    measured = measure_round_robin(
        calls, warmup, repeats, progress, rest_between(predictor.backend for predictor in predictors.values())
    )
    return rows_from("latency", measured, predictors, images)


def paper(
    candidates: Sequence[Candidate],
    encoded: np.ndarray,
    size: tuple[int, int],
    warmup: int | None = None,
    repeats: int | None = None,
    progress: Progress | None = None,
    against: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The paper's protocol: an image of 1024x2048 is resized to the network's size, inferred, and its mask resized
    back.

    `total` is these three. Decoding is timed, too, and not part of it.

    Args:
        encoded: an image file's bytes.
        size: (height, width) of networks whose graph leaves it open.
        against: candidate -> the one that it is compared with; those that it does not name get no ratio. None: all
            with the first.
    Returns: as `latency`.
    Source: paper, section 4.1 and table 2.
    """

    def decode() -> np.ndarray:
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)

    image = decode()
    predictors = {}
    for candidate in candidates:
        fitted = replace(candidate, artifact=resizing_to(candidate.artifact, size))
        predictors[candidate.name] = fitted.open()
        predictors[candidate.name].predict(image)
    calls = {name: timed_call(predictor, image, decode) for name, predictor in predictors.items()}
    measured = measure_round_robin(
        calls, warmup, repeats, progress, rest_between(predictor.backend for predictor in predictors.values())
    )
    return rows_from("paper", measured, predictors, {name: image for name in predictors}, against)


def rest_between(backends: Iterable[Any]) -> float:
    """Seconds of rest between these backends: those on the CPU have threads that spin."""
    return REST_SECONDS if any(str(backend.describe()["device"]).startswith("cpu") for backend in backends) else 0.0


def resizing_to(artifact: Artifact, size: tuple[int, int]) -> Artifact:
    """An artifact whose preprocessing ends at the network's size: itself if it does so already or has it inside its
    graph, else with a Resize to `size` before Normalize."""
    policy = artifact.preprocess.resize_policy
    if policy or artifact.in_graph or not artifact.input.dynamic:
        return artifact
    steps = artifact.preprocess.to_transforms()
    at = len(steps) - 1 if steps and steps[-1]["type"] == "Normalize" else len(steps)
    resize = {"type": "Resize", "target_size": [size[1], size[0]]}
    return replace(artifact, preprocess=Preprocess(steps[:at] + [resize] + steps[at:]))


def paper_image(image: np.ndarray) -> tuple[np.ndarray, str]:
    """Encode an image as the paper's protocol takes it: 1024x2048, PNG as in Cityscapes. Returns: the bytes, and what
    was done."""
    height, width = PAPER_IMAGE
    done = "as it is"
    if image.shape[:2] != PAPER_IMAGE:
        done = "resized from {}x{} beforehand".format(*image.shape[:2])
        image = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_LINEAR
        )
    return cv2.imencode(".png", image)[1], done


# --------------------------------------------------------------------------------------------
# One call, one row
# --------------------------------------------------------------------------------------------
def timed_call(
    predictor: Predictor, image: np.ndarray, decode: Callable[[], np.ndarray] | None = None
) -> Callable[[], dict[str, float]]:
    """A call for `timing.measure`: an image to its mask, or with `decode` a file, in parts."""
    backend = predictor.backend

    def call() -> dict[str, float]:
        seconds: dict[str, float] = {}
        last = time.perf_counter()

        def done(step: str) -> None:
            nonlocal last
            now = time.perf_counter()
            seconds[step] = seconds.get(step, 0.0) + now - last
            last = now

        pixels = image
        if decode is not None:
            pixels = decode()
            done("decode")
        start = last
        batch, undo = predictor.preprocess(pixels, done)
        output = (backend.run_logits_in_steps if predictor.needs_logits(undo) else backend.run_in_steps)(batch, done)
        ids = predictor.postprocess(output, undo)
        if undo:
            done("resize_back")
        elif output.ndim == 4:
            done("argmax")
        elif ids.dtype != output.dtype:
            done("convert")
        return {**seconds, **_grouped(seconds), "total": last - start}

    return call


def _grouped(seconds: Mapping[str, float]) -> dict[str, float]:
    return {group: sum(seconds.get(part, 0.0) for part in parts) for group, parts in GROUPS.items()}


def rows_from(
    protocol: str,
    measured: Mapping[str, Measurement],
    predictors: Mapping[str, Predictor],
    images: Mapping[str, np.ndarray],
    against: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    if against is None:
        against = dict.fromkeys(measured, next(iter(measured)))
    rows = []
    for name, measurement in measured.items():
        predictor, image = predictors[name], images[name]
        stages = {
            stage: describe(measurement.seconds[stage])
            for stage in ("decode", *PARTS, *GROUPS, "total")
            if stage in measurement.seconds
        }
        batch, _ = predictor.preprocess(image)
        rows.append(
            {
                "name": name,
                "protocol": protocol,
                "batch_size": 1,
                **identity(predictor),
                "image_size": [image.shape[1], image.shape[0]],
                "input_shape": list(batch.shape),
                "warmup": measurement.warmup,
                "steady": measurement.steady,
                "repeats": len(measurement.seconds["total"]),
                "latency_ms": stages["total"]["median_ms"],
                "fps": stages["total"]["fps"],
                "times_faster": ratios(measured, against[name])[name] if name in against else None,
                "stages": stages,
                "fused": fused(predictor, stages),
            }
        )
    return rows


def identity(predictor: Predictor) -> dict[str, Any]:
    """What ran: backend, model, precision."""
    artifact, backend = predictor.artifact, predictor.backend.describe()
    return {
        "backend": backend,
        "precision": backend.get("precision") or artifact.precision,
        "model": {**artifact.model, "folder": artifact.folder, "output_op": artifact.output.op},
    }


def fused(predictor: Predictor, stages: Mapping[str, Any]) -> dict[str, str]:
    """Part -> where it is done, for the parts without a time of their own. What is not done at all is omitted."""
    artifact = predictor.artifact
    in_graph = predictor.backend.graph in artifact.in_graph
    resizes = bool(artifact.preprocess.resize_policy)
    where = {
        "copy_in": "forward (this runtime reads the image's memory itself)",
        "copy_out": "forward (this runtime returns the mask itself)",
    }
    if artifact.output.op == "argmax":
        where["argmax"] = "forward (in the graph)"
    if in_graph:
        where["normalise"] = "forward (in the graph)"
        if resizes:
            where.update(resize="forward (in the graph)", resize_back="forward (in the graph)")
    return {part: place for part, place in where.items() if part not in stages}


def result_of(rows: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """What is written as JSON: the first row at the top, the others in "compared", each with its ratio to the first."""
    first, *others = rows
    return {**first, **({"compared": list(others)} if others else {}), **more, "machine": machine()}
