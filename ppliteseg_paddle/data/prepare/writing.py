"""What every prepared data set gets: labels, lists, class names, each file written atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np
from PIL import Image

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.files import save_atomic
from ppliteseg_paddle.outputs import Outputs

Pair = tuple[str, Optional[str]]


def write_label(path: str, label: np.ndarray, outputs: Outputs | None = None) -> None:
    """Write a label as a gray PNG. Shape: (H, W) uint8 or uint16.

    Args: outputs: what remembers it; None where labels are never replaced.
    Raises: DataError: if it cannot be written.
    """
    with outputs.saving(path) if outputs else save_atomic(path, DataError) as temporary:
        Image.fromarray(label).save(temporary, "PNG")


def separator_for(pairs: Iterable[Pair], root: str) -> str:
    """What stands between image and label in a list: a blank, as usual, or a tab where names hold blanks."""
    return "\t" if any(" " in relative(path, root) for pair in pairs for path in pair if path) else " "


def write_list(outputs: Outputs, split: str, pairs: Sequence[Pair], separator: str | None = None) -> None:
    """Write SPLIT.txt, `image label` a line, relative to its folder where they are below it; a label None writes the
    image alone.

    Args: separator: None takes what `separator_for` says.
    Raises: DataError: for a name that no list can hold; if the list cannot be written.
    """
    root = outputs.folder
    separator = separator or separator_for(pairs, root)
    rows = [[relative(name, root) for name in pair if name is not None] for pair in pairs]
    for name in (name for row in rows for name in row if any(mark in name for mark in "\t\r\n")):
        raise DataError(f"{name!r} has a tab or a line end in its name, which a list cannot hold: rename it.")
    outputs.write(list_path(outputs.folder, split), "".join(separator.join(row) + "\n" for row in rows).encode())


def list_path(root: str, split: str) -> str:
    return os.path.join(root, split + ".txt")


def relative(path: str, root: str) -> str:
    """`path` as a list names it: relative to `root` if it is below, else absolute."""
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return os.path.abspath(path) if name.startswith(os.pardir) else name.replace(os.sep, "/")


def write_classes(outputs: Outputs, names: Sequence[str]) -> None:
    outputs.write(list_path(outputs.folder, "classes"), "".join(name + "\n" for name in names).encode())


def check_lists(outputs: Outputs, splits: Iterable[str], *others: str) -> None:
    """See that the lists, classes.txt and other files replace nothing of the user's. Raises: DataError"""
    outputs.check([*(list_path(outputs.folder, name) for name in (*splits, "classes")), *others])
