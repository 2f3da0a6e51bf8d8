"""What `predict --smooth` does to a video: how steady and how right masks are, and how long it takes.

    python -m ppliteseg_paddle.benchmark.studies.smoothing --model_dir DIR [--save_json FILE] [--seeds N ...] ...

Films are generated (`synth.film`): a moving camera, things that cross, exact labels, and where each place was in the
frame before. The network sees each frame once; its output is then used as it is and smoothed. The films of a set follow
one another, as scenes of a video do; each set has scenes of its own.

consistency   mIoU, in %, between the mask of the frame before, moved as the camera moved, and the mask
flicker       % of pixels whose class changes between these two, of those whose label does not
mIoU          % against the labels, over all frames of a set
disagreement  of a frame with the one before, 0 to 1, as `Smoother` sees it: within films and from film to film

The cost is the smoothing's time to that of the network, in turns, and the same of processor seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies.command import run_and_report
from ppliteseg_paddle.benchmark.timing import REST_SECONDS, measure_round_robin, median, timed
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.smooth_option import SMOOTH
from ppliteseg_paddle.deploy.smoothing import CUT, Smoother
from ppliteseg_paddle.deploy.stream import Stages, Task
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.progress import bar
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.synth.film import Frame, film

_IGNORED = LABEL_SETS["camvid"].ignore_index


class Steadiness:
    """Counts over films. Call `cut` where one begins."""

    def __init__(self, num_classes: int) -> None:
        self._right = np.zeros((num_classes, num_classes), np.int64)
        self._steady = np.zeros_like(self._right)
        self._last: tuple[NDArray[Any], NDArray[Any]] | None = None

    def cut(self) -> None:
        self._last = None

    def add(self, mask: NDArray[Any], frame: Frame) -> None:
        """Count a frame. Shape: mask (H, W) class ids."""
        classes = len(self._right)
        self._right += confusion_matrix(mask, frame.label, classes, _IGNORED)
        if self._last is not None and frame.before is not None:
            before, label = (_moved(values, frame.before) for values in self._last)
            same = (label == frame.label) & (frame.label != _IGNORED)
            self._steady += confusion_matrix(mask, np.where(same, before, _IGNORED), classes, _IGNORED)
        self._last = mask, frame.label

    def result(self) -> dict[str, float]:
        """ "mIoU", "consistency", "flicker", in %."""
        unchanged = float(np.trace(self._steady)) / max(int(self._steady.sum()), 1)
        right, steady = (100 * float(scores(matrix)["mIoU"]) for matrix in (self._right, self._steady))
        return {"mIoU": right, "consistency": steady, "flicker": 100 * (1 - unchanged)}


def _moved(values: NDArray[Any], before: NDArray[np.float64]) -> NDArray[Any]:
    """Values (H, W) of the frame before where the street is now; the ignored value comes in from outside."""
    size = values.shape[1], values.shape[0]
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    found: NDArray[Any] = cv2.warpAffine(values, before, size, flags=flags, borderValue=_IGNORED)
    return found


def _masks(predictor: Predictor, task: Task, smoothers: dict[str, Smoother]) -> dict[str, NDArray[Any]]:
    """A frame's mask as it is, and by each smoother."""
    outputs = {
        name: predictor.masks.smoothed(task.output, task.undo, task.gray, one) for name, one in smoothers.items()
    }
    return {
        name: predictor.finish(output, task.undo, False)[0] for name, output in {"off": task.output, **outputs}.items()
    }


def steadiness(
    predictor: Predictor,
    size: tuple[int, int],
    seeds: Sequence[int],
    frames: int,
    speed: float,
    smooth: Sequence[float],
) -> dict[str, dict[str, Any]]:
    """ "off", or the smoothing -> `Steadiness.result` of films at a camera's speed, and a smoothing's disagreements
    "within" films and "between" them."""
    counts = {name: Steadiness(predictor.label_set.num_classes) for name in ("off", *map(str, smooth))}
    seen: dict[str, dict[str, list[float]]] = {str(value): {"within": [], "between": []} for value in smooth}
    smoothers = {str(value): Smoother(value) for value in smooth}
    stages = Stages(predictor, smooth=SMOOTH)  # prepares and infers; it smooths nothing here
    with bar(total=len(seeds) * frames, desc=f"films {seeds[0]:d}.., speed {speed:g}", unit="frame") as shown:
        for seed in seeds:
            for each in counts.values():
                each.cut()
            for number, frame in enumerate(film(seed, size, frames, speed)):
                task = stages.infer([stages.prepare((number, frame.image))])[0]
                for name, mask in _masks(predictor, task, smoothers).items():
                    counts[name].add(mask, frame)
                for name, smoother in smoothers.items():
                    if smoother.disagreement is not None:
                        seen[name]["within" if number else "between"].append(smoother.disagreement)
                shown.update()
    return {name: {**each.result(), **seen.get(name, {})} for name, each in counts.items()}


