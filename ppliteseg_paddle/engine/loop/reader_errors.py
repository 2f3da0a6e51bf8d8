"""Errors of the threads and processes that read data, brought to the thread that waits for it."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from ppliteseg_paddle.errors import PPLiteSegError


@contextlib.contextmanager
def reader_errors() -> Iterator[None]:
    """Bring an error of a reading thread or worker process into the main thread as it was raised.

    Reason: Paddle's DataLoader reads in a thread even without workers. An error there is printed as a traceback; the
    main thread then waits for ever (without workers), or gets an opaque SystemError about a killed queue (with
    workers). `threading.excepthook` is replaced meanwhile, as Python has no other place for what ends a thread; errors
    of other threads are passed to whoever had it before.
    """
    before = threading.excepthook
    # While an evaluation reads, the training reader continues, and its error is found by whoever reads next.
    caught: list[BaseException] = getattr(before, "caught", [])

    def note(args: Any) -> None:
        reader = _reader_of(args.exc_traceback)
        if reader is None or args.exc_value is None:
            before(args)
            return
        caught.append(args.exc_value)
        reader._exit_thread_unexpectedly()  # kills the queue on which the main thread waits

    note.caught = caught  # type: ignore[attr-defined]
    threading.excepthook = note
    try:
        yield
    except (SystemError, RuntimeError, StopIteration) as error:
        # The queue is closed a moment before the thread has ended and told us why.
        deadline = time.time() + 5
        while not caught and time.time() < deadline and type(error) is SystemError:
            time.sleep(0.02)
        if not caught:
            raise
        raise _as_raised(caught[0]) from None
    except PPLiteSegError as error:
        raise _as_raised(error) from None
    finally:
        threading.excepthook = before


def _reader_of(traceback: Any) -> Any:
    """The DataLoader iterator in whose thread an error was raised; None if it comes from elsewhere."""
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if hasattr(owner, "_exit_thread_unexpectedly"):
            return owner
        traceback = traceback.tb_next
    return None


def _as_raised(error: BaseException) -> BaseException:
    """An error of a worker process without Paddle's wrapping, which puts the whole traceback into its text."""
    text = str(error)
    if not isinstance(error, PPLiteSegError) or "DataLoader worker" not in text:
        return error
    marks = [line.split(": ", 1)[1] for line in text.splitlines() if re.match(rf"[\w.]*{type(error).__name__}: ", line)]
    return type(error)(marks[-1] if marks else text)
