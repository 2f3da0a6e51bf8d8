"""Cityscapes: training labels by the official package, lists in PaddleSeg's form, and what is missing."""

from __future__ import annotations

import glob
import os
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.prepare.writing import Pair, check_lists, write_classes, write_label, write_list
from ppliteseg_paddle.errors import DataError, DependencyError
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.files import unreadable
from ppliteseg_paddle.reading.images import image_size
from ppliteseg_paddle.reading.label_sets import label_set
from ppliteseg_paddle.reading.labels import read_label

EXPECTED = {"train": 2975, "val": 500, "test": 1525}
ARCHIVES = {"leftImg8bit": "leftImg8bit_trainvaltest.zip", "gtFine": "gtFine_trainvaltest.zip"}
INSTALL = "pip install '.[data]' (or: pip install cityscapesscripts)"
_IMAGE, _POLYGONS, _IDS, _TRAIN_IDS = (
    "_leftImg8bit.png",
    "_gtFine_polygons.json",
    "_gtFine_labelIds.png",
    "_gtFine_labelTrainIds.png",
)


class Frame(NamedTuple):
    """A frame of a split: paths, whether or not the files are there."""

    image: str
    stem: str  # of its label files, below gtFine

    @property
    def label(self) -> str:
        return self.stem + _TRAIN_IDS


def prepare_cityscapes(
    root: str, num_workers: int | None = None, progress: bool = True, overwrite: bool = False
) -> dict[str, Any]:
    """Make the 19-class labels and the lists of a Cityscapes folder. Labels that are there are kept, so it can be
    resumed.

    Args: root: holds leftImg8bit/ and gtFine/, or the archives as downloaded.
    Returns: "root", "splits" (name -> images, expected, labels made, kept), "missing" (sentences), "complete".
    Raises: DataError: if images or annotations are not there at all, or a file is damaged; DependencyError.
    """
    labels_of_package()
    outputs = Outputs(root, overwrite)
    check_lists(outputs, (*EXPECTED, "trainval"))
    unpacked = [name for name in ARCHIVES if _unpack(root, name)]
    splits: dict[str, dict[str, int]] = {}
    missing: list[str] = []
    pairs: dict[str, list[Pair]] = {}
    for split, expected in EXPECTED.items():
        frames = _frames(root, split)
        made, kept, without = _make_labels(frames, split, num_workers, progress)
        if split == "test":
            pairs[split] = [(frame.image, None) for frame in frames]
        else:
            lost = set(without)
            pairs[split] = [(frame.image, frame.label) for frame in frames if frame.image not in lost]
        splits[split] = {"images": len(frames), "expected": expected, "labels": made + kept, "made": made, "kept": kept}
        if len(frames) != expected:
            advice = f"; download {ARCHIVES['leftImg8bit']}" if len(frames) < expected else ""
            folder = os.path.join(root, "leftImg8bit", split)
            missing.append(f"{split}: {len(frames)} images in {folder}, the full set has {expected}{advice}")
        if without and split != "test":
            shown = ", ".join([os.path.basename(path) for path in without[:3]] + ["..."] * (len(without) > 3))
            missing.append(
                f"{split}: {len(without)} images without annotation in gtFine ({shown}), left off the list; "
                f"download {ARCHIVES['gtFine']}"
            )
    if not pairs["train"] and not pairs["val"] and not pairs["test"]:
        raise DataError(
            f"{root} holds no Cityscapes images: expected {root}/leftImg8bit/train/CITY/*{_IMAGE}, or "
            f"{' and '.join(ARCHIVES.values())}."
        )
    pairs["trainval"] = pairs["train"] + pairs["val"]
    for split, rows in pairs.items():
        write_list(outputs, split, rows)
    write_classes(outputs, label_set("cityscapes").classes)
    return {
        "root": root,
        "splits": splits,
        "unpacked": unpacked,
        "missing": missing,
        "complete": not missing,
        "lists": {split: len(rows) for split, rows in pairs.items()},
    }


