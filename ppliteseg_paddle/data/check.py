"""Check complete data sets before training: every file, every label value, both splits against each other.

Pairs are read in processes; what is kept of one is a few numbers, so the memory does not depend on the images.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.config.keys import TOP_LEVEL
from ppliteseg_paddle.data.check_pair import Form, PairReport, inspect_pair, known_pixels
from ppliteseg_paddle.data.check_shapes import shape_problems
from ppliteseg_paddle.data.findings import ERROR, Findings
from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.rare_classes import RareClassCrop
from ppliteseg_paddle.data.transforms import FusedAugment

DEFAULT_UNREADABLE_SHARE: float = TOP_LEVEL["max_unreadable_share"].default
QUICK_SAMPLE = 64  # labels that are looked into before a training starts


# --------------------------------------------------------------------------------------------
# A split, and several
# --------------------------------------------------------------------------------------------
class Split:
    """Sums over the pairs of one split."""

    def __init__(self, pairs: int, form: Form):
        self.pairs, self.form, self.read = pairs, form, 0
        self.pixels = np.zeros(form.values, np.int64)
        self.images = np.zeros(form.values, np.int64)
        self.area = 0  # pixels of the labels
        self.foreground: dict[int, list[str]] = {1: [], 255: []}  # labels of 0 and 1, and of 0 and 255
        self.ignores = False  # whether a label holds both 1 and 255
        self.smallest: tuple[int, int] | None = None  # by area
        self.largest: tuple[int, int] | None = None

    def add(self, report: PairReport, label: str | None) -> None:
        self.read += 1
        if report.pixels is not None:
            self.pixels += report.pixels
            self.images += report.pixels > 0
            self.area += report.area
            held = set(np.flatnonzero(report.pixels).tolist())
            self.ignores = self.ignores or {1, 255} <= held
            for value, paths in self.foreground.items():
                if label and held in ({value}, {0, value}):
                    paths.append(label)
        if report.size:
            area = lambda size: size[0] * size[1]  # noqa: E731
            self.smallest = min(self.smallest or report.size, report.size, key=area)
            self.largest = max(self.largest or report.size, report.size, key=area)

    @property
    def complete(self) -> bool:
        return self.read == self.pairs

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        known = known_pixels(self.pixels, self.form)
        total, ignored = (
            self.area if self.form.planes else int(known.sum()),
            int(self.pixels[self.form.ignore_index]) if 0 <= self.form.ignore_index < self.form.values else 0,
        )
        classes = [
            {
                "id": i,
                "name": names[i],
                "pixels": int(known[i]),
                "share": float(known[i] / total) if total else 0.0,
                "images": int(self.images[i]),
                "image_share": float(self.images[i] / self.read) if self.read else 0.0,
            }
            for i in range(self.form.num_classes)
        ]
        return {
            "pairs": self.pairs,
            "read": self.read,
            "smallest": self.smallest,
            "largest": self.largest,
            "labelled_pixels": total,
            "ignored_pixels": ignored,
            "classes": classes,
        }


def check_datasets(
    datasets: Mapping[str, Any],
    names: Sequence[str] | None = None,
    batch_size: int = 1,
    max_unreadable_share: float = DEFAULT_UNREADABLE_SHARE,
    sample: int | None = None,
    images: bool = True,
    num_workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Check the pairs of data sets.

    Args:
        datasets: split name ("train", "val") -> data set with `file_list`, `num_classes`, `ignore_index`.
        names: of the classes; None numbers them.
        batch_size: of the training.
        max_unreadable_share: of a split's pairs; unreadable ones beyond it are an error, up to it a warning.
        sample: how many pairs of each split to look into, spread evenly; None takes all. That files exist is checked of
            all.
        images: False looks at the labels alone.
        num_workers: processes; None takes one per core.

    Returns: "findings" (rows of `findings.Finding.to_dict`), "splits" (sizes, class pixels, class images), "complete",
        "errors" (how many findings training would fail on).
    """
    found, splits = Findings(), {}
    seen: dict[bytes, tuple[Any, ...]] = {}
    for name, dataset in datasets.items():
        form = Form.of(dataset)
        pairs = dataset.file_list
        splits[name] = split = Split(len(pairs), form)
        crop = crop_size_of(dataset) if name == "train" else None
        chosen = _spread(len(pairs), sample)
        if len(chosen) < len(pairs):
            _check_existence(pairs, chosen, name, found)
        jobs = [pairs[i] for i in chosen]
        inspect = functools.partial(inspect_pair, form=form, images=images)
        reports = run_parallel(inspect, jobs, num_workers, f"checking {name}", progress=progress)
        for (image_path, label_path), report in zip(jobs, reports):
            split.add(report, label_path)
            for kind, message in report.problems:
                found.add(kind, name, message)
            if crop and report.size and (report.size[0] < crop[0] or report.size[1] < crop[1]):
                found.add("small", name, "{} ({}x{}, the crop is {}x{})".format(image_path, *report.size, *crop))
            if report.image_digest:
                _compare(seen, report, name, image_path, found)
        for problem in shape_problems(dataset, batch_size):
            found.add("shapes", name, problem)
        _assess_split(name, split, found, names, batch_size, max_unreadable_share)
    rows = found.rows()
    return {
        "findings": rows,
        "errors": sum(row["severity"] == ERROR for row in rows),
        "complete": all(split.complete for split in splits.values()),
        "splits": {
            name: split.to_dict(names or [f"class_{i:d}" for i in range(split.form.num_classes)])
            for name, split in splits.items()
        },
    }


