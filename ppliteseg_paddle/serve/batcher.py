"""What waits goes through the network together: nothing waits for a batch to fill."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any, Callable, NamedTuple


class Done(NamedTuple):
    """`result` of a task; seconds that it `waited` and that the network `took`; `images`, how many went together."""

    result: Any
    waited: float
    took: float
    images: int


class _Waiting(NamedTuple):
    task: Any
    key: Hashable | None
    future: Future[Done]
    since: float


class Batcher:
    """Threads that take the task that has waited longest, and with it those of its key that wait, too.

    Args:
        run: tasks of one key -> a result for each, in order.
        key: of a task; None for one that stands alone.
        room: how many tasks like this one may go together.
        threads: how many of `run` are at work at once.
    """

    def __init__(
        self,
        run: Callable[[list[Any]], list[Any]],
        key: Callable[[Any], Hashable | None],
        room: Callable[[Any], int],
        threads: int = 1,
    ):
        self._run, self._key, self._room = run, key, room
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name="network", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    def submit(self, task: Any) -> Future[Done]:
        """Let a task wait for its turn. A future that is canceled before that gives up its place."""
        entry = _Waiting(task, self._key(task), Future(), time.perf_counter())
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(entry)
            self._changed.notify()
        return entry.future

    def close(self) -> None:
        """End the threads, after what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            group = self._next()
            if not group:
                return
            begin = time.perf_counter()
            try:
                results = self._run([entry.task for entry in group])
            except BaseException as error:  # whatever it is, it belongs to those who wait
                for entry in group:
                    entry.future.set_exception(error)
                continue
            took = time.perf_counter() - begin
            for entry, result in zip(group, results):
                entry.future.set_result(Done(result, begin - entry.since, took, len(group)))
            del group, results  # they may be large, and the next ones may be long in coming

    def _next(self) -> list[_Waiting]:
        """Who goes next; nobody once it is closed and nobody waits."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                group = [entry for entry in self._take() if entry.future.set_running_or_notify_cancel()]
                if group:
                    return group

    def _take(self) -> list[_Waiting]:
        first = self._waiting.popleft()
        group, others = [first], deque[_Waiting]()
        room = 1 if first.key is None else self._room(first.task)
        while self._waiting and len(group) < room:
            entry = self._waiting.popleft()
            (group if entry.key == first.key else others).append(entry)
        others.extend(self._waiting)
        self._waiting = others
        return group
