"""The best model of a run, kept over resumes."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ppliteseg_paddle.files import read_json, save_folder, write_json

BEST_FILE = "best.json"


class BestModel:
    """The best evaluation so far of one run, also over a resume: PaddleSeg's loop forgets it and starts again at -1.

    Args:
        folder: `save_dir`/best_model; the score stands in best.json in it, beside the weights.
        file: name of the weights in it, and in a checkpoint.
        resumed: whether the run is resumed, so that the score on disk counts.
    """

    def __init__(self, folder: str, file: str, resumed: bool):
        self.folder, self.file = folder, file
        saved = (read_json(os.path.join(folder, BEST_FILE)) or {}) if resumed else {}
        whole = self._whole(saved)
        self.miou: float | None = saved["mIoU"] if whole else None
        self.iteration: int | None = saved["iter"] if whole else None

    def recover(self, recorded: Any) -> str | None:
        """Take the score of weights without a readable best.json from the run's record.

        Args: recorded: what train.json has of it.
        Returns: a line that says so; None if there is nothing to recover.
        """
        path = os.path.join(self.folder, BEST_FILE)
        if self.miou is not None or not os.path.isfile(os.path.join(self.folder, self.file)):
            return None
        if not isinstance(recorded, dict) or not self._whole(recorded):
            return f"{path} is missing or damaged, and so is the score in the record: the next evaluation replaces it"
        self.miou, self.iteration = recorded["mIoU"], recorded["iter"]
        return f"{path} is missing or damaged: the record gives {self.miou:.4f}, at iteration {self.iteration:d}"

    @staticmethod
    def _whole(saved: dict[str, Any]) -> bool:
        return isinstance(saved.get("mIoU"), float) and isinstance(saved.get("iter"), int)

    def improved_by(self, miou: float) -> bool:
        return miou == miou and (self.miou is None or miou > self.miou)

    def take(self, checkpoint: str, miou: float, iteration: int) -> None:
        """Make a checkpoint's weights the best ones: they and their score change places with the former ones in one
        moment. Raises: ConfigError: if they cannot be written."""
        with save_folder(self.folder) as folder:
            shutil.copyfile(os.path.join(checkpoint, self.file), os.path.join(folder, self.file))
            write_json(os.path.join(folder, BEST_FILE), {"mIoU": float(miou), "iter": int(iteration)})
        self.miou, self.iteration = float(miou), int(iteration)
