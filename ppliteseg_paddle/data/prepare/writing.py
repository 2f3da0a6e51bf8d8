"""What every prepared data set gets: labels, lists, class names, each file written atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
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


def list_text(pairs: Sequence[Pair], root: str, separator: str | None = None) -> bytes:
    """The content of a list, `image label` a line, relative to `root` where they are below it; a label None gives the
    image alone.

    Args: separator: None takes what `separator_for` says.
    Raises: DataError: for a name that no list can hold.
    """
    separator = separator or separator_for(pairs, root)
    rows = [[relative(name, root) for name in pair if name is not None] for pair in pairs]
    for name in (name for row in rows for name in row if any(mark in name for mark in "\t\r\n")):
        raise DataError(f"{name!r} has a tab or a line end in its name, which a list cannot hold: rename it.")
    return "".join(separator.join(row) + "\n" for row in rows).encode()


def data_set_texts(
    root: str, lists: Mapping[str, Sequence[Pair]], classes: Sequence[str], separator: str | None = None
) -> dict[str, bytes]:
    """Paths and contents of the lists and classes.txt of a data set in the folder `root`. Raises: DataError"""
    texts = {list_path(root, split): list_text(pairs, root, separator) for split, pairs in lists.items()}
    texts[list_path(root, "classes")] = "".join(name + "\n" for name in classes).encode()
    return texts


def config_path(root: str) -> str:
    return os.path.join(root, "config.yml")


def list_path(root: str, split: str) -> str:
    return os.path.join(root, split + ".txt")


def relative(path: str, root: str) -> str:
    """`path` as a list names it: relative to `root` if it is below, else absolute."""
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return os.path.abspath(path) if name.startswith(os.pardir) else name.replace(os.sep, "/")
