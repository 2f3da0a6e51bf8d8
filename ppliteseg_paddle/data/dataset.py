"""Image and label pairs from a list file, read with every check that saves a puzzled hour later.

The interface and the numbers are those of PaddleSeg's `Dataset`; bad data differ: one line names
the file, the fault and the fix, where PaddleSeg runs into a cryptic assertion in the loss.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import cv2  # noqa: F401  before paddle: see environment.load_image_codecs_before_paddle
import numpy as np
import paddle

from ppliteseg_paddle.config.read import expand_env
from ppliteseg_paddle.data.cache import open_cache
from ppliteseg_paddle.data.check_transforms import check_transforms
from ppliteseg_paddle.data.copy_paste import CopyPaste
from ppliteseg_paddle.data.multilabel import adds_plane, check_multilabel, planes_first
from ppliteseg_paddle.data.randomness import Draws, seed_globals
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.data.unreadable import Unreadable
from ppliteseg_paddle.errors import ConfigError, DataError, suggest
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import UnreadableError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS, LabelSet
from ppliteseg_paddle.reading.lists import read_list, read_names
from ppliteseg_paddle.reading.pairs import read_pair
from ppliteseg_paddle.reading.pairs_by_order import check_order

MODES = ("train", "val", "test")


# --------------------------------------------------------------------------------------------
# Data sets
# --------------------------------------------------------------------------------------------
class CheckedDataset(paddle.io.Dataset):
    """PaddleSeg's `Dataset` with checked reading; our command line builds it for `type: Dataset`.

    Args: those of PaddleSeg's `Dataset`, with its meaning: list files are taken relative to the
        working directory, the names in them relative to `dataset_root`. `img_channels` may be any number;
        `img_range`: the values that become black and white, for images of more than 8 bits (`ImageForm`).
    Shape: an item is a dict: "img" float32 (C, H, W); "label" (H, W), in mode "val" (1, H, W), of planes
        (classes, H, W);
        "trans_info", "gt_fields"; "edge" with `edge` in mode "train".
    Raises: ConfigError: for a wrong argument; DataError: for lists, images and labels that cannot serve.
    Source: PaddleSeg `datasets/dataset.py` and `transforms/transforms.py::Compose`, whose numbers it gives.
    """

    label_set: LabelSet | None = None
    img_channels = 3
    img_range: Any = None
    form = ImageForm()
    origin = ""  # how to get the data, for the error message where they are missing
    list_path: str | None = None
    draws: Draws
    cache = None  # of `use_cache`
    planes = 0  # of the label files, after `use_multilabel`; 0: class ids
    unreadable: Unreadable | None = None  # what is skipped; None ends at the first unreadable file

    def __init__(
        self,
        mode,
        dataset_root,
        transforms,
        num_classes,
        img_channels=3,
        train_path=None,
        val_path=None,
        test_path=None,
        separator=" ",
        ignore_index=255,
        edge=False,
        img_range=None,
    ):
        from paddleseg.transforms import Compose

        self.mode = str(mode).lower()
        if self.mode not in MODES:
            raise ConfigError(f"mode is '{mode}'.{suggest(mode, MODES)}")
        if not isinstance(transforms, (list, tuple)):
            raise ConfigError(f"transforms must be a list, but is {transforms!r}.")
        self.form = ImageForm.checked(img_channels, img_range)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ConfigError(f"num_classes is {num_classes!r}: give an integer of at least 1.")
        self.num_classes, self.ignore_index, self.edge = num_classes, ignore_index, edge
        self.img_channels, self.img_range = img_channels, self.form.to_plain()
        self.transforms = Compose(list(transforms), img_channels=img_channels)
        self._begin_transforms()
        self.dataset_root = existing_root(dataset_root)
        list_path = {"train": train_path, "val": val_path, "test": test_path}[self.mode]
        if list_path is None:
            raise ConfigError(f"mode is '{self.mode}', so {self.mode}_path is needed: the list of 'image label' pairs.")
        self.list_path = self.find_list(expand_env(list_path))
        pairs = read_list(self.list_path, self.dataset_root, separator, needs_label=self.mode != "test")
        self.file_list: list[Any] = [[image, label] for image, label, _ in pairs]
        self.draws = Draws(len(self.file_list))

    @classmethod
    def of(cls, dataset) -> CheckedDataset:
        """A data set of PaddleSeg's that lists pairs and reads them as `Dataset` does (`Cityscapes`), with checked
        reading."""
        checked = cls.__new__(cls)
        checked.__dict__.update(vars(dataset))
        if not checked.file_list:
            raise DataError(
                f"{dataset.dataset_root} holds no images with labels for mode '{dataset.mode}'; ppliteseg data prepare "
                "cityscapes makes Cityscapes' labels."
            )
        checked.draws = Draws(len(checked.file_list))
        checked._begin_transforms()
        check_order(checked.file_list)  # PaddleSeg pairs two sorted lists of files one by one
        return checked

    def _begin_transforms(self) -> None:
        check_transforms(self)
        for step in self.transforms.transforms:
            if isinstance(step, CopyPaste):
                step.attach(self)

    def skip_unreadable(self, max_share: float) -> Unreadable:
        """From now on skip unreadable files, as long as they are no more than `max_share` of the pairs."""
        self.unreadable = Unreadable(self.file_list, max_share)
        return self.unreadable

    def find_list(self, list_path: str) -> str:
        """Where the list file is: as given, as PaddleSeg takes it."""
        inside = os.path.join(self.dataset_root, list_path)
        if not os.path.exists(list_path) and os.path.exists(inside):
            raise DataError(
                f"list {list_path} does not exist; `type: Dataset` takes it relative to the working directory. "
                f"Write: {inside}"
            )
        return list_path

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The decoded, checked pair before any transform: image, as `read_image` gives it, and label or None.

        Both may be views of a cache, and are not to be written to.
        """
        return self.decode(index) if self.cache is None else self.cache.read(index)

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """`read` from the files themselves, whatever cache there is."""
        image, label = self.file_list[index]
        return read_pair(image, label, self.form, self.num_classes, self.ignore_index, self.planes)

    def use_multilabel(self) -> None:
        """From now on labels are planes of 0 and 1, one for each class (`reading.planes`).

        Raises: ConfigError: for a transform or an argument that takes one class a pixel only.
        """
        check_multilabel(self)
        self.planes = self.num_classes - sum(map(adds_plane, self.transforms.transforms))

    def use_cache(self, where: str) -> None:
        """From now on take decoded pairs from a folder of `ppliteseg data cache`, or ("memory") keep them once read.

        Raises: DataError: if the folder does not fit the data; ConfigError: if the memory does not hold them.
        """
        self.cache = open_cache(self, expand_env(where))

    def read_or_replace(self, index: int):
        """`read` in types that Paddle has, or another pair in place of an unreadable one; its pixels are ignored where
        each image counts once."""
        if self.unreadable is None:
            return _for_paddle(*self.read(index))
        for other in range(index, index + len(self)):
            try:
                image, label = _for_paddle(*self.read(other % len(self)))
            except UnreadableError as error:
                self.unreadable.add(other % len(self), error)
                continue
            if other != index and self.mode == "val":
                label = np.full_like(label, self.ignore_index)
            return image, label
        raise DataError(f"none of the {len(self):d} images can be read.")

    def transformed(self, index: int, transforms) -> np.ndarray:
        """An image alone, through other transforms. Shape: returns (C, H, W) float32."""
        return transforms({"img": self.read_or_replace(index)[0].astype("float32"), "trans_info": [], "gt_fields": []})[
            "img"
        ]

    def __getitem__(self, index):
        generator = self.draws.generator(index) if self.mode == "train" else None
        image, label = self.read_or_replace(index)
        *before, last = self.transforms.transforms or [None]
        if generator is not None and isinstance(last, FusedAugment) and all(isinstance(s, CopyPaste) for s in before):
            for step in (*before, last):
                image, label = step.sample(image, label, generator)
            label = planes_first(label, composed=False) if self.planes else label
            return self._with_edge({"img": image, "trans_info": [], "gt_fields": ["label"], "label": label})
        if generator is not None and (self.draws.epoch is not None or paddle.io.get_worker_info() is not None):
            # PaddleSeg seeds all workers alike, and alike in every epoch. In a process of somebody else's loop the
            # generators are left alone.
            seed_globals(generator)
        data = {"img": image.astype("float32"), "trans_info": [], "gt_fields": []}
        if label is None:
            return self.transforms(data)
        data["label"] = label
        if self.mode == "val":
            # The label stays at its own size: predictions are brought back to it.
            data = self.transforms(data)
            data["label"] = planes_first(data["label"]) if self.planes else data["label"][np.newaxis, :, :]
            return data
        data["gt_fields"].append("label")
        data = self.transforms(data)
        if self.planes:
            data["label"] = planes_first(data["label"])
        return self._with_edge(data)

    def _with_edge(self, data):
        if self.edge:
            from paddleseg.transforms.functional import mask_to_binary_edge

            data["edge"] = mask_to_binary_edge(data["label"], radius=2, num_classes=self.num_classes)
        return data

    def __len__(self):
        return len(self.file_list)


