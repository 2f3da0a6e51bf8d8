"""Worker processes that read data: they end with the trainer, are missed when they are gone, and have the memory that
they share."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.engine.loop import workers
from ppliteseg_paddle.engine.loop.workers import Loader, WorkerLost

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Paddle has workers on Linux alone")


class Numbers(paddle.io.Dataset):
    def __init__(self, at=lambda index: None):
        self.at = at

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if paddle.io.get_worker_info() is not None:
            self.at(index)
        return {"img": np.full(1000, index, np.float32)}


def load(dataset, **options):
    return Loader(dataset, batch_size=2, num_workers=2, make=paddle.io.DataLoader, **options)


def read(loader):
    return [float(batch["img"][0, 0]) for batch in loader]


def kill_itself(index):
    if index == 6:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_one_line():
    with pytest.raises(WorkerLost, match=r"process \d+\) was ended by SIGKILL \(9\), as when memory runs out"):
        read(load(Numbers(kill_itself)))
    assert not workers._open


def test_signals_to_all_processes_of_a_run_are_left_to_the_trainer():
    def signalled(index):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)

    assert read(load(Numbers(signalled))) == [0, 2, 4, 6, 8, 10]


def test_workers_of_a_reading_that_is_given_up_are_ended():
    batches = iter(load(Numbers()))
    next(batches)
    processes = [worker.pid for iterator in workers._open for worker in iterator._workers]
    assert len(processes) == 2
    workers.end_workers()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not [name for name in os.listdir(workers.SHARED_MEMORY) if name.startswith(f"paddle_{processes[0]}_")]


@pytest.mark.parametrize("free, shared", [(39_999, False), (40_000, True), (None, True)])
def test_workers_share_memory_only_where_it_is_large_enough(monkeypatch, capsys, free, shared):
    """Two workers read ahead two batches each, and one is in use: five batches of two samples of 4,000 bytes."""
    monkeypatch.setattr(workers, "free_shared_memory", lambda: free)
    loader = load(Numbers())
    for _ in range(2):  # epochs
        assert read(loader) == [0, 2, 4, 6, 8, 10]
    assert loader.loader.use_shared_memory == shared
    said = [line for line in capsys.readouterr().err.splitlines() if "free, and 2 workers need" in line]
    assert len(said) == (not shared)


ORPHANS = """
import os, signal, sys
import numpy as np, paddle
from ppliteseg_paddle.engine.loop.workers import Loader

class Numbers(paddle.io.Dataset):
    def __len__(self):
        return 100
    def __getitem__(self, index):
        return np.zeros(1000, np.float32)

batches = iter(Loader(Numbers(), batch_size=1, num_workers=2, make=paddle.io.DataLoader))
next(batches)
from ppliteseg_paddle.engine.loop import workers
print(*(worker.pid for iterator in workers._open for worker in iterator._workers), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_with_a_trainer_that_is_killed_and_leave_nothing():
    # communicate() returns once the workers, too, have closed the pipe.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ORPHANS)], stdout=subprocess.PIPE, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    for process in done.stdout.split():
        assert not [name for name in os.listdir(workers.SHARED_MEMORY) if name.startswith(f"paddle_{process}_")]


def test_workers_are_forked_while_no_other_thread_runs():
    """One that allocates in Paddle at this moment would leave its lock to them, for ever."""
    begun, done = threading.Event(), []

    def work():
        begun.set()
        for _ in range(4):
            hashlib.sha256(bytes(20_000_000)).digest()  # in C, where it holds no lock of Python's
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    with workers.quiet_forks():
        child = os.fork()
        if not child:
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
