"""Start a command as several processes with `paddle.distributed.launch`, and tell in one line why one of them ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.config.command import resume_command, without_flags
from ppliteseg_paddle.engine.loop import notes
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.files import SOURCE_ROOT, abandoned, claim, read_json, release

log = logging.getLogger("ppliteseg_paddle")

NAME_SECONDS = 60  # that a machine's name may take to be known
# The launcher's own lines, on Paddle 2.6 to 3.3.
_FAILED = re.compile(r"^Container rank (\d+) status failed .* code (-?\d+) log (\S+)")
_CHATTER = re.compile(
    r"^(LAUNCH |error: |rank \d+ is done|Container |Modified FLAGS|FLAGS\(name|=+( Modified FLAGS detected =+)?$"
    r"|I\d{4} .*tcp_)|No ccache found|warnings\.warn\("
)


class RankFailed(PPLiteSegError):
    """One of several processes has ended before its time."""

    exit_status = 3


def launch(
    argv: Sequence[str],
    command: Sequence[str] = (),
    nproc_per_node: int | None = None,
    devices: str | None = None,
    nnodes: str | None = None,
    master: str | None = None,
    node_rank: int | None = None,
    log_dir: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Run one of our commands on several ranks of this machine, and wait for them.

    Args:
        argv: the command and its flags, without those of this function; command: with them.
        nproc_per_node, devices, nnodes, master: as the launcher's; node_rank: its `--rank`, the number of this machine.
        log_dir: gets workerlog.N, what rank N printed; None for a temporary folder, which stays if a rank fails.
        device: what the command's `--device` says.

    Returns: the first rank's result; {"rank": N} on a machine that has not got it.
    Raises: ConfigError: what a rank refused; RankFailed: if one ended otherwise; signals.Interrupted: if the run was
        told to end, after the ranks have saved.
    """
    import paddle

    check_devices(nproc_per_node, devices, device)
    master = master and with_address(master)
    log_dir = os.path.abspath(log_dir or tempfile.mkdtemp(prefix="ppliteseg_ranks_"))
    try:
        os.makedirs(log_dir, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write the ranks' logs to {log_dir}: {error.strerror}; give a folder with --log_dir."
        ) from error
    with _folder_for_notes() as folder:
        environment = {
            **os.environ,
            notes.NOTES: folder,
            notes.COMMAND: json.dumps(list(command)),
            "PYTHONPATH": os.pathsep.join([SOURCE_ROOT] + [path for path in [os.environ.get("PYTHONPATH")] if path]),
        }
        if paddle.is_compiled_with_cuda() and _kind(device) == "cpu":
            # The launcher counts a GPU for each rank, and refuses more ranks than these.
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in range(nproc_per_node or 1))
        options = {
            "--nproc_per_node": nproc_per_node,
            "--devices": devices,
            "--nnodes": nnodes,
            "--master": master,
            "--rank": node_rank,
        }
        launcher = [
            *(sys.executable, "-u", "-m", "ppliteseg_paddle.engine.loop.launcher", str(os.getpid())),
            *("--log_level", "ERROR", "--log_dir", log_dir),
        ]
        for name, value in options.items():
            launcher += [] if value is None else [name, str(value)]
        program = os.path.join(SOURCE_ROOT, "ppliteseg_paddle", "cli", "_rank.py")
        failed, number = _follow([*launcher, program, *argv], environment, folder)
        told, checkpoint = notes.left(folder), (read_json(os.path.join(folder, notes.CHECKPOINT)) or {}).get("folder")
        machine, first = notes.lost_machine(folder), min(notes.processes(folder), default=0)
    how = f"resume with: {resume_command(command, checkpoint)}" if checkpoint else ""
    if failed is None:
        return told.get(0, {}).get("result") or {"rank": min(told, default=-1)}
    stops = [note["stopped"] for note in told.values() if "stopped" in note]
    refused = any("refused" in note for note in told.values())
    if not refused and (number or (stops and len(stops) == len(told))):
        raise signals.Interrupted(number or stops[0], how)
    alone = nnodes in (None, "1")
    raise _failure(failed, told, log_dir, how, machine, first, alone)


