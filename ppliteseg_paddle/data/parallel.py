"""One function over many files: in processes, with a progress bar, in the order of the jobs, in constant memory."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Callable, TypeVar

import cv2

from ppliteseg_paddle import signals
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.progress import bar

Job = TypeVar("Job")
Result = TypeVar("Result")

_CHUNK = 4  # jobs that travel together
_AHEAD = 4  # chunks per process that are under way at most: what bounds the memory
_MAX_WORKERS = 16  # processes, where none are asked for


def default_workers() -> int:
    """As many processes as this process may use cores, at most sixteen."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_WORKERS)


def run_parallel(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int | None = None,
    name: str = "reading",
    unit: str = "image",
    progress: bool = True,
) -> Iterator[Result]:
    """Results of `function(job)` for each job, in order.

    Args:
        function: at module level (or a partial of one), so that a process can be given it.
        num_workers: processes; None takes one per core; 0 and 1 stay in this process.
        name, unit: of the progress bar on stderr.
    Raises: whatever `function` raises; DataError: if a process is killed.
    """
    workers = min(default_workers() if num_workers is None else num_workers, len(jobs) // 2)
    results: Iterator[Result] = map(function, jobs) if workers <= 1 else _in_processes(function, jobs, workers)
    try:
        yield from bar(results, shown=progress, total=len(jobs), desc=name, unit=unit, leave=False)
    finally:
        if isinstance(results, Generator):
            results.close()  # an unfinished consumer must not leave processes behind


def _in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Generator[Result, None, None]:
    # Forked processes start at once; where forking is unsafe or absent they are spawned.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin" else "spawn"
    # One thread a process, or OpenCV's own would fight over the cores. Set here, not in the processes: after a fork
    # OpenCV would wait for ever for the threads that its parent had.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(), method == "spawn"))
    waiting: collections.deque = collections.deque()
    source = iter(jobs)
    try:
        while True:
            while len(waiting) < workers * _AHEAD:
                chunk = list(itertools.islice(source, _CHUNK))
                if not chunk:
                    break
                waiting.append(pool.submit(_run_chunk, function, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        number = signals.came()
        if number is not None:  # which ended the processes, too
            raise signals.Interrupted(number) from None
        raise DataError(
            "a worker process was killed (out of memory?): run the command again with a smaller --num_workers."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(threads)


def _begin(parent: int, spawned: bool) -> None:
    signals.begin_worker(parent)
    if spawned:
        cv2.setNumThreads(1)


def _run_chunk(function, chunk) -> list:
    return [function(job) for job in chunk]
