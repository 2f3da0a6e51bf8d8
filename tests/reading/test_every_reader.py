"""Training, checks, prediction, calibration and submissions read the same lists and labels."""

import types

import cv2
import numpy as np
import pytest
from PIL import Image

from ppliteseg_paddle.data.check import check_datasets
from ppliteseg_paddle.data.dataset import CheckedDataset
from ppliteseg_paddle.data.submission import check_frames
from ppliteseg_paddle.deploy.sources import find_images
from ppliteseg_paddle.export.int8.accuracy import measure_loss
from ppliteseg_paddle.export.int8.calibration import Calibration, read_calibration_list
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

NAMES = ["berlin_000000_000019_leftImg8bit.png", "bonn 2/bonn_000001_000019_leftImg8bit.png"]

# How a list is written: bytes before, separator, line end.
FORMS = {
    "blanks": (b"", " ", "\n"),
    "tabs": (b"", "\t", "\n"),
    "byte-order mark": (b"\xef\xbb\xbf", " ", "\n"),
    "Windows line ends": (b"", " ", "\r\n"),
    "comments and blank lines": (b"# image, label\n\n", " ", "\n\n"),
    "all of it, and names with blanks": (b"\xef\xbb\xbf# image, label\r\n", "\t", "\r\n"),
}


def data_set(root, form):
    """Two pairs and their list; returns its path and the expected (image, label) paths."""
    before, separator, end = FORMS[form]
    pairs = []
    for name in NAMES if "\t" in separator else [name.replace(" ", "") for name in NAMES]:
        for folder in ("images", "labels"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "images" / name), np.full((16, 32, 3), len(pairs), np.uint8))
        cv2.imwrite(str(root / "labels" / name), np.arange(512, dtype=np.uint8).reshape(16, 32) % 3)
        pairs.append((f"images/{name}", f"labels/{name}"))
    text = "".join(separator.join(pair) + end for pair in pairs)
    (root / "list.txt").write_bytes(before + text.encode())
    return str(root / "list.txt"), [(str(root / image), str(root / label)) for image, label in pairs]


def dataset(path, root, mode="train"):
    return CheckedDataset(mode, str(root), [], 3, **{f"{mode}_path": path})


def checked(path, root):
    data = dataset(path, root)
    assert check_datasets({"train": data}, progress=False, num_workers=0)["errors"] == 0
    return data.file_list


def submitted(path, root):
    items = find_images(path)
    assert check_frames(item.path for item in items) == ["berlin_000000_000019", "bonn_000001_000019"]
    return [(item.path, item.label) for item in items]


# reader -> the (image, label) paths that it finds in a list
READERS = {
    "training": lambda path, root: [tuple(pair) for pair in dataset(path, root).file_list],
    "mode test": lambda path, root: [tuple(pair) for pair in dataset(path, root, "test").file_list],
    "data check": lambda path, root: [tuple(pair) for pair in checked(path, root)],
    "predict": lambda path, root: [(item.path, item.label) for item in find_images(path)],
    "calibration": lambda path, root: read_calibration_list(path),
    "submission": submitted,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_lists_accepts_every_form(tmp_path, reader, form):
    path, expected = data_set(tmp_path, form)
    assert READERS[reader](path, tmp_path) == expected


class AsLabelled:
    """A model that answers with the label of its image."""

    label_set = LABEL_SETS["camvid"]
    backend = types.SimpleNamespace(name="none")

    def predict(self, image):
        with Image.open(image.replace("images", "labels")) as file:
            return np.asarray(file)


def test_palette_labels_that_training_reads_serve_calibration_too(tmp_path):
    path, pairs = data_set(tmp_path, "blanks")
    for _, label in pairs:
        image = Image.fromarray(cv2.imread(label, cv2.IMREAD_UNCHANGED), "P")
        image.putpalette([128, 64, 128, 0, 0, 142, 70, 130, 180])
        image.save(label)
    assert len(checked(path, tmp_path)) == 2
    calibration = Calibration(read_calibration_list(path), progress=False)
    found = measure_loss(AsLabelled(), {"onnx": AsLabelled()}, calibration)
    assert found["images"] == 2 and found["lost_points"] == 0
    assert found["fp32_mIoU"] == pytest.approx(3 / 11)  # three classes are there, and all right
