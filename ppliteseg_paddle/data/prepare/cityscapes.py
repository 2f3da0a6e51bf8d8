"""Cityscapes: training labels by the official package, lists in PaddleSeg's form, and what is missing."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.prepare.known import KnownSet
from ppliteseg_paddle.data.prepare.writing import Pair, write_label
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

    @property
    def has_label(self) -> bool:
        return os.path.isfile(self.label) and os.path.getsize(self.label) > 0

    @property
    def has_annotation(self) -> bool:
        """Whether a label is there, or can be made."""
        return self.has_label or os.path.isfile(self.stem + _POLYGONS) or os.path.isfile(self.stem + _IDS)


def prepare_cityscapes(
    root: str,
    num_workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
    out_dir: str | None = None,
) -> dict[str, Any]:
    """Make the 19-class labels of a Cityscapes folder, its lists, and a config.yml. Labels that are there are kept, so
    it can be resumed; the official package is needed for those that are not.

    Args: root: holds leftImg8bit/ and gtFine/, or the archives as downloaded. out_dir: folder for the lists and
        config.yml; None: `root`.
    Returns: "root", "splits" (name -> images, expected, labels made, kept), "missing" (sentences), "complete", and
        those of `KnownSet.result`.
    Raises: DataError: if images or annotations are not there at all, or a file is damaged; DependencyError.
    """
    unpacked = [name for name in ARCHIVES if _unpack(root, name)]
    frames = {split: _frames(root, split) for split in EXPECTED}
    if not any(frames.values()):
        raise DataError(
            f"{root} holds no Cityscapes images: expected {root}/leftImg8bit/train/CITY/*{_IMAGE}, or "
            f"{' and '.join(ARCHIVES.values())}."
        )
    labeled = {split: [frame for frame in frames[split] if frame.has_annotation] for split in ("train", "val")}
    pairs: dict[str, list[Pair]] = {
        split: [(frame.image, frame.label) for frame in part] for split, part in labeled.items()
    }
    pairs["test"] = [(frame.image, None) for frame in frames["test"]]  # its published annotations are dummies
    pairs["trainval"] = pairs["train"] + pairs["val"]
    known = KnownSet("cityscapes", label_set("cityscapes").classes, pairs)
    changes = known.changes(Outputs(out_dir or root, overwrite))
    todo = {split: [frame for frame in part if not frame.has_label] for split, part in labeled.items()}
    if any(todo.values()):
        labels_of_package()
    for split, part in todo.items():
        for _ in run_parallel(_make_label, part, num_workers, f"labels of {split}", "label", progress):
            pass
    changes.write_texts()
    missing = _missing(root, frames, labeled)
    return {
        "root": root,
        "splits": {split: _counts(split, part, todo.get(split, ())) for split, part in frames.items()},
        "unpacked": unpacked,
        "missing": missing,
        "complete": not missing,
        **known.result(changes),
    }


def _counts(split: str, frames: list[Frame], made: Sequence[Frame]) -> dict[str, int]:
    labels = sum(frame.has_label for frame in frames)
    return {
        "images": len(frames),
        "expected": EXPECTED[split],
        "labels": labels,
        "made": len(made),
        "kept": labels - len(made),
    }


def _missing(root: str, frames: dict[str, list[Frame]], labeled: dict[str, list[Frame]]) -> list[str]:
    """What of the full set is not there, and which archive has it."""
    missing = []
    for split, expected in EXPECTED.items():
        found = len(frames[split])
        if found != expected:
            advice = f"; download {ARCHIVES['leftImg8bit']}" if found < expected else ""
            folder = os.path.join(root, "leftImg8bit", split)
            missing.append(f"{split}: {found} images in {folder}, the full set has {expected}{advice}")
        without = [] if split == "test" else [frame.image for frame in frames[split] if not frame.has_annotation]
        if without:
            shown = ", ".join([os.path.basename(path) for path in without[:3]] + ["..."] * (len(without) > 3))
            missing.append(
                f"{split}: {len(without)} images without annotation in gtFine ({shown}), left off the list; "
                f"download {ARCHIVES['gtFine']}"
            )
    return missing


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
def _make_label(frame: Frame) -> None:
    """Write a frame's training label from its polygons, as the official package draws them; where the polygons are not
    there, from its label ids."""
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
    return write_label(frame.label, np.asarray(label))


def _from_label_ids(frame: Frame) -> None:
    table = np.full(256, 255, np.uint8)
    for label in labels_of_package().labels:
        if label.id >= 0 and 0 <= label.trainId < 255:
            table[label.id] = label.trainId
    write_label(frame.label, table[read_label(frame.stem + _IDS)])
