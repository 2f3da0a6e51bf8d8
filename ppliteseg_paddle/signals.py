"""Signals that ask a process to end become an exception: what is finished stays whole, what is half done goes.

    with signals.ending():           # SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread
        ...
        with signals.held():         # but not here: they wait for the end of the block
            ...

Only the first one raises, so that cleaning up is not interrupted. A further Ctrl-C, or SIGTERM after a Ctrl-C, ends the
process at once, also within a long call of a library (`signal_watch`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any, Callable, NoReturn

from ppliteseg_paddle import signal_watch

# Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = getattr(signal, "SIGUSR1", None)  # asks a training run for a checkpoint
_PR_SET_PDEATHSIG = 1  # of prctl(2)


class Interrupted(KeyboardInterrupt):
    """A signal has asked this process to end.

    Args:
        number: the signal's.
        finished: what is finished and how to continue, for people; whoever knows it adds it on the way up.
    """

    def __init__(self, number: int, finished: str = "") -> None:
        super().__init__(number, finished)
        self.number, self.finished = number, finished

    @classmethod
    def of(cls, interrupt: KeyboardInterrupt) -> Interrupted:
        """The same, of a KeyboardInterrupt that may be Python's own."""
        return interrupt if isinstance(interrupt, cls) else cls(signal.SIGINT)

    def saying(self, finished: str) -> Interrupted:
        """This one, with what is finished, unless it was said already."""
        self.finished = self.finished or finished
        return self

    @property
    def exit_status(self) -> int:
        """What a shell reports of a process that the signal has ended: 130, 143, 129."""
        return 128 + self.number

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        return f"interrupted by {name}" + (f": {self.finished}" if self.finished else "")


class _State:
    """What the handlers know; of the main thread alone."""

    first: int | None = None  # the signal that has come
    pending: int | None = None  # the one that is to be raised, or was
    raised = False
    thrown: Interrupted | None = None  # what was raised
    holds = 0
    callback: Callable[[], object] | None = None
    in_worker = False
    active = False  # within `ending`
    save = False  # SIGUSR1 has come
    forget: Callable[[], None] | None = None  # what the watch of an `ending` has heard; None outside of one

    @classmethod
    def reset(cls) -> None:
        cls.first = cls.pending = cls.callback = cls.thrown = None
        cls.raised, cls.holds = False, 0


def _received(number: int, frame: FrameType | None) -> None:
    if _State.first is None:
        _State.first = number
        if _State.callback is None:
            _State.pending = number
        else:
            _State.callback()
    elif _insists(number, (_State.first, _State.pending)):
        if _State.pending is not None:
            os._exit(128 + number)
        _State.pending = number
    if _State.pending is not None:
        _end_at_the_next((_State.first, _State.pending))
    _raise_unless_held()


def _insists(number: int, before: Collection[int | None]) -> bool:
    """Whether a further signal asks for the end at once: Ctrl-C, or `kill` after it. Not SIGHUP, of which a closed
    terminal sends two; not SIGTERM again, which timeout(1) sends to its command and to the command's group."""
    return number == signal.SIGINT or (number == signal.SIGTERM and signal.SIGINT in before)


def _end_at_the_next(before: Collection[int | None]) -> None:
    for number in ENDING:
        if _insists(number, before):
            signal_watch.give_back(number, _received)


def _heard(numbers: list[int]) -> None:
    """In the thread that listens: signals have come. `_received` may have to wait for a library."""
    counted = [number for at, number in enumerate(numbers) if not at or _insists(number, numbers[:at])]
    if len(counted) > (_State.callback is not None):  # the first one only tells
        _end_at_the_next(counted)


def _raise_unless_held() -> None:
    if _State.pending is None or _State.raised or _State.holds:
        return
    if _State.in_worker:
        os._exit(128 + _State.pending)
    _throw(_State.pending)


