"""Train the configured model in PaddleSeg's own loop, unmodified, with checks before it and a record after it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from ppliteseg_paddle.config.keys import value_of
from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.callbacks.show import show_run
from ppliteseg_paddle.engine.checkpoint import check_resume
from ppliteseg_paddle.engine.data_checks import check_data, skipped
from ppliteseg_paddle.engine.device import device_line, select_device
from ppliteseg_paddle.engine.loop import distributed, seams
from ppliteseg_paddle.engine.loop.data_parallel import jointly
from ppliteseg_paddle.engine.loop.evaluation import NO_VALIDATION
from ppliteseg_paddle.engine.loop.launch import NoteCheckpoints
from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.engine.loop.precision import autocast, check_precision, precision_of_the_loop
from ppliteseg_paddle.engine.loop.reader_errors import reader_errors
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.sampling import epochs_done, progress_of, seed_samples
from ppliteseg_paddle.engine.parts import Parts, build_parts, fit_recipe, set_seed
from ppliteseg_paddle.engine.record import CONFIG_FILE, HISTORY_FILE, Record, recorded, seconds_at
from ppliteseg_paddle.engine.val import evaluate
from ppliteseg_paddle.errors import ConfigError, DependencyError
from ppliteseg_paddle.files import read_json, save_atomic


def train(config: Any, **options: Any) -> dict[str, Any]:
    """Train, and leave checkpoints, the resolved configuration and a record of the run in `save_dir`.

    Args:
        config: from `build.load_config`; it holds iterations, batch size and learning rate.
        options: fields of `TrainOptions`, as in `train(config, save_dir="output", do_eval=True)`.

    Returns: iterations, final_loss, best_mIoU, best_iteration, paths, seconds.
    Raises: ConfigError, DataError, WeightsError, DependencyError: before the start, for whatever would fail later;
        PPLiteSegError: if the loss stops being a number.
    Source: PaddleSeg `core/train.py`, and its `tools/train.py` for the order of the steps.
    """
    return run_training(config, TrainOptions(**options))


def run_training(config: Any, options: TrainOptions) -> dict[str, Any]:
    """`train` with its options as one object."""
    import paddle

    begin = time.monotonic()
    chosen, why = select_device(options.device)
    check_precision(options.precision, chosen)
    seams.check_loop()
    if options.use_vdl:
        _need_visualdl()
    first = distributed.rank() == 0
    set_seed(options.seed, distributed.rank())
    if options.auto_scale:
        fit_recipe(config, distributed.ranks(), say=first)
    start = _start(config, options)
    budget = _budget(config, options, begin, start)
    with paddle.utils.unique_name.guard():
        # Parameters are numbered from zero, whatever else this process has built: by these names an optimizer's
        # saved state finds its parameters again.
        parts = build_parts(config, options, chosen, budget, lambda: autocast(options.precision, options.amp_level))
        datasets = {"train": parts.train_dataset, "val": parts.val_dataset}
        check_data(config, datasets, options.full_check, look=first)
        if first:
            check_save_dir(options.save_dir)
        record = Record(options, config, start, chosen, begin)
        run = _run(config, options, parts, record, budget, start)
        if first:
            build.save_config(config, os.path.join(options.save_dir, CONFIG_FILE))
            print(device_line(chosen, why))
            print(
                f"training from iteration {start:d} to {_end(config, budget)}, batches of "
                f"{distributed.batch_in_words(config.batch_size)} out of {len(parts.train_dataset):d} images; "
                f"writing to {options.save_dir}",
                flush=True,
            )
        seed_samples(parts.train_dataset, options.seed, start, config.batch_size, distributed.ranks())
        with contextlib.ExitStack() as around:
            around.enter_context(recorded(run.monitor, record, first))
            around.enter_context(reader_errors())
            if first:
                around.enter_context(show_run(run, config, options, parts, record, budget))
            around.enter_context(jointly(run))
            _loop(run, config, options, parts)
    if not first:
        return {"rank": distributed.rank()}
    record.write(run.monitor, finished=True)
    return {**record.result(run.monitor), "skipped": skipped(parts.train_dataset, parts.val_dataset)}


def _loop(run: LoopRun, config: Any, options: TrainOptions, parts: Parts) -> None:
    """Call PaddleSeg's loop. VisualDL's writer is a callback, as it has more to write than the loop knows."""
    seams.loop_for(run)(
        parts.model,
        parts.train_dataset,
        val_dataset=NO_VALIDATION if parts.val_dataset is None else parts.val_dataset,
        optimizer=parts.optimizer,
        save_dir=options.save_dir,
        iters=run.iters,
        batch_size=config.batch_size,
        resume_model=options.resume_model,
        save_interval=options.save_interval,
        log_iters=run.monitor.log_iters,
        num_workers=options.num_workers,
        use_vdl=False,
        use_ema=options.use_ema,
        losses=parts.loss,
        keep_checkpoint_max=0,  # `saving` deletes the oldest
        test_config=config.test_config,
        precision=precision_of_the_loop(options.precision),
        amp_level=options.amp_level,
        to_static_training=config.to_static_training,
    )


# --------------------------------------------------------------------------------------------
# Before the loop
# --------------------------------------------------------------------------------------------
def _start(config: Any, options: TrainOptions) -> int:
    """The iteration that the run resumes from, 0 for a fresh one."""
    if not options.resume_model:
        return 0
    return check_resume(options.resume_model, sys.maxsize if options.max_minutes else config.iters)


def _run(config: Any, options: TrainOptions, parts: Parts, record: Record, budget: Any, start: int) -> LoopRun:
    ranks, first = distributed.ranks(), distributed.rank() == 0
    callbacks = [NoteCheckpoints(options.resume_model), record, *options.callbacks] if first else []
    # At least one row is recorded.
    log_iters = options.log_iters if budget is not None else min(options.log_iters, config.iters - start)
    monitor = Monitor(
        parts.optimizer,
        options.save_dir,
        start,
        log_iters,
        fp16=options.precision == "fp16",
        callbacks=callbacks,
        clock=record.seconds,
        resumed=options.resume_model,
        first=first,
    )
    if budget is not None and parts.precise_bn is not None:
        budget.steps_after = parts.precise_bn.steps * (2 if options.use_ema else 1)
    return LoopRun(
        parts.model,
        parts.optimizer,
        monitor,
        _iters(config, budget, start),
        evaluate,
        options.save_interval,
        options.keep_checkpoint_max,
        precision=options.precision,
        resume_model=options.resume_model,
        use_ema=options.use_ema,
        ema_decay=value_of(config.dic, "ema_decay"),
        epochs=epochs_done(len(parts.train_dataset), start, config.batch_size, ranks),
        begin_epoch=progress_of(
            parts.train_dataset, lambda: budget.fraction if budget else monitor.steps / config.iters
        ),
        precise_bn=parts.precise_bn,
    )


def _budget(config: Any, options: TrainOptions, begin: float, start: int) -> Any:
    """The budget of time, with what a resumed run has used of it; None without one."""
    if options.max_minutes is None:
        return None
    from ppliteseg_paddle.engine.loop.budget import Budget, resume_budget

    budget, folder = Budget(options.max_minutes, config.iters, begin, distributed.ranks()), options.resume_model
    if folder:
        record = read_json(os.path.join(os.path.dirname(os.path.normpath(folder)), HISTORY_FILE)) or {}
        resume_budget(budget, folder, seconds_at(record, start))
    return budget


def _iters(config: Any, budget: Any, start: int) -> int:
    from ppliteseg_paddle.engine.loop.budget import OpenEnd

    return config.iters if budget is None else OpenEnd(budget, start)


def _end(config: Any, budget: Any) -> str:
    if budget is None:
        return f"{config.iters:d}"
    return f"the end of {budget.total / 60:g} minutes, of which {budget.now() / 60:.1f} are used"


def check_save_dir(save_dir: str) -> None:
    """See that results can be written. PaddleSeg's loop would delete a file of that name.

    Raises: ConfigError
    """
    if os.path.exists(save_dir) and not os.path.isdir(save_dir):
        raise ConfigError(f"--save_dir {save_dir} is a file: give a folder.")
    probe = os.path.join(save_dir, ".probe")
    with contextlib.suppress(ConfigError):
        with save_atomic(probe):
            pass
        os.remove(probe)
        return
    raise ConfigError(f"--save_dir {save_dir} cannot be written: choose another folder, or change its permissions.")


def _need_visualdl() -> None:
    try:
        import visualdl  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"--use_vdl needs visualdl, which cannot be imported ({error}): pip install visualdl, or leave "
            "--use_vdl out."
        ) from error
