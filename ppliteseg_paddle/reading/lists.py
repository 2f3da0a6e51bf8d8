"""Text files: lists of images and labels, and lists of class names.

One set of rules for all of them: UTF-8, or UTF-16 with a byte-order mark, as Windows' shell writes it; any line ends;
blank lines and lines that begin with "# " are skipped.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import NamedTuple

from ppliteseg_paddle.errors import DataError

TAB = "\t"
# What may separate an image from its label, where nothing says which it is. A blank last: names hold it most often.
SEPARATORS = (TAB, ",", ";", "|", " ")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_AROUND = " \t\r\n\v\f\ufeff"  # not every white space: names may begin with a CJK blank, and lists hold several marks


class NotTextError(DataError):
    """A file that is not UTF-8 text, nor UTF-16 with a byte-order mark."""


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
        with open(path, "rb") as file:
            content = file.read()
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
        if "\0" in text:
            raise NotTextError(f"{what} {path} is not UTF-8 text.{advice}")
    except UnicodeDecodeError as error:
        raise NotTextError(f"{what} {path} is not UTF-8 text ({error}).{advice}") from None
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror or error}.{advice}") from None
    lines = [line.strip(_AROUND) for line in re.split("\r\n|\n|\r", text)]
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
    is another. Where a label is optional, a line that is the name of an existing file is one image. Backslashes
    separate folders where no file is called so.

    Args:
        root: folder that the names are relative to; default: the list's own.
        separator: another one than blanks and tabs.
        needs_label: whether a line without a label is an error. If not, a separator that finds an existing image
            is taken, whichever of `SEPARATORS` it is: no configuration says so to `predict` and calibration.
        must_exist: whether a file that does not exist is an error.
        what: what the error message calls the list, as the name of a flag.
    Raises: NotTextError, DataError: if the list is missing, empty, or a line has another form.
    Source: PaddleSeg `datasets/dataset.py`, whose lists are a subset.
    """
    root = os.path.dirname(path) if root is None else root
    separator = TAB if separator == "\\t" else separator  # as in YAML's single quotes
    form = f"image{shown(separator)}label"
    form = form if needs_label else f"image or {form}"
    pairs = []
    for number, line in read_lines(path, what, f"It holds one '{form}' a line, relative to {root or '.'}."):
        names = _fields(line, root, separator, needs_label)
        if len(names) != 2 and (needs_label or len(names) != 1):
            raise DataError(
                f"{path}:{number:d}: expected '{form}', found {len(names):d} field{'s' if len(names) != 1 else ''}: "
                f"'{shown(line[:120])}'. {_advice(line, separator)}"
            )
        files = [_local(os.path.join(root, name)) for name in names]
        for file in files if must_exist else ():
            if not os.path.isfile(file):
                raise DataError(f"{path}:{number:d}: {file} does not exist; names are relative to {root or '.'}.")
        pairs.append(Pair(files[0], files[1] if len(files) > 1 else None, number))
    if not pairs:
        raise DataError(f"{what} {path} is empty: it needs one '{form}' a line.")
    return pairs


def shown(text: str) -> str:
    """`text` with its tabs visible."""
    return text.replace(TAB, "\\t")


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
        return _split(line, separator)
    if TAB in line or separator == TAB:
        return _split(line, TAB)
    if needs_label:
        return _split(line, " ")
    if _exists(root, line):
        return [line]
    for other in SEPARATORS:
        names = _split(line, other)
        if len(names) == 2 and _exists(root, names[0]):
            return names
    return _split(line, " ")


def _split(line: str, separator: str) -> list[str]:
    names = re.split(r"[ \t]+" if separator == " " else r"\t+" if separator == TAB else re.escape(separator), line)
    return [name.strip(_AROUND) for name in names]


def _exists(root: str, name: str) -> bool:
    return os.path.exists(_local(os.path.join(root, name)))


def _local(path: str) -> str:
    """A path as this system writes it: a list from Windows separates folders by backslashes."""
    return path.replace("\\", "/") if os.sep == "/" and "\\" in path and not os.path.exists(path) else path


def _advice(line: str, separator: str) -> str:
    """What to do about a line that `separator` does not split in two."""
    for other in SEPARATORS:
        if other != separator and len(_split(line, other)) == 2:
            mark = shown(other)
            return f"Its fields are separated by '{mark}': write separator: \"{mark}\" in the data set's block."
    return "Put one pair a line; where names hold blanks, put a tab between image and label."
