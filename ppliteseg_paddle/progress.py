"""Progress bars: on stderr, where that is a terminal, unless the command is to be quiet. Times in words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

_quiet = False


def bar(iterable: Iterable[Any] | None = None, shown: bool = True, **options: Any) -> Any:
    """A bar of tqdm. Args: shown: whether one is wanted; options: of `tqdm`."""
    from tqdm import tqdm

    return tqdm(iterable, file=sys.stderr, disable=None if shown and not _quiet else True, **options)


def drawn() -> bool:
    """Whether bars are drawn."""
    return not _quiet and sys.stderr.isatty()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars meanwhile."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def duration(seconds: float) -> str:
    """As in 5 s, 4 min 05 s, or 1 h 04 min."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:d} h {minutes:02d} min"
    return f"{minutes:d} min {seconds:02d} s" if minutes else f"{seconds:d} s"
