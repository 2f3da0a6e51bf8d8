"""A small multi-label data set, its configuration, and its labels: three classes that overlap."""

import cv2
import numpy as np
from tiny_data import values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.reading.planes import side_by_side

CLASSES = ("bright", "red", "round")
SIZES = [(64, 96), (48, 64), (64, 64), (80, 56)]


def planes_of(index):
    """(H, W, 3) uint8: the classes of each pixel of image `index`; corners are of none."""
    height, width = SIZES[index % len(SIZES)]
    rows, columns = np.mgrid[:height, :width]
    shift = 3 * (index // len(SIZES))
    bright, red = columns > width // 2 - shift, rows > height // 2 - shift
    round_ = (rows - height // 2) ** 2 + (columns - width // 2 + shift) ** 2 < (height // 3) ** 2
    return np.stack([bright, red, round_], axis=-1).astype(np.uint8)


def make_multilabel(root, count=8, write=None):
    """Images in which each class shows as a color, labels side by side, lists and class names.

    Args: write: of a label, path and planes -> its path.
    """
    rng, lines = np.random.default_rng(0), []
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        planes = planes_of(i)
        image = 60 + planes @ np.array([[60, 60, 20], [0, 0, 90], [90, -40, 0]])
        image = (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        path = root / "labels" / f"{i}.png"
        if write:
            path = write(path, planes)
        else:
            cv2.imwrite(str(path), side_by_side(planes))
        lines.append(f"images/{i}.png labels/{path.name}\n")
    for name in ("train", "val"):
        (root / f"{name}.txt").write_text("".join(lines))
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def multilabel_config(root, path, **changes):
    """The path of a configuration for `make_multilabel(root)`; `changes` replaces top-level keys."""
    sets = {}
    for mode in ("train", "val"):
        transforms = [{"type": "Normalize"}]
        if mode == "train":
            transforms = [
                {"type": "FusedAugment", "crop_size": [64, 64], "min_scale_factor": 1.0, "max_scale_factor": 1.0}
            ]
        sets[f"{mode}_dataset"] = {
            "type": "Dataset",
            "dataset_root": str(root),
            f"{mode}_path": str(root / f"{mode}.txt"),
            "num_classes": len(CLASSES),
            "mode": mode,
            "transforms": transforms,
        }
    loss = {"types": [{"type": "BCELoss"}], "coef": [1, 0.5, 0.5]}
    content = values(
        root,
        model={**TINY_MODEL, "num_classes": len(CLASSES)},
        loss=loss,
        test_config={"use_multilabel": True},
        **{"iters": 30, "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.1, "end_lr": 0, "power": 0.9}},
        **sets,
    )
    return write_config(path, {**content, **changes})
