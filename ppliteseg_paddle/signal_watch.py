"""Lets the system answer a signal that Python's own handlers would have to wait with.

They run between two instructions of the main thread: during a long call into a library, a second Ctrl-C would wait
until that returns. The system's answer, the end of the process, waits for nobody. A thread, which runs while libraries
compute, gives a signal back to it (`listening`, `give_back`); where a library keeps Python's lock, so that no thread
runs, the signal has gone back as soon as it came once (`answer_once`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Callable, Optional

Handler = Callable[[int, Optional[FrameType]], None]
_END = 0  # no signal has this number


def _system() -> Any:
    """The C library, called with Python's lock held, so that no other thread comes between; None on Windows."""
    if sys.platform == "win32":
        return None
    library = ctypes.PyDLL(None)
    for name in ("signal", "sysv_signal"):
        if hasattr(library, name):
            function = getattr(library, name)
            function.argtypes, function.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    return library


_SYSTEM = _system()


def give_back(number: int, handler: Handler) -> None:
    """Let the next such signal end the process at once. Where it is not `handler`'s any more nothing is changed.

    May be called in any thread. Python is not told: `signal.getsignal` still gives `handler`.
    """
    if _SYSTEM is not None and signal.getsignal(number) is handler:
        _SYSTEM.signal(number, None)


def answer_once(number: int, handler: Handler) -> None:
    """As `signal.signal`, but the second such signal ends the process at once. Where the C library is not glibc,
    `handler` gets that one, too."""
    signal.signal(number, handler)
    if hasattr(_SYSTEM, "sysv_signal"):
        # System V's signals had a handler for one time, and glibc still has its function.
        _SYSTEM.sysv_signal(number, _SYSTEM.signal(number, None))


@contextlib.contextmanager
def listening(heard: Callable[[list[int]], None]) -> Iterator[Callable[[], None]]:
    """Be told at once of signals that have handlers of Python's. To be entered in the main thread. Where somebody else
    is told of them in this way, as asyncio is, and on Windows, nobody listens.

    Args: heard: called in a thread of its own with the numbers of all signals that have come, in their order.
    Yields: a function that lets those that have come be forgotten.
    """
    global _listening
    if _SYSTEM is None or _told_already():
        yield lambda: None
        return
    pipe, lock, numbers = _Pipe(), threading.Lock(), list[int]()

    def listen() -> None:
        while True:
            pipe.wait()
            with lock:
                new = pipe.read()
                if _END in new:
                    return
                if new:
                    numbers.extend(new)
                    heard(list(numbers))

    def forget() -> None:
        with lock:
            pipe.read()
            numbers.clear()

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    # Python writes each signal's number there inside the system's call, whatever the main thread does.
    signal.set_wakeup_fd(pipe.writer, warn_on_full_buffer=False)
    _listening = True
    try:
        yield forget
    finally:
        _listening = False
        signal.set_wakeup_fd(-1)
        os.write(pipe.writer, bytes([_END]))
        thread.join()
        pipe.close()


class _Pipe:
    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def wait(self) -> None:
        self._poll.poll()

    def read(self) -> bytes:
        """What is there."""
        try:
            return os.read(self._reader, 1 << 10)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self._reader)
        os.close(self.writer)


def _told_already() -> bool:
    now = signal.set_wakeup_fd(-1)
    if now != -1:
        signal.set_wakeup_fd(now)
    return now != -1


_listening = False


def _be_deaf() -> None:
    """In a forked process, whose signals are none of this one's."""
    if _listening:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_be_deaf)
