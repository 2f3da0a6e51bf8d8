"""A data set that is about to be written: worked out, compared with what is there, then carried out."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.prepare.changes import Changes
from ppliteseg_paddle.data.prepare.folder import Plan
from ppliteseg_paddle.data.prepare.image_facts import sizes_of
from ppliteseg_paddle.data.prepare.sizing import Extent, this_machine
from ppliteseg_paddle.data.prepare.splits import Split, split_of
from ppliteseg_paddle.data.prepare.starter import Prepared, Pretrained, length_of, starter_config
from ppliteseg_paddle.data.prepare.writing import Pair, config_path, data_set_texts, separator_for, write_label
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.labels import read_stored


def _compare(job, make) -> str:
    """Whether the label that is there is what a run would write: "same" or "changed"."""
    image, source, target = job
    label = make((image, source))
    try:
        there = read_stored(target, "label")
    except DataError:
        return "changed"
    same = there.palette is None and there.pixels.shape == label.shape and np.array_equal(there.pixels, label)
    return "same" if same and there.format == "PNG" else "changed"


def _write(job, make, outputs: Outputs) -> None:
    image, source, target = job
    write_label(target, make((image, source)), outputs)


class Draft(NamedTuple):
    """A data set that is about to be written: compared with what is there."""

    plan: Plan
    changes: Changes
    jobs: list[tuple[str, str, str]]  # (image, mask or annotation, label) of labels that are new or differ
    lists: dict[str, list[Pair]]
    split: Split
    config: str
    weights: Pretrained
    length: str  # of the run that the configuration describes

    def write(self, num_workers: int | None = None, progress: bool = True) -> dict[str, Any]:
        """Write what is new or differs; the images stay where they are.

        Returns: "out_dir", "config", "train", "val", "class_names", "form", "skipped", "changes", "pretrained", ...
        Raises: DataError: if a file cannot be written.
        """
        plan, outputs = self.plan, self.changes.outputs
        write = functools.partial(_write, make=plan.make, outputs=outputs)
        for _ in run_parallel(write, self.jobs, num_workers, "writing labels", "label", progress):
            pass
        self.changes.write_texts()
        return {
            "out_dir": outputs.folder,
            "config": self.config,
            "train": len(self.lists["train"]),
            "val": len(self.lists["val"]),
            "split_of": self.split.folder,
            "class_names": list(plan.names),
            "form": plan.what,
            "warning": plan.warning,
            "skipped": plan.pairing.images_alone + plan.pairing.masks_alone,
            "ignored": plan.ignored,
            "mapping": [
                {"source": row.source, "id": row.id, "name": row.name, "pixels": row.pixels} for row in plan.rows
            ],
            "palette": [list(color) for color in plan.palette],
            "pretrained": self.weights._asdict(),
            "length": self.length,
            "changes": self.changes.result(),
        }


def draft(
    plan: Plan,
    outputs: Outputs,
    val: float | None = None,
    seed: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> Draft:
    """Work out labels, lists, classes.txt and config.yml, and compare them with what is there. Nothing is written.

    Args: val, seed: as in `splits.split_of`.
    Raises: DataError: if there are too few pairs; EditedError: if files that were edited would be replaced.
    """
    pairs = plan.pairing.pairs
    split = split_of([image for image, _ in pairs], val, seed)
    root = os.path.abspath(outputs.folder)
    names = _unique_names([image for image, _ in pairs])
    rows: list[Pair] = [(image, os.path.join(root, "labels", name + ".png")) for (image, _), name in zip(pairs, names)]
    jobs = [(image, source, str(row[1])) for (image, source), row in zip(pairs, rows)]
    lists = {
        "train": [row for i, row in enumerate(rows) if i not in split.val],
        "val": [row for i, row in enumerate(rows) if i in split.val],
    }
    weights = Pretrained.find()
    separator = separator_for(rows, root)
    data = Prepared(root, len(plan.names), separator, plan.ignored, plan.images, plan.palette)
    sizes = sizes_of([image for image, _ in pairs], num_workers, progress)
    extent = Extent.of(len(lists["train"]), len(lists["val"]), sizes, len(plan.names))
    texts = data_set_texts(root, lists, plan.names, separator)
    machine = this_machine()
    texts[config_path(root)] = starter_config(data, extent, machine, weights).encode()
    there = [job for job in jobs if os.path.lexists(job[2])]
    compared = run_parallel(
        functools.partial(_compare, make=plan.make), there, num_workers, "comparing labels", "label", progress
    )
    states = {job[2]: "new" for job in jobs}
    states.update((job[2], state) for job, state in zip(there, compared))
    changes = Changes(outputs, texts, states)
    changes.check()
    todo = [job for job in jobs if states[job[2]] != "same"]
    return Draft(plan, changes, todo, lists, split, config_path(root), weights, length_of(extent, machine))


def carry_out(
    plan: Plan,
    out_dir: str | Outputs,
    val: float | None = None,
    seed: int | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """`draft` and `write` in one. Args: out_dir: a folder, or `Outputs` of one."""
    outputs = out_dir if isinstance(out_dir, Outputs) else Outputs(out_dir)
    return draft(plan, outputs, val, seed, num_workers, progress).write(num_workers, progress)


def _unique_names(paths: Sequence[str]) -> list[str]:
    """One name for each image's label: its own, with its folder where that would occur twice."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names = [os.path.splitext(os.path.relpath(os.path.abspath(path), common))[0] for path in paths]
    if len(set(names)) < len(names):
        raise DataError("two images differ in their extension only: rename one, so that each can have a label.")
    return names
