"""What the folder of a training run holds beside its checkpoints, and what `val --save_dir` writes: names, no more, so
that who only reads them imports nothing."""

from __future__ import annotations

HISTORY_FILE = "train.json"  # the record
CONFIG_FILE = "config.yml"  # all values resolved
CURVES_FILE = "curves.png"
PICTURES_FOLDER = "val_pictures"
EVENTS = "events.out.tfevents.*"  # of TensorBoard
BEST_FOLDERS = ("best_model", "ema_best_model")

MATRIX_PICTURE, MATRIX_TABLE, MATRIX_JSON = "confusion_matrix.png", "confusion_matrix.csv", "confusion_matrix.json"
MATRIX_SHARES = "confusion_matrix_normalized.csv"
RELIABILITY_JSON = "reliability.json"
IMAGES_TABLE, IMAGES_JSON = "images.csv", "images.json"
WORST_PICTURE, BEST_PICTURE = "worst_images.png", "best_images.png"


def picture_name(iteration: int) -> str:
    """In `PICTURES_FOLDER`."""
    return f"iter_{iteration:d}.png"


def picture_iteration(name: str) -> int | None:
    """The iteration of a picture's name; None for the name of something else."""
    stem, dot, extension = name.partition(".")
    digits = stem[len("iter_") :]
    return int(digits) if stem.startswith("iter_") and digits.isdecimal() and dot + extension == ".png" else None
