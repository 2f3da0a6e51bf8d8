"""Command lines: without some of their flags, and the one that resumes a run."""

from __future__ import annotations

import shlex
from collections.abc import Container, Sequence


def without_flags(argv: Sequence[str], names: Container[str]) -> list[str]:
    """A command line without the flags of these names and their values."""
    kept, skip = [], False
    for item in argv:
        flag, equals, _ = item.partition("=")
        if skip:
            skip = False
        elif flag.startswith("--") and flag[2:] in names:
            skip = not equals
        else:
            kept.append(item)
    return kept


def resume_command(command: Sequence[str], folder: str) -> str:
    """What to type to resume from a checkpoint: the flag alone if the command that started the run is not known."""
    flag = f"--resume_model {shlex.quote(folder)}"
    if not command:
        return flag
    return f"ppliteseg {' '.join(map(shlex.quote, without_flags(command, {'resume_model'})))} {flag}"
