"""Train the configured model in PaddleSeg's own loop, unmodified, with checks before it and a record after it."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.config.keys import value_of
from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.begin import Begin, begin_at, budget_of
from ppliteseg_paddle.engine.callbacks.show import check_boards, show_run
from ppliteseg_paddle.engine.data_checks import check_data, skipped
from ppliteseg_paddle.engine.device import device_line, select_device
from ppliteseg_paddle.engine.loop import distributed, requests, seams
from ppliteseg_paddle.engine.loop.data_parallel import jointly
from ppliteseg_paddle.engine.loop.early_stop import EarlyEnd, EarlyStop
from ppliteseg_paddle.engine.loop.evaluation import NO_VALIDATION, fast_and_noted, make_up, stopped_before
from ppliteseg_paddle.engine.loop.launch import NoteCheckpoints
from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.engine.loop.output import forgiving_output
from ppliteseg_paddle.engine.loop.precision import autocast, check_precision, precision_of_the_loop, training_in
from ppliteseg_paddle.engine.loop.reader_errors import reader_errors
from ppliteseg_paddle.engine.loop.rebind import look_up
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.sampling import seed_of_run, seeded, tell_progress
from ppliteseg_paddle.engine.loop.saving import saving_at_faults
from ppliteseg_paddle.engine.loop.state import read_state, restore
from ppliteseg_paddle.engine.loop.workers import end_workers
from ppliteseg_paddle.engine.parts import Parts, build_parts, fit_recipe, set_seed
from ppliteseg_paddle.engine.pick import begin_run, checkpoints_of
from ppliteseg_paddle.engine.record import Record, recorded
from ppliteseg_paddle.engine.resume import (
    carry_over,
    comparison,
    conditions_of,
    configured,
    rewind_best,
    schedule_differs,
)
from ppliteseg_paddle.engine.save_dir import SaveDir, check_unused
from ppliteseg_paddle.engine.val import evaluate
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.run_files import CONFIG_FILE


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
    with signals.ending(), signals.saving():
        return _run_training(config, options)


def _run_training(config: Any, options: TrainOptions) -> dict[str, Any]:
    begin = time.monotonic()
    device, why = select_device(options.device)
    check_precision(options.precision, device, options.amp_level)
    seams.check_loop()
    check_boards(options)
    _take_flags(config, options)
    first = distributed.rank() == 0
    with forgiving_output(), SaveDir(options.save_dir) if first else contextlib.nullcontext() as folder:
        set_seed(options.seed, distributed.rank())
        if options.auto_scale:
            fit_recipe(config, distributed.ranks(), say=first)
        at = begin_at(config, options)
        if first:
            check_unused(options.save_dir, options.resume_model)
        return _train(config, at, folder, (device, why), begin)


def _take_flags(config: Any, options: TrainOptions) -> None:
    """Let flags replace the configuration's keys of their names. Raises: ConfigError: for one without effect."""
    for name in ("best_by", "early_stop_intervals", "save_interval"):
        given = getattr(options, name)
        if given is not None and not options.do_eval and name != "save_interval":
            raise ConfigError(f"--{name} has no effect without evaluations: add --do_eval, or leave it out.")
        if given is not None:
            config.dic[name] = given


def _train(config: Any, at: Begin, folder: SaveDir | None, chosen: tuple[str, str], begin: float) -> dict[str, Any]:
    """
    Args: folder: to write to, on the first rank; chosen: the device and why.
    """
    import paddle

    options, start, first, device = at.options, at.start, folder is not None, chosen[0]
    budget = budget_of(config, at, begin)
    said = configured(config)
    with paddle.utils.unique_name.guard():
        # Parameters are numbered from zero, whatever else this process has built: by these names an optimizer's
        # saved state finds its parameters again.
        parts = build_parts(config, options, device, budget, lambda: autocast(options.precision, options.amp_level))
        check_data(config, {"train": parts.train_dataset, "val": parts.val_dataset}, options.full_check, look=first)
        carried = None
        if folder is not None:
            folder.open()
            carried = carry_over(options.resume_model, options.save_dir) if options.resume_model else None
        record = Record(options, config, start, device, begin)
        run = _run(config, options, parts, record, budget, start)
        run.conditions = {**conditions_of(config, said, options, parts, device), "seed": run.seed}
        notes = _continue(run, record, budget is not None, at.may_be_over)
        if first:
            build.save_config(config, os.path.join(options.save_dir, CONFIG_FILE))
            print(device_line(*chosen))
            print(f"{parts.frozen.line}{_first_line(run, config, options, parts, budget)}", flush=True)
            for note in filter(None, (carried, *notes)):
                print(f"resuming: {note}", flush=True)
        with contextlib.ExitStack() as around:
            around.enter_context(requests.between_steps())
            around.enter_context(recorded(run.monitor, record, first))
            around.callback(end_workers)
            around.enter_context(saving_at_faults(run))
            around.enter_context(reader_errors())
            if first:
                around.enter_context(show_run(run, config, options, parts, record, budget))
            around.enter_context(jointly(run))
            around.enter_context(training_in(options.precision))
            _make_up(run, config, options, parts, at.missed)
            if start < run.iters:
                _loop(run, config, options, parts)
    if not first:
        return {"rank": distributed.rank()}
    record.write(run.monitor, finished=True)
    run.monitor.check_evaluated(record.earlier["eval"])
    return {**record.result(run.monitor), "skipped": skipped(parts.train_dataset, parts.val_dataset)}


