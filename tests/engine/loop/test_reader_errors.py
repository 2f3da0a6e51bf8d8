"""Errors of reading threads and processes."""

import multiprocessing
import threading
import time

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.engine.loop.reader_errors import reader_errors
from ppliteseg_paddle.errors import DataError


class Broken(paddle.io.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return np.zeros(3, np.float32)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_reading_error_arrives_as_it_was_raised(num_workers):
    loader = paddle.io.DataLoader(
        Broken(DataError("label x.png is broken: replace it.")), batch_size=1, num_workers=num_workers
    )
    with pytest.raises(DataError) as caught, reader_errors():
        list(loader)
    assert str(caught.value) == "label x.png is broken: replace it."
    for worker in multiprocessing.active_children():  # they wait for work as long as they live
        worker.terminate()
        worker.join()


def test_a_defect_while_reading_keeps_its_type():
    loader = paddle.io.DataLoader(Broken(ZeroDivisionError("defect")), batch_size=1, num_workers=0)
    with pytest.raises(ZeroDivisionError, match="defect"), reader_errors():
        list(loader)


def test_an_error_of_the_training_reader_during_an_evaluation_arrives_after_it():
    loader = paddle.io.DataLoader(Broken(DataError("label x.png is broken: replace it.")), batch_size=1, num_workers=0)
    with pytest.raises(DataError, match="label x.png is broken"), reader_errors():
        training = iter(loader)
        with reader_errors():
            deadline = time.monotonic() + 30
            while not threading.excepthook.caught and time.monotonic() < deadline:
                time.sleep(0.01)
        list(training)


def test_errors_of_other_threads_are_left_to_python(monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    with reader_errors():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert seen == [ZeroDivisionError]
