"""The errors that a user can cause, each one line long, each with its exit status.

A message says what was found, where, what is allowed and what to do; docs/errors.md lists all of them, and
`causes` adds the causes of the most frequent. Anything that is not a
`PPLiteSegError` is a defect of this package and keeps its traceback.

Exit statuses of the command line: 0 success; 1 a defect, with its traceback; 2 bad input, or a check that found
something wrong; 3 a rank of a distributed run failed or was lost, and the others ended with it; 130, 143, 129 ended
by SIGINT, SIGTERM, SIGHUP (`signals`).
"""

from __future__ import annotations

import difflib
import sys
import unicodedata
from collections.abc import Iterable

# Unicode's categories of control characters, halves of characters (bytes that are no UTF-8), and separators of lines.
_BREAKING = ("Cc", "Cs", "Zl", "Zp")
# Characters of a message, and of what in it has no blank, such as bytes or a name that came from a file.
LONGEST, LONGEST_WORD = 1000, 300


def _shortened(text: str, length: int) -> str:
    kept = length // 2 - 3
    return text if len(text) <= length else f"{text[:kept]} ... {text[-kept:]}"


class PPLiteSegError(Exception):
    """Base of every error that better input fixes. The CLI prints it on one line."""

    exit_status = 2

    def __str__(self) -> str:
        """What came from a file may be endless: the middle of a long text is skipped."""
        words = [_shortened(word, LONGEST_WORD) for word in super().__str__().split(" ")]
        return _shortened(" ".join(words), LONGEST)


class ConfigError(PPLiteSegError, ValueError):
    """A configuration file, a key in it, or a command-line flag."""


class DataError(PPLiteSegError):
    """An image, a label, or a list of them."""


class WeightsError(PPLiteSegError):
    """A weight or checkpoint file."""


class DownloadError(PPLiteSegError):
    """A file from elsewhere that cannot be fetched, is not what was promised, or is unsafe to unpack."""


class ArtifactError(PPLiteSegError):
    """An exported model folder."""


class DependencyError(PPLiteSegError):
    """A package that is missing or whose version cannot work; the message names the install command."""


def one_line(message: object) -> str:
    """A message as the command line prints it: what could break the line or the terminal is escaped, as `\\n`. A file's
    name may hold it."""
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _BREAKING else char
        for char in str(message)
    )


# Packages that come with an extra of setup.py -> the extras. What runtimes need is in `deploy.runtimes`.
_EXTRAS = {
    **dict.fromkeys(("paddle", "paddleseg", "visualdl", "matplotlib", "sklearn", "safetensors", "jinja2"), "cpu"),
    **dict.fromkeys(("cityscapesscripts", "pycocotools"), "cpu,data"),
    **dict.fromkeys(("onnx", "paddle2onnx"), "cpu,deploy"),
    "tensorboard": "cpu,tensorboard",
    "shtab": "completion",
    **dict.fromkeys(("starlette", "uvicorn", "python_multipart"), "serve"),
}


def install_command(package: str) -> str | None:
    """The command that installs a package which an extra of this one brings; None for another one."""
    if package == "paddleseg":
        return install_training("cpu")
    return f"pip install '.[{_EXTRAS[package]}]'" if package in _EXTRAS else None


def install_training(extra: str, python: tuple[int, ...] = sys.version_info[:2]) -> str:
    """The command that installs all that training needs, for a version of Python.

    Where Python has no NumPy 1 (3.13 and later) PaddleSeg's requirements cannot be met, and it comes without them: see
    setup.py.
    """
    alone = " && pip install --no-deps paddleseg==2.8.0" if python >= (3, 13) else ""
    return f"pip install '.[{extra}]'{alone}"


def dependency_error(error: ImportError, install: str | None = None) -> DependencyError:
    """What to say of a package that is missing, or is installed and broken.

    Args: install: the command that installs it, where it is known.
    """
    package = (error.name or "").split(".")[0]
    if isinstance(error, ModuleNotFoundError) and install:
        return DependencyError(f"{package} is not installed. Install it with: {install}")
    text = " ".join(str(error).split())
    return DependencyError(
        f"a package cannot be imported: {text}. Run 'ppliteseg doctor': it names the cause and the fix."
    )


def suggest(name: object, names: Iterable[str], limit: int = 3) -> str:
    """End of an error message: the names nearest to `name`, or all of them if they are few.

    Returns: a sentence with a leading space, or "" if nothing is near and the choices are many.
    """
    choices = sorted(str(n) for n in names)
    folded = {c.lower(): c for c in choices}
    near = [folded[m] for m in difflib.get_close_matches(str(name).lower(), list(folded), limit, 0.6)]
    if near:
        return " Did you mean {}?".format(" or ".join(f"'{n}'" for n in near))
    if 0 < len(choices) <= 12:
        return f" Choose from: {', '.join(choices)}."
    return ""