@contextlib.contextmanager
def _folder_for_notes() -> Iterator[str]:
    """A temporary folder, removed afterwards, or by the next run if this process is killed."""
    parent = tempfile.gettempdir()
    for left in abandoned(parent, r"ppliteseg_notes_\w+"):
        shutil.rmtree(left, ignore_errors=True)
    new = tempfile.mkdtemp(prefix=".ppliteseg_notes_")
    claimed = claim(new)
    folder = os.path.join(parent, os.path.basename(new)[1:])
    os.rename(new, folder)  # which others take for abandoned unless it is claimed
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        release(claimed)


def launch_again(argv: Sequence[str], max_restart: int, **options: Any) -> dict[str, Any]:
    """As `launch`; a run that loses a rank or a machine is started again, up to `max_restart` times, from its newest
    complete checkpoint."""
    for left in range(max_restart, 0, -1):
        try:
            return launch(argv, **options)
        except RankFailed as error:
            log.warning(
                "%s Starting again from the newest checkpoint (%d of %d times)%s",
                *(error, max_restart - left + 1, max_restart),
                ", once all machines are there." if options.get("nnodes") else ".",
            )
        argv = [*without_flags(argv, {"resume_model"}), "--resume_model", "auto"]
    return launch(argv, **options)


def with_address(master: str, seconds: float = NAME_SECONDS) -> str:
    """HOST:PORT with the host's address in place of its name, by which the first machine knows itself: Paddle's
    launcher compares addresses. A name may take a while to be known, as that of a pod which starts.

    Raises: ConfigError: for anything else than HOST:PORT, and for a name that is not known after `seconds`.
    """
    host, _, port = master.rpartition(":")
    if "://" in master:
        return master
    if not host or not port.isdigit():
        raise ConfigError(f"--master {master}: give HOST:PORT, a port of the first machine, as in 10.0.0.1:6170.")
    end = time.monotonic() + seconds
    while True:
        try:
            return f"{socket.gethostbyname(host)}:{port}"
        except OSError as error:
            if time.monotonic() > end:
                raise ConfigError(f"--master {master}: no machine {host} is known here ({error.strerror}).") from None
            time.sleep(1)


def check_devices(count: int | None, devices: str | None, device: str | None = None) -> None:
    """Raises: ConfigError: for more ranks than this machine has GPUs, where they are to compute; for a `--device` that
    names one of them for all."""
    import paddle

    if ":" in (device or ""):
        raise ConfigError(
            f"--device {device} names one device for all ranks: choose GPUs with --devices, as in --devices 0,2, and "
            "leave the number "
            "out of --device."
        )
    if devices and _kind(device) == "cpu":
        raise ConfigError(
            f"--devices {devices} and --device cpu do not go together: give --nproc_per_node N for N ranks on the CPU."
        )
    if not paddle.is_compiled_with_cuda():
        if devices:
            raise ConfigError(
                f"--devices {devices}: the installed Paddle {paddle.__version__} is a CPU build. Give --nproc_per_node "
                "N for N ranks on the CPU."
            )
        return
    if _kind(device) == "cpu":
        return
    there, wanted = paddle.device.cuda.device_count(), len(devices.split(",")) if devices else count or 0
    if wanted > there:
        raise ConfigError(
            f"{('--devices' if devices else '--nproc_per_node')} asks for {wanted:d} GPUs, and Paddle finds {there:d}: "
            "give fewer, or more machines with --nnodes."
        )


def _kind(device: str | None) -> str:
    return (device or "").strip().lower().partition(":")[0]


