"""Nothing of the user's is overwritten: commands replace what an earlier run wrote, and nothing else unasked.

A folder that a command fills holds `ppliteseg_files.jsonl`: a line for each file with its size and its hash. A file
that was changed since is the user's. Single JSON files of results say who wrote them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ppliteseg_paddle.errors import ConfigError, DataError, PPLiteSegError
from ppliteseg_paddle.files import check_writable, read_json, remove_unfinished, save_atomic, write_bytes, write_json

MANIFEST = "ppliteseg_files.jsonl"
_WRITTEN_BY = "written_by"
_ADVICE = "move it, write elsewhere, or add --overwrite."
_KEPT_RECORDS = 2  # of a file: the one that is there, and the one that is about to replace it


class Outputs:
    """The files that a command writes into a folder. Threads and processes may share one.

    Args: overwrite: whether files of others may be replaced; error: what is raised where a file cannot be written.
    """

    def __init__(self, folder: str, overwrite: bool = False, error: type[PPLiteSegError] = DataError) -> None:
        self.folder, self.overwrite, self._error = folder, overwrite, error
        self._manifest = os.path.join(folder, MANIFEST)
        self._records: dict[str, list[tuple[int, str]]] | None = None

    def check(self, paths: Iterable[str]) -> None:
        """See that writing these files replaces nothing but what earlier runs wrote, and remove what killed ones have
        left half-written. To be called before the work.

        Raises: the error: naming the first file that it would replace.
        """
        paths = list(dict.fromkeys(paths))
        self._shorten()
        for folder in {os.path.dirname(os.path.abspath(path)) for path in [*paths, self._manifest]}:
            remove_unfinished(folder)
        if self.overwrite:
            return
        foreign = [path for path in paths if os.path.lexists(path) and not self.wrote(path)]
        if foreign:
            more = f" (and {len(foreign) - 1:d} more)" if len(foreign) > 1 else ""
            raise self._error(
                f"{foreign[0]}{more} exists and was not written by an earlier run, or was changed since, "
                f"so it is not replaced; {_ADVICE}"
            )

    def wrote(self, path: str) -> bool:
        """Whether an earlier run wrote the file that is at `path` now."""
        known = self._known().get(self._name(path), [])
        try:
            return (
                os.path.getsize(path) in [size for size, _ in known] and (os.path.getsize(path), _hash(path)) in known
            )
        except OSError:
            return False

    def files(self) -> set[str]:
        """Absolute paths of the files that earlier runs wrote."""
        return {os.path.abspath(os.path.join(self.folder, name)) for name in self._known()}

    def write(self, path: str, content: bytes) -> None:
        """Write a file atomically, and remember it."""
        with self.saving(path) as temporary, open(temporary, "wb") as file:
            file.write(content)

    @contextlib.contextmanager
    def saving(self, path: str) -> Iterator[str]:
        """As `files.save_atomic`, and remember the file."""
        with save_atomic(path, self._error) as temporary:
            yield temporary
            self.remember(path, temporary)

    def remember(self, path: str, content: str) -> None:
        """Note that `path` will hold what the file `content` holds. To be called before it does, so that no result is
        ever taken for the user's.

        Raises: OSError: if the note cannot be written.
        """
        os.makedirs(self.folder, exist_ok=True)
        record = {"file": self._name(path), "bytes": os.path.getsize(content), "blake2b": _hash(content)}
        line = (json.dumps(record) + "\n").encode()
        handle = os.open(self._manifest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)  # one write, so no lock
        try:
            written = os.write(handle, line)
            if written < len(line):
                raise OSError(f"only {written:d} bytes could be added to {self._manifest}: is the disk full?")
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def replacing(self, *names: str) -> Iterator[None]:
        """Check files of the folder, and remember those that are there after the block, which writes them."""
        paths = [os.path.join(self.folder, name) for name in names]
        self.check(paths)
        yield
        for path in filter(os.path.isfile, paths):
            self.remember(path, path)

    def _name(self, path: str) -> str:
        name = os.path.relpath(os.path.abspath(path), os.path.abspath(self.folder))
        return os.path.abspath(path) if name.startswith(os.pardir) else name.replace(os.sep, "/")

    def _known(self) -> dict[str, list[tuple[int, str]]]:
        """(bytes, hash) of each file, the newest last."""
        if self._records is None:
            self._records = {}
            for record in _lines(self._manifest):
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut short
                    values = json.loads(record)
                    self._records.setdefault(values["file"], []).append((int(values["bytes"]), str(values["blake2b"])))
        return self._records

    def _shorten(self) -> None:
        """Write the manifest anew where it has grown by many runs, or where its last line was cut short."""
        if os.path.isfile(self._manifest):
            number = sum(1 for _ in _lines(self._manifest))
            kept = {name: known[-_KEPT_RECORDS:] for name, known in self._known().items()}
            rows = [
                json.dumps({"file": name, "bytes": size, "blake2b": digest}) + "\n"
                for name, known in kept.items()
                for size, digest in known
            ]
            if len(rows) != number:
                write_bytes(self._manifest, "".join(rows).encode(), self._error)


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError:
        return


def _hash(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------
# A single file of results
# --------------------------------------------------------------------------------------------
def check_result(path: str, overwrite: bool = False) -> None:
    """Check that `write_result` can write a file, before the work. An existing one is not changed.

    Raises: ConfigError: if it cannot be written, or is there and no result of this program.
    """
    check_writable(path)
    ours = str((read_json(path) or {}).get(_WRITTEN_BY, "")).startswith("ppliteseg")
    if os.path.lexists(path) and not (ours or overwrite):
        raise ConfigError(f"{path} exists and is no result of ppliteseg, so it is not replaced; {_ADVICE}")


def check_absent(path: str, overwrite: bool = False) -> None:
    """Check that a file can be written that could not be told from the user's own.

    Raises: ConfigError: if it cannot be written, or is there.
    """
    check_writable(path)
    if os.path.lexists(path) and not overwrite:
        raise ConfigError(f"{path} exists, so it is not replaced; {_ADVICE}")


def write_result(path: str, values: Mapping[str, Any]) -> None:
    """Write a result as JSON that says which version wrote it. Raises: ConfigError: if it cannot be written."""
    from ppliteseg_paddle import __version__

    write_json(path, {**values, _WRITTEN_BY: f"ppliteseg {__version__}"})
