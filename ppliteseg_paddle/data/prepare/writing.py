"""What every prepared data set gets: labels, lists, class names, each file written atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np
from PIL import Image

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.files import save_atomic, write_bytes

Pair = tuple[str, Optional[str]]


def write_text(path: str, text: str) -> None:
    """Raises: DataError: if it cannot be written."""
    write_bytes(path, text.encode(), DataError)


def write_label(path: str, label: np.ndarray) -> None:
    """Write a label as a gray PNG. Shape: (H, W) uint8 or uint16. Raises: DataError: if it cannot be written."""
    with save_atomic(path, DataError) as temporary:
        Image.fromarray(label).save(temporary, "PNG")


def separator_for(pairs: Iterable[Pair], root: str) -> str:
    """What stands between image and label in a list: a blank, as usual, or a tab where names hold blanks."""
    return "\t" if any(" " in relative(path, root) for pair in pairs for path in pair if path) else " "


def write_list(path: str, pairs: Sequence[Pair], root: str, separator: str | None = None) -> None:
    """Write `image label` a line, relative to `root` where they are below it; a label None writes the image alone.

    Args: separator: None takes what `separator_for` says.
    Raises: DataError: for a name that no list can hold; if the list cannot be written.
    """
    separator = separator or separator_for(pairs, root)
    rows = [[relative(name, root) for name in pair if name is not None] for pair in pairs]
    for name in (name for row in rows for name in row if any(mark in name for mark in "\t\r\n")):
        raise DataError(f"{name!r} has a tab or a line end in its name, which a list cannot hold: rename it.")
    write_text(path, "".join(separator.join(row) + "\n" for row in rows))


def relative(path: str, root: str) -> str:
    """`path` as a list names it: relative to `root` if it is below, else absolute."""
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return os.path.abspath(path) if name.startswith(os.pardir) else name.replace(os.sep, "/")


def write_classes(root: str, names: Sequence[str]) -> None:
    write_text(os.path.join(root, "classes.txt"), "".join(name + "\n" for name in names))
