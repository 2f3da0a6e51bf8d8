"""All that shows a run to a person, around the loop: the progress line, VisualDL, the picture of the curves."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import sys
from typing import Any, Callable

from ppliteseg_paddle.engine.build import label_set_of
from ppliteseg_paddle.engine.callbacks.progress import ProgressLine, duration, shown
from ppliteseg_paddle.engine.callbacks.visualdl import Board, Samples, written
from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.errors import PPLiteSegError

CURVES_FILE = "curves.png"


@contextlib.contextmanager
def show_run(
    watch,
    config,
    parts: dict[str, Any],
    history: Callable[[], dict[str, Any]],
    total: int,
    budget=None,
    ranks: int = 1,
    save_interval: int = 1000,
    use_vdl: bool = False,
    use_ema: bool = False,
    precision: str = "fp32",
    amp_level: str = "O1",
    first: bool = True,
):
    """Let the callbacks of a run see it.

    Args:
        watch: the `Monitor` that they join; parts: model and data sets.
        history: gives what is to stand in train.json; total: iterations, may be a `budget.OpenEnd`.
        first: whether this is the first of the ranks; the others show nothing.
        The rest: as `train.train`.
    """
    if not first:
        with written(None) if use_vdl else contextlib.nullcontext():
            yield
        return
    classes = label_set_of(config).classes
    line = ProgressLine(
        total, watch.start, config.batch_size * ranks, save_interval, parts["val_dataset"] is not None, budget, classes
    )
    watch.callbacks += [line, Curves(watch.save_dir, history)]
    board = None
    if use_vdl:
        samples = Samples(parts["val_dataset"], config, use_ema, precision=precision, amp_level=amp_level)
        board = Board(watch.save_dir, classes, watch.start, samples if samples.pairs else None)
        if not watch.start or not glob.glob(os.path.join(watch.save_dir, "vdlgraph.*")):
            board.add_graph(parts["model"], _input_shape(parts["train_dataset"]))
        watch.callbacks.append(board)
        print(f"to watch it: visualdl --logdir {shlex.quote(watch.save_dir)}", flush=True)
    with written(board) if use_vdl else contextlib.nullcontext(), shown(line):
        yield


class Curves(Callback):
    """curves.png in the run's folder, drawn anew at each checkpoint; after a resume with all that was before.

    Args: history: gives what is to stand in train.json.
    """

    def __init__(self, save_dir: str, history: Callable[[], dict[str, Any]]):
        self.path, self.history, self.fault = os.path.join(save_dir, CURVES_FILE), history, ""

    def saved(self, watch) -> None:
        from ppliteseg_paddle.visual.plots import training_curves

        record = self.history()
        title = f"{os.path.basename(record['config'])}: iteration {watch.steps:d}, after {duration(record['seconds'])}"
        try:
            training_curves(self.path, record, title)
        except PPLiteSegError as error:  # a run of days does not end for a picture
            if str(error) != self.fault:
                print(f"warning: no {CURVES_FILE}: {error}", file=sys.stderr)
            self.fault = str(error)


def _input_shape(dataset):
    """Of the images before their transforms, which draw at random; 512x512 where the data set does not tell."""
    if not hasattr(dataset, "read"):
        return [1, 3, 512, 512]
    try:
        image, _ = dataset.read(0)
    except PPLiteSegError:
        return [1, dataset.img_channels, 512, 512]
    return [1, dataset.img_channels, *(max(32, side // 32 * 32) for side in image.shape[:2])]
