"""What the folder of a training run tells. Its files may come from anyone: what is not as it should be is absent."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.files import read_json
from ppliteseg_paddle.reading.plain_yaml import PlainYamlError, read_plain_yaml
from ppliteseg_paddle.reading.run_files import (
    BEST_PICTURE,
    CONFIG_FILE,
    HISTORY_FILE,
    IMAGES_JSON,
    MATRIX_JSON,
    PICTURES_FOLDER,
    RELIABILITY_JSON,
    WORST_PICTURE,
    picture_iteration,
    picture_name,
)

MAX_CLASSES = 4096  # that are shown
MAX_BYTES = 1 << 26  # of a JSON file; the record of a million steps has 20 MB


@dataclass(frozen=True)
class Measured:
    """What `val --save_dir` has left in a folder.

    Args:
        folder: where; classes: names; matrix: (classes, classes) of pixels, rows are labels, or None.
        images: rows with image, mIoU, acc, the worst first; pictures: heading and path of those that are there.
        reliability: rows with pixels, confidence, accuracy, by rising confidence; those without pixels are absent.
    """

    folder: str
    classes: list[str]
    matrix: np.ndarray | None
    images: list[dict[str, Any]]
    pictures: list[tuple[str, str]]
    reliability: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One training run.

    Args:
        name: short and its own among the runs of a report; folder: as given.
        record: of train.json; rows, evaluations: of it, by rising iteration, with finite numbers only.
        classes: names; config: values of config.yml under dotted keys, config_text: its text.
        conditions: what the newest checkpoint notes of the machine.
        measured: by `val`, or None; pictures: heading and path of validation pictures.
    """

    name: str
    folder: str
    record: Mapping[str, Any]
    rows: list[dict[str, float]]
    evaluations: list[dict[str, Any]]
    classes: list[str]
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    measured: Measured | None = None
    pictures: Sequence[tuple[str, str]] = ()

    def best(self, ema: bool | None = None) -> dict[str, Any] | None:
        """The evaluation of the highest mIoU: of averaged weights, of plain ones, or of either."""
        chosen = [row for row in self.evaluations if ema is None or row["ema"] == ema]
        return max(chosen, key=lambda row: row["mIoU"], default=None)

    def class_iou(self) -> dict[str, float | None]:
        """Of each class by its name: as `val` has measured it, else of the best evaluation."""
        if self.measured is not None and self.measured.matrix is not None:
            return dict(zip(self.measured.classes, iou_of(self.measured.matrix)))
        best = self.best()
        return {} if best is None else dict(zip(self.classes, best["class_iou"]))


def read_runs(folders: Sequence[str]) -> list[Run]:
    """Raises: DataError: for a folder that holds no run; ConfigError: for one that is given twice."""
    real = [os.path.realpath(folder) for folder in folders]
    for folder, path in zip(folders, real):
        if real.count(path) > 1:
            raise ConfigError(f"--runs names {folder} twice: give each run once.")
    return [_read_run(folder, name) for folder, name in zip(folders, short_names(real))]


def short_names(paths: Sequence[str]) -> list[str]:
    """The ends of paths, as long as they need to be to differ."""
    parts = [path.replace(os.sep, "/").strip("/").split("/") for path in paths]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def _read_run(folder: str, name: str) -> Run:
    path = os.path.join(folder, HISTORY_FILE)
    if not os.path.isfile(path):
        raise DataError(f"{folder} holds no training run: it has no {HISTORY_FILE}. Give a folder of train --save_dir.")
    if os.path.getsize(path) > MAX_BYTES:
        raise DataError(
            f"{path} has more than the {MAX_BYTES:d} bytes that are allowed: it is no record of a training run."
        )
    record = read_json(path)
    if record is None or not isinstance(record.get("train"), list) or not isinstance(record.get("eval"), list):
        raise DataError(f"{path} is no record of a training run, or it is damaged.")
    rows = [row for row in map(_row, record["train"]) if row is not None]
    evaluations = [row for row in map(_evaluation, record["eval"]) if row is not None]
    measured = _find_measured(folder)
    classes = _texts(record.get("class_names")) or (measured.classes if measured else [])
    count = max((len(row["class_iou"]) for row in evaluations), default=0)
    classes += [f"class {i}" for i in range(len(classes), count)]
    text, values = _read_config(os.path.join(folder, CONFIG_FILE))
    return Run(
        name,
        folder,
        record,
        sorted(rows, key=lambda row: row["iter"]),
        sorted(evaluations, key=lambda row: row["iter"]),
        classes,
        flat(values),
        text,
        _conditions(folder),
        measured,
        _pictures(folder, evaluations),
    )


# --------------------------------------------------------------------------------------------
# Parts of a record
# --------------------------------------------------------------------------------------------
def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def _row(value: Any) -> dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    found = {str(key): known for key, item in value.items() for known in [number(item)] if known is not None}
    return found if "iter" in found else None