def _throw(number: int) -> NoReturn:
    _State.raised, _State.thrown = True, Interrupted(number)
    raise _State.thrown


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Interrupted` in this block, but those that the process was started to
    ignore, as by `nohup`. Outside the main thread, where Python takes no signals, and inside another such block
    nothing is changed."""
    if not in_main_thread() or _State.active:
        with not_disguised():
            yield
        return
    before = {number: _handler_before(number) for number in ENDING}
    caught = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    with signal_watch.listening(_heard) as forget:
        _State.reset()
        _State.active, _State.forget = True, forget
        for number in caught:
            signal.signal(number, _received)
        _expect(once=True)
        try:
            with not_disguised():
                yield
        finally:
            _State.active = False  # first: the next block replaces what an interrupted end leaves
            for number in caught:
                signal.signal(number, before[number])
            _State.reset()
            _State.forget = None


def _handler_before(number: int) -> Any:
    """Whose the signal is now; Python's own where an earlier block was interrupted while it gave the signal back."""
    handler = signal.getsignal(number)
    if handler is not _received:
        return handler
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def _expect(once: bool) -> None:
    """Wait for the first signal. Args: once: whether a second Ctrl-C ends the process whatever it does, also where a
    library keeps Python's lock."""
    if _State.forget is not None:
        _State.forget()
    if signal.getsignal(signal.SIGINT) is _received:
        (signal_watch.answer_once if once else signal.signal)(signal.SIGINT, _received)


@contextlib.contextmanager
def telling(callback: Callable[[], object]) -> Iterator[Callable[[], int | None]]:
    """As `ending`, but the first signal calls `callback` in place of raising, for work that ends by itself once it is
    told. A Ctrl-C after it raises. After the block it has been dealt with.

    Args: callback: called in the main thread between two of its instructions.
    Yields: a function that returns the signal that came; None before.
    """
    if not in_main_thread():
        yield lambda: None
        return
    with ending():
        if _State.thrown is not None:  # and caught by somebody, such as an import that does without a package
            raise _State.thrown
        _State.callback = callback
        _expect(once=False)
        try:
            yield came
        finally:
            _State.callback = None
            if _State.pending is None:
                _State.first = None
                _expect(once=True)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let the signals of `ending` wait until this block is left. For what takes moments; blocks may be nested."""
    if not in_main_thread():
        yield
        return
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1
        _raise_unless_held()


@contextlib.contextmanager
def not_disguised() -> Iterator[None]:
    """Raise `Interrupted` again in place of an error that follows from it: a module of C++, say, whose import a signal
    interrupts fails with an ImportError."""
    try:
        yield
    except Exception as error:
        if _State.thrown is None:
            raise
        raise _State.thrown from error


def came() -> int | None:
    """The signal that has asked this process to end, whether it was raised yet or is held; None before."""
    return _State.first


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Let SIGUSR1 leave a note for `save_asked` in this block, where Python takes signals and nobody else wants it."""
    if SAVING is None or not in_main_thread() or signal.getsignal(SAVING) != signal.SIG_DFL:
        yield
        return
    signal.signal(SAVING, _note_save)
    try:
        yield
    finally:
        signal.signal(SAVING, signal.SIG_DFL)
        _State.save = False


def _note_save(number: int, frame: FrameType | None) -> None:
    _State.save = True


def save_asked() -> bool:
    """Whether SIGUSR1 has come since the last call."""
    asked, _State.save = _State.save, False
    return asked


def begin_worker(parent: int) -> None:
    """Set up a worker process. Its parent ends it: it ignores what a terminal sends to both; at SIGTERM it ends
    without a word, after a block that is `held`; when its parent dies it dies, too.

    Args: parent: process id of the parent.
    """
    _State.reset()
    _State.in_worker = True
    for number in ENDING:
        signal.signal(number, _received if number == signal.SIGTERM else signal.SIG_IGN)
    end_with(parent)


def end_with(parent: int, number: int | None = None) -> None:
    """Kill this process when its parent dies, however that happens. Nothing is changed where the system is not Linux.

    Args: parent: its process id. The parent's thread that started this process must live as long as the parent; number:
        the signal, SIGKILL (which Windows does not have) if none is given.
    """
    if not sys.platform.startswith("linux"):
        return
    number = signal.SIGKILL if number is None else number
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it has died already
        os._exit(1)


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def raise_now(number: int) -> NoReturn:
    """Raise a signal that has come, here or to another process of the run, also where it is `held`."""
    _State.first = _State.pending = number
    _throw(number)


def check() -> None:
    """Raise the signal that has come, if one has, also where it is `held`."""
    if _State.first is not None and not _State.raised:
        raise_now(_State.first)


def dismiss() -> None:
    """Let a signal that is `held` do nothing: what it would have interrupted has ended."""
    _State.raised = True
