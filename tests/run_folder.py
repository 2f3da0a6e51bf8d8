"""The folder of a training run as `train` and `val --save_dir` leave it, of numbers that a test chooses."""

import json

import cv2
import numpy as np
import yaml

MATRIX = [[3, 1], [2, 4]]


def make_run(folder, classes=("road", "car"), loss=2.0, scale=1.0, config=None, measured=True, **record):
    """Args: loss: of the first row; scale: of all mIoU; measured: whether `val` has been run; record: of train.json."""
    folder.mkdir(parents=True)
    rows = [
        {"iter": 10 * i, "loss": loss / i, "lr": 0.01, "batch_cost": 0.5, "reader_cost": 0.05, "ips": 8.0}
        for i in (1, 2, 3)
    ]
    evaluations = [
        {"iter": i, "mIoU": scale * miou, "ema": ema, "class_iou": [scale * miou, 0.0], "seconds": 4.0}
        for i, miou, ema in ((10, 0.25, False), (10, 0.1, True), (20, 0.5, False), (20, 0.3, True))
    ]
    content = {
        "train": rows,
        "eval": evaluations,
        "class_names": list(classes),
        "seconds": 245.0,
        "finished": True,
        "device": "cpu",
        "seed": 1,
        "versions": {"paddle": "3.2.2"},
    }
    (folder / "train.json").write_text(json.dumps({**content, **record}))
    (folder / "config.yml").write_text(yaml.safe_dump(config or {"batch_size": 4}))
    write_picture(folder / "val_pictures" / "iter_10.png", 10)
    write_picture(folder / "val_pictures" / "iter_20.png", 20)
    if measured:
        write_measured(folder / "val", classes)
    return folder


def write_measured(folder, classes, matrix=MATRIX):
    folder.mkdir()
    names = {"class_names": list(classes)}
    (folder / "confusion_matrix.json").write_text(json.dumps({**names, "counts": matrix}))
    images = [{"image": "b.png", "mIoU": 0.125, "acc": 0.5}, {"image": "a.png", "mIoU": 0.75, "acc": 0.875}]
    (folder / "images.json").write_text(json.dumps({**names, "images": images}))
    bins = [{"pixels": 6, "confidence": 0.5, "accuracy": 0.25}, {"pixels": 2, "confidence": 0.875, "accuracy": 1.0}]
    (folder / "reliability.json").write_text(json.dumps({"ece": 0.22, "bins": [{"pixels": 0}, *bins]}))
    write_picture(folder / "worst_images.png", 30)
    write_picture(folder / "best_images.png", 40)


def write_picture(path, gray):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 8, 3), gray, np.uint8))
