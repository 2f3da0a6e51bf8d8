"""PaddleSeg's own PP-LiteSeg, exported PaddleSeg's way and run by Paddle Inference, beside our exports of our model.

    python -m ppliteseg_paddle.benchmark.studies.inference --save_json FILE [--model T|B] [--size H W] [--num_threads N]
    ...

All candidates are timed round-robin in one process, so that whatever else the machine does reaches them all; between
them is a rest, in which the threads of the one before stop spinning. Without --model_path the weights are random, and
masks are full of borders: our ONNX and OpenVINO graphs spend the more on upsampling, the more blocks of the mask a
border crosses, so the share of such blocks is given beside the times. PaddleSeg's time does not depend on its weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from ppliteseg_paddle.benchmark import random_weights
from ppliteseg_paddle.benchmark.protocols import machine
from ppliteseg_paddle.benchmark.studies import baseline
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE, NUM_CLASSES, VARIANTS
from ppliteseg_paddle.benchmark.studies.command import CLOCKS, by_clock, in_turns, run_and_report
from ppliteseg_paddle.benchmark.studies.startup import STAGES
from ppliteseg_paddle.benchmark.studies.startup import measure as measure_starts
from ppliteseg_paddle.benchmark.timing import ratios, timed
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.images import generated_image
from ppliteseg_paddle.deploy.interface import Backend, default_threads
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.reading.images import read_image

PREPROCESS = Preprocess([{"type": "Normalize"}])
_ON_CPU = {name: spec for name, spec in RUNTIMES.items() if "cpu" in spec.devices}


def build_ours(model: str, num_classes: int, model_path: str | None, image: np.ndarray) -> Any:
    """Our model with the given weights, or random ones and statistics of `image`, as training would leave them."""
    import paddle

    import ppliteseg_paddle

    paddle.seed(0)
    network = baseline.build_ours(model, num_classes)
    if model_path is not None:
        ppliteseg_paddle.load_weights(network, model_path)
        return network
    batch, _ = PREPROCESS(cv2.resize(image, (256, 128)))
    random_weights.calibrate(
        network, np.concatenate([batch, batch[..., ::-1]]), classifiers=[network.seg_heads[0].classifier]
    )
    return network


def export_ours(
    network: Any,
    num_classes: int,
    size: tuple[int, int],
    folder: str,
    formats: Sequence[str],
    image: np.ndarray,
    precision: str = "fp32",
) -> Artifact:
    """Write our model with `export_model`: checked against itself, mask out. INT8 takes its ranges from `image`, and
    its masks are held to no bound: what is measured is time."""
    from ppliteseg_paddle.export.int8.calibration import Calibration
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model
    from ppliteseg_paddle.reading.label_sets import LABEL_SETS, LabelSet, palette_for

    label_set = (
        LABEL_SETS["cityscapes"]
        if num_classes == NUM_CLASSES
        else LabelSet("custom", tuple(f"class {i:d}" for i in range(num_classes)), palette_for(num_classes))
    )
    calibration = None
    if precision == "int8":
        path = folder + ".png"
        cv2.imwrite(path, image)
        calibration = Calibration([(path, None)], sensitivity=False, progress=False)
    export_model(
        network,
        folder,
        ExportOptions(
            formats=formats,
            label_set=label_set,
            transforms=PREPROCESS,
            input_shape=(1, 3, *size),
            precision=precision,
            calibration=calibration,
            check_image=image,
        ),
    )
    return Artifact.read(folder)


def crossed_blocks(mask: np.ndarray, side: int = 8) -> float:
    """The share of a mask's blocks of `side` pixels that hold more than one class."""
    height, width = (length // side * side for length in mask.shape)
    blocks = mask[:height, :width].reshape(height // side, side, width // side, side)
    return float(np.mean(blocks.max(axis=(1, 3)) != blocks.min(axis=(1, 3))))


def run(args: argparse.Namespace) -> dict[str, Any]:
    size = tuple(args.size)
    threads = args.num_threads or default_threads()
    image = read_image(args.image_path) if args.image_path else generated_image(*size)
    batch, _ = PREPROCESS(cv2.resize(image, size[::-1]))
    network = build_ours(args.model, args.num_classes, args.model_path, image)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_candidates(args.candidates, network, args.num_classes, size, folder, image, threads)
        original = _export_baseline(args, network, os.path.join(folder, BASELINE), next(iter(opened.values()))[0])
        backends = {BASELINE: open_backend("paddle", original, "cpu", threads)}
        backends.update((name, backend) for name, (_, backend) in opened.items())
        calls = {name: timed(partial(backend.run, batch)) for name, backend in backends.items()}
        measured = in_turns("inference", calls, args.warmup, args.repeats)
        starts = _starts(opened, cv2.resize(image, size[::-1]), folder) if args.startup else {}
        startup = measure_starts(starts, threads, args.startup) if starts else {}
        masks = {name: np.asarray(backend.run(batch))[0] for name, backend in backends.items()}
        faster = {clock: ratios(measured, BASELINE, stage) for clock, stage in CLOCKS.items()}
        reference = masks["{} {}".format(*args.candidates[0])]
        results = {
            name: {
                **by_clock(measured[name].seconds),
                "times_faster": {clock: faster[clock][name]["median"] for clock in CLOCKS},
                "backend": backend.describe(),
                "differing_pixels": float(np.mean(masks[name] != reference)),
            }
            for name, backend in backends.items()
        }
    return {
        "protocol": "round-robin",
        "model": args.model,
        "num_classes": args.num_classes,
        "weights": args.model_path or "random",
        "image": args.image_path or "generated",
        "crossed_blocks": crossed_blocks(reference),
        "input_shape": list(batch.shape),
        "num_threads": threads,
        "int8_instructions": int8_instructions(),
        "warmup": args.warmup,
        "repeats": args.repeats,
        "results": results,
        "startup": startup,
        "machine": machine(),
    }


def _starts(opened: dict[str, tuple[Artifact, Backend]], image: np.ndarray, folder: str) -> dict[str, dict[str, Any]]:
    """What `measure_starts` takes: each candidate's export with a file of the image."""
    path = os.path.join(folder, "first.png")
    cv2.imwrite(path, image)
    starts = {}
    for name, (artifact, backend) in opened.items():
        how = {"backend": backend.name, "device": "cpu", "precision": backend.describe().get("precision")}
        starts[name] = {"image": path, "model_dir": artifact.folder, **how}
        if backend.name == "openvino" and artifact.precision == "int8":
            starts[f"{name}, compiled anew"] = {**starts[name], "kept": False}
    return starts


def open_candidates(
    candidates: Sequence[tuple[str, str]],
    network: Any,
    num_classes: int,
    size: tuple[int, int],
    folder: str,
    image: np.ndarray,
    threads: int,
) -> dict[str, tuple[Artifact, Backend]]:
    """Export our model below `folder` for runtimes and precisions, and open each on the CPU.

    Args: candidates: of `candidate`; the rest as `export_ours` has it.
    Returns: "BACKEND PRECISION" -> the export and the backend.
    """
    exports: dict[str, Artifact] = {}
    for precision in dict.fromkeys(_exported_as(precision) for _, precision in candidates):
        formats = [_ON_CPU[name].graphs[0] for name, each in candidates if _exported_as(each) == precision]
        exports[precision] = export_ours(
            network, num_classes, size, os.path.join(folder, precision), formats, image, precision
        )
    opened = {}
    for name, precision in candidates:
        artifact = exports[_exported_as(precision)]
        computed = "bf16" if precision == "bf16" else None
        opened[f"{name} {precision}"] = artifact, open_backend(name, artifact, "cpu", threads, precision=computed)
    return opened


def _exported_as(precision: str) -> str:
    """The precision of the export that is computed in it."""
    return "fp32" if precision == "bf16" else precision


def _export_baseline(args: argparse.Namespace, network: Any, folder: str, artifact: Artifact) -> Artifact:
    """The baseline with the weights of our network, as an artifact, so that the same backend runs it."""
    os.mkdir(folder)
    model = baseline.build(args.model, args.num_classes, like=network)
    files = baseline.export(model, (1, 3, *args.size), folder)
    output = replace(artifact.output, dtype="int32")
    return replace(artifact, folder=folder, graphs={"paddle": files}, output=output, logits=None)


def table(result: dict[str, Any]) -> str:
    """What a person reads."""
    height, width = result["input_shape"][2:]
    lines = [
        f"PP-LiteSeg-{result['model']}, {result['num_classes']} classes, {width}x{height}, mask out, "
        f"{result['num_threads']} threads, {result['machine']['processor']}",
        f"weights: {os.path.basename(result['weights'])}, image: {os.path.basename(result['image'])}, "
        f"{100 * result['crossed_blocks']:.0f} % of the mask's blocks crossed by a border; INT8 instructions: "
        f"{', '.join(result['int8_instructions']) or 'none'}",
        "",
        f"{''!s:36} {'median ms'!s:>10} {'ratio'!s:>10} {'cpu ms'!s:>10} {'cpu ratio'!s:>10}",
    ]
    for name, values in result["results"].items():
        label = "PaddleSeg's own, Paddle Inference" if name == BASELINE else "ours, " + name
        faster = values["times_faster"]
        lines.append(
            f"{label!s:36} {values['wall']['median_ms']:10.1f} {faster['wall']:9.2f}x "
            f"{values['cpu']['median_ms']:10.1f} {faster['cpu']:9.2f}x"
        )
    if result["startup"]:
        lines += [
            "",
            f"{'from Predictor(...) to the first mask'!s:36} {'open ms'!s:>10} {'mask ms'!s:>10} {'both'!s:>10}",
        ]
    for name, stages in result["startup"].items():
        lines.append(f"{name:36} " + " ".join(f"{stages[stage]['median_ms']:10.0f}" for stage in STAGES))
    differing = (f"{name} {100 * row['differing_pixels']:.3g} %" for name, row in result["results"].items())
    lines.append("pixels that differ from our first export: " + ", ".join(differing))
    return "\n".join(lines)


def int8_instructions() -> list[str]:
    """What the processor has that multiplies and adds bytes in one go; without it 8 bits are at most twice as fast as
    floats."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            flags = set(next((line for line in file if line.startswith(("flags", "Features"))), "").split())
    except OSError:  # no Linux
        return []
    return [name for name in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm") if name in flags]


def add_candidates(parser: argparse.ArgumentParser, *default: str) -> None:
    """`--candidates`: which runtimes of our exports are measured."""
    parser.add_argument(
        "--candidates",
        nargs="+",
        type=_candidate,
        metavar="BACKEND:PRECISION",
        default=[_candidate(text) for text in default],
        help=f"runtimes and what they compute in (default: {' '.join(default)})",
    )


def _candidate(text: str) -> tuple[str, str]:
    name, _, precision = text.partition(":")
    if name not in _ON_CPU or precision not in _ON_CPU[name].precisions["cpu"]:
        known = "; ".join(f"{name}: {', '.join(spec.precisions['cpu'])}" for name, spec in _ON_CPU.items())
        raise argparse.ArgumentTypeError(f"'{text}' is not BACKEND:PRECISION; known are {known}.")
    return name, precision


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(VARIANTS), default="T")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), default=[512, 1024])
    add_candidates(parser, "onnxruntime:fp32", "openvino:fp32", "paddle:fp32", "onnxruntime:int8", "openvino:int8")
    parser.add_argument("--num_classes", type=int, default=NUM_CLASSES)
    parser.add_argument("--model_path", help="trained weights of our model (default: random ones)")
    parser.add_argument("--image_path", help="what is segmented (default: a generated image)")
    parser.add_argument("--num_threads", type=int)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument(
        "--startup", type=int, default=0, metavar="N", help="also start each of our exports N times (default: not)"
    )
    parser.add_argument("--save_json", default="bench_infer.json")
    args = parser.parse_args()
    return run_and_report(lambda: run(args), table, args.save_json)


if __name__ == "__main__":
    sys.exit(main())
