"""curves.png: what train.json holds, drawn."""

from __future__ import annotations

import os
from typing import Any, Callable

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.callbacks.progress import duration
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.reading.run_files import CURVES_FILE


class Curves(Callback):
    """curves.png in the run's folder, drawn anew at each checkpoint; after a resume with all that was before.

    Args:
        history: gives what is to be in train.json.
        last: of a checkpoint's evaluations, after which it is drawn: "plain", "ema", or None if there are none.
    """

    def __init__(self, save_dir: str, history: Callable[[Monitor], dict[str, Any]], last: str | None = None):
        self.path, self.history, self.last = os.path.join(save_dir, CURVES_FILE), history, last

    def on_save(self, monitor: Monitor) -> None:
        if self.last is None:
            self.draw(monitor)

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        if self.last == ("ema" if evaluation["ema"] else "plain"):
            self.draw(monitor)

    def draw(self, monitor: Monitor) -> None:
        if signals.came():  # the run is to end, and importing matplotlib alone takes seconds
            return
        from ppliteseg_paddle.visual.plots import training_curves

        record = self.history(monitor)
        title = (
            f"{os.path.basename(record['config'])}: iteration {monitor.steps:d}, after {duration(record['seconds'])}"
        )
        training_curves(self.path, record, title)
