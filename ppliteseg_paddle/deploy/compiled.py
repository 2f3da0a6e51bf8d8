"""Models as a runtime has compiled them for this processor, kept so that the next start need not compile.

They are files in `PPLITESEG_HOME`/compiled (default: ~/.cache/ppliteseg), each for one graph, version of the runtime,
processor and settings. With PPLITESEG_COMPILED=0 none is written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy.engines import engine_name, read_bytes
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import home_folder, remove_unfinished, sha256_of, write_bytes

log = logging.getLogger("ppliteseg_paddle")

VARIABLE = "PPLITESEG_COMPILED"
FOLDER, _EXTENSION = "compiled", ".blob"
_DIGEST_BYTES = hashlib.sha256().digest_size
_MAX_BYTES = 256 << 20  # of all files together: those used longest ago go


class Compiled:
    """A compiled model's file.

    Args: runtime, version: what compiles it; precision: of the graph; files: the graph's; settings: plain values.
    Attributes: `path`.
    """

    def __init__(self, runtime: str, version: str, precision: str, files: Sequence[str], settings: Mapping[str, Any]):
        made_of = {
            "files": [sha256_of(path) for path in files],
            "instructions": environment.instruction_sets(),
            "settings": settings,
        }
        name = engine_name(runtime, version, environment.processor(), precision, made_of)
        self.path = os.path.join(home_folder(), FOLDER, name + _EXTENSION)

    def read(self) -> bytes | None:
        """What was kept; None without it, and where the file is damaged or was written for another name."""
        try:
            whole = read_bytes(self.path)
        except OSError:  # not ours to read
            return None
        digest, content = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
        if not content or digest != self._digest(content):
            return None
        with contextlib.suppress(OSError):
            os.utime(self.path)  # it is in use
        return content

    def keep(self, make: Callable[[], bytes]) -> None:
        """Write what `make` returns. Without a place to keep it, the next start compiles again."""
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, exist_ok=True)
            if os.access(folder, os.W_OK):
                content = make()
                write_bytes(self.path, self._digest(content) + content)
                _make_room(folder)
        except (PPLiteSegError, OSError, RuntimeError) as error:
            log.info("a compiled model cannot be kept in %s: %s", folder, error)

    def _digest(self, content: bytes) -> bytes:
        digest = hashlib.sha256(os.path.basename(self.path).encode())
        digest.update(content)
        return digest.digest()


def enabled() -> bool:
    """Whether compiled models are kept and taken."""
    return os.environ.get(VARIABLE) != "0"


def _make_room(folder: str) -> None:
    """Remove what was used longest ago, beyond `_MAX_BYTES`, and what killed processes have left."""
    remove_unfinished(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        kept = [(entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in entries if _is_ours(entry)]
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= _MAX_BYTES:
                return
            os.remove(path)
            total -= size


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(_EXTENSION) and entry.is_file(follow_symlinks=False)
