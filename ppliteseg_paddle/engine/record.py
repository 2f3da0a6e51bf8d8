"""train.json: the record of a run, kept while it trains and whole however it ends."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from typing import Any

from ppliteseg_paddle.engine.callbacks.show import CURVES_FILE
from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, PARAMS
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import read_json, write_json

HISTORY_FILE, CONFIG_FILE = "train.json", "config.yml"


@contextlib.contextmanager
def recorded(watch: Monitor, record: Record, first: bool):
    """However the run ends, its record is whole; on Ctrl-C say how to go on."""
    try:
        yield
    except BaseException as error:
        if first and watch.rows:
            with contextlib.suppress(ConfigError):
                record.write(watch)
        if isinstance(error, KeyboardInterrupt):
            print(f"\nstopped after iteration {watch.iteration:d}; {watch.how_to_go_on()}", file=sys.stderr)
        raise


def seconds_at(record: dict[str, Any], start: int) -> float:
    """Seconds that a run had taken at iteration `start`, by its train.json: what it did after that is thrown away."""
    rows = [row for part in ("train", "eval") for row in record.get(part, ())]
    if not any(row.get("iter", 0) > start for row in rows):
        return float(record.get("seconds") or 0)
    return max((row["elapsed"] for row in rows if row.get("iter", 0) <= start and "elapsed" in row), default=0.0)


class Record:
    """train.json: what was run, and its losses, learning rates and evaluations. Written at each step of the record."""

    def __init__(self, save_dir, config, start, seed, device, precision, begin, max_minutes):
        import paddle
        import paddleseg

        from ppliteseg_paddle import __version__

        self.begin, self.save_dir, self.start, self.config, self.timed = (
            begin,
            save_dir,
            start,
            config,
            max_minutes is not None,
        )
        earlier = (read_json(os.path.join(save_dir, HISTORY_FILE)) or {}) if start else {}
        self.earlier = {
            part: [row for row in earlier.get(part, []) if row.get("iter", start + 1) <= start]
            for part in ("train", "eval")
        }
        self.earlier_seconds = seconds_at(earlier, start)
        self.written, self.writing, self.noted = 0.0, 0.0, None
        self.head = {
            "config": config.source.path,
            "options": config.source.options,
            "iters": config.iters,
            "batch_size": config.batch_size,
            "ranks": distributed.ranks(),
            "seed": seed,
            "device": device,
            "precision": precision,
            "max_minutes": max_minutes,
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

    def write(self, watch: Monitor, finished: bool = False) -> None:
        begin = time.monotonic()
        write_json(os.path.join(self.save_dir, HISTORY_FILE), self.contents(watch, finished))
        self.written = time.monotonic()
        self.writing, self.noted = self.written - begin, self._events(watch)

    def write_now_and_then(self, watch: Monitor) -> None:
        """At each checkpoint and evaluation; for rows of the log so seldom that it takes a hundredth of the time,
        however long the record."""
        if self._events(watch) != self.noted or time.monotonic() - self.written >= 100 * self.writing:
            self.write(watch)

    @staticmethod
    def _events(watch: Monitor):
        return watch.saved, len(watch.evaluations), watch.best.iteration, watch.ema_best.iteration

    def contents(self, watch: Monitor, finished: bool = False) -> dict[str, Any]:
        return {
            **self.head,
            "finished": finished,
            "seconds": round(self.seconds(), 3),
            "best": {"mIoU": watch.best.miou, "iter": watch.best.iteration},
            "ema_best": {"mIoU": watch.ema_best.miou, "iter": watch.ema_best.iteration},
            "train": self.earlier["train"] + watch.rows,
            "eval": self.earlier["eval"] + watch.evaluations,
        }

    def result(self, watch: Monitor) -> dict[str, Any]:
        last, curves = watch.saved or "", os.path.join(self.save_dir, CURVES_FILE)
        # The weights to go on with: the best that an evaluation has found, plain or averaged, else the last ones.
        scored = [
            (best.miou, os.path.join(best.folder, file))
            for best, file in ((watch.best, PARAMS), (watch.ema_best, EMA_PARAMS))
            if best.miou is not None
        ]
        return {
            "iterations": watch.iteration if self.timed else self.config.iters,
            "start_iteration": self.start,
            "first_loss": watch.rows[0]["loss"] if watch.rows else None,
            "final_loss": watch.rows[-1]["loss"] if watch.rows else None,
            "best_mIoU": watch.best.miou,
            "best_iteration": watch.best.iteration,
            "ema_best_mIoU": watch.ema_best.miou,
            "ema_best_iteration": watch.ema_best.iteration,
            "save_dir": self.save_dir,
            "config": os.path.join(self.save_dir, CONFIG_FILE),
            "history": os.path.join(self.save_dir, HISTORY_FILE),
            "last_checkpoint": last,
            "model_path": max(scored, key=lambda item: item[0])[1] if scored else os.path.join(last, PARAMS),
            "curves": curves if os.path.isfile(curves) else None,
            "seconds": round(time.monotonic() - self.begin, 3),
        }
