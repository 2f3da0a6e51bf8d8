"""What a run writes for VisualDL: scalars, predictions beside the truth, and the model's graph.

After a resume the curves continue in one piece: VisualDL shows the newest file of a folder only, so the records up to
the checkpoint are carried over into it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ppliteseg_paddle.engine.callbacks.samples import Samples
from ppliteseg_paddle.engine.callbacks.scalars import evaluation_scalars, tag, train_scalars
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.engine.loop.output import warn

FLUSH_SECONDS = 5  # VisualDL's own 120 leave the page empty for two minutes


class Board(Callback):
    """Writes a run for VisualDL.

    Args:
        save_dir: where the records go; start: iteration from which the run resumes, 0 for a fresh one.
        classes: their names; samples: whose predictions are shown at each evaluation.
    """

    program = "visualdl"  # that shows it

    def __init__(self, save_dir: str, classes: Sequence[str], start: int = 0, samples: Samples | None = None):
        self.save_dir, self.classes, self.start = save_dir, [tag(name) for name in classes], start
        self.samples = samples
        self.writer: Any = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Open a file of records, and close it however the run ends."""
        from visualdl import LogWriter

        earlier = sorted(glob.glob(os.path.join(self.save_dir, "vdlrecords.*.log")))
        name = f"vdlrecords.{max([int(time.time())] + [_number(path) + 1 for path in earlier]):010d}.log"
        kept = records_up_to(earlier[-1], self.start) if earlier and self.start else []
        self.writer = LogWriter(self.save_dir, file_name=name, flush_secs=FLUSH_SECONDS)
        forgive_writes(self.writer._get_file_writer()._async_writer._record_writer, os.path.join(self.save_dir, name))
        for record in kept:
            self.writer._get_file_writer().add_record(record)
        try:
            yield
        finally:
            self.writer.close()

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        self._add(train_scalars(monitor, row), row["iter"])

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        step = monitor.steps
        self._add(evaluation_scalars(evaluation, self.classes), step)
        if self.samples is not None:
            for name, image in self.samples.pictures(model, evaluation):
                self.writer.add_image(f"Predictions/{name}", image[:, :, ::-1], step)

    def _add(self, scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def add_graph(self, model: Any, shape: Sequence[int]) -> None:
        """Write the model's graph. A model that cannot be traced trains without one, with a warning."""
        from ppliteseg_paddle.engine.callbacks.visualdl_graph import model_graph
        from ppliteseg_paddle.files import save_atomic

        try:
            graph = model_graph(model, shape)
        except Exception as error:  # whatever tracing a model of any kind may raise
            lines = str(error).strip().splitlines()
            warn(
                f"VisualDL gets no graph, as the model could not be traced: {type(error).__name__}: "
                f"{(lines[-1].strip() if lines else '')}"
            )
            return
        path = os.path.join(self.save_dir, f"vdlgraph.{int(time.time()):010d}.log")
        with save_atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(graph, file)


# --------------------------------------------------------------------------------------------
# Records
# --------------------------------------------------------------------------------------------
def forgive_writes(writer: Any, path: str) -> None:
    """Let a record that cannot be written, as on a full disk, be reported once, and leave no half of itself, behind
    which nothing could be read.

    Args: writer: VisualDL's, which writes in a thread of its own; path: its file.
    """
    write = writer.write
    told: list[OSError] = []

    def write_or_warn(data: bytes) -> None:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        try:
            write(data)
        except OSError as problem:
            with contextlib.suppress(OSError):
                os.truncate(path, size)
            if not told:
                warn(f"cannot write {path}: {problem.strerror}. Training continues; the next record is tried again.")
            told.append(problem)

    writer.write = write_or_warn


def records_up_to(path: str, step: int) -> list[Any]:
    """VisualDL's records of a file, up to an iteration; what a killed run has left half-written is skipped."""
    from google.protobuf.message import DecodeError
    from visualdl.proto import record_pb2
    from visualdl.reader.record_reader import RecordReader

    kept = []
    for content in RecordReader(path).get_all():
        record = record_pb2.Record()
        try:
            record.ParseFromString(content)
        except DecodeError:
            break
        if record.values and record.values[0].id <= step and record.values[0].WhichOneof("one_value") != "meta_data":
            kept.append(record)
    return kept


def _number(path: str) -> int:
    digits = os.path.basename(path).split(".")[1]
    return int(digits) if digits.isdigit() else 0
