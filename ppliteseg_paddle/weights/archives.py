"""Unpack archives from elsewhere: regular files and folders below the target, nothing else."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO, Callable, NamedTuple

from ppliteseg_paddle.errors import DownloadError

LARGEST_BYTES = 8 << 30  # unpacked, all files together: far above any model, far below a disk
# Weights are as good as random: compressed, they shrink by a tenth. What grows by more than this is no weight file.
MAX_RATIO, ALWAYS_ALLOWED = 16, 64 << 20
MAX_MEMBERS = 200_000  # a data set has tens of thousands of files


class _Member(NamedTuple):
    name: str
    size: int
    kind: str  # "file", "folder", or what it is called if it is neither
    open: Callable[[], IO[bytes]]


def is_archive(path: str) -> bool:
    """Whether the content (not the name) is a tar, compressed or not, or a zip archive."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error, lzma.LZMAError):  # compressed, and damaged: `unpack` says so
        return True


def allowed_bytes(path: str) -> int:
    """To how many bytes an archive of weights may unpack, by its own size."""
    return min(LARGEST_BYTES, ALWAYS_ALLOWED + MAX_RATIO * os.path.getsize(path))


def unpack(path: str, folder: str, largest_bytes: int = 0) -> list[str]:
    """Unpack a tar or zip archive into `folder`; all members are checked before the first is written.

    Args: largest_bytes: unpacked, all files together; 0 takes LARGEST_BYTES.
    Returns: paths of the files, relative to `folder`, sorted.
    Raises: DownloadError: if a member would land outside `folder`, is a link or a device, or all are too large;
        nothing is written then. Also if the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else tarfile.open(path) as archive:
            found = _zip_members(archive) if isinstance(archive, zipfile.ZipFile) else _tar_members(archive)
            members = _checked(path, found, largest_bytes or LARGEST_BYTES)
            return sorted(_write(member, folder) for member in members if member.kind == "file")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise DownloadError(f"archive {path} cannot be unpacked: {error}.") from error
    except (OSError, lzma.LZMAError) as error:  # the disk, damaged offsets, or one name for a file and a folder
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"archive {path} cannot be unpacked: {reason}.") from error


def _checked(path: str, found: Iterable[_Member], limit: int) -> list[_Member]:
    """All members, or an error. The sizes are added up while a tar is read, as its end may be far."""
    members: list[_Member] = []
    total = 0
    for member in found:
        _check(path, member)
        members.append(member)
        total += member.size
        if total > limit:
            raise DownloadError(
                f"archive {path} would unpack to {total:d} bytes, more than the {limit:d} that are allowed."
            )
        if len(members) > MAX_MEMBERS:
            raise DownloadError(f"archive {path} has more than the {MAX_MEMBERS:d} members that are allowed.")
    files = {os.path.normpath(member.name.replace("\\", "/")) for member in members if member.kind == "file"}
    for member in members:
        parents = os.path.normpath(member.name.replace("\\", "/")).split(os.sep)
        above = {os.sep.join(parents[:count]) for count in range(1, len(parents) + (member.kind == "folder"))}
        if above & files:
            raise DownloadError(
                f"archive {path} was not unpacked: '{min(above & files)}' is a file and a folder in it. Get it anew."
            )
    return members


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    def kind(info: tarfile.TarInfo) -> str:
        if info.isfile() or info.isdir():
            return "file" if info.isfile() else "folder"
        return "a link" if info.issym() or info.islnk() else "a device"

    def opened(info: tarfile.TarInfo) -> IO[bytes]:
        file = archive.extractfile(info)
        assert file is not None  # noqa: S101 - of a regular file; only these are opened
        return file

    return (_Member(info.name, info.size, kind(info), partial(opened, info)) for info in archive)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    def kind(info: zipfile.ZipInfo) -> str:
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            return "a link"
        return "folder" if info.is_dir() else "file"

    return (
        _Member(info.filename, info.file_size, kind(info), partial(archive.open, info)) for info in archive.infolist()
    )


def _check(path: str, member: _Member) -> None:
    fault = None
    parts = member.name.replace("\\", "/").split("/")
    if member.kind not in ("file", "folder"):
        fault = f"is {member.kind}"
    elif parts[0] == "" or ":" in parts[0]:
        fault = "is an absolute path"
    elif ".." in parts:
        fault = "leads out of the folder"
    if fault:
        raise DownloadError(
            f"archive {path} was not unpacked: its member '{member.name}' {fault}, which may overwrite other files."
        )


def _write(member: _Member, folder: str) -> str:
    name = os.path.normpath(member.name.replace("\\", "/"))
    target = os.path.join(folder, name)
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    with member.open() as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file)
    return name
