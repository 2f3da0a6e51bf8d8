"""A tiny data set and a configuration for it, written by the tests that need one."""

import cv2
import numpy as np
import yaml
from PIL import Image

HEIGHT, WIDTH = 48, 64


def make_data(root, train=8, val=4, seed=0):
    """Write `train` + `val` pairs of 64x48 with lists, in the folder form of `CamVid` and `StreetScenes`."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    lines = []
    for index in range(train + val):
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        label[24:] = 3
        left = int(rng.integers(0, 40))
        label[20:36, left : left + 20] = 8
        label[:3] = 255
        image = np.stack([label * 20, 255 - label * 20, label * 10], axis=-1).astype(int) + rng.integers(
            -20, 20, (HEIGHT, WIDTH, 3)
        )
        cv2.imwrite(str(root / "images" / (f"{index:02d}.png")), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "labels" / (f"{index:02d}.png")), label)
        lines.append(f"images/{index:02d}.png labels/{index:02d}.png")
    (root / "train.txt").write_text("\n".join(lines[:train]) + "\n")
    (root / "val.txt").write_text("\n".join(lines[train:]) + "\n")
    return root


def values(root, **changes):
    """A configuration for `make_data(root)` as a dict; `changes` replaces top-level keys."""

    def dataset(mode):
        return {"type": "StreetScenes", "dataset_root": str(root), "mode": mode, "transforms": [{"type": "Normalize"}]}

    return {
        "batch_size": 4,
        "iters": 4,
        "train_dataset": dataset("train"),
        "val_dataset": dataset("val"),
        "optimizer": {"type": "SGD", "momentum": 0.9, "weight_decay": 5.0e-4},
        "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01, "end_lr": 0, "power": 0.9},
        "loss": {"types": [{"type": "CELoss", "ignore_index": 255}], "coef": [1, 0.5, 0.5]},
        "model": {
            "type": "PPLiteSegNet",
            "num_classes": 11,
            "backbone": {"type": "STDCNet813"},
            "neck": {"type": "SPPM", "in_channels": 1024, "out_channels": 128, "bin_sizes": [1, 2, 4]},
            "head": {
                "type": "FLDHead",
                "in_channels": [256, 512, 1024],
                "neck_channels": 128,
                "out_channels": [32, 64, 128],
            },
            "seg_head_channels": [32, 64, 64],
        },
        **changes,
    }


def write_config(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def save_pixels(path, pixels, mode=None, palette=None):
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette, "RGB")
    (picture.convert(mode) if mode else picture).save(path)
    return path
