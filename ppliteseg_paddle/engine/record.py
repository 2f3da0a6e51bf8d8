"""train.json: the record of a run, kept while it trains and complete however it ends."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.config.keys import value_of
from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine.build import label_set_of
from ppliteseg_paddle.engine.checkpoint import PARAMS
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.engine.loop.state import read_state
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import read_json, write_json
from ppliteseg_paddle.reading.run_files import CONFIG_FILE, CURVES_FILE, HISTORY_FILE, PICTURES_FOLDER

_SHOWN = {"curves": CURVES_FILE, "val_pictures": PICTURES_FOLDER}  # to a person, where a run has them


@contextlib.contextmanager
def recorded(monitor: Monitor, record: Record, first: bool) -> Iterator[None]:
    """However the run ends, its record is complete; where it was told to end, say how to resume. From the start on it
    names the run."""
    if first:
        record.write(monitor)
    try:
        yield
    except BaseException as error:
        if first:
            record.write(monitor)
        finished = f"stopped after iteration {monitor.steps:d}; {monitor.how_to_resume()}"
        if isinstance(error, signals.Interrupted):
            error.saying(finished)
        elif isinstance(error, KeyboardInterrupt):
            print(f"\n{finished}", file=sys.stderr)
        raise


def seconds_at(record: dict[str, Any], start: int) -> float:
    """Seconds that a run had taken at iteration `start`, by its train.json: what it did after that is thrown away."""
    rows = [row for part in ("train", "eval") for row in record.get(part, ())]
    if not any(row.get("iter", 0) > start for row in rows):
        return float(record.get("seconds") or 0)
    return max((row["elapsed"] for row in rows if row.get("iter", 0) <= start and "elapsed" in row), default=0.0)


class Record(Callback):
    """train.json: what was run, and its losses, learning rates and evaluations. Written at each step of the record.

    A write that fails, as on a full disk, is reported once; the next one tries again.

    Args: start: iteration from which the run resumes; device: as set; begin: `time.monotonic()` at the run's start.
    """

    def __init__(self, options: TrainOptions, config: Any, start: int, device: str, begin: float):
        import paddle
        import paddleseg

        from ppliteseg_paddle import __version__

        self.begin, self.save_dir, self.start, self.config = begin, options.save_dir, start, config
        earlier = (read_json(os.path.join(self.save_dir, HISTORY_FILE)) or {}) if start else {}
        self.earlier_best = {key: earlier.get(key) for key in ("best", "ema_best")}
        self.earlier = {
            part: [row for row in earlier.get(part, []) if row.get("iter", start + 1) <= start]
            for part in ("train", "eval")
        }
        self.earlier_seconds = read_state(options.resume_model).get("seconds", seconds_at(earlier, start))
        self.written, self.writing = 0.0, 0.0
        self.head = {
            "config": config.source.path,
            "options": config.source.options,
            "iters": config.iters,
            "batch_size": config.batch_size,
            "gradient_accumulation_steps": value_of(config.dic, "gradient_accumulation_steps"),
            "freeze": value_of(config.dic, "freeze"),
            "class_names": list(label_set_of(config).classes),
            "ranks": distributed.ranks(),
            "seed": options.seed,
            "device": device,
            "precision": options.precision,
            "max_minutes": options.max_minutes,
            "resumed_from": start or None,
            "versions": {
                "ppliteseg_paddle": __version__,
                "paddle": paddle.__version__,
                "paddleseg": paddleseg.__version__,
                "python": platform.python_version(),
            },
        }

    def seconds(self) -> float:
        """That the run has taken, with those before a resume."""
        return self.earlier_seconds + time.monotonic() - self.begin

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        """Write so seldom that it takes a hundredth of the time, however long the record."""
        if time.monotonic() - self.written >= 100 * self.writing:
            self.write(monitor)

    def on_saving(self, monitor: Monitor) -> None:
        """Before the checkpoint, so that a run that is killed between them resumes with all of its rows."""
        self.write(monitor)

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        self.write(monitor)

    def write(self, monitor: Monitor, finished: bool = False) -> None:
        begin = time.monotonic()
        try:
            write_json(os.path.join(self.save_dir, HISTORY_FILE), self.contents(monitor, finished))
        except ConfigError as error:
            monitor.warn_once(f"{error} {'The run is complete without it.' if finished else 'Training continues.'}")
        self.written = time.monotonic()
        self.writing = self.written - begin

    def contents(self, monitor: Monitor, finished: bool = False) -> dict[str, Any]:
        return {
            **self.head,
            "finished": finished,
            "run": monitor.lineage.stored(),
            "seconds": round(self.seconds(), 3),
            "stopped_early": monitor.early_stop is not None and monitor.early_stop.over,
            "best": monitor.best.stored(),
            "ema_best": monitor.ema_best.stored(),
            "train": self.earlier["train"] + monitor.rows,
            "eval": self.earlier["eval"] + monitor.evaluations,
        }

    def result(self, monitor: Monitor) -> dict[str, Any]:
        rows = self.earlier["train"] + monitor.rows
        last = monitor.saved or ""
        shown = {key: os.path.join(self.save_dir, name) for key, name in _SHOWN.items()}
        # The weights to use next: the best that an evaluation has found, plain or averaged, else the last ones.
        scored = [
            (best.value, os.path.join(best.folder, best.file))
            for best in (monitor.best, monitor.ema_best)
            if best.value is not None
        ]
        return {
            "iterations": monitor.steps,
            "start_iteration": self.start,
            "first_loss": rows[0]["loss"] if rows else None,
            "final_loss": rows[-1]["loss"] if rows else None,
            "best_mIoU": monitor.best.miou,
            "best_iteration": monitor.best.iteration,
            "ema_best_mIoU": monitor.ema_best.miou,
            "ema_best_iteration": monitor.ema_best.iteration,
            "best": monitor.best.line(),
            "ema_best": monitor.ema_best.line(),
            "stopped_early": monitor.early_stop is not None and monitor.early_stop.over,
            "save_dir": self.save_dir,
            "config": os.path.join(self.save_dir, CONFIG_FILE),
            "history": os.path.join(self.save_dir, HISTORY_FILE),
            "last_checkpoint": last,
            "model_path": max(scored, key=lambda item: item[0])[1] if scored else os.path.join(last, PARAMS),
            **{key: path if os.path.exists(path) else None for key, path in shown.items()},
            "seconds": round(time.monotonic() - self.begin, 3),
        }
