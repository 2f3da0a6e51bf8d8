"""Which checkpoints of a folder belong to a run, and from which one it resumes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ppliteseg_paddle.engine.checkpoint import MANIFEST, PARAMS, check_files, check_finite, damage, iteration_of
from ppliteseg_paddle.errors import ConfigError, WeightsError
from ppliteseg_paddle.files import read_json
from ppliteseg_paddle.reading.run_files import HISTORY_FILE

AUTO = "auto"  # in place of a folder: the newest complete checkpoint in --save_dir


# --------------------------------------------------------------------------------------------
# What belongs together
# --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Lineage:
    """The starts of a run, the first one and each resume, as (name, iteration from which it continued).

    A folder may hold checkpoints of several runs, and later ones of a run that was resumed from an earlier one. By the
    names of the starts, which each checkpoint and train.json hold, those on the way to here are told from the others.
    """

    starts: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, stored: Any) -> Lineage | None:
        """From what JSON has of it; None if that is anything else."""
        try:
            starts = tuple((str(start["name"]), int(start["from"])) for start in stored)
        except (TypeError, KeyError, ValueError):
            return None
        return cls(starts) if starts else None

    def stored(self) -> list[dict[str, Any]]:
        return [{"name": name, "from": begin} for name, begin in self.starts]

    def holds(self, other: Lineage, iteration: int) -> bool:
        """Whether a checkpoint that was written on the way of `other` lies on this one, too."""
        ends = [begin for _, begin in self.starts[1:]]
        for (name, begin), end in zip(self.starts, [*ends, None]):
            if name == other.starts[-1][0]:
                return begin < iteration and (end is None or iteration <= end)
        return False


UNNAMED = Lineage((("", 0),))  # of checkpoints without checkpoint.json


def begin_run(resumed: str | None, start: int) -> Lineage:
    """The lineage of a run that starts now.

    Args: resumed: the checkpoint from which it continues, at iteration `start`.
    """
    before = lineage_of(resumed) if resumed else Lineage(())
    return Lineage((*before.starts, (secrets.token_hex(4), start)))


def lineage_of(checkpoint: str) -> Lineage:
    """On whose way a checkpoint was written."""
    manifest = read_json(os.path.join(checkpoint, MANIFEST)) or {}
    return Lineage.of(manifest.get("run")) or UNNAMED


def checkpoints_in(save_dir: str) -> list[tuple[int, str]]:
    """What is called iter_N in a folder, complete or not, by rising N."""
    names = os.listdir(save_dir) if os.path.isdir(save_dir) else ()
    numbered = [(iteration_of(name), os.path.join(save_dir, name)) for name in names]
    return sorted((number, folder) for number, folder in numbered if number is not None)


def checkpoints_of(save_dir: str, lineage: Lineage) -> list[str]:
    """The complete checkpoints in a folder that a run has left on its way, oldest first. Hashes are not compared."""
    return [
        folder
        for number, folder in checkpoints_in(save_dir)
        if lineage.holds(lineage_of(folder), number) and damage(folder, hashes=False) is None
    ]


# --------------------------------------------------------------------------------------------
# The newest
# --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Picked:
    """Where a run resumes: `folder`, or None for a new start. `passed`: newer ones, each with the reason."""

    folder: str | None
    passed: Sequence[tuple[str, str]] = field(default_factory=list)

    def line(self, save_dir: str) -> str:
        """What to say of it."""
        start = f"resuming from {self.folder}" if self.folder else "the run starts anew"
        if not self.passed:
            return f"{start}, the newest checkpoint" if self.folder else f"no checkpoint in {save_dir}: {start}"
        (folder, reason), more = self.passed[0], len(self.passed) - 1
        others = f" (and {more:d} more)" if more else ""
        return f"passed over {folder}{others}: it {reason}; {start}"


def newest(save_dir: str) -> Picked:
    """The newest complete checkpoint of the run that `save_dir` holds, its files compared with their hashes.

    The run is the one that train.json names. Without it, all checkpoints count.
    """
    lineage = Lineage.of((read_json(os.path.join(save_dir, HISTORY_FILE)) or {}).get("run"))
    passed: list[tuple[str, str]] = []
    for number, folder in reversed(checkpoints_in(save_dir)):
        if lineage is not None and not lineage.holds(lineage_of(folder), number):
            passed.append((folder, "is not of the run that train.json names"))
            continue
        reason = damage(folder) or _unusable(folder)
        if reason is None:
            return Picked(folder, passed)
        passed.append((folder, reason))
    return Picked(None, passed)


def _unusable(folder: str) -> str | None:
    """What is wrong with a checkpoint that has no hashes; None if it can be loaded."""
    if os.path.isfile(os.path.join(folder, MANIFEST)):
        return None
    try:
        check_files(folder)
        check_finite(os.path.join(folder, PARAMS))
    except WeightsError as error:
        return f"cannot be used: {error}"
    return None


# --------------------------------------------------------------------------------------------
# A given one
# --------------------------------------------------------------------------------------------
def check_resume(folder: str, verify: bool = True) -> int:
    """See that `folder` is a complete checkpoint.

    Args: verify: whether to compare the files with their hashes.
    Returns: the iteration that it holds.
    Raises: ConfigError: if it is no checkpoint folder; WeightsError: if it is not complete.
    """
    parent = os.path.dirname(os.path.normpath(folder)) or "."
    if not os.path.isdir(folder):
        fault = "it is a file" if os.path.lexists(folder) else "there is no such folder"
        raise ConfigError(f"--resume_model {folder}: {fault}.{_latest_in(parent)}")
    start = iteration_of(folder)
    if start is None:
        advice = _latest_in(folder) or " Give a folder that training wrote, as in output/iter_1000."
        raise ConfigError(f"--resume_model {folder}: not a checkpoint folder named iter_N.{advice}")
    reason = damage(folder, hashes=verify)
    if reason is not None:
        raise WeightsError(f"--resume_model {folder}: it {reason}, so it is not complete.{_latest_in(parent, folder)}")
    return start


def _latest_in(save_dir: str, other: str | None = None) -> str:
    complete = [
        folder
        for _, folder in checkpoints_in(save_dir)
        if damage(folder, hashes=False) is None and not (other and os.path.samefile(folder, other))
    ]
    return f" The latest complete checkpoint in {save_dir} is {complete[-1]}." if complete else ""
