"""What a run of `data prepare` would change, and the refusal to replace what somebody has edited."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.outputs import Outputs

_LINES = 24  # of the differences of one file that are shown


class EditedError(DataError):
    """Files that were edited stand where others would be written. `shown`: what would change, for people."""

    shown = ""


@dataclass
class Changes:
    """Text files and labels, compared with what is there.

    Args:
        outputs: of the folder; texts: path -> content that is to be written.
        labels: path -> "new", "changed" or "same".
    """

    outputs: Outputs
    texts: Mapping[str, bytes]
    labels: Mapping[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(init=False)  # of the texts

    def __post_init__(self) -> None:
        self.states = {path: _state(path, content) for path, content in self.texts.items()}

    @property
    def none(self) -> bool:
        """Whether everything is there already."""
        return {*self.states.values(), *self.labels.values()} <= {"same"}

    @property
    def replaces(self) -> bool:
        """Whether something that is there is to be replaced."""
        return "changed" in {*self.states.values(), *self.labels.values()}

    def check(self) -> None:
        """See that nothing is replaced that an earlier run did not write, or that was edited since.

        Raises: EditedError
        """
        differing = [path for path, state in [*self.states.items(), *self.labels.items()] if state == "changed"]
        if self.outputs.overwrite or all(map(self.outputs.wrote, differing)):
            self.outputs.check(())
            return
        try:
            self.outputs.check(differing)
        except DataError as error:
            edited = EditedError(str(error))
            edited.shown = self.describe()
            raise edited from None

    def describe(self) -> str:
        """What would change: the differences of text files that are there, and counts."""
        parts = [_difference(path, self.texts[path]) for path, state in self.states.items() if state == "changed"]
        return "\n".join([*parts, *(["masks: " + self.counts] if self.labels else [])])

    @property
    def counts(self) -> str:
        """As in "3 new, 1 to be replaced, 16 as they are"."""
        states = list(self.labels.values())
        words = {"new": "new", "changed": "to be replaced", "same": "as they are"}
        return ", ".join(f"{states.count(state):d} {text}" for state, text in words.items() if state in states)

    def write_texts(self) -> None:
        """Write the text files that are new or changed. Raises: DataError: if one cannot be written."""
        for path, state in self.states.items():
            if state != "same":
                self.outputs.write(path, self.texts[path])

    def result(self) -> dict[str, Sequence[str]]:
        """For programs: names of the text files and labels that were written."""
        both = {**self.states, **self.labels}
        return {
            name: [os.path.relpath(path, self.outputs.folder) for path, state in both.items() if state == name]
            for name in ("new", "changed")
        }


def _state(path: str, content: bytes) -> str:
    if not os.path.lexists(path):
        return "new"
    try:
        with open(path, "rb") as file:
            return "same" if file.read() == content else "changed"
    except OSError:
        return "changed"


def _difference(path: str, content: bytes) -> str:
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            before = file.read().splitlines()
    except OSError:
        return f"{path} would be replaced"
    after = content.decode().splitlines()
    lines = list(difflib.unified_diff(before, after, path, f"{path}, as it would be", n=1, lineterm=""))
    more = len(lines) - _LINES
    return "\n".join(lines[:_LINES] + [f"... and {more:d} lines more"] * (more > 0))