def labels_of_package():
    """The label table of `cityscapesscripts`. Raises: DependencyError: if it is not installed."""
    try:
        from cityscapesscripts.helpers import labels
    except ImportError as error:
        raise DependencyError(
            f"the official Cityscapes package is needed for the labels ({error}): {INSTALL}."
        ) from None
    return labels


# --------------------------------------------------------------------------------------------
# Finding
# --------------------------------------------------------------------------------------------
def _unpack(root: str, name: str) -> bool:
    """Unpack an archive where its folder is missing. Returns whether it did."""
    if os.path.isdir(os.path.join(root, name)):
        return False
    found = sorted(glob.glob(os.path.join(root, name + "*.zip")))
    if not found:
        raise DataError(
            f"{root} holds neither {name}/ nor {ARCHIVES[name]}: give the folder with the download as --root."
        )
    import shutil
    import tempfile

    from ppliteseg_paddle.weights.archives import unpack

    aside = tempfile.mkdtemp(prefix=".unpacking-", dir=root)  # an interrupted run must not look like a complete folder
    try:
        for path in found:
            unpack(path, aside, largest_bytes=64 << 30)
        if not os.path.isdir(os.path.join(aside, name)):
            raise DataError(
                f"{', '.join(found)} holds no folder {name}: it is not the Cityscapes archive of that name."
            )
        os.replace(os.path.join(aside, name), os.path.join(root, name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _frames(root: str, split: str) -> list[Frame]:
    images = sorted(glob.glob(os.path.join(glob.escape(root), "leftImg8bit", split, "*", "*" + _IMAGE)))
    return [
        Frame(
            path,
            os.path.join(
                root, "gtFine", split, os.path.basename(os.path.dirname(path)), os.path.basename(path)[: -len(_IMAGE)]
            ),
        )
        for path in images
    ]


# --------------------------------------------------------------------------------------------
# Labels
# --------------------------------------------------------------------------------------------
def _make_labels(frames: list[Frame], split: str, num_workers, progress) -> tuple[int, int, list[str]]:
    """How many were made, how many were there, and the images without annotation."""
    todo = [frame for frame in frames if not _complete(frame.label)]
    if split == "test":  # its published annotations are dummies
        return 0, len(frames) - len(todo), []
    results = run_parallel(_make_label, todo, num_workers, f"labels of {split}", "label", progress)
    without = [frame.image for frame, made in zip(todo, results) if not made]
    return len(todo) - len(without), len(frames) - len(todo), without


def _complete(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) > 0


def _make_label(frame: Frame) -> bool:
    """Write a frame's training label from its polygons, as the official package draws them; where the polygons are not
    there, from its label ids. Returns whether it has any."""
    if not os.path.isfile(frame.stem + _POLYGONS):
        return _from_label_ids(frame)
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    annotation = Annotation()
    try:
        annotation.fromJsonFile(frame.stem + _POLYGONS)
        label = createLabelImage(annotation, "trainIds")
    except (
        ValueError,
        KeyError,
        TypeError,
        SystemExit,
    ) as error:  # the package leaves the program on a label that it does not know
        raise DataError(
            f"{frame.stem + _POLYGONS} cannot be read as Cityscapes polygons ({error}): download it again."
        ) from None
    size = image_size(frame.image)
    if size is None:
        raise unreadable("image", frame.image)
    if size != label.size:
        raise DataError(
            "{} describes an image of {}x{}, but {} is {}x{}.".format(
                frame.stem + _POLYGONS, *label.size, frame.image, *size
            )
        )
    write_label(frame.label, np.asarray(label))
    return True


def _from_label_ids(frame: Frame) -> bool:
    if not os.path.isfile(frame.stem + _IDS):
        return False
    table = np.full(256, 255, np.uint8)
    for label in labels_of_package().labels:
        if label.id >= 0 and 0 <= label.trainId < 255:
            table[label.id] = label.trainId
    write_label(frame.label, table[read_label(frame.stem + _IDS)])
    return True
