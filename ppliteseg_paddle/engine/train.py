"""Train the configured model in PaddleSeg's own loop, unmodified, with checks before it and a record after it."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from typing import Any

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.callbacks.show import show_run
from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, check_fits, check_resume
from ppliteseg_paddle.engine.data_checks import check_before_training, skip_unreadable, skipped
from ppliteseg_paddle.engine.device import device_line, select_device
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.launch import NoteCheckpoints
from ppliteseg_paddle.engine.loop.precise_bn import precise_at_the_end, precise_statistics_of
from ppliteseg_paddle.engine.loop.precision import autocast, check_precision, loop_in_bf16, precision_of_the_loop
from ppliteseg_paddle.engine.loop.sampling import epochs_done, epochs_go_on, progress_of, seed_samples
from ppliteseg_paddle.engine.loop.surroundings import Monitor, loop_module, watched_loop
from ppliteseg_paddle.engine.record import CONFIG_FILE, HISTORY_FILE, Record, recorded, seconds_at
from ppliteseg_paddle.engine.scaling import apply_changes, scale_recipe
from ppliteseg_paddle.engine.val import fast_evaluation
from ppliteseg_paddle.errors import ConfigError, DependencyError
from ppliteseg_paddle.files import read_json, save_atomic
from ppliteseg_paddle.reading.images import UnreadableError

SAMPLE = 64  # pairs that are read before the start
SAMPLE_SECONDS = 10.0  # and no longer than this


def train(
    config,
    save_dir: str = "output",
    do_eval: bool = False,
    save_interval: int = 1000,
    log_iters: int = 10,
    num_workers: int = 0,
    use_vdl: bool = False,
    use_ema: bool = False,
    resume_model: str | None = None,
    keep_checkpoint_max: int = 5,
    model_path: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    amp_level: str = "O1",
    seed: int | None = None,
    auto_scale: bool = True,
    full_check: bool = False,
    verbose: bool = False,
    max_minutes: float | None = None,
) -> dict[str, Any]:
    """Train, and leave checkpoints, the resolved configuration and a record of the run in `save_dir`.

    Args:
        config: from `build.load_config`; it holds iterations, batch size and learning rate.
        save_dir: gets iter_N/, best_model/ (with `do_eval`), config.yml and train.json.
        do_eval: evaluate at every `save_interval` and at the end, and keep the best model.
        resume_model: folder iter_N to go on from; model_path: weights to start from.
        auto_scale: fit the configuration's recipe to the devices and the batch at hand (see `scaling`).
        full_check: read all of the data before the start, not a sample.
        max_minutes: of wall time from this call on, in place of the configured iterations (see `budget`).
        device, precision, amp_level, seed, and the rest: as PaddleSeg's flags of these names.

    Returns: iterations, final_loss, best_mIoU, best_iteration, paths, seconds.
    Raises: ConfigError, DataError, WeightsError, DependencyError: before the start, for whatever would
        fail later; PPLiteSegError: if the loss stops being a number.
    Source: PaddleSeg `core/train.py`, and its `tools/train.py` for the order of the steps.
    """
    import paddle

    begin = time.monotonic()
    chosen, why = select_device(device)
    check_precision(precision, chosen)
    if use_vdl:
        _need_visualdl()
    ranks, rank = distributed.ranks(), distributed.rank()
    set_seed(seed, rank)
    if auto_scale:
        fit_recipe(config, ranks, say=rank == 0)
    start = check_resume(resume_model, sys.maxsize if max_minutes else config.iters) if resume_model else 0
    budget = _budget(config, max_minutes, begin, ranks, resume_model, start)
    with paddle.utils.unique_name.guard():
        # Parameters are numbered from zero, whatever else this process has built: by these names an optimizer's
        # saved state finds its parameters again.
        parts = _build_parts(
            config,
            do_eval,
            ranks,
            resume_model,
            use_ema,
            model_path,
            chosen,
            verbose,
            budget,
            lambda: autocast(precision, amp_level),
        )
        check_data(config, {"train": parts["train_dataset"], "val": parts["val_dataset"]}, full_check, look=rank == 0)
        if rank == 0:
            check_save_dir(save_dir)

        record = Record(save_dir, config, start, seed, chosen, precision, begin, max_minutes)
        if budget is None:
            log_iters = min(log_iters, config.iters - start)  # so that at least one line is logged
        watch = Monitor(
            parts["optimizer"],
            save_dir,
            start,
            log_iters,
            precision == "fp16",
            on_progress=lambda: rank == 0 and record.write_now_and_then(watch),
            callbacks=[NoteCheckpoints(resume_model)] if rank == 0 else (),
            clock=record.seconds,
            resumed=resume_model,
        )
        total = _iters(config, budget, start)
        if budget is not None and parts["precise_bn"] is not None:
            budget.steps_after = parts["precise_bn"].steps * (2 if use_ema else 1)
        if rank == 0:
            build.save_config(config, os.path.join(save_dir, CONFIG_FILE))
            print(device_line(chosen, why))
            print(
                f"training from iteration {start:d} to {_end(config, budget)}, batches of "
                f"{distributed.batch_in_words(config.batch_size)} out of {len(parts['train_dataset']):d} images; "
                f"writing to {save_dir}",
                flush=True,
            )
        seed_samples(parts["train_dataset"], seed, start, config.batch_size, ranks)
        with (
            recorded(watch, record, rank == 0),
            loop_in_bf16(precision),
            fast_evaluation(),
            watched_loop(watch, resume_model, config.dic.get("ema_decay")),
            epochs_go_on(
                epochs_done(len(parts["train_dataset"]), start, config.batch_size, ranks),
                progress_of(parts["train_dataset"], lambda: budget.fraction if budget else watch.steps / config.iters),
            ),
            show_run(
                watch,
                config,
                parts,
                lambda: record.contents(watch),
                total,
                budget,
                ranks,
                save_interval,
                use_vdl,
                use_ema,
                precision,
                amp_level,
                first=rank == 0,
            ),
            precise_at_the_end(parts["precise_bn"], parts["model"], start, total),
            distributed.ranks_together(parts["model"], parts["optimizer"], watch, total, save_interval),
        ):
            loop_module().train(
                parts["model"],
                parts["train_dataset"],
                val_dataset=parts["val_dataset"],
                optimizer=parts["optimizer"],
                save_dir=save_dir,
                iters=total,
                batch_size=config.batch_size,
                resume_model=resume_model,
                save_interval=save_interval,
                log_iters=log_iters,
                num_workers=num_workers,
                use_vdl=use_vdl,
                use_ema=use_ema,
                losses=parts["loss"],
                keep_checkpoint_max=keep_checkpoint_max,
                test_config=config.test_config,
                precision=precision_of_the_loop(precision),
                amp_level=amp_level,
                to_static_training=config.to_static_training,
            )
    if rank:
        return {"rank": rank}
    record.write(watch, finished=True)
    return {**record.result(watch), "skipped": skipped(parts["train_dataset"], parts["val_dataset"])}


# --------------------------------------------------------------------------------------------
# Before the loop
# --------------------------------------------------------------------------------------------
def set_seed(seed: int | None, rank: int = 0) -> None:
    """Seed paddle, numpy and random, from which PaddleSeg's augmentations draw; None leaves them random. Each rank
    draws numbers of its own."""
    if seed is None:
        return
    import numpy
    import paddle

    random.seed(seed + rank * 1000003)
    numpy.random.seed((seed + rank * 1000003) % 2**32)
    paddle.seed(seed)


def fit_recipe(config, devices: int, say: bool = True) -> None:
    """Scale the recipe of `config`, in place, to this number of devices and the configured batch, and say what was
    done.

    The `recipe` then names this hardware, so that the saved configuration is not scaled again.
    """
    scaling = scale_recipe(config.dic, devices, config.batch_size, config.source.options)
    apply_changes(config.dic, scaling.changes)
    if scaling.sentences:
        config.dic["recipe"] = {"devices": devices, "batch_size": config.batch_size}
    for sentence in scaling.sentences if say else ():
        print(f"scaling: {sentence}", flush=True)


def _budget(config, minutes, begin, ranks, resume_model, start):
    """The budget of time, with what a resumed run has used of it; None without one."""
    if minutes is None:
        return None
    from ppliteseg_paddle.engine.loop.budget import Budget, resume_budget

    budget = Budget(minutes, config.iters, begin, ranks)
    if resume_model:
        record = read_json(os.path.join(os.path.dirname(os.path.normpath(resume_model)), HISTORY_FILE)) or {}
        resume_budget(budget, resume_model, seconds_at(record, start))
    return budget


def _iters(config, budget, start):
    from ppliteseg_paddle.engine.loop.budget import OpenEnd

    return config.iters if budget is None else OpenEnd(budget, start)


def _end(config, budget) -> str:
    if budget is None:
        return f"{config.iters:d}"
    return f"the end of {budget.total / 60:g} minutes, of which {budget.now() / 60:.1f} are used"


def _build_parts(
    config, do_eval, ranks, resume_model, use_ema, model_path, device, verbose, budget, mixed_precision
) -> dict[str, Any]:
    """Data first: its faults are the most frequent and the quickest to find."""
    if do_eval and not config.val_dataset_cfg:
        raise ConfigError(f"{config.source.path}: --do_eval needs a val_dataset: add one, or leave --do_eval out.")
    # Weights given on the command line replace those that the file names.
    builder = build.make_builder(build.without_pretrained(config) if resume_model or model_path else config, verbose)
    parts = {"train_dataset": build.build(builder, "train_dataset", verbose)}
    build.check_dataset_size(parts["train_dataset"], config.batch_size, ranks)
    parts["val_dataset"] = build.build(builder, "val_dataset", verbose) if do_eval else None
    parts["precise_bn"] = precise_statistics_of(config, builder, parts["train_dataset"], mixed_precision)
    model = build.build(builder, "model", verbose)
    if model_path:
        from ppliteseg_paddle.weights.load import load_weights

        load_weights(model, model_path)
    if resume_model:
        check_fits(model, resume_model, by_time=budget is not None)
        if use_ema and distributed.rank() == 0 and not os.path.isfile(os.path.join(resume_model, EMA_PARAMS)):
            print(
                f"averaged weights (EMA): {resume_model} holds none, so the average starts anew from its plain weights",
                flush=True,
            )
    if ranks > 1 and device.startswith("gpu"):
        # Each device sees a part of the batch: statistics over all of them. Before the optimizer collects parameters.
        import paddle

        model = builder.__dict__["model"] = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if budget is not None:
        from ppliteseg_paddle.engine.loop.budget import ScheduleByTime

        builder.__dict__["lr_scheduler"] = ScheduleByTime(build.build(builder, "lr_scheduler", verbose), budget)
    build.check_parameter_groups(config, model)
    parts.update(
        model=model, loss=build.build(builder, "loss", verbose), optimizer=build.build(builder, "optimizer", verbose)
    )
    _check_outputs(model, parts["loss"], config)
    if getattr(model, "full_size_logits", False):
        model.full_size_logits = False  # the losses upsample for less
    return parts


def _check_outputs(model, loss, config) -> None:
    """See that there is a loss for each output that the model has in training, as far as it tells their number."""
    outputs, coefs = len(getattr(model, "seg_heads", ())), len(loss["coef"])
    if outputs and outputs != coefs:
        raise ConfigError(
            f"{config.source.of('loss.coef')}: {coefs:d} numbers for the {outputs:d} outputs that the model has in "
            "training: give one for each, the main one first."
        )


def check_data(config, datasets: dict[str, Any], full: bool = False, look: bool = True) -> None:
    """Read a sample of the pairs, or with `full` all, or without `look` none; see `data_checks`.

    Raises: DataError: for what training would fail on.
    """
    for name, dataset in datasets.items():
        if dataset is not None:
            skip_unreadable(config, dataset)
            if look and not full:
                check_sample(dataset, {"train": "training", "val": "validation"}[name])
    if look:
        check_before_training(config, datasets, full)


def check_sample(dataset, name: str, count: int = SAMPLE, seconds: float = SAMPLE_SECONDS) -> int:
    """Read pairs spread evenly over the data set, so that a broken one is found before hours of training.

    Returns: how many were read. Data sets that are not ours are not looked into.
    Raises: DataError: for the first pair that cannot serve.
    """
    if not hasattr(dataset, "read"):
        return 0
    from tqdm import tqdm

    size = len(dataset)
    count = min(count, size)
    indices = sorted({round(i * (size - 1) / max(count - 1, 1)) for i in range(count)})
    deadline = time.time() + seconds
    for done, index in enumerate(tqdm(indices, desc=f"checking {name} images", unit="image", leave=False), start=1):
        try:
            dataset.read(index)
        except UnreadableError as error:
            if getattr(dataset, "unreadable", None) is None:
                raise
            dataset.unreadable.add(index, error)
        if time.time() > deadline:
            return done
    return len(indices)


def check_save_dir(save_dir: str) -> None:
    """See that results can be written. PaddleSeg's loop would delete a file of that name.

    Raises: ConfigError
    """
    if os.path.exists(save_dir) and not os.path.isdir(save_dir):
        raise ConfigError(f"--save_dir {save_dir} is a file: give a folder.")
    with contextlib.suppress(ConfigError):
        with save_atomic(os.path.join(save_dir, ".probe")):
            pass
        os.remove(os.path.join(save_dir, ".probe"))
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
