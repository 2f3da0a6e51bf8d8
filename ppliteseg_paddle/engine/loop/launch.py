"""Start a command as several processes with `paddle.distributed.launch`, and tell in one line why one of them ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.files import SOURCE_ROOT, read_json, write_json

NOTES = "PPLITESEG_RANK_NOTES"  # folder in which each rank leaves what it came to
CHECKPOINT = "checkpoint.json"  # in it, the first rank's last checkpoint
INTERRUPT_SECONDS = 10  # that the launcher and its ranks may take to end after Ctrl-C
# The launcher's own lines, on Paddle 2.6 to 3.3.
_FAILED = re.compile(r"^Container rank (\d+) status failed .* code (-?\d+) log (\S+)")
_CHATTER = re.compile(
    r"^(LAUNCH |error: |rank \d+ is done|Container |Modified FLAGS|FLAGS\(name|=+( Modified FLAGS detected =+)?$"
    r"|I\d{4} .*tcp_)|No ccache found|warnings\.warn\("
)


class RankFailed(PPLiteSegError):
    """One of several processes has ended before its time."""

    exit_status = 3


def launched() -> bool:
    """Whether a launcher has started this process."""
    return "PADDLE_TRAINER_ID" in os.environ


def launch(
    argv: Sequence[str],
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
        argv: the command and its flags, without those of this function.
        nproc_per_node, devices, nnodes, master: as the launcher's; node_rank: its `--rank`, the number of this machine.
        log_dir: gets workerlog.N, what rank N printed; None for a temporary folder, which stays if a rank fails.
        device: what the command's `--device` says.

    Returns: the first rank's result; {"rank": N} on a machine that has not got it.
    Raises: ConfigError: what a rank refused; RankFailed: if one ended otherwise.
    """
    import paddle

    check_devices(nproc_per_node, devices, device)
    log_dir = os.path.abspath(log_dir or tempfile.mkdtemp(prefix="ppliteseg_ranks_"))
    try:
        os.makedirs(log_dir, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write the ranks' logs to {log_dir}: {error.strerror}; give a folder with --log_dir."
        ) from error
    with tempfile.TemporaryDirectory() as notes:
        environment = {
            **os.environ,
            NOTES: notes,
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
        command = [
            sys.executable,
            "-u",
            "-m",
            "paddle.distributed.launch",
            "--log_level",
            "ERROR",
            "--log_dir",
            log_dir,
        ]
        for name, value in options.items():
            command += [] if value is None else [name, str(value)]
        try:
            failed = _follow(
                command + [os.path.join(SOURCE_ROOT, "ppliteseg_paddle", "cli", "_rank.py"), *argv], environment
            )
        except KeyboardInterrupt:
            if _noted_checkpoint(notes):
                print(f"\nstopped; resume with: --resume_model {_noted_checkpoint(notes)}", file=sys.stderr)
            raise
        told = {
            int(name[5:-5]): read_json(os.path.join(notes, name)) or {}
            for name in os.listdir(notes)
            if name.startswith("rank_")
        }
        checkpoint = _noted_checkpoint(notes)
    if failed is None:
        return told.get(0, {}).get("result") or {"rank": min(told, default=-1)}
    raise _failure(failed, told, log_dir, checkpoint)


def _noted_checkpoint(notes: str) -> str | None:
    return (read_json(os.path.join(notes, CHECKPOINT)) or {}).get("folder")


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


def _follow(command: list[str], environment: dict[str, str]) -> dict[str, Any] | None:
    """Run the launcher and pass on what the first rank prints. Returns: what it says of the rank that failed; None if
    all is well."""
    process = subprocess.Popen(  # noqa: S603 - this Python, no shell
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    failed = None
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        for line in process.stdout or ():
            text = line.decode("utf-8", "replace")
            match = _FAILED.match(text)
            if match:
                failed = {"rank": int(match.group(1)), "status": int(match.group(2)), "log": match.group(3)}
            elif failed is None and not _CHATTER.search(text.lstrip()):
                sys.stderr.write(text)
                sys.stderr.flush()
        status = process.wait()
    except KeyboardInterrupt:
        _wait_for_the_end(process)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.terminate()
    return failed or ({"rank": None, "status": status, "log": None} if status else None)


def _wait_for_the_end(process: subprocess.Popen) -> None:
    """After Ctrl-C, of which the terminal has told the launcher, too; a signal to this process alone (`kill -INT`) it
    has not heard of."""
    for end, seconds in ((lambda: None, INTERRUPT_SECONDS), (process.terminate, 30), (process.kill, None)):
        end()
        try:
            rest = process.communicate(timeout=seconds)[0]  # reads on, as a full pipe would hold it up
        except subprocess.TimeoutExpired:
            continue
        for text in rest.decode("utf-8", "replace").splitlines(keepends=True):
            if not _CHATTER.search(text.lstrip()) and not _FAILED.match(text):
                sys.stderr.write(text)
        return


def _failure(
    failed: dict[str, Any], told: dict[int, dict[str, Any]], log_dir: str, checkpoint: str | None
) -> PPLiteSegError:
    """The error of the rank that ended first: not of one that only missed it."""
    for _, note in sorted(told.items()):
        if note.get("refused"):
            return ConfigError(note["refused"])
    number = failed["rank"]
    if number is None or "lost" in told.get(number, {}):
        silent = [n for n in _numbers(log_dir) if n not in told]
        number = silent[0] if silent else number
    how = (f" Resume with: --resume_model {checkpoint}") if checkpoint else ""
    if number is None:
        return RankFailed(f"the launcher ended with status {failed['status']}; the logs are in {log_dir}.{how}")
    cause = told.get(number, {}).get("error") or (
        _ending(failed["status"]) if number == failed["rank"] else "ended without a word"
    )
    return RankFailed(f"rank {number:d} {cause}; its log is {os.path.join(log_dir, f'workerlog.{number:d}')}.{how}")


def _numbers(log_dir: str) -> list[int]:
    return sorted(int(name[10:]) for name in os.listdir(log_dir) if re.fullmatch(r"workerlog\.\d+", name))


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
        self._note(resumed)

    def on_save(self, monitor: Monitor) -> None:
        self._note(monitor.saved)

    @staticmethod
    def _note(folder: str | None) -> None:
        if folder and os.environ.get(NOTES):
            write_json(os.path.join(os.environ[NOTES], CHECKPOINT), {"folder": folder})


@contextlib.contextmanager
def noting():
    """Around the work of a rank: leave for `launch` what it came to. Yields a dict whose "result" is passed on, and
    printed there."""
    folder = os.environ.get(NOTES)
    note: dict[str, Any] = {}
    if not folder or not launched():
        yield note
        return
    try:
        yield note
    except PPLiteSegError as error:
        text = " ".join(str(error).split())
        note.clear()
        note["refused" if error.exit_status == 2 else "lost"] = text
        raise
    except BaseException as error:
        note.clear()
        note["error"] = f"ended with {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
        raise
    finally:
        write_json(
            os.path.join(folder, f"rank_{os.environ['PADDLE_TRAINER_ID']}.json"),
            json.loads(json.dumps(note, default=str)),
        )
        if "result" in note:
            note["result"] = {"rank": int(os.environ["PADDLE_TRAINER_ID"])}