def _make_up(run: LoopRun, config: Any, options: TrainOptions, parts: Parts, files: Sequence[str]) -> None:
    """The evaluation that an interrupted run owes, with the arguments that the loop gives it."""
    if not files:
        return
    if run.monitor.first:
        print(f"the evaluation at iteration {run.monitor.start:d} was interrupted: it is made up first", flush=True)
    distributed.join_ranks()
    evaluate_as_the_loop = functools.partial(
        fast_and_noted(run, look_up(seams.loop_function(), "evaluate")),
        num_workers=min(options.num_workers, 1),
        precision=precision_of_the_loop(options.precision),
        amp_level=options.amp_level,
        **(config.test_config or {}),
    )
    make_up(run, evaluate_as_the_loop, parts.val_dataset, files)


def _loop(run: LoopRun, config: Any, options: TrainOptions, parts: Parts) -> None:
    """Call PaddleSeg's loop. VisualDL's writer is a callback, as it has more to write than the loop knows."""
    seams.loop_for(run)(
        parts.model,
        seeded(parts.train_dataset, run.seed),
        val_dataset=NO_VALIDATION if parts.val_dataset is None else parts.val_dataset,
        optimizer=parts.optimizer,
        save_dir=options.save_dir,
        iters=run.iters,
        batch_size=config.batch_size * run.accumulate,
        resume_model=options.resume_model,
        save_interval=run.save_interval,
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
def _run(config: Any, options: TrainOptions, parts: Parts, record: Record, budget: Any, start: int) -> LoopRun:
    first, accumulate = distributed.rank() == 0, value_of(config.dic, "gradient_accumulation_steps")
    callbacks = [NoteCheckpoints(options.resume_model), record, *options.callbacks] if first else []
    lineage = begin_run(options.resume_model, start)
    written = checkpoints_of(options.save_dir, lineage) if first and options.resume_model else []
    # At least one row is recorded.
    log_iters = options.log_iters if budget is not None else min(options.log_iters, config.iters)
    limit = value_of(config.dic, "early_stop_intervals") if options.do_eval else None
    monitor = Monitor(
        parts.optimizer,
        options.save_dir,
        start,
        log_iters,
        fp16=options.precision == "fp16",
        callbacks=callbacks,
        clock=record.seconds,
        checkpoints=written or [folder for folder in [options.resume_model] if folder],
        lineage=lineage,
        command=options.command,
        metric=parts.metric,
        early_stop=EarlyStop(parts.metric, limit) if limit else None,
        first=first,
    )
    if budget is not None and parts.precise_bn is not None:
        budget.steps_after = parts.precise_bn.steps / accumulate * (2 if options.use_ema else 1)
    return LoopRun(
        parts.model,
        parts.optimizer,
        monitor,
        _iters(config, budget, start),
        evaluate,
        value_of(config.dic, "save_interval"),
        options.keep_checkpoint_max,
        precision=options.precision,
        resume_model=options.resume_model,
        use_ema=options.use_ema,
        ema_decay=value_of(config.dic, "ema_decay"),
        num_workers=options.num_workers,
        seed=seed_of_run(options.seed, read_state(options.resume_model).get("seed")),
        share=lambda iteration: budget.fraction if budget else iteration / config.iters,
        begin_epoch=tell_progress(parts.train_dataset),
        precise_bn=parts.precise_bn,
        evaluates=parts.val_dataset is not None,
        classes=build.label_set_of(config).classes,
        frozen=parts.frozen.names,
        accumulate=accumulate,
        losses=parts.loss,
        amp_level=options.amp_level,
    )


def _continue(run: LoopRun, record: Record, by_time: bool, may_be_over: bool) -> list[str | None]:
    """Take up the state of the checkpoint that the run resumes from, if any.

    Args: may_be_over: whether a run that has stopped early may begin.
    Returns: what to say of it.
    Raises: ConfigError
    """
    folder, monitor = run.resume_model, run.monitor
    if folder is None:
        return []
    state = read_state(folder)
    restore(run, state, record.earlier["eval"])
    run.new_schedule = not by_time and schedule_differs(state, run.conditions)
    notes = [comparison(folder, state, run.conditions)]
    if monitor.first:
        for best, ema in ((monitor.best, False), (monitor.ema_best, True)):
            notes.append(best.recover(record.earlier_best["ema_best" if ema else "best"]))
            notes.append(rewind_best(best, folder, [row for row in record.earlier["eval"] if row["ema"] == ema]))
    notes.append(stopped_before(run, may_be_over))
    return notes


def _iters(config: Any, budget: Any, start: int) -> int:
    from ppliteseg_paddle.engine.loop.budget import OpenEnd

    return EarlyEnd(config.iters) if budget is None else OpenEnd(budget, start)


def _first_line(run: LoopRun, config: Any, options: TrainOptions, parts: Parts, budget: Any) -> str:
    start = run.monitor.start
    if not start < run.iters:
        return f"iteration {start:d} is the end of the run in {options.save_dir}: nothing is left to train"
    end = f"{config.iters:d}"
    if budget is not None:
        end = f"the end of {budget.total / 60:g} minutes, of which {budget.now() / 60:.1f} are used"
    return (
        f"training from iteration {start:d} to {end}, batches of "
        f"{distributed.batch_in_words(config.batch_size, run.accumulate)} out of {len(parts.train_dataset):d} images; "
        f"writing to {options.save_dir}"
    )
