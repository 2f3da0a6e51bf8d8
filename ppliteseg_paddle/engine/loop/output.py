"""What a run prints, which is never the reason for its end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


def warn(message: str) -> None:
    """Print a warning. A progress bar makes room for it."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        print(f"warning: {message}", file=sys.stderr, flush=True)


class Forgiving:
    """A stream that drops what cannot be written: to a pipe that nobody reads, a full disk, a closed terminal."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Let nothing that is printed in this block fail."""
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout = Forgiving(stdout)
    sys.stderr = sys.stdout if stderr is stdout else Forgiving(stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr
