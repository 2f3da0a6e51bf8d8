"""The answer to `ppliteseg benchmark --budget_ms`: the best point, its configuration, and the commands that follow."""

from __future__ import annotations

import os
import shlex
import time
from typing import Any

from ppliteseg_paddle.benchmark.budget.configs import MEASURED_ON, Configs, as_yaml, smallest_training_scale
from ppliteseg_paddle.benchmark.budget.options import IMAGE_SIZE, BudgetOptions
from ppliteseg_paddle.benchmark.budget.points import Point, Ranking
from ppliteseg_paddle.benchmark.budget.search import points_for, search
from ppliteseg_paddle.files import check_writable
from ppliteseg_paddle.outputs import Outputs

CONFIG_FILE = "config.yml"
# In place of paths that only the user knows.
_PHOTOS, _CALIBRATION = "PHOTOS", "TRAIN_LIST"


def fit(options: BudgetOptions, save_dir: str, overwrite: bool = False) -> dict[str, Any]:
    """Find the most accurate network, input size, precision and runtime within a budget, and write its configuration.

    Args: save_dir: gets config.yml; nothing is written if no point fits.
    Returns: plain values, ready for JSON: "rows" of all measured points, the fastest first, "skipped" with reasons,
        "best" (None if nothing fits), "commands", "files", notes, machine.
    Raises: ConfigError, DataError: for options that cannot serve. DependencyError, ArtifactError: as `points_for` and
        `search`.
    """
    from ppliteseg_paddle.benchmark.environment import machine

    begun = time.perf_counter()
    configs, image = Configs(options.config), _image(options)
    points = points_for(options, configs, image)
    outputs = Outputs(save_dir, overwrite)
    path = os.path.join(save_dir, CONFIG_FILE)
    outputs.check([path])
    check_writable(path)
    found = search(points, options, configs, image)
    ranking = Ranking(found.ms, configs.figures, configs.networks)
    front, best = ranking.front(), ranking.best(options.budget_ms)
    result: dict[str, Any] = {
        "protocol": "budget",
        "budget_ms": options.budget_ms,
        "image_size": [image.shape[1], image.shape[0]],
        "config": options.config,
        "miou_on": None if options.config else MEASURED_ON,
        "rows": [
            {**found.rows[point], "miou": _miou(configs, point), "on_front": point in front}
            for point in sorted(found.rows, key=lambda point: found.ms[point])
        ],
        "skipped": [{"name": point.name, "reason": reason} for point, reason in found.skipped.items()],
        "best": best.name if best else None,
        "fastest": ranking.fastest().name,
        "commands": [],
        "notes": [],
        "files": [],
        "machine": machine(),
    }
    if best is not None:
        values = configs.values(best.network, best.scale, best.size)
        result["commands"] = commands(best, path)
        result["notes"] = _training_notes(best, values, configs, path)
        outputs.write(path, (_comment(best, result, configs) + as_yaml(values)).encode())
        result["files"] = [path]
    return {**result, "seconds": time.perf_counter() - begun}


def commands(best: Point, path: str) -> list[str]:
    """What to type next: train, export, predict."""
    folder = os.path.dirname(path)
    train = ["train", "--config", path, "--save_dir", os.path.join(folder, "train"), "--do_eval"]
    export = ["export", "--config", path, "--model_path", _weights(path)]
    export += ["--save_dir", os.path.join(folder, "export"), "--format", _format(best.backend)]
    export += ["--input_shape", "1", "3", *map(str, best.size)]
    if best.precision == "int8":
        export += ["--precision", "int8", "--calib_data", _CALIBRATION]
    predict = ["predict", "--model_dir", os.path.join(folder, "export"), "--backend", best.backend]
    if best.precision == "bf16":
        predict += ["--precision", "bf16"]
    predict += ["--image_path", _PHOTOS]
    return [shlex.join(["ppliteseg", *words]) for words in (train, export, predict)]


def _weights(path: str) -> str:
    return os.path.join(os.path.dirname(path), "train", "best_model", "model.pdparams")


def _format(backend: str) -> str:
    """What is exported for a runtime: the format that it prefers."""
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES

    return RUNTIMES[backend].graphs[0]


def _image(options: BudgetOptions) -> Any:
    import cv2

    from ppliteseg_paddle.deploy.images import generated_image
    from ppliteseg_paddle.reading.images import read_image

    if options.image_path is None:
        return generated_image(*(options.size or IMAGE_SIZE))
    image = read_image(options.image_path)
    if options.size is None:
        return image
    return cv2.resize(image, options.size[::-1], interpolation=cv2.INTER_AREA)


def _miou(configs: Configs, point: Point) -> float | None:
    """The published figure, of Cityscapes in FP32; on a user's own data it is not known."""
    return configs.figures[point.network].get(point.scale) if configs.path is None else None


def _training_notes(best: Point, values: dict[str, Any], configs: Configs, path: str) -> list[str]:
    notes = []
    release = configs.release(best.network, best.scale)
    if release is not None:
        notes.append(f"published weights need no training: --model_path {release.name} in place of {_weights(path)}")
    smallest = smallest_training_scale(values)
    if smallest is not None and smallest > best.scale:
        notes.append(
            f"training shows images at {smallest:g} of their size or more (min_scale_factor), and this network sees "
            f"them at {best.scale:g}: lower min_scale_factor in {path}"
        )
    return notes


def _comment(best: Point, result: dict[str, Any], configs: Configs) -> str:
    row = next(row for row in result["rows"] if row["name"] == result["best"])
    width, height = result["image_size"]
    lines = [
        f"{best.network} for images of {width}x{height}, its input {best.size[1]}x{best.size[0]}.",
        f"Made of {configs.base(best.network, best.scale)} by ppliteseg benchmark --budget_ms {result['budget_ms']:g}:",
        f"{row['latency_ms']:.1f} ms an image, {best.precision}, {row['backend']['runtime']} "
        f"{row['backend']['version']}, {result['machine']['processor']}, {result['machine']['time'][:10]}.",
        "",
        *("  " + command for command in result["commands"]),
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
