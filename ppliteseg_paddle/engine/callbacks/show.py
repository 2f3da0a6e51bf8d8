"""All that shows a run to a person: the log's lines or a progress line, pictures and curves, VisualDL, TensorBoard."""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine.build import label_set_of
from ppliteseg_paddle.engine.callbacks.curves import Curves
from ppliteseg_paddle.engine.callbacks.health import Health
from ppliteseg_paddle.engine.callbacks.progress import ProgressLine, shown
from ppliteseg_paddle.engine.callbacks.samples import Samples
from ppliteseg_paddle.engine.callbacks.tensorboard import TensorBoard
from ppliteseg_paddle.engine.callbacks.val_pictures import ValPictures
from ppliteseg_paddle.engine.callbacks.visualdl import Board
from ppliteseg_paddle.engine.loop.distributed import ranks
from ppliteseg_paddle.engine.loop.log import LogLines
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import DependencyError, PPLiteSegError

if TYPE_CHECKING:
    from ppliteseg_paddle.engine.loop.budget import Budget
    from ppliteseg_paddle.engine.parts import Parts
    from ppliteseg_paddle.engine.record import Record


def check_boards(options: TrainOptions) -> None:
    """See before the run that what it is to write for can be written. Raises: DependencyError"""
    for flag, module in (("use_vdl", "visualdl"), ("use_tensorboard", "tensorboard.summary.writer.record_writer")):
        if not getattr(options, flag):
            continue
        try:
            importlib.import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            raise DependencyError(
                f"--{flag} needs {package}, which cannot be imported ({error}): pip install {package}, or leave "
                f"--{flag} out."
            ) from error


@contextlib.contextmanager
def show_run(
    run: LoopRun, config: Any, options: TrainOptions, parts: Parts, record: Record, budget: Budget | None
) -> Iterator[None]:
    """Let the callbacks of a run watch it, on the first of the ranks."""
    monitor, classes = run.monitor, label_set_of(config).classes
    line = ProgressLine(
        run.iters,
        monitor.start,
        config.batch_size * ranks(),
        run.save_interval,
        evaluates=parts.val_dataset is not None,
        budget=budget,
        classes=classes,
    )
    # On a terminal the progress line and its evaluations say it all; a log in a file is for programs, too.
    line.tells_evaluations = sys.stderr.isatty() and sys.stdout.isatty()
    run.log_lines = not line.tells_evaluations
    lines = [LogLines(run.iters)] if run.log_lines else []
    last = None if parts.val_dataset is None else "ema" if options.use_ema else "plain"
    fresh = not monitor.start and options.model_path is None
    health = Health(classes, run.iters, fresh, fp16=options.precision == "fp16")
    monitor.callbacks = [*monitor.callbacks, *lines, line, Curves(options.save_dir, record.contents, last), health]
    samples = Samples(
        parts.val_dataset, config, options.use_ema, precision=options.precision, amp_level=options.amp_level
    )
    if samples.chosen:
        monitor.callbacks.append(samples)
        if options.val_pictures:
            monitor.callbacks.append(ValPictures(options.save_dir, samples, monitor.start))
    with contextlib.ExitStack() as open_ones:
        for board in _boards(options, parts, monitor.start, classes, samples):
            monitor.callbacks.append(board)
            open_ones.enter_context(board.writing())
            print(f"to watch it: {board.program} --logdir {shlex.quote(options.save_dir)}", flush=True)
        open_ones.enter_context(shown(line))
        yield


def _boards(
    options: TrainOptions, parts: Parts, start: int, classes: Any, samples: Samples
) -> Iterator[Board | TensorBoard]:
    shared = (options.save_dir, classes, start, samples if samples.chosen else None)
    if options.use_vdl:
        board = Board(*shared)
        if not start or not glob.glob(os.path.join(options.save_dir, "vdlgraph.*")):
            board.add_graph(parts.model, _input_shape(parts.train_dataset))
        yield board
    if options.use_tensorboard:
        yield TensorBoard(*shared)


def _input_shape(dataset: Any) -> list[int]:
    """Of the images before their transforms, which draw at random; 512x512 where the data set does not tell."""
    if not hasattr(dataset, "read"):
        return [1, 3, 512, 512]
    try:
        image, _ = dataset.read(0)
    except PPLiteSegError:
        return [1, dataset.img_channels, 512, 512]
    return [1, dataset.img_channels, *(max(32, side // 32 * 32) for side in image.shape[:2])]
