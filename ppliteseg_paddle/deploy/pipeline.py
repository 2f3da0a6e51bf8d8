"""Work in threads, in order: while one item is decoded, another is inferred and a third one written.

OpenCV, NumPy and the runtimes let other threads run while they compute, so threads are enough.
"""

from __future__ import annotations

import queue
import threading
import types
from collections.abc import Generator, Hashable, Iterable, Iterator
from typing import Any, Callable

# Waiting without a limit cannot be interrupted by Ctrl-C on Windows, so it is done in slices.
_SLICE_SECONDS = 0.2
# How long a closed pipeline waits for a thread. A camera that has stopped answering must not keep a program from
# ending.
_PATIENCE_SECONDS = 5.0


def overlapped(
    function: Callable[[Any], Any], items: Iterable[Any], threads: int = 1, ahead: int = 2
) -> Generator[Any, None, None]:
    """Like `map(function, items)`, computed in threads ahead of whoever takes the results.

    Several of them in a row are a pipeline: each takes its items from the one before, in a thread of its own.

    Args:
        function: called in `threads` threads at once.
        items: iterated in a thread of its own; a generator is closed when this one ends or is closed.
        ahead: how many items may wait between `items` and whoever takes the results, beside those in work. It bounds
            memory.
    Raises: what `function` or `items` raises, in order: after the results of all items before.
    """
    stage = _Stage(function, items, threads, threads + ahead)
    try:
        yield from stage.results()
    finally:
        stage.stop()


class _Stage:
    """One step of a pipeline: a feeder thread, worker threads, and results put in order."""

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any], threads: int, room: int):
        self._function, self._items = function, items
        # Taken for each item, given back when its result has left: so neither queue can grow beyond `room`.
        self._room = threading.Semaphore(room)
        self._todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._feed, args=(threads,), daemon=True)]
        self._threads += [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def results(self) -> Iterator[Any]:
        for thread in self._threads:
            thread.start()
        early: dict[int, tuple[str, Any]] = {}
        index = 0
        while True:
            while index not in early:
                try:
                    number, kind, value = self._done.get(timeout=_SLICE_SECONDS)
                except queue.Empty:
                    continue
                early[number] = (kind, value)
            kind, value = early.pop(index)
            if kind == "end":
                return
            if kind == "error":
                raise value
            index += 1
            self._room.release()
            yield value
            del value  # it may be large, and the next one may be long in coming

    def stop(self) -> None:
        self._stopped.set()
        self._room.release()  # wakes the feeder
        for thread in self._threads:
            if thread.ident is not None:  # else an interrupt came before it was started
                thread.join(_PATIENCE_SECONDS)

    def _feed(self, workers: int) -> None:
        index = 0
        last: tuple[str, BaseException | None] = ("end", None)
        try:
            for item in self._waiting_for_room():
                self._todo.put((index, item))
                index += 1
        except BaseException as error:  # whatever it is, the caller handles it
            last = ("error", error)
        self._done.put((index,) + last)
        for _ in range(workers):
            self._todo.put(None)

    def _waiting_for_room(self) -> Iterator[Any]:
        iterator = iter(self._items)
        try:
            while True:
                self._room.acquire()
                if self._stopped.is_set():
                    return
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                yield item
                del item
        finally:
            if isinstance(iterator, types.GeneratorType):  # in the thread that ran it: no other one may close it
                iterator.close()

    def _work(self) -> None:
        while True:
            task = self._todo.get()
            if task is None:
                return
            index, item = task
            if self._stopped.is_set():
                continue
            try:
                self._done.put((index, "result", self._function(item)))
            except BaseException as error:
                self._done.put((index, "error", error))
            del task, item


def grouped(
    items: Iterable[Any], key: Callable[[Any], Hashable | None], size: int, patience: int = 4
) -> Iterator[list[Any]]:
    """Lists of up to `size` items of one key, as soon as they are full. Within a key the order stays.

    Args:
        key: of an item; None for one that stands alone and does not wait.
        patience: once `patience * size` items wait, the oldest one leaves with whatever has its key.
    Raises: what `items` raises, after the items before it.
    """
    waiting: dict[Hashable, list[Any]] = {}  # by key, the key that waits longest first
    count, failure = 0, None
    try:
        for item in items:
            name = key(item)
            if name is None:
                yield [item]
                continue
            waiting.setdefault(name, []).append(item)
            count += 1
            if len(waiting[name]) < size:
                if count < patience * size:
                    continue
                name = next(iter(waiting))
            group = waiting.pop(name)
            count -= len(group)
            yield group
    except Exception as error:  # of `items`: what came before it is not lost
        failure = error
    yield from waiting.values()
    if failure is not None:
        raise failure
