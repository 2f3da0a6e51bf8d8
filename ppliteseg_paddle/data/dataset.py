"""Image and label pairs from a list file, read with every check that saves a puzzled hour later.

The interface and the numbers are those of PaddleSeg's `Dataset`; what differs is what happens to
bad data: one line that names the file, the fault and the mend, where PaddleSeg goes on to a
cryptic assertion in the loss. paddleseg is imported inside functions only: while it is being
imported, `compat.register` imports this module.
"""
from __future__ import annotations

import os
from typing import List, Optional, Sequence, Tuple

import cv2  # before paddle: see compat.load_image_codecs_before_paddle
import numpy as np
import paddle
from PIL import Image, UnidentifiedImageError

from ppliteseg_paddle.config import expand_env
from ppliteseg_paddle.data.catalog import LABEL_SETS
from ppliteseg_paddle.errors import ConfigError, DataError, suggest

MODES = ("train", "val", "test")


# --------------------------------------------------------------------------------------------
# Reading one list, one image, one label
# --------------------------------------------------------------------------------------------
def read_list(list_path: str, dataset_root: str, separator: str = " ",
              needs_label: bool = True) -> List[Tuple[str, Optional[str], int]]:
    """Read a list file: one `image label` pair a line, relative to `dataset_root`. Blank lines are passed over.

    Returns: (image path, label path or None, line number) of each line.
    Raises: DataError: if the file is missing, empty, or a line has another form.
    Source: PaddleSeg `datasets/dataset.py`.
    """
    try:
        with open(list_path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except UnicodeDecodeError as error:
        raise DataError("list %s is not UTF-8 text (%s)." % (list_path, error)) from None
    except OSError as error:
        raise DataError("list %s cannot be read: %s. It holds one 'image label' pair a line, relative to dataset_root (%s)."
                        % (list_path, error.strerror, dataset_root)) from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        names = line.strip().split(separator)
        if len(names) != 2 and (needs_label or len(names) != 1):
            raise DataError("%s:%d: expected 'image%slabel', found %d field(s): '%s'. Put one pair a line, or set "
                            "`separator` if names hold blanks." % (list_path, number, separator, len(names), line.strip()[:120]))
        label = os.path.join(dataset_root, names[1]) if len(names) == 2 else None
        pairs.append((os.path.join(dataset_root, names[0]), label, number))
    if not pairs:
        raise DataError("list %s is empty: it needs one 'image label' pair a line." % list_path)
    return pairs


def read_image(path: str, img_channels: int = 3) -> np.ndarray:
    """Decode an image: uint8, BGR or, with `img_channels` 1, grey.

    Shape: (H, W, 3), or (H, W).
    Raises: DataError: if the file is missing or no image.
    """
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE if img_channels == 1 else cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(_unreadable("image", path))
    return image


def read_label(path: str) -> np.ndarray:
    """Decode a label as it is stored: class ids of a grey PNG, or the indices of a palette PNG.

    Shape: (H, W), uint8 where the values allow it.
    Raises: DataError: if the file is missing, no image, or has several channels.
    """
    try:
        with Image.open(path) as file:
            label, mode = np.asarray(file), file.mode
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        raise DataError(_unreadable("label", path)) from None
    if label.ndim != 2:
        raise DataError("label %s has %d channels (%s): a label is one channel of class ids. Convert its colours to ids "
                        "(0, 1, 2, ...; 255 = ignored) and save it as a grey or palette PNG." % (path, label.shape[2], mode))
    if label.dtype != np.uint8 and label.size and 0 <= label.min() and label.max() <= 255:
        label = label.astype(np.uint8)
    return label


def _unreadable(kind: str, path: str) -> str:
    if not os.path.exists(path):
        return "%s %s does not exist: correct the list or dataset_root." % (kind, path)
    if os.path.isdir(path):
        return "%s %s is a folder: correct the list." % (kind, path)
    if os.path.getsize(path) == 0:
        return "%s %s is empty (0 bytes): replace it, or take it off the list." % (kind, path)
    return "%s %s cannot be decoded: it is damaged or no image. Replace it, or take it off the list." % (kind, path)


def check_label(label: np.ndarray, path: str, num_classes: int, ignore_index: int) -> None:
    """See that a label holds class ids and the ignored value only.

    Raises: DataError: naming the values and how to mend them.
    """
    if label.dtype == np.uint8:
        # A table look-up instead of np.unique: well below a millisecond for 2048x1024, so every reading can afford it.
        allowed = np.zeros(256, np.uint8)
        allowed[:num_classes] = 1
        if 0 <= ignore_index <= 255:
            allowed[ignore_index] = 1
        bad_pixels = label.size - cv2.countNonZero(cv2.LUT(np.ascontiguousarray(label), allowed))
        if not bad_pixels:
            return
    values = np.unique(label)
    bad = values[((values < 0) | (values >= num_classes)) & (values != ignore_index)]
    if not bad.size:
        return
    shown = ", ".join(str(v) for v in bad[:8]) + (", ..." if bad.size > 8 else "")
    pixels = int(np.isin(label, bad).sum())
    known = values[values != ignore_index]
    if known.min() == 1 and known.max() == num_classes:
        mend = "The values seem to count from 1: subtract 1."
    else:
        mend = "Map them to class ids or to %d, or raise num_classes." % ignore_index
    raise DataError("label %s holds the value%s %s (%d pixel%s), but the classes are 0 to %d and %d is ignored. %s"
                    % (path, "s" if bad.size > 1 else "", shown, pixels, "s" if pixels > 1 else "", num_classes - 1,
                       ignore_index, mend))


def check_sizes(image: np.ndarray, label: np.ndarray, image_path: str, label_path: str) -> None:
    """See that a label covers its image pixel by pixel.

    Raises: DataError: naming both files and both sizes.
    """
    (height, width), (label_height, label_width) = image.shape[:2], label.shape[:2]
    if (height, width) == (label_height, label_width):
        return
    turned = (height, width) == (label_width, label_height)
    mend = ("The image may carry an EXIF rotation, which is applied: save it upright." if turned
            else "Make the label again from the image, or resize it with nearest-neighbour interpolation.")
    raise DataError("label %s is %dx%d pixels, but its image %s is %dx%d. %s"
                    % (label_path, label_width, label_height, image_path, width, height, mend))


# --------------------------------------------------------------------------------------------
# Data sets
# --------------------------------------------------------------------------------------------
class CheckedDataset(paddle.io.Dataset):
    """PaddleSeg's `Dataset` with checked reading; our command line builds it for `type: Dataset`.

    Args: those of PaddleSeg's `Dataset`, with its meaning: list files are taken relative to the
        working directory, the names in them relative to `dataset_root`.
    Shape: an item is a dict: "img" float32 (C, H, W); "label" (H, W), in mode "val" (1, H, W);
        "trans_info", "gt_fields"; "edge" with `edge` in mode "train".
    Raises: ConfigError: for a wrong argument; DataError: for lists, images and labels that cannot serve.
    Source: PaddleSeg `datasets/dataset.py` and `transforms/transforms.py::Compose`, whose numbers it gives.
    """

    label_set = None
    origin = ""  # how to get the data, for the error message where they are missing

    def __init__(self, mode, dataset_root, transforms, num_classes, img_channels=3, train_path=None, val_path=None,
                 test_path=None, separator=" ", ignore_index=255, edge=False):
        from paddleseg.transforms import Compose
        self.mode = str(mode).lower()
        if self.mode not in MODES:
            raise ConfigError("mode is '%s'.%s" % (mode, suggest(mode, MODES)))
        if not isinstance(transforms, (list, tuple)):
            raise ConfigError("transforms must be a list, but is %r." % (transforms,))
        if img_channels not in (1, 3):
            raise ConfigError("img_channels is %r: allowed are 3 and 1." % (img_channels,))
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ConfigError("num_classes is %r: give a whole number of at least 1." % (num_classes,))
        self.num_classes, self.img_channels, self.ignore_index, self.edge = num_classes, img_channels, ignore_index, edge
        self.transforms = Compose(list(transforms), img_channels=img_channels)
        self.dataset_root = existing_root(dataset_root)
        list_path = {"train": train_path, "val": val_path, "test": test_path}[self.mode]
        if list_path is None:
            raise ConfigError("mode is '%s', so %s_path is needed: the list of 'image label' pairs." % (self.mode, self.mode))
        self.list_path = self.find_list(expand_env(list_path))
        pairs = read_list(self.list_path, self.dataset_root, separator, needs_label=self.mode != "test")
        self.file_list = [[image, label] for image, label, _ in pairs]

    def find_list(self, list_path: str) -> str:
        """Where the list file is: as given, as PaddleSeg takes it."""
        inside = os.path.join(self.dataset_root, list_path)
        if not os.path.exists(list_path) and os.path.exists(inside):
            raise DataError("list %s does not exist; `type: Dataset` takes it relative to the working directory. "
                            "Write: %s" % (list_path, inside))
        return list_path

    def read(self, index: int) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """The decoded, checked pair before any transform: image (BGR or grey, uint8) and label (None without one)."""
        image_path, label_path = self.file_list[index]
        image = read_image(image_path, self.img_channels)
        if label_path is None:
            return image, None
        label = read_label(label_path)
        check_sizes(image, label, image_path, label_path)
        check_label(label, label_path, self.num_classes, self.ignore_index)
        return image, label

    def __getitem__(self, index):
        image, label = self.read(index)
        data = {"img": image.astype("float32"), "trans_info": [], "gt_fields": []}
        if label is None:
            return self.transforms(data)
        data["label"] = label
        if self.mode == "val":
            # The label stays at its own size: predictions are brought back to it.
            data = self.transforms(data)
            data["label"] = data["label"][np.newaxis, :, :]
            return data
        data["gt_fields"].append("label")
        data = self.transforms(data)
        if self.edge:
            from paddleseg.transforms.functional import mask_to_binary_edge
            data["edge"] = mask_to_binary_edge(data["label"], radius=2, num_classes=self.num_classes)
        return data

    def __len__(self):
        return len(self.file_list)


class _KnownDataset(CheckedDataset):
    """A data set whose classes are known. Lists default to train.txt, val.txt, test.txt in `dataset_root`.

    Args: `mode`, `transforms`; `dataset_root` may hold `${VARIABLE:-default}`; list paths relative to it.
    """

    NUM_CLASSES: int
    IGNORE_INDEX = 255
    IMG_CHANNELS = 3

    def __init__(self, transforms, dataset_root, mode="train", train_path="train.txt", val_path="val.txt",
                 test_path="test.txt", separator=" ", edge=False):
        super().__init__(mode, dataset_root, transforms, self.NUM_CLASSES, self.IMG_CHANNELS, train_path, val_path,
                         test_path, separator, self.IGNORE_INDEX, edge)

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
        raise ConfigError("dataset_root is %r: give the path of a folder." % (dataset_root,))
    root = expand_env(dataset_root)
    if not os.path.isdir(root):
        fault = "is no folder" if os.path.exists(root) else "does not exist"
        raise DataError("dataset_root %s %s.%s" % (root, fault, advice or " Give the folder that holds the lists and images."))
    return root


def read_class_names(dataset_root: str, num_classes: int) -> Optional[Sequence[str]]:
    """Names from `dataset_root`/classes.txt, one a line; None if there is no such file.

    Raises: DataError: if it does not name `num_classes` classes.
    """
    path = os.path.join(dataset_root, "classes.txt")
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8-sig") as file:
        names = [line.strip() for line in file if line.strip()]
    if len(names) != num_classes:
        raise DataError("%s names %d classes, but num_classes is %d: give one name a line." % (path, len(names), num_classes))
    return names
