"""The worker processes of Paddle's DataLoader: they die with the run that reads from them, leave signals to it, and are
missed when they are gone.

Paddle forks them for each epoch and each evaluation. What a terminal, systemd or Slurm sends to all processes of a run
is for the trainer, which finishes its step and still needs them.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import multiprocessing.connection
import os
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.loop.distributed import rank
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import PPLiteSegError

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Paddle puts them  # nosec B108
_PATIENCE = 2  # seconds that workers may take to end
_open: weakref.WeakSet = weakref.WeakSet()  # Paddle's iterators with workers
_END = getattr(signal, "SIGUSR2", signal.SIGTERM)  # what ends a worker whose trainer lives


class WorkerLost(PPLiteSegError):
    """A worker process has ended, so that its images do not come."""

    exit_status = 3


# --------------------------------------------------------------------------------------------
# In the worker
# --------------------------------------------------------------------------------------------
class BeginWorker:
    """`worker_init_fn` of a DataLoader. Args: then: the loader's own; trainer: the process that forks the workers."""

    def __init__(self, then: Callable[[int], None] | None):
        self.then, self.trainer = then, os.getpid()

    def __call__(self, number: int) -> None:
        for number_ in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number_, signal.SIG_IGN)
        for number_ in (signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE):  # Paddle's handlers may wait for ever
            signal.signal(number_, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._told)
        signal.signal(_END, self._end)
        signals.end_with(self.trainer, signal.SIGTERM)
        if self.then is not None:
            self.then(number)

    def _told(self, number: int, frame: Any) -> None:
        if os.getppid() != self.trainer:
            self._end(number, frame)

    def _end(self, number: int, frame: Any) -> None:
        _remove_shared_files(os.getpid())
        os._exit(0)


def _remove_shared_files(worker: int) -> None:
    """Delete what a worker has left in shared memory: Paddle names its files by the process that wrote them."""
    for path in glob.glob(f"{SHARED_MEMORY}/paddle_{worker:d}_*"):
        with contextlib.suppress(OSError):
            os.remove(path)


# --------------------------------------------------------------------------------------------
# In the trainer
# --------------------------------------------------------------------------------------------
class Loader:
    """A `paddle.io.DataLoader` whose workers are looked after. Args: those of Paddle's; make: its class."""

    def __init__(self, *args: Any, make: Callable[..., Any], **kwargs: Any):
        self.loader = make(*args, **kwargs)
        if self.loader.num_workers:
            self.loader.worker_init_fn = BeginWorker(self.loader.worker_init_fn)

    def __iter__(self) -> Iterator[Any]:
        return batches(self.loader)

    def __len__(self) -> int:
        return len(self.loader)


def guarded_loader(run: LoopRun, original: Callable[..., Any]) -> Callable[..., Any]:
    """`paddle.io.DataLoader` as a `Loader`."""
    return functools.partial(Loader, make=original)