def _follow(command: list[str], environment: dict[str, str], folder: str) -> tuple[dict[str, Any] | None, int | None]:
    """Run the launcher and pass on what the first rank prints, and to the ranks what signals ask of this process.

    Returns: what the launcher says of the rank that failed, None if all is well; the signal that told the run to end.
    """
    # Ctrl-C in a terminal is for this process; the launcher in a session of its own leaves its ranks time to save.
    process = subprocess.Popen(  # noqa: S603 - this Python, our code
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    failed = None
    with _passing_on(process, folder) as got:
        for line in process.stdout or ():
            text = line.decode("utf-8", "replace")
            match = _FAILED.match(text)
            if match:
                failed = {"rank": int(match.group(1)), "status": int(match.group(2)), "log": match.group(3)}
            elif failed is None and not _CHATTER.search(text.lstrip()):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    sys.stderr.write(text)
                    sys.stderr.flush()
        status = process.wait()
        notes.end_all(folder, notes.ORPHAN_SECONDS)
    return failed or ({"rank": None, "status": status, "log": None} if status else None), got[0] if got else None


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen[bytes], folder: str) -> Iterator[list[int]]:
    """Send the ranks what this process is sent. Yields the signals that told it to end. After a second Ctrl-C nobody
    is left."""
    got: list[int] = []

    def end() -> None:
        notes.send(folder, signal.SIGKILL)
        process.kill()

    def passed(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in got:
            end()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(128 + number)
        if number in signals.ENDING:
            got.append(number)
        notes.ask(folder, number)

    wanted = [*signals.ENDING, *((signals.SAVING,) if signals.SAVING else ())] if signals.in_main_thread() else []
    before = {number: signal.getsignal(number) for number in wanted}
    caught = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in caught:
            signal.signal(number, passed)
        yield got
    finally:
        for number in caught:
            signal.signal(number, before[number])
        if process.poll() is None:  # an error here
            notes.ask(folder, signal.SIGTERM)
            notes.end_all(folder, notes.ORPHAN_SECONDS)
            end()


def _failure(
    failed: dict[str, Any],
    told: dict[int, dict[str, Any]],
    log_dir: str,
    how: str,
    machine: int | None = None,
    first: int = 0,
    alone: bool = False,
) -> PPLiteSegError:
    """The error of the rank that ended first: not of one that only missed it.

    Args: failed: as of `_follow`, which counts the ranks of this machine; machine: another one that is lost; first: the
        first rank of this machine; alone: whether there is no other machine.
    """
    for _, note in sorted(told.items()):
        if "refused" in note:
            if note.get("status") != RankFailed.exit_status:
                return ConfigError(note["refused"])
            told_how = not how or "resume with" in note["refused"]  # by the first rank, which alone has checkpoints
            return RankFailed(
                note["refused"] if told_how else f"{note['refused'].rstrip('.')}. {how[0].upper()}{how[1:]}"
            )
    how = f" {how[0].upper()}{how[1:]}" if how else ""
    number = _at_fault(failed, told, _numbers(log_dir, first), machine, first)
    if number is None and failed["rank"] is None and machine is None:
        return RankFailed(f"the launcher ended with status {failed['status']}; the logs are in {log_dir}.{how}")
    if number is None and machine is None and alone:
        return RankFailed(
            "the ranks lost each other: one of them was not heard of for half a minute, as when processes are suspended"
            f" (Ctrl-Z), or the machine sleeps or swaps. --max_restart N resumes by itself.{how}"
        )
    if number is None:
        who = "another machine" if machine is None else f"machine {machine:d}"
        return RankFailed(f"{who} has failed, or was not heard of any more.{how}")
    by_itself = failed["rank"] is not None and number == failed["rank"] + first
    cause = told.get(number, {}).get("error") or (_ending(failed["status"]) if by_itself else "ended without a word")
    return RankFailed(
        f"rank {number:d} {cause}; its log is {os.path.join(log_dir, f'workerlog.{number - first:d}')}.{how}"
    )


def _at_fault(
    failed: dict[str, Any], told: dict[int, dict[str, Any]], numbers: list[int], machine: int | None, first: int
) -> int | None:
    """The rank of this machine that made the others end; None if no one did. Args: as `_failure`'s, and the
    numbers of this machine's ranks."""
    faulty = [number for number, note in sorted(told.items()) if "error" in note]
    if faulty or machine is not None:
        return faulty[0] if faulty else None
    number = None if failed["rank"] is None else failed["rank"] + first
    if number is not None and "lost" not in told.get(number, {}):
        return number
    return next((each for each in numbers if each not in told), None)


def _numbers(log_dir: str, first: int) -> list[int]:
    names = sorted(int(name[10:]) for name in os.listdir(log_dir) if re.fullmatch(r"workerlog\.\d+", name))
    return [first + number for number in names]


def _ending(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name if -status in {int(s) for s in signal.Signals} else "signal"
        return f"was ended by {name} ({-status:d}){(', as when memory runs out' if status == -9 else '')}"
    return f"ended with status {status:d}"


class NoteCheckpoints(Callback):
    """Leaves for `launch` which checkpoint the run can resume from, however it ends.

    Args: resumed: the one that it begins with.
    """

    def __init__(self, resumed: str | None):
        notes.note_checkpoint(resumed)

    def on_save(self, monitor: Monitor) -> None:
        notes.note_checkpoint(monitor.saved)
