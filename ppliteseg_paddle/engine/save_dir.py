"""The folder that a run writes to: one run at a time, without what a killed one has left."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from types import TracebackType

from ppliteseg_paddle.engine.loop.output import warn
from ppliteseg_paddle.engine.pick import AUTO, HISTORY_FILE, checkpoints_in
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import check_writable, clean_up, read_json, remove_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
BEST_FOLDERS = ("best_model", "ema_best_model")
_claimed: set[str] = set()  # by this process, whose own locks do not exclude each other


class SaveDir:
    """Claims a folder for a run while it is in the `with` block.

    The system holds the lock for this process, not for those that it starts, and releases it however the process ends:
    a file that a killed run leaves locks nobody out. Where the file system has no locks, one line says so.
    """

    def __init__(self, path: str):
        self.path, self.handle = path, -1
        self.name = os.path.realpath(path)

    def __enter__(self) -> SaveDir:
        self.claim()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self.handle >= 0:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(self.path, LOCK))  # before it is released: nobody else has it yet
            os.close(self.handle)
            self.handle = -1
            _claimed.discard(self.name)

    def open(self) -> None:
        """Make the folder, if it is not there, and see that results can be written to it.

        Raises: ConfigError
        """
        check_save_dir(self.path)
        self.claim()

    def claim(self) -> None:
        """Lock the folder, if it is there, and remove what a killed run has left in it.

        Raises: ConfigError: if another run is writing to it.
        """
        if self.handle >= 0 or not os.path.isdir(self.path) or fcntl is None:
            return
        if self.name in _claimed:
            raise self._in_use("this process")
        try:
            self.handle = self._lock()
        except (BlockingIOError, PermissionError):
            if not os.access(self.path, os.W_OK):
                return  # refused where something is to be written
            raise self._in_use(self._holder()) from None
        except OSError as problem:
            warn(f"--save_dir {self.path} cannot be locked ({problem.strerror}): see that no second run writes to it.")
            return
        _claimed.add(self.name)
        self._clean_up()

    def _lock(self) -> int:
        path = os.path.join(self.path, LOCK)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                    with contextlib.suppress(OSError):  # it only helps people
                        os.truncate(handle, 0)
                        since = time.strftime("%Y-%m-%d %H:%M:%S")
                        os.write(handle, f"process {os.getpid():d} on {socket.gethostname()}, since {since}".encode())
                    return handle
            except OSError:
                os.close(handle)
                raise
            os.close(handle)  # of a run that has just ended

    def _holder(self) -> str:
        with contextlib.suppress(OSError), open(os.path.join(self.path, LOCK), encoding="utf-8") as file:
            return file.read(200) or "another process"
        return "another process"

    def _in_use(self, holder: str) -> ConfigError:
        return ConfigError(
            f"--save_dir {self.path} is in use by another run ({holder}): wait for its end, stop it, or give another "
            "folder."
        )

    def _clean_up(self) -> None:
        inner = [folder for _, folder in checkpoints_in(self.path)]
        inner += [os.path.join(self.path, name) for name in BEST_FOLDERS]
        for folder in [self.path, *inner]:
            if os.path.isdir(folder):
                with contextlib.suppress(OSError):
                    clean_up(folder)


def results_in(save_dir: str) -> list[str]:
    """Names of what a run has left in a folder: its last checkpoint, best models, a record of at least one step."""
    names = [os.path.basename(folder) for _, folder in checkpoints_in(save_dir)[-1:]]
    names += [name for name in BEST_FOLDERS if os.path.isdir(os.path.join(save_dir, name))]
    record = read_json(os.path.join(save_dir, HISTORY_FILE)) or {}
    return names + ([HISTORY_FILE] if record.get("train") or record.get("eval") else [])


def remove_results(save_dir: str) -> None:
    """Delete the checkpoints, best models and the record of a run. What else is in the folder stays."""
    for folder in [folder for _, folder in checkpoints_in(save_dir)]:
        remove_folder(folder)
    for name in BEST_FOLDERS:
        remove_folder(os.path.join(save_dir, name))
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(save_dir, HISTORY_FILE))


def check_unused(save_dir: str, resume_model: str | None) -> None:
    """See that a run which does not continue the one in a folder finds none there: their checkpoints, best models and
    records would mix.

    Raises: ConfigError
    """
    names = results_in(save_dir)
    if not names or resume_model == AUTO:
        return
    what = f"--save_dir {save_dir} holds a run already ({', '.join(names)})"
    if resume_model is None:
        raise ConfigError(f"{what}: continue it with --resume_model auto, or give another --save_dir.")
    if not os.path.samefile(os.path.dirname(os.path.normpath(resume_model)) or ".", save_dir):
        raise ConfigError(f"{what}, and not that of --resume_model {resume_model}: give another --save_dir.")


def check_save_dir(save_dir: str) -> None:
    """See that results can be written, and that no file has a checkpoint's name.

    Raises: ConfigError
    """
    if os.path.exists(save_dir) and not os.path.isdir(save_dir):
        raise ConfigError(f"--save_dir {save_dir} is a file: give a folder.")
    folders = [folder for _, folder in checkpoints_in(save_dir)]
    folders += [os.path.join(save_dir, name) for name in BEST_FOLDERS]
    for path in folders:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise ConfigError(f"{path} is a file, and training writes folders of such names: move it away.")
    try:
        check_writable(os.path.join(save_dir, ".probe"))
    except ConfigError as error:
        raise ConfigError(
            f"--save_dir {save_dir} cannot be written: choose another folder, or change its permissions."
        ) from error