def _for_paddle(image: np.ndarray, label: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """A pair in types that Paddle has: it takes 16 bits without a sign for its bfloat16."""
    return image, label if label is None or label.dtype != np.uint16 else label.astype(np.int32)


class _KnownDataset(CheckedDataset):
    """A data set whose classes are known. Lists default to train.txt, val.txt, test.txt in `dataset_root`.

    Args: `mode`, `transforms`; `dataset_root` may hold `${VARIABLE:-default}`; list paths relative to it.
    """

    NUM_CLASSES: int
    IGNORE_INDEX = 255
    IMG_CHANNELS = 3

    def __init__(
        self,
        transforms,
        dataset_root,
        mode="train",
        train_path="train.txt",
        val_path="val.txt",
        test_path="test.txt",
        separator=" ",
        edge=False,
    ):
        super().__init__(
            mode,
            dataset_root,
            transforms,
            self.NUM_CLASSES,
            self.IMG_CHANNELS,
            train_path,
            val_path,
            test_path,
            separator,
            self.IGNORE_INDEX,
            edge,
        )

    def find_list(self, list_path: str) -> str:
        return os.path.join(self.dataset_root, list_path)


class CamVid(_KnownDataset):
    """CamVid in the 11 classes that segmentation papers use."""

    label_set = LABEL_SETS["camvid"]
    NUM_CLASSES = label_set.num_classes


class StreetScenes(_KnownDataset):
    """Generated street scenes (`ppliteseg data synth`) in CamVid's 11 classes."""

    label_set = LABEL_SETS["camvid"]
    NUM_CLASSES = label_set.num_classes
    origin = "Make it with: ppliteseg data synth --out %s"


def existing_root(dataset_root: str, advice: str = "") -> str:
    """`dataset_root` with `${VARIABLE:-default}` replaced.

    Args: advice: what ends the error message.
    Raises: ConfigError: if it is no text; DataError: if there is no such folder.
    """
    if not isinstance(dataset_root, str):
        raise ConfigError(f"dataset_root is {dataset_root!r}: give the path of a folder.")
    root = expand_env(dataset_root)
    if not os.path.isdir(root):
        fault = "is no folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"dataset_root {root} {fault}.{advice or ' Give the folder that holds the lists and images.'}")
    return root


def read_class_names(dataset_root: str, num_classes: int) -> Sequence[str] | None:
    """Names from `dataset_root`/classes.txt, one a line; None if there is no such file.

    Raises: DataError: if it does not name `num_classes` classes.
    """
    path = os.path.join(dataset_root, "classes.txt")
    if not os.path.isfile(path):
        return None
    names = read_names(path)
    if len(names) != num_classes:
        raise DataError(
            f"{path} names {len(names):d} classes, but num_classes is {num_classes:d}: give one name a line."
        )
    return names