def batches(loader: Any) -> Iterator[Any]:
    """The batches of a `paddle.io.DataLoader`, in their order.

    Raises: WorkerLost: when one of its workers is gone, within seconds.
    """
    if not loader.num_workers:
        yield from loader
        return
    loader.use_shared_memory = loader.use_shared_memory and _fits(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    with quiet_forks():
        iterator = iter(loader)
    if threading.current_thread() is threading.main_thread():
        # Paddle's handler raises in whatever runs at the moment a worker dies, an update of the weights, say.
        signal.signal(signal.SIGCHLD, handler)
    _open.add(iterator)
    lost: list[Any] = []
    threading.Thread(target=_watch, args=(weakref.ref(iterator), list(iterator._workers), lost), daemon=True).start()
    try:
        while True:
            try:
                batch = next(iterator)
            except (StopIteration, SystemError, RuntimeError):
                if lost:
                    raise WorkerLost(_how(lost[0])) from None
                raise
            yield batch
    except StopIteration:
        return
    finally:
        _end(iterator)


def end_workers() -> None:
    """End all workers of this process, whoever still holds their iterators."""
    for iterator in list(_open):
        _end(iterator)


@contextlib.contextmanager
def quiet_forks() -> Iterator[None]:
    """Fork only while no other thread of this process runs.

    Reason: Paddle counts its memory under a lock. A worker that is forked while another thread holds it, as one that
    reads ahead for training may when an evaluation starts, finds it locked for ever and delivers nothing.
    """
    if not _Forks.hooked:
        os.register_at_fork(before=lambda: _wait_for_threads() if _Forks.quiet else None)
        _Forks.hooked = True
    _Forks.quiet = True
    try:
        yield
    finally:
        _Forks.quiet = False


class _Forks:
    """Of this process."""

    hooked = False  # a hook cannot be taken off
    quiet = False


def _wait_for_threads(seconds: float = 1.0) -> None:
    """Wait until no other thread of this process runs, `seconds` at most: OpenMP's threads spin a while after work."""
    own, end = threading.get_native_id(), time.monotonic() + seconds
    while any(_runs(task) for task in glob.glob("/proc/self/task/*") if os.path.basename(task) != str(own)):
        if time.monotonic() > end:
            return
        time.sleep(0.001)


def _runs(task: str) -> bool:
    """Whether a thread is on a processor, waits for one, or for the disk (proc(5): states R and D)."""
    try:
        with open(f"{task}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "RD"
    except OSError:  # it has ended
        return False


def _watch(reference: weakref.ref, workers: list[Any], lost: list[Any]) -> None:
    """Note the first worker that ends before its time, and wake whoever waits for its images.

    Reason: a worker that is killed while it writes holds the lock of the queue for ever, or leaves half a batch in it;
    Paddle then waits without end.
    """
    waiting = {worker.sentinel: worker for worker in workers}
    while waiting:
        for sentinel in multiprocessing.connection.wait(list(waiting)):
            worker = waiting.pop(sentinel)
            worker.join(1)
            iterator = reference()
            if iterator is None or iterator not in _open:
                return
            if worker.exitcode:
                lost.append(worker)
                iterator._exit_thread_unexpectedly()
                return


def _how(worker: Any) -> str:
    status, name = worker.exitcode, f"a worker that reads images (process {worker.pid:d})"
    if status == -signal.SIGKILL:
        return f"{name} was ended by SIGKILL (9), as when memory runs out: fewer --num_workers need less"
    if status == -signal.SIGBUS:
        return f"{name} was ended by SIGBUS (7), as when {SHARED_MEMORY} is full: enlarge it (docker: --shm-size)"
    return f"{name} " + (
        f"was ended by {signal.Signals(-status).name} ({-status:d})" if status < 0 else f"ended with status {status:d}"
    )


def _end(iterator: Any) -> None:
    """End the workers of an iterator without waiting for what they have still to do."""
    if iterator not in _open:
        return
    _open.discard(iterator)
    for worker in iterator._workers:
        if worker.exitcode is None:
            with contextlib.suppress(OSError):
                os.kill(worker.pid, _END)
    for worker in iterator._workers:
        worker.join(_PATIENCE)
        if worker.exitcode is None:
            worker.kill()
            worker.join(_PATIENCE)
        _remove_shared_files(worker.pid)
    iterator._exit_thread_unexpectedly()
    iterator._try_shutdown_all(_PATIENCE)


# --------------------------------------------------------------------------------------------
# Shared memory
# --------------------------------------------------------------------------------------------
def free_shared_memory() -> int | None:
    """Bytes that are free in shared memory; None where there is no such file system."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize


def _fits(loader: Any) -> bool:
    """Whether shared memory holds what a loader's workers put there, on all ranks of this machine; says so if not."""
    free = free_shared_memory()
    if free is None:
        return True
    # Measured with Paddle 2.6 to 3.3: read ahead by all workers, and the batch in use.
    count = loader.prefetch_factor * loader.num_workers + 1
    need = count * _batch_bytes(loader) * int(os.environ.get("PADDLE_LOCAL_SIZE") or 1)
    if need <= free:
        return True
    if rank() == 0 and not getattr(loader, "told", False):
        loader.told = True
        print(
            f"{SHARED_MEMORY} has {free / 1e6:.1f} MB free, and {loader.num_workers:d} "
            f"worker{' needs' if loader.num_workers == 1 else 's need'} {need / 1e6:.1f}: "
            "they send their batches through pipes, which is slower (docker: --shm-size enlarges it)",
            file=sys.stderr,
            flush=True,
        )
    return False


def _batch_bytes(loader: Any) -> int:
    """Of the largest batch, by samples from both ends of the data set; 0 if none of them can be read."""
    dataset, states = loader.dataset, (random.getstate(), np.random.get_state())
    largest = 0
    try:
        for index in {0, len(dataset) - 1}:
            with contextlib.suppress(PPLiteSegError):
                largest = max(largest, _bytes_of(dataset[index]))
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return largest * loader.batch_sampler.batch_size


def _bytes_of(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_bytes_of(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of(item) for item in value)
    return int(value.nbytes) if isinstance(value, np.ndarray) else 0
