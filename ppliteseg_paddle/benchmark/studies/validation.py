"""Evaluation of a data set by PaddleSeg's own network, data set and loop, and as `ppliteseg val` does it; and the
exported model alone, for what could be reached.

    python -m ppliteseg_paddle.benchmark.studies.validation --save_json FILE [--root DIR] [--model T|B] ...

All have the same weights and images, all cores, and each a process of its own; they evaluate the whole set in turns.
Both evaluations read, normalize and count; the exported model gets what was read before. That all three count the same
pixels is seen beforehand: sums in another order may turn a near-tie of two classes, so a few may differ.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE, OURS, VARIANTS
from ppliteseg_paddle.benchmark.studies.command import CLOCKS, by_clock, in_turns, run_and_report
from ppliteseg_paddle.benchmark.studies.inference import build_ours, export_ours
from ppliteseg_paddle.benchmark.studies.validation_candidate import EXPORTED, Options
from ppliteseg_paddle.benchmark.studies.worker import Worker, module_command
from ppliteseg_paddle.benchmark.timing import ratios
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.engine.metrics import scores_of_areas
from ppliteseg_paddle.reading.images import image_size, read_image
from ppliteseg_paddle.reading.lists import read_list

CANDIDATE = "ppliteseg_paddle.benchmark.studies.validation_candidate"
# Turns take seconds, so threads may wait in a spin as they do for users, for a shorter time than `REST_SECONDS`.
_SPIN = {"KMP_BLOCKTIME": "200"}
# candidate -> the environment variables that it gets ("" leaves MKL to itself)
CANDIDATES = {BASELINE: {"MKL_DEBUG_CPU_TYPE": "", **_SPIN}, OURS: _SPIN, EXPORTED: _SPIN}
LABELS = {BASELINE: "PaddleSeg's evaluation", OURS: "ppliteseg val", EXPORTED: "exported model alone"}
ROOT, RANDOM, SHIPPED = "PPLITESEG_CAMVID_ROOT", "random", "camvid-t"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; see the module. Raises: DataError, WeightsError, DependencyError: for what cannot be read or run."""
    threads = args.num_threads or default_threads()
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or _scenes(os.path.join(folder, "scenes"), args.images, args.size)
        images = [pair.image for pair in read_list(os.path.join(root, "val.txt"), root, must_exist=True)]
        options = _exported(args, root, images, folder)
        with contextlib.ExitStack() as stack:
            workers = {
                name: stack.enter_context(contextlib.closing(_start(name, options, threads))) for name in CANDIDATES
            }
            areas = {name: np.array(worker.ask("count")["areas"]) for name, worker in workers.items()}
            calls = {name: partial(worker.ask, "evaluation") for name, worker in workers.items()}
            measured = in_turns("evaluation", calls, args.warmup, args.repeats)
    faster = {clock: ratios(measured, BASELINE, stage) for clock, stage in CLOCKS.items()}
    of_exported = ratios(measured, EXPORTED)
    return {
        "protocol": "round-robin",
        "model": args.model,
        "num_classes": args.num_classes,
        "weights": args.model_path or RANDOM,
        "data": args.root or "generated",
        "images": len(images),
        "backend": args.backend,
        "num_threads": threads,
        "warmup": args.warmup,
        "repeats": args.repeats,
        "results": {
            name: {
                **by_clock(one.seconds, len(images)),
                "times_faster": {clock: faster[clock][name]["median"] for clock in CLOCKS},
                "share_of_exported": of_exported[name]["median"],
                **counted(areas[name], areas[OURS]),
            }
            for name, one in measured.items()
        },
        "machine": machine(),
    }


def counted(areas: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """The mIoU of counted pixels, and how many pixels of any one count are counted otherwise than in the reference.

    Shape: (3, classes): agreeing, predicted, labelled.
    """
    return {
        "mIoU": scores_of_areas(*areas)["mIoU"],
        "pixels": int(areas[2].sum()),
        "largest_difference": int(np.abs(areas - reference).max()),
    }


def _scenes(folder: str, images: int, size: tuple[int, int]) -> str:
    from ppliteseg_paddle.synth.writer import generate

    generate(folder, train=0, val=images, size=(size[0], size[1]))
    return folder


def _exported(args: argparse.Namespace, root: str, images: list[str], folder: str) -> Options:
    """The weights as a file, and their export for the size of the images, or for any where they have several."""
    import paddle

    image = read_image(images[0])
    network = build_ours(args.model, args.num_classes, args.model_path, image)
    weights, exported = os.path.join(folder, "model.pdparams"), os.path.join(folder, "export")
    paddle.save(network.state_dict(), weights)
    sizes = {image_size(path) for path in images}
    size = (image.shape[0], image.shape[1]) if len(sizes) == 1 else (-1, -1)
    export_ours(network, args.num_classes, size, exported, [RUNTIMES[args.backend].graphs[0]], image)
    return Options(args.model, args.num_classes, weights, root, exported, args.backend)


def _start(name: str, options: Options, threads: int) -> Worker:
    command = module_command(CANDIDATE)
    return Worker(LABELS[name], command, {"who": name, **options._asdict()}, threads, CANDIDATES[name])


def table(result: Mapping[str, Any]) -> str:
    """What a person reads."""
    rows: Mapping[str, Any] = result["results"]
    lines = [
        f"PP-LiteSeg-{result['model']} ({os.path.basename(result['weights'])}), {result['images']:d} images "
        f"({os.path.basename(os.path.normpath(result['data']))}), {result['num_threads']:d} threads, "
        f"{result['machine']['processor']}, load {result['machine']['load_average']}",
        "",
        f"{''!s:24} {'images/s'!s:>10} {'ratio'!s:>8} {'cpu ms'!s:>8} {'cpu ratio'!s:>10} {'of exported'!s:>12} "
        f"{'mIoU %'!s:>8}",
    ]
    for name, row in rows.items():
        lines.append(
            f"{LABELS[name]:24} {row['wall']['fps']:10.1f} {row['times_faster']['wall']:7.2f}x "
            f"{row['cpu']['median_ms']:8.1f} {row['times_faster']['cpu']:9.2f}x {row['share_of_exported']:12.2f} "
            f"{100 * row['mIoU']:8.2f}"
        )
    differing = (f"{LABELS[name]} {row['largest_difference']:d}" for name, row in rows.items() if name != OURS)
    lines.append(
        f"largest difference of a class's pixels from {LABELS[OURS]}'s, of {rows[OURS]['pixels']:d}: "
        + ", ".join(differing)
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(VARIANTS), default="T")
    parser.add_argument("--num_classes", type=int, default=11)
    parser.add_argument(
        "--model_path",
        default=SHIPPED,
        help=f"weights of our model, or {RANDOM} for random ones (default: %(default)s)",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=os.environ.get(ROOT),
        help=f"folder with val.txt (default: {ROOT}, and without it generated scenes)",
    )
    parser.add_argument("--images", type=int, default=40, help="that are generated (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), default=[480, 360], help="of these")
    parser.add_argument("--backend", choices=[name for name, spec in RUNTIMES.items() if "cpu" in spec.devices])
    parser.add_argument("--num_threads", type=int, help="default: all cores")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--save_json", default="bench_val.json")
    parser.set_defaults(backend="onnxruntime")
    args = parser.parse_args()
    args.model_path = None if args.model_path == RANDOM else args.model_path
    return run_and_report(lambda: run(args), table, args.save_json)


if __name__ == "__main__":
    sys.exit(main())
