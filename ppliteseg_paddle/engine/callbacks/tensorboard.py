"""What a run writes for TensorBoard: the scalars and pictures that VisualDL gets, under the same names.

Each record is written at once and whole, by the loop's own thread: a run that is killed loses none, and workers that
are started meanwhile inherit no lock of a writer's thread. After a resume a new file says from which step on it
replaces what the earlier ones hold, so that the curves continue in one piece.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from ppliteseg_paddle.engine.callbacks.samples import Samples
from ppliteseg_paddle.engine.callbacks.scalars import evaluation_scalars, tag, train_scalars
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.run_files import EVENTS

_VERSION = "brain.Event:2"  # of TensorBoard's files, in which the start of a session is named


class TensorBoard(Callback):
    """Writes a run for TensorBoard.

    Args: as of `visualdl.Board`.
    """

    program = "tensorboard"

    def __init__(self, save_dir: str, classes: Sequence[str], start: int = 0, samples: Samples | None = None):
        self.save_dir, self.classes, self.start = save_dir, [tag(name) for name in classes], start
        self.samples, self.file = samples, WholeRecords(_next_name(save_dir))
        self.records: Any = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Open a file of records, and close it however the run ends. Raises: ConfigError: if it cannot be written."""
        try:
            self._begin()
        except OSError as problem:
            raise ConfigError(f"cannot write {self.file.path}: {problem.strerror}.") from problem
        try:
            yield
        finally:
            self.file.close()

    def _begin(self) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.file.open()
        self.records = RecordWriter(self.file)
        self._write(file_version=_VERSION)
        # What earlier files hold of later steps is no part of this run.
        self._write(session_log=SessionLog(status=SessionLog.START), step=self.start + 1)

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        self._add(train_scalars(monitor, row), row["iter"])

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        self._add(evaluation_scalars(evaluation, self.classes), evaluation["iter"])
        if self.samples is not None:
            for name, picture in self.samples.pictures(model, evaluation):
                self._add_image(f"Predictions/{name}", picture, evaluation["iter"])

    def on_save(self, monitor: Monitor) -> None:
        self.file.flush()

    def _add(self, scalars: dict[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(summary=Summary(value=values), step=step)

    def _add_image(self, name: str, picture: np.ndarray, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = picture.shape[:2]
        png = cv2.imencode(".png", picture)[1].tobytes()
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._write(summary=Summary(value=[Summary.Value(tag=name, image=image)]), step=step)

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.records.write(Event(wall_time=time.time(), **event).SerializeToString())


class WholeRecords:
    """A file to which records are added whole, whenever the process ends or the disk is full."""

    def __init__(self, path: str):
        self.path, self.handle = path, -1

    def open(self) -> None:
        binary = getattr(os, "O_BINARY", 0)  # which Windows alone has
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | binary, 0o666)

    def write(self, record: bytes) -> None:
        """Raises: OSError: if there is no room; nothing of the record is left then."""
        size, written = os.fstat(self.handle).st_size, 0
        try:
            while written < len(record):
                written += os.write(self.handle, record[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.handle, size)
            raise

    def flush(self) -> None:
        os.fsync(self.handle)

    def close(self) -> None:
        os.close(self.handle)


def _next_name(folder: str) -> str:
    """TensorBoard reads the files of a folder in the order of their names, which begin with the time."""
    earlier = [os.path.basename(path).split(".")[3] for path in glob.glob(os.path.join(glob.escape(folder), EVENTS))]
    number = max([int(time.time())] + [int(digits) + 1 for digits in earlier if digits.isdigit()])
    return os.path.join(folder, f"{EVENTS.replace('*', '')}{number:010d}.ppliteseg")
