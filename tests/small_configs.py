"""Whole configurations in small: data sets of tiny images where they look for them, small crops, no downloads."""

import cv2
import numpy as np

SIZE = (64, 96)
SMALL = {
    "crop_size": [96, 64],
    "target_size": [96, 64],
    "long_size": 96,
    "min_kept": 100,
    "later_crop_sizes": [],
    "pretrained": None,
}


def smaller(values):
    """`values`, a configuration or a part of one, with sizes for a test."""
    if isinstance(values, list):
        return [smaller(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {key: SMALL.get(key, smaller(value)) for key, value in values.items()}


def write_data(root, name, classes, count, lists=("{split}.txt",)):
    """Write `count` images of a split with labels of `classes` stripes into root / name, and their lists."""
    for split in ("train", "val"):
        pairs = [_write_pair(root / name, split, index, classes) for index in range(count)]
        for listed in lists:
            (root / name / listed.format(split=split)).write_text(
                "".join(f"{image} {label}\n" for image, label in pairs)
            )


def _write_pair(folder, split, index, classes):
    files = (f"images/{split}_{index}.png", f"labels/{split}_{index}.png")
    if folder.name.lower() == "cityscapes":
        stem = f"{split}/aachen/aachen_{index:06d}_000019"
        files = (f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelTrainIds.png")
    rng = np.random.default_rng(index)
    label = np.repeat(rng.integers(0, classes, (SIZE[0] // 8, SIZE[1])), 8, axis=0).astype(np.uint8)
    for file, pixels in zip(files, (np.repeat(label[:, :, None] * (255 // classes), 3, axis=2), label)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / file), pixels)
    return files
