"""Files and folders are written atomically: `save_atomic` and `save_folder` are the ways, and all else uses them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# The folder above this package: PYTHONPATH of child processes that import it.
SOURCE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What a disk that is full, broken, read-only or not ours answers.
DISK_FAULTS = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "ESTALE")
    if hasattr(errno, name)
)
_UMASK = _umask()  # once: it can only be read by setting it, for all threads


def home_folder() -> str:
    """Where downloads and TensorRT's engines are kept: `PPLITESEG_HOME`, or ~/.cache/ppliteseg."""
    return os.environ.get("PPLITESEG_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "ppliteseg")


def sha256_of(path: str) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def save_atomic(path: str, error: type[PPLiteSegError] = ConfigError) -> Iterator[str]:
    """Yield a temporary path beside `path`, which takes its place when the block ends without an exception. Signals of
    `signals.ending` wait until then.

    Raises: `error`: if the folder or the file cannot be written, or `path` is a folder. Exceptions of the block other
        than OSError pass through.
    """
    if os.path.isdir(path):
        raise error(f"cannot write {path}: it is a folder; give a file.")
    folder, temporary, claimed = os.path.dirname(os.path.abspath(path)), None, None
    with signals.held():
        try:
            os.makedirs(folder, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".ppliteseg-", suffix=".tmp", dir=folder)
            os.close(handle)
            claimed = claim(temporary)
            yield temporary
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        except OSError as problem:
            raise error(f"cannot write {path}: {problem.strerror or problem}.") from problem
        finally:
            if temporary is not None and os.path.exists(temporary):
                os.remove(temporary)
            release(claimed)


def remove_unfinished(folder: str) -> None:
    """Remove what `save_atomic` has left in a folder when its process was killed; others may be writing there."""
    for path in abandoned(folder, _UNFINISHED):
        with contextlib.suppress(OSError):
            os.remove(path)


@contextlib.contextmanager
def save_folder(path: str, error: type[PPLiteSegError] = ConfigError) -> Iterator[str]:
    """Yield a hidden folder beside `path`, which takes its place when the block ends without an exception. Signals of
    `signals.ending` wait until then.

    By then its files are on the disk, not only in the system's memory. A folder that was at `path` is whole until the
    moment of the exchange, and deleted after it.

    Raises: `error`: if something cannot be written, or `path` is a file. Exceptions of the block other than OSError
        pass through.
    """
    temporary, former = _hidden(path, "tmp"), _hidden(path, "old")
    parent = os.path.dirname(temporary)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise error(f"cannot write the folder {path}: it is a file; move it away.")
    with signals.held():
        try:
            os.makedirs(parent, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            os.mkdir(temporary)
            yield temporary
            for file in sorted(os.listdir(temporary)):
                flush(os.path.join(temporary, file))
            flush(temporary)
            _exchange(temporary, path, former)
            flush(parent)
        except OSError as problem:
            raise error(f"cannot write {path}: {problem.strerror or problem}.") from problem
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def remove_folder(path: str) -> None:
    """Delete a folder that is never half deleted under its name. What cannot be deleted stays."""
    hidden = _hidden(path, "gone")
    with contextlib.suppress(OSError):
        os.rename(path, hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def clean_up(folder: str) -> None:
    """Finish or remove what `save_atomic`, `save_folder` and `remove_folder` have left in a folder when their process
    was killed. Nobody may be writing there. Raises: OSError"""
    left = {name: match for name in os.listdir(folder) for match in [_LEFTOVER.fullmatch(name)] if match}
    for name, match in left.items():
        if match.group("kind") == "old" and not os.path.lexists(os.path.join(folder, match.group("name"))):
            # Killed between the two steps of an exchange: the new folder was complete before the first.
            new = os.path.join(folder, name.replace(".old-", ".tmp-"))
            os.rename(new if os.path.isdir(new) else os.path.join(folder, name), os.path.join(folder, match["name"]))
    for name in left:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            os.remove(path)


_UNFINISHED = r"\.ppliteseg-[a-z0-9_]{8}\.tmp"
# Without "ppliteseg-": of earlier versions.
_LEFTOVER = re.compile(r"\.(?:(?P<name>.+)\.(?P<kind>tmp|old|gone)-\d+|(?:ppliteseg-)?[a-z0-9_]{8}\.tmp)")


def claim(path: str) -> int | None:
    """Say that a temporary file or folder is being written, until this process ends or `release` is called with what
    this returns."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def release(claimed: int | None) -> None:
    if claimed is not None:
        os.close(claimed)


def abandoned(folder: str, pattern: str) -> Iterator[str]:
    """Paths in a folder whose whole names match, and which nobody claims: killed processes have left them."""
    for name in os.listdir(folder) if fcntl is not None and os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if re.fullmatch(pattern, name) and not os.path.islink(path):
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path
            except OSError:  # in use
                continue
            finally:
                os.close(handle)


def _hidden(path: str, kind: str) -> str:
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(parent, f".{name}.{kind}-{os.getpid():d}")


def _exchange(new: str, path: str, former: str) -> None:
    if not os.path.isdir(path):
        os.rename(new, path)
        return
    shutil.rmtree(former, ignore_errors=True)
    os.rename(path, former)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(former, path)
        raise


def flush(path: str) -> None:
    """Bring a file, or the list of files of a folder, from the system's memory to the disk. Raises: OSError"""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if not (os.path.isdir(path) and problem.errno in (errno.EINVAL, errno.ENOTSUP)):  # some cannot flush folders
            raise
    finally:
        os.close(handle)


def probe_disk(folder: str, size: int) -> None:
    """See that `size` bytes can be written into a folder: what third-party code does not tell. Raises: OSError"""
    block = b"\0" * (1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        file.flush()
        os.fsync(file.fileno())


def write_bytes(path: str, content: bytes, error: type[PPLiteSegError] = ConfigError) -> None:
    """Write a file atomically: another process may read it meanwhile. Raises: `error`: if it cannot be written."""
    with save_atomic(path, error) as temporary, open(temporary, "wb") as file:
        file.write(content)


def check_writable(path: str) -> None:
    """Check that a file can be written, before the work whose result it will hold. An existing one is not changed.

    Raises: ConfigError
    """

    class Enough(Exception):
        pass

    with contextlib.suppress(Enough), save_atomic(path):
        raise Enough


def write_json(path: str, values: Any) -> None:
    """Write JSON atomically, and to the disk, with `finite` numbers."""
    with save_atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(finite(values), file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: str) -> dict[str, Any] | None:
    """The JSON object of a file; None if the file is absent or holds anything else."""
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError, RecursionError):  # the last one: nested too deep
        return None
    return values if isinstance(values, dict) else None


def finite(value: Any) -> Any:
    """Values for JSON: NaN and infinity become null, tuples lists, keys texts."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value
