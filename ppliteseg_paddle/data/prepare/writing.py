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
    """Write a label as a gray PNG. Shape: (H, W) uint8. Raises: DataError: if it cannot be written."""
    with save_atomic(path, DataError) as temporary:
        Image.fromarray(label).save(temporary, "PNG")


def separator_for(pairs: Iterable[Pair]) -> str:
    """What stands between image and label in a list: a blank, as usual, or a tab where names hold blanks."""
    return "\t" if any(" " in path for pair in pairs for path in pair if path) else " "


def write_list(path: str, pairs: Sequence[Pair], root: str, separator: str = " ") -> None:
    """Write `image label` a line, relative to `root` where they are below it; a label None writes the image alone."""
    lines = [separator.join(relative(name, root) for name in pair if name is not None) for pair in pairs]
    write_text(path, "".join(line + "\n" for line in lines))


def relative(path: str, root: str) -> str:
    """`path` as a list names it: relative to `root` if it is below, else absolute."""
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    return os.path.abspath(path) if name.startswith(os.pardir) else name.replace(os.sep, "/")


def write_classes(root: str, names: Sequence[str]) -> None:
    write_text(os.path.join(root, "classes.txt"), "".join(name + "\n" for name in names))
