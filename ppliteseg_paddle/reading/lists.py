"""Text files: lists of images and labels, and lists of class names.

One set of rules for all of them: UTF-8 with or without a byte-order mark, any line ends; blank lines and lines that
begin with "# " are skipped.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ppliteseg_paddle.errors import DataError

TAB = "\t"


class NotTextError(DataError):
    """A file that is not UTF-8 text."""


class Pair(NamedTuple):
    """A line of a list.

    Attributes: `image`, `label`: paths; `label` is None where the line names none. `line`: its number, from 1.
    """

    image: str
    label: str | None
    line: int


def read_lines(path: str, what: str, advice: str = "") -> list[tuple[int, str]]:
    """The lines of a text file that say something, each with its number and without the blanks around it.

    Args: what: what the error message calls the file; advice: a sentence that ends it.
    Raises: NotTextError, DataError: if the file cannot be read.
    """
    advice = advice and " " + advice
    try:
        with open(path, encoding="utf-8-sig") as file:  # "-sig": a byte-order mark is no part of the first line
            lines = [line.strip() for line in file]
        if any("\0" in line for line in lines):
            raise NotTextError(f"{what} {path} is not UTF-8 text.{advice}")
    except UnicodeDecodeError as error:
        raise NotTextError(f"{what} {path} is not UTF-8 text ({error}).{advice}") from None
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror or error}.{advice}") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line and not _is_comment(line)]


def read_list(
    path: str,
    root: str | None = None,
    separator: str = " ",
    needs_label: bool = True,
    must_exist: bool = False,
    what: str = "list",
) -> list[Pair]:
    """Read a list: one `image label` pair a line, or an image alone.

    A tab separates image and label, so that names can hold blanks; without a tab, blanks do; or `separator`, where it
    is another. Where a label is optional, a line that is the name of an existing file is one image.

    Args:
        root: folder that the names are relative to; default: the list's own.
        separator: another one than blanks and tabs.
        needs_label: whether a line without a label is an error.
        must_exist: whether a file that does not exist is an error.
        what: what the error message calls the list, as the name of a flag.
    Raises: NotTextError, DataError: if the list is missing, empty, or a line has another form.
    Source: PaddleSeg `datasets/dataset.py`, whose lists are a subset.
    """
    root = os.path.dirname(path) if root is None else root
    form = f"image{'<tab>' if separator == TAB else separator}label"
    form = form if needs_label else f"image or {form}"
    pairs = []
    for number, line in read_lines(path, what, f"It holds one '{form}' a line, relative to {root or '.'}."):
        names = _fields(line, root, separator, needs_label)
        if len(names) != 2 and (needs_label or len(names) != 1):
            raise DataError(
                f"{path}:{number:d}: expected '{form}', found {len(names):d} field{'s' if len(names) != 1 else ''}: "
                f"'{line[:120]}'. Put one pair a line; where names hold blanks, put a tab between image and label."
            )
        files = [os.path.join(root, name) for name in names]
        for file in files if must_exist else ():
            if not os.path.isfile(file):
                raise DataError(f"{path}:{number:d}: {file} does not exist; names are relative to {root or '.'}.")
        pairs.append(Pair(files[0], files[1] if len(files) > 1 else None, number))
    if not pairs:
        raise DataError(f"{what} {path} is empty: it needs one '{form}' a line.")
    return pairs


def read_names(path: str, what: str = "class list") -> list[str]:
    """Class names, one a line, in the order of their ids.

    Raises: DataError: if the file cannot be read, is empty, or names a class twice.
    """
    names = [line for _, line in read_lines(path, what)]
    if not names or len(set(names)) < len(names):
        raise DataError(f"{what} {path} must name each class once, one a line.")
    return names


def _is_comment(line: str) -> bool:
    """Whether a line begins with "# ". "#1.png" and "#ff8000" are a name and a color."""
    return line == "#" or line.startswith(("# ", "#\t"))


def _fields(line: str, root: str, separator: str, needs_label: bool) -> list[str]:
    if separator.strip():
        return [name.strip() for name in line.split(separator)]
    if TAB in line or separator == TAB:
        return [name.strip() for name in re.split(r"\t+", line)]
    if not needs_label and os.path.exists(os.path.join(root, line)):
        return [line]
    return line.split()
