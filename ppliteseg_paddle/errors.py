"""The errors that a user can cause, each one line long, each with its exit status.

A message says what was found, where, what is allowed and what to do. Anything that is not a
`PPLiteSegError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PPLiteSegError(Exception):
    """Base of every error that better input mends. The CLI prints it on one line."""

    exit_status = 2


class ConfigError(PPLiteSegError, ValueError):
    """A configuration file, a key in it, or a command-line flag."""


class DataError(PPLiteSegError):
    """An image, a label, or a list of them."""


class WeightsError(PPLiteSegError):
    """A weight or checkpoint file."""


class DownloadError(PPLiteSegError):
    """A file from elsewhere: it cannot be had, is not what was promised, or is unsafe to unpack."""


class ArtifactError(PPLiteSegError):
    """An exported model folder."""


class DependencyError(PPLiteSegError):
    """A package that is missing or whose version cannot work; the message names the install command."""


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