def _evaluation(value: Any) -> dict[str, Any] | None:
    numbers = _row(value)
    if numbers is None or "mIoU" not in numbers:
        return None
    iou = value.get("class_iou")
    return {
        **numbers,
        "ema": value.get("ema") is True,
        "class_iou": [number(item) for item in iou[:MAX_CLASSES]] if isinstance(iou, list) else [],
    }


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value[:MAX_CLASSES]] if isinstance(value, list) else []


def _small_json(path: str) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is absent, too large or damaged."""
    if not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
        return {}
    return read_json(path) or {}


# --------------------------------------------------------------------------------------------
# Other files of the folder
# --------------------------------------------------------------------------------------------
def _read_config(path: str) -> tuple[str, Any]:
    try:
        values = read_plain_yaml(path)
        with open(path, encoding="utf-8") as file:
            return file.read(), values
    except (OSError, UnicodeDecodeError, PlainYamlError):
        return "", {}


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested values under dotted keys, of lists the number."""
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {key: value} if key else {}
    return {
        name: part
        for inner, item in value.items()
        for name, part in flat(item, f"{key}.{inner}" if key else str(inner)).items()
    }


def _conditions(folder: str) -> Mapping[str, Any]:
    """That the newest checkpoint notes."""
    numbers = [(int(name[5:]), name) for name in os.listdir(folder) if name.startswith("iter_") and name[5:].isdigit()]
    for _, name in sorted(numbers, reverse=True):
        found = _small_json(os.path.join(folder, name, "state.json")).get("conditions")
        if isinstance(found, dict):
            return found
    return {}


def _pictures(folder: str, evaluations: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The first, the best and the newest of the validation pictures."""
    inside = os.path.join(folder, PICTURES_FOLDER)
    names = os.listdir(inside) if os.path.isdir(inside) else ()
    there = sorted(iteration for iteration in map(picture_iteration, names) if iteration is not None)
    if not there:
        return []
    scored = [row for row in evaluations if row["iter"] in there]
    best = int(max(scored, key=lambda row: row["mIoU"])["iter"]) if scored else there[-1]
    chosen = {there[0]: "first", there[-1]: "newest", best: "best"}
    return [
        (f"{word}: iteration {iteration:d}", os.path.join(inside, picture_name(iteration)))
        for iteration, word in sorted(chosen.items())
    ]


def _find_measured(folder: str) -> Measured | None:
    """The newest results of `val --save_dir` in the folder of a run, or in a folder there."""
    inner = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    places = [place for place in [folder, *inner] if os.path.isfile(os.path.join(place, IMAGES_JSON))]
    if not places:
        return None
    place = max(places, key=lambda found: os.path.getmtime(os.path.join(found, IMAGES_JSON)))
    stored = _small_json(os.path.join(place, IMAGES_JSON))
    listed = stored.get("images")
    images = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    pictures = [
        (heading, os.path.join(place, file))
        for heading, file in (("worst images", WORST_PICTURE), ("best images", BEST_PICTURE))
        if os.path.isfile(os.path.join(place, file))
    ]
    classes, matrix = _matrix(os.path.join(place, MATRIX_JSON))
    rows = [
        {"image": str(row.get("image")), "mIoU": number(row.get("mIoU")), "acc": number(row.get("acc"))}
        for row in images
    ]
    reliability = _reliability(os.path.join(place, RELIABILITY_JSON))
    return Measured(place, classes or _texts(stored.get("class_names")), matrix, rows, pictures, reliability)


def _reliability(path: str) -> list[dict[str, float]]:
    listed = _small_json(path).get("bins")
    given = [row for row in listed[:MAX_CLASSES] if isinstance(row, dict)] if isinstance(listed, list) else []
    rows = []
    for row in given:
        found = {key: number(row.get(key)) for key in ("pixels", "confidence", "accuracy")}
        values = {key: value for key, value in found.items() if value is not None and value >= 0}
        if len(values) == 3 and values["pixels"] and max(values["confidence"], values["accuracy"]) <= 1:
            rows.append(values)
    return sorted(rows, key=lambda row: row["confidence"])


def _matrix(path: str) -> tuple[list[str], np.ndarray | None]:
    stored = _small_json(path)
    names, counts = _texts(stored.get("class_names")), stored.get("counts")
    square = isinstance(counts, list) and all(isinstance(row, list) and len(row) == len(counts) for row in counts)
    if not isinstance(counts, list) or not square or not 0 < len(counts) == len(names) <= MAX_CLASSES:
        return names, None
    values = [[number(value) for value in row] for row in counts]
    if any(value is None or value < 0 for row in values for value in row):
        return names, None
    return names, np.array(values, np.float64)


def iou_of(matrix: np.ndarray) -> list[float | None]:
    """IoU of each class; None where it does not occur."""
    hit = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hit
    return [float(part / whole) if whole else None for part, whole in zip(hit, union)]