def cost(predictor: Predictor, size: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Milliseconds of a frame by the network and by the smoothing, medians, and their ratio, by the clock and of the
    processors."""
    stages = Stages(predictor, smooth=SMOOTH)
    tasks = [stages.prepare((number, frame.image)) for number, frame in enumerate(film(0, size, 2, 2.0))]
    batches = [task.batch for task in tasks]
    outputs = [stages.infer([task])[0].output for task in tasks]
    logits = predictor.needs_logits(tasks[0].undo)
    smoother, turn = Smoother(SMOOTH), [0]

    def smoothing() -> None:
        turn[0] += 1
        at = turn[0] % 2
        predictor.masks.smoothed(outputs[at], tasks[at].undo, stages.gray(None, batches[at]), smoother)

    calls = {"network": timed(lambda: predictor.forward(batches[0], logits)), "smoothing": timed(smoothing)}
    measured = measure_round_robin(calls, 5, repeats, rest=REST_SECONDS)
    middle = {
        name: {clock: 1000 * median(one.seconds[clock]) for clock in ("total", "cpu")} for name, one in measured.items()
    }
    ratio = {clock: middle["smoothing"][clock] / max(middle["network"][clock], 1e-9) for clock in ("total", "cpu")}
    form = "x".join(map(str, outputs[0].shape))
    return {"input": list(batches[0].shape), "smoothed": form, "ms": middle, "ratio": ratio}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; see the module.

    Raises: ConfigError: for a model of other classes than the scenes'.
    """
    predictor = Predictor(args.model_dir, args.backend, num_threads=args.num_threads)
    if predictor.label_set.classes != LABEL_SETS["camvid"].classes:
        raise ConfigError(f"{args.model_dir} has other classes than generated scenes, which are CamVid's eleven.")
    size = args.size[0], args.size[1]
    results = {
        str(seed): {
            f"{speed:g}": steadiness(predictor, size, range(seed, seed + args.films), args.frames, speed, args.smooth)
            for speed in args.speeds
        }
        for seed in args.seeds
    }
    return {
        "model_dir": args.model_dir,
        "backend": predictor.backend.describe(),
        "size": list(size),
        "films": args.films,
        "frames": args.frames,
        "results": results,
        "cost": cost(predictor, size, args.repeats),
        "machine": machine(),
    }


def table(result: dict[str, Any]) -> str:
    """What a person reads: means over the sets, and the change of mIoU in each."""
    sets = list(result["results"].values())
    lines = [
        f"{'camera':>14} {'smooth':>7} {'mIoU %':>8} {'consistency %':>14} {'flicker %':>10}  change of mIoU, by set"
    ]
    for speed, names in sets[0].items():
        for name in names:
            rows = [each[speed][name] for each in sets]
            mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("mIoU", "consistency", "flicker")}
            changes = [row["mIoU"] - each[speed]["off"]["mIoU"] for row, each in zip(rows, sets)]
            lines.append(
                f"{speed + ' px/frame':>14} {name:>7} {mean['mIoU']:8.2f} {mean['consistency']:14.2f} "
                f"{mean['flicker']:10.2f}  " + ("" if name == "off" else " ".join(f"{value:+.2f}" for value in changes))
            )
    lines += [_disagreements(sets, name) for name in next(iter(sets[0].values())) if name != "off"]
    spent = result["cost"]
    lines.append(
        f"a frame of {spent['smoothed']}: network {spent['ms']['network']['total']:.2f} ms, smoothing "
        f"{spent['ms']['smoothing']['total']:.2f} ms: {100 * spent['ratio']['total']:.1f} % by the clock, "
        f"{100 * spent['ratio']['cpu']:.1f} % of the processor seconds (load {result['machine']['load_average']})"
    )
    return "\n".join(lines)


def _disagreements(sets: Sequence[dict[str, Any]], smooth: str) -> str:
    """The extremes beside `CUT`."""
    rows = [rows[smooth] for each in sets for rows in each.values()]
    within, between = ([value for row in rows for value in row[where]] for where in ("within", "between"))
    ranges = [f"{min(values):.2f} to {max(values):.2f}" if values else "none" for values in (within, between)]
    missed, false = sum(value <= CUT for value in between), sum(value > CUT for value in within)
    return (
        f"disagreement with smooth {smooth}: within films {ranges[0]}, {false} of {len(within)} frames taken for cuts; "
        f"between films {ranges[1]}, {missed} of {len(between)} cuts not seen (from {CUT:g} on it is one)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model_dir", required=True, help="an export with CamVid's classes, such as demo_output/export"
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=[320, 240], metavar=("W", "H"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="first film of each set; its others follow")
    parser.add_argument("--films", type=int, default=6, help="of a set")
    parser.add_argument("--frames", type=int, default=24, help="of each film")
    parser.add_argument("--speeds", type=float, nargs="+", default=[0, 1, 3, 6], help="of the camera, pixels a frame")
    parser.add_argument("--smooth", type=float, nargs="+", default=[SMOOTH])
    parser.add_argument("--repeats", type=int, default=60, help="of the timing")
    parser.add_argument("--save_json", default="bench_smoothing.json")
    args = parser.parse_args()
    return run_and_report(lambda: run(args), table, args.save_json)


if __name__ == "__main__":
    sys.exit(main())