def first_error(result: Mapping[str, Any]) -> str | None:
    """One line about the first finding that training would fail on; None without one."""
    for row in result["findings"]:
        if row["severity"] == ERROR:
            more = (
                f" ({row['count']:d} such in {row['split']}; 'ppliteseg data check' lists what is wrong)"
                if row["count"] > 1
                else ""
            )
            text = row["first"][0]
            if row["kind"] in ("same_file", "one_class", "no_labels", "few"):
                text = f"{row['split']}: {row['title']}: {text}. Fix: {row['fix']}."
            return text + more
    return None


def crop_size_of(dataset) -> tuple[int, int] | None:
    """(width, height) of the first crop among a data set's transforms. PaddleSeg's keep (height, width)."""
    for transform in getattr(getattr(dataset, "transforms", None), "transforms", []):
        size = getattr(transform, "crop_size", None)
        if isinstance(size, (list, tuple)) and len(size) == 2:
            width, height = size if isinstance(transform, (FusedAugment, RareClassCrop)) else size[::-1]
            return int(width), int(height)
    return None


# --------------------------------------------------------------------------------------------
# Judging
# --------------------------------------------------------------------------------------------
def _spread(size: int, sample: int | None) -> list[int]:
    if sample is None or sample >= size:
        return list(range(size))
    return sorted({round(i * (size - 1) / max(sample - 1, 1)) for i in range(sample)})


def _check_existence(pairs, chosen: Sequence[int], name: str, found: Findings) -> None:
    looked_into = set(chosen)
    for index, pair in enumerate(pairs):
        for path in pair if index not in looked_into else ():
            if path is not None and not os.path.exists(path):
                found.add("missing", name, f"{path} does not exist: correct the list or dataset_root.")


def _compare(seen: dict[bytes, tuple[Any, ...]], report: PairReport, name: str, path: str, found: Findings) -> None:
    if report.image_digest not in seen:
        seen[report.image_digest] = (name, path, report.label_digest)
        return
    other_split, other_path, other_label = seen[report.image_digest]
    message = f"{path} = {other_path}"
    if other_split != name:
        found.add("leak", name, message)
    elif report.label_digest and other_label and report.label_digest != other_label:
        found.add("contradiction", name, message)
    else:
        found.add("duplicate", name, message)


def _assess_split(
    name: str, split: Split, found: Findings, names, batch_size: int, max_unreadable_share: float
) -> None:
    form, known = split.form, known_pixels(split.pixels, split.form)
    bad_files = sum(found.of(kind, name).count for kind in ("missing", "unreadable") if found.of(kind, name))
    if 0 < bad_files <= max_unreadable_share * split.pairs:
        for kind in ("missing", "unreadable"):
            found.rename(kind, name, "skipped")
    values = found.of("values", name)
    if values:
        held = np.flatnonzero(split.pixels)
        held = held[held != form.ignore_index]
        if held.size and held.min() == 1 and held.max() == form.num_classes:
            values.hint = (
                "the values count from 1: subtract 1 (ppliteseg data prepare folder does it), or train with one class "
                "more"
            )
    if form.num_classes == 2 and not form.planes and split.foreground[1] and not split.ignores:
        for path in split.foreground[255]:
            found.add("mixed_binary", name, path)
    if name == "train" and split.pairs < batch_size:
        found.add("few", name, f"{split.pairs:d} for batches of {batch_size:d}")
    if not split.complete or not (split.area if form.planes else split.images.any()):
        return
    present = np.flatnonzero(known)
    label = (lambda i: f"{i:d} ({names[i]})") if names else str
    if not present.size and form.planes:
        only = f"0 and {form.ignore_index:d} (ignored): write 1" if split.pixels[form.ignore_index] else "0: write 1"
        found.add("no_labels", name, f"{split.read:d} labels hold only {only} where a pixel is of a class")
    elif not present.size and not values:
        found.add("no_labels", name, f"{split.read:d} labels hold only the ignored value {form.ignore_index:d}")
    elif present.size == 1 and form.num_classes > 1 and name == "train" and not values and not form.planes:
        found.add(
            "one_class", name, f"class {label(int(present[0]))}, and else only the ignored value {form.ignore_index:d}"
        )
    elif present.size:
        for i in sorted(set(range(form.num_classes)) - set(present.tolist()) - {form.ignore_index}):
            found.add("absent_class" if name == "train" else "absent_in_val", name, label(i))
