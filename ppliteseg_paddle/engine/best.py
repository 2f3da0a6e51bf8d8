"""By what the models of a run are compared, and the best one of them, kept over resumes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.files import read_json, save_folder, write_json

BEST_FILE = "best.json"
METRICS = ("mIoU", "acc", "kappa", "dice")
CLASS_IOU = "IoU:"  # and a class


@dataclass(frozen=True)
class Metric:
    """What is compared of evaluations: the largest is best.

    Args: name: one of `METRICS`, or IoU:CLASS; class_id: of that class.
    """

    name: str = METRICS[0]
    class_id: int | None = None

    @classmethod
    def of(cls, name: str, classes: Sequence[str]) -> Metric:
        """The metric of a name; case counts nowhere, and neither does a blank in place of `_`.

        Raises: ConfigError: for an unknown name or class; the text gives the nearest.
        """
        known = {_folded(metric): cls(metric) for metric in METRICS}
        known.update({_folded(CLASS_IOU + text): cls(CLASS_IOU + text, i) for i, text in enumerate(classes)})
        metric = known.get(_folded(name))
        if metric is None:
            near = suggest(name, [found.name for found in known.values()])
            raise ConfigError(f"--best_by '{name}' is unknown: give {', '.join(METRICS)}, or IoU:CLASS.{near}")
        return metric

    def value(self, evaluation: Mapping[str, Any]) -> float:
        """Of an evaluation, as train.json holds them; NaN where it has none."""
        if self.class_id is not None:
            value = evaluation["class_iou"][self.class_id]
        elif self.name == "dice":  # not among the scores that the loop's evaluations give
            iou = np.array(evaluation["class_iou"], np.float64)
            value = (2 * iou / (1 + iou)).mean()
        else:
            value = evaluation[self.name]
        return float("nan") if value is None else float(value)

    def text(self, value: float) -> str:
        """A value as people read it."""
        return f"{value:.4f}" if self.name == "kappa" else f"{100 * value:.2f} %"


def _folded(name: str) -> str:
    return name.casefold().replace("_", " ")


class BestModel:
    """The best evaluation so far of one run, also over a resume: PaddleSeg's loop forgets it and starts again at -1.

    Args:
        folder: `save_dir`/best_model; the score stands in best.json in it, beside the weights.
        file: name of the weights in it, and in a checkpoint.
        resumed: whether the run is resumed, so that the score on disk counts.
        metric: by which the run chooses.
    Attributes: miou, iteration: of the best model; value: of the metric; by: name of the metric that has chosen it,
        on a resume perhaps another one than `metric`. None before the first evaluation.
    """

    def __init__(self, folder: str, file: str, resumed: bool, metric: Metric = Metric()):
        self.folder, self.file, self.metric = folder, file, metric
        self.miou: float | None = None
        self.iteration: int | None = None
        self.value: float | None = None
        self.by = metric.name
        if resumed:
            self._load(read_json(os.path.join(folder, BEST_FILE)))

    def stored(self) -> dict[str, Any]:
        """As in best.json and train.json."""
        return {"mIoU": self.miou, "iter": self.iteration, "best_by": self.by, "value": self.value}

    def _load(self, saved: Any) -> bool:
        """Take what `stored` gave; an earlier version knew the mIoU alone. Returns: whether it is whole."""
        if not isinstance(saved, dict):
            return False
        saved = {"best_by": METRICS[0], "value": saved.get("mIoU"), **saved}
        kinds = {"mIoU": float, "iter": int, "best_by": str, "value": float}
        if not all(isinstance(saved.get(key), kind) for key, kind in kinds.items()):
            return False
        self.miou, self.iteration, self.by, self.value = (saved[key] for key in kinds)
        return True

    def forget(self) -> None:
        """Begin without a best model."""
        self.miou = self.iteration = self.value = None
        self.by = self.metric.name

    def recover(self, recorded: Any) -> str | None:
        """Take the score of weights without a readable best.json from the run's record.

        Args: recorded: what train.json has of it.
        Returns: a line that says so; None if there is nothing to recover.
        """
        path = os.path.join(self.folder, BEST_FILE)
        if self.miou is not None or not os.path.isfile(os.path.join(self.folder, self.file)):
            return None
        if not self._load(recorded):
            return f"{path} is missing or damaged, and so is the score in the record: the next evaluation replaces it"
        return f"{path} is missing or damaged: the record gives {self.value:.4f}, at iteration {self.iteration:d}"

    def improved_by(self, evaluation: Mapping[str, Any]) -> bool:
        value = self.metric.value(evaluation)
        return value == value and (self.value is None or value > self.value)

    def take(self, checkpoint: str, evaluation: Mapping[str, Any]) -> None:
        """Make a checkpoint's weights the best ones: they and their score change places with the former ones in one
        moment. Raises: ConfigError: if they cannot be written."""
        scored = self._scored(evaluation)
        with save_folder(self.folder) as folder:
            shutil.copyfile(os.path.join(checkpoint, self.file), os.path.join(folder, self.file))
            write_json(os.path.join(folder, BEST_FILE), scored)
        self._load(scored)

    def keep(self, evaluation: Mapping[str, Any]) -> None:
        """Let the weights stay the best ones, by the run's metric. Raises: ConfigError: if that cannot be written."""
        scored = self._scored(evaluation)
        write_json(os.path.join(self.folder, BEST_FILE), scored)
        self._load(scored)

    def _scored(self, evaluation: Mapping[str, Any]) -> dict[str, Any]:
        value = self.metric.value(evaluation)
        return {
            "mIoU": float(evaluation["mIoU"]),
            "iter": int(evaluation["iter"]),
            "best_by": self.metric.name,
            "value": value,
        }

    def line(self) -> str | None:
        """The best model in words, as in "mIoU 45.31 % at iteration 900"."""
        if self.value is None or self.miou is None:
            return None
        more = "" if self.metric.name == METRICS[0] else f" (mIoU {100 * self.miou:.2f} %)"
        return f"{self.metric.name} {self.metric.text(self.value)} at iteration {self.iteration:d}{more}"
