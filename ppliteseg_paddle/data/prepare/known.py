"""What data sets that are known by name share: lists, class names and a configuration, and folders that are ready."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.prepare.changes import Changes
from ppliteseg_paddle.data.prepare.image_facts import sizes_of
from ppliteseg_paddle.data.prepare.sizing import Extent, this_machine
from ppliteseg_paddle.data.prepare.starter import Prepared, Pretrained, length_of, starter_config
from ppliteseg_paddle.data.prepare.writing import Pair, config_path, data_set_texts, list_path, separator_for
from ppliteseg_paddle.errors import DataError, PPLiteSegError
from ppliteseg_paddle.files import check_writable
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.lists import read_list, read_names

_SAMPLE = 64  # images whose sizes are looked at: those of a known set are of one size
_IGNORED = 255


@dataclass(frozen=True)
class KnownSet:
    """A data set whose images and labels are found.

    Args: command: what prepares it; classes: their names; lists: split -> pairs; kept: splits whose lists are there
        already and stay as they are.
    """

    command: str
    classes: Sequence[str]
    lists: Mapping[str, Sequence[Pair]]
    kept: Sequence[str] = ()

    @functools.cached_property
    def weights(self) -> Pretrained:
        """For the configuration. Looking for them reads the file."""
        return Pretrained.find()

    @functools.cached_property
    def extent(self) -> Extent:
        """Of sets with training images. Measuring it reads the heads of some."""
        train = self.lists["train"]
        step = max(1, len(train) // _SAMPLE)
        sizes = sizes_of([image for image, _ in train[::step][:_SAMPLE]], num_workers=0, progress=False)
        return Extent.of(len(train), len(self.lists.get("val", ())), sizes, len(self.classes))

    def changes(self, outputs: Outputs, labels: Mapping[str, str] | None = None) -> Changes:
        """What a run would change, checked.

        Args: labels: as in `Changes`.
        Raises: EditedError, DataError: if it would replace what was edited, or the folder cannot be written.
        """
        lists = {split: pairs for split, pairs in self.lists.items() if pairs}
        root = os.path.abspath(outputs.folder)
        separator = separator_for([pair for pairs in lists.values() for pair in pairs], root)
        texts = data_set_texts(root, {k: v for k, v in lists.items() if k not in self.kept}, self.classes, separator)
        if lists.get("train"):
            data = Prepared(root, len(self.classes), separator, command=self.command)
            texts[config_path(root)] = starter_config(data, self.extent, this_machine(), self.weights).encode()
        changes = Changes(outputs, texts, labels or {})
        changes.check()
        if not changes.none:
            _check_folder(config_path(root))
        return changes

    def result(self, changes: Changes) -> dict[str, Any]:
        """What all of them report."""
        root = os.path.abspath(changes.outputs.folder)
        return {
            "out_dir": changes.outputs.folder,
            "config": config_path(root) if self.lists.get("train") else None,
            "lists": {split: len(pairs) for split, pairs in self.lists.items()},
            "val": len(self.lists.get("val", ())),
            "changes": changes.result(),
            "pretrained": self.weights._asdict(),
            "length": length_of(self.extent, this_machine()) if self.lists.get("train") else None,
        }


def _check_folder(path: str) -> None:
    try:
        check_writable(path)
    except PPLiteSegError as error:
        raise DataError(f"{error} Give another folder for the lists and config.yml with --out DIR.") from None


def ready_set(root: str, command: str, classes: Sequence[str], keep: bool, num_workers, progress: bool):
    """A folder that has lists in PaddleSeg's form, and labels of class ids, already; None for another.

    Args: classes: their names, where there is no classes.txt; keep: whether the lists stay as they are.
    Raises: DataError: for a list with a file that does not exist; for a label that holds something else.
    """
    splits = [split for split in ("train", "val", "trainval", "test") if os.path.isfile(list_path(root, split))]
    if not {"train", "val"} <= set(splits):
        return None
    lists = {
        split: [(image, label) for image, label, _ in read_list(list_path(root, split), root, must_exist=True)]
        if split != "test"
        else [(row.image, row.label) for row in read_list(list_path(root, split), root, needs_label=False)]
        for split in splits
    }
    names = list_path(root, "classes")
    classes = read_names(names) if os.path.isfile(names) else classes
    labels = [str(label) for split in ("train", "val") for _, label in lists[split]]
    look = functools.partial(_check_label, classes=len(classes))
    for _ in run_parallel(look, labels, num_workers, "looking at labels", "label", progress):
        pass
    return KnownSet(command, classes, lists, splits if keep else ())


def _check_label(path: str, classes: int) -> None:
    strange = [int(value) for value in np.unique(read_label(path)) if value >= classes and value != _IGNORED]
    if strange:
        raise DataError(
            f"label {path} holds {strange[:8]}, but there are {classes:d} classes: the lists here name labels that are "
            "not ready. Move the lists away, or prepare the masks with `data prepare folder`."
        )
