"""What the processes of a distributed run tell each other in a folder: who they are, how they end, what they are asked.

The command that started the run (`launch`) makes the folder. Ranks of a launcher that somebody else has started have
none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import read_json, write_json

NOTES = "PPLITESEG_RANK_NOTES"  # the folder
LAUNCHER = "PPLITESEG_LAUNCHER"  # the launcher's process id
COMMAND = "PPLITESEG_COMMAND"  # the command line that started the run
CHECKPOINT = "checkpoint.json"  # the first rank's last checkpoint
REQUEST = "request.json"  # the signal that the command has got
LOST_MACHINE = "lost_machine.json"  # the number of another machine that is gone
ORPHAN_SECONDS = 30  # that a rank may take to save and end once its launcher is dead


class RankLost(PPLiteSegError):
    """Another process of the run has ended, so that this one cannot continue."""

    exit_status = 3


def launched() -> bool:
    """Whether a launcher has started this process."""
    return "PADDLE_TRAINER_ID" in os.environ


def _rank() -> int:
    return int(os.environ["PADDLE_TRAINER_ID"])


def command_line(own: Sequence[str]) -> list[str]:
    """What started the run that this process belongs to. Args: own: this process's command line."""
    return json.loads(os.environ.get(COMMAND) or "null") or list(own)


# --------------------------------------------------------------------------------------------
# In a rank
# --------------------------------------------------------------------------------------------
def begin_rank() -> None:
    """Let this rank end when its launcher dies, and tell the command its process id.

    Raises: signals.Interrupted: if the command was told to end before this rank was there.
    """
    launcher, folder = int(os.environ.get(LAUNCHER) or os.getppid()), os.environ.get(NOTES)
    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:  # it asks for a checkpoint, of which an evaluation has none
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signals.end_with(launcher, signal.SIGTERM)
    threading.Thread(target=_end_as_orphan, args=(launcher,), daemon=True).start()
    if folder:
        write_json(os.path.join(folder, f"process_{_rank()}.json"), {"process": os.getpid()})
        request = (read_json(os.path.join(folder, REQUEST)) or {}).get("signal")
        if request:
            os.kill(os.getpid(), request)


def _end_as_orphan(launcher: int) -> None:
    """Tell a rank that its launcher is dead, where the system does not, and end it if it cannot end its step."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def noting() -> Iterator[dict[str, Any]]:
    """Around the work of a rank: leave for `launch` what it came to. Yields a dict whose "result" is passed on, and
    printed there."""
    note: dict[str, Any] = {}
    if not launched():
        yield note
        return
    folder = os.environ.get(NOTES)
    try:
        begin_rank()
        yield note
    except signals.Interrupted as end:
        note = {"stopped": int(end.number), "finished": end.finished}
        if folder:
            sys.exit(end.exit_status)  # the command says it
        raise
    except PPLiteSegError as error:
        text = " ".join(str(error).split())
        note = {"lost": text} if isinstance(error, RankLost) else {"refused": text, "status": error.exit_status}
        raise
    except BaseException as error:
        note = {"error": f"ended with {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"}
        raise
    finally:
        if folder and os.path.isdir(folder):  # or else nobody is there to read it
            write_json(os.path.join(folder, f"rank_{_rank()}.json"), json.loads(json.dumps(note, default=str)))
            if "result" in note:
                note["result"] = {"rank": _rank()}


def note_checkpoint(folder: str | None) -> None:
    """Leave for `launch` which checkpoint the run can resume from, however it ends."""
    if folder and os.environ.get(NOTES):
        write_json(os.path.join(os.environ[NOTES], CHECKPOINT), {"folder": folder})


def note_lost_machine(folder: str, number: int) -> None:
    write_json(os.path.join(folder, LOST_MACHINE), {"machine": number})


def lost_machine(folder: str | None) -> int | None:
    """Another machine that is gone, as the launcher has noted it."""
    return (read_json(os.path.join(folder, LOST_MACHINE)) or {}).get("machine") if folder else None


def missing_rank() -> int | None:
    """A rank of this machine whose process is gone; None if all are there, or have not said who they are."""
    folder = os.environ.get(NOTES)
    for number, process in sorted(processes(folder).items()) if folder else ():
        if not _lives(process):
            return number
    return None


# --------------------------------------------------------------------------------------------
# In the command
# --------------------------------------------------------------------------------------------
def processes(folder: str) -> dict[int, int]:
    """Process ids of the ranks that have begun on this machine."""
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        match = re.fullmatch(r"process_(\d+)\.json", name)
        note = read_json(os.path.join(folder, name)) if match else None
        if match and note:
            found[int(match.group(1))] = int(note["process"])
    return found


def ask(folder: str, number: int) -> None:
    """Pass a signal on to the ranks: to those that have begun, and to the others as soon as they do."""
    if number in signals.ENDING:
        write_json(os.path.join(folder, REQUEST), {"signal": int(number)})
    send(folder, number)


def send(folder: str, number: int) -> None:
    for process in processes(folder).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def left(folder: str) -> dict[int, dict[str, Any]]:
    """What the ranks that have ended came to."""
    return {
        int(name[5:-5]): read_json(os.path.join(folder, name)) or {}
        for name in os.listdir(folder)
        if name.startswith("rank_")
    }


def end_all(folder: str, seconds: float) -> None:
    """Wait for ranks whose launcher is gone, and kill those that take longer."""
    deadline = time.monotonic() + seconds
    while any(_lives(process) for process in processes(folder).values()):
        if time.monotonic() > deadline:
            send(folder, signal.SIGKILL)
            return
        time.sleep(0.1)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
