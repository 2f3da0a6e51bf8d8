"""Train the model of a configuration in PaddleSeg's loop.

Writes to --save_dir: iter_N/ (checkpoints), best_model/ (with --do_eval), config.yml (all values resolved, ready for
val, predict and export) and train.json (losses and evaluations)."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import Any

from ppliteseg_paddle import environment, signals
from ppliteseg_paddle.cli.common import add_flags, count, positive_float, positive_int
from ppliteseg_paddle.cli.ranks import add_rank_flags, launched_instead
from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.progress import duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, "config", config={"required": True})
    add_flags(parser, "save_dir", save_dir={"default": TrainOptions.save_dir})
    add_flags(parser, "iters", "batch_size", "learning_rate")
    parser.add_argument(
        "--global_batch_size",
        type=positive_int,
        metavar="N",
        help="images in a step on all devices together, in place of --batch_size",
    )
    parser.add_argument(
        "--accumulate",
        "--gradient_accumulation_steps",
        type=positive_int,
        metavar="N",
        help="add up the gradients of N batches for one update, for large batches in little memory; --iters counts "
        "updates (default: the configuration's gradient_accumulation_steps)",
    )
    parser.add_argument(
        "--freeze",
        nargs="+",
        metavar="PART",
        help="parts of the model that are not trained, batch norm's statistics included, as in: backbone, "
        "backbone.stages.0, neck (default: the configuration's freeze)",
    )
    parser.add_argument(
        "--lr_mult",
        nargs="+",
        type=_lr_mult,
        metavar="PART=X",
        help="learning rate of the weights with PART in their names, as a multiple of the others', as in: backbone=0.1 "
        "(default: the configuration's optimizer.custom_cfg)",
    )
    parser.add_argument(
        "--max_minutes",
        type=positive_float,
        metavar="N",
        help="train for N minutes of wall time in place of a number of iterations; the learning rate's "
        "schedule is spread over the time. A last evaluation and checkpoint come after it",
    )
    parser.add_argument("--do_eval", action="store_true", help="evaluate at each save and keep the best model")
    parser.add_argument(
        "--best_by",
        metavar="METRIC",
        help="what the best model is best by: mIoU, acc, kappa, dice, or IoU:CLASS as in IoU:person (default: the "
        "configuration's, else mIoU)",
    )
    parser.add_argument(
        "--early_stop_intervals",
        type=positive_int,
        metavar="N",
        help="end the run when --best_by has not improved for N evaluations (default: the configuration's, else never)",
    )
    parser.add_argument(
        "--save_interval",
        type=positive_int,
        metavar="N",
        help="iterations between checkpoints (default: the configuration's, else 1000)",
    )
    parser.add_argument(
        "--log_iters",
        type=positive_int,
        default=TrainOptions.log_iters,
        metavar="N",
        help="iterations between log lines (default: %(default)s)",
    )
    parser.add_argument(
        "--keep_checkpoint_max",
        type=count,
        default=TrainOptions.keep_checkpoint_max,
        metavar="N",
        help="checkpoints to keep; 0 keeps all (default: %(default)s)",
    )
    parser.add_argument(
        "--use_vdl",
        action="store_true",
        help="write curves, sample predictions and the model's graph for VisualDL to --save_dir",
    )
    parser.add_argument(
        "--use_tensorboard",
        action="store_true",
        help="write curves and sample predictions for TensorBoard to --save_dir (pip install '.[tensorboard]')",
    )
    parser.add_argument(
        "--no_val_pictures",
        action="store_true",
        help="with --do_eval, write no pictures of predictions (SAVE_DIR/val_pictures)",
    )
    parser.add_argument("--use_ema", action="store_true", help="also keep an average of the weights over time")
    parser.add_argument(
        "--no_auto_scale",
        action="store_true",
        help="keep learning rate, iterations and min_kept where devices or batch differ from the recipe's",
    )
    parser.add_argument(
        "--resume_model",
        metavar="DIR",
        help="resume from this checkpoint folder (iter_N); auto: from the newest complete one in --save_dir, if any",
    )
    add_flags(
        parser,
        *("model_path", "device", "num_workers", "precision", "amp_level", "seed", "use_multilabel", "opts", "verbose"),
        model_path={"help": "weights to start from (.pdparams, .safetensors, ...: see `weights --help`)"},
        num_workers={"default": TrainOptions.num_workers},
        precision={"default": TrainOptions.precision},
        amp_level={"default": TrainOptions.amp_level},
    )
    parser.add_argument(
        "--full_check", action="store_true", help="check all of the data before the start, not a sample"
    )
    add_rank_flags(parser, trains=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.max_minutes and args.iters:
        raise ConfigError("--iters and --max_minutes both say when training ends: give one of them.")
    if args.max_restart and args.resume_model not in (None, "auto"):
        raise ConfigError(
            f"--max_restart starts again from the newest checkpoint in --save_dir, not from {args.resume_model}: give "
            "--resume_model auto."
        )
    options = options_of(args)
    try:
        with signals.saving():
            return launched_instead(args, args.save_dir) or _train_noting(args, options)
    except signals.Interrupted as end:
        raise end.saying("before the first step, so that there is nothing to save") from None


def _train_noting(args: argparse.Namespace, options: TrainOptions) -> dict[str, Any]:
    from ppliteseg_paddle.engine.loop.notes import command_line, noting

    with noting() as note:
        note["result"] = _train(args, dataclasses.replace(options, command=command_line(args._argv)))
    return note["result"]


def options_of(args: argparse.Namespace) -> TrainOptions:
    """The options that a command line asks for. Every field of `TrainOptions` but `callbacks` and `command` has
    a flag."""
    off: dict[str, Any] = {name: not getattr(args, f"no_{name}") for name in ("auto_scale", "val_pictures")}
    names = {field.name for field in dataclasses.fields(TrainOptions)} - {"callbacks", "command", *off}
    return TrainOptions(**off, **{name: getattr(args, name) for name in names})


def _train(args: argparse.Namespace, options: TrainOptions) -> dict[str, Any]:
    from ppliteseg_paddle.engine.build import load_config
    from ppliteseg_paddle.engine.train import run_training

    environment.keep_freed_memory()
    opts = [*(args.opts or ()), *_opts(args)]
    return run_training(load_config(args.config, opts, args.iters, _batch_size(args), args.learning_rate), options)


def _opts(args: argparse.Namespace) -> list[str]:
    """The flags that are keys of the configuration, in the form of --opts."""
    groups = [{"name": name, "lr_mult": factor} for name, factor in args.lr_mult or ()]
    values = {
        "gradient_accumulation_steps": args.accumulate,
        "freeze": args.freeze,
        "optimizer.custom_cfg": groups or None,
    }
    return [f"{key}={value!r}" for key, value in values.items() if value is not None]


def _lr_mult(text: str) -> tuple[str, float]:
    """argparse type: "backbone=0.1" -> ("backbone", 0.1)."""
    name, _, factor = text.partition("=")
    if not name or not factor:
        raise argparse.ArgumentTypeError(f"'{text}' is not PART=X, as in backbone=0.1")
    return name, positive_float(factor)


def _batch_size(args: argparse.Namespace) -> int | None:
    """Images in a step on one device."""
    if args.global_batch_size is None:
        return args.batch_size
    from ppliteseg_paddle.engine.loop.distributed import ranks

    if args.batch_size is not None:
        raise ConfigError(
            "--batch_size counts one device's images and --global_batch_size those of all: give one of them."
        )
    if args.global_batch_size % ranks():
        raise ConfigError(
            f"--global_batch_size {args.global_batch_size:d} cannot be shared equally by {ranks():d} devices: give a "
            f"multiple of {ranks():d}."
        )
    return args.global_batch_size // ranks()


def summary(result: dict[str, Any]) -> str:
    if "rank" in result:
        return f"rank {result['rank']} is done"
    lines = [
        f"trained {result['iterations'] - result['start_iteration']:d} iterations in {duration(result['seconds'])}"
    ]
    if result["final_loss"] is not None:
        lines.append(f"loss        {result['first_loss']:.4f} -> {result['final_loss']:.4f}")
    if result["stopped_early"]:
        lines[0] += ", and stopped early"
    if result["best"] is not None:
        lines.append(f"best        {result['best']}")
    if result["ema_best"] is not None:
        lines.append(f"EMA         {result['ema_best']}")
    if result["skipped"]:
        lines.append(f"skipped     {len(result['skipped']):d} unreadable images: {', '.join(result['skipped'])}")
    lines += [f"weights     {result['model_path']}", f"record      {result['history']}"]
    lines += [
        f"{name:11} {result[key]}" for name, key in (("curves", "curves"), ("pictures", "val_pictures")) if result[key]
    ]
    lines += ["", "next:"]
    common = f"--config {shlex.quote(result['config'])} --model_path {shlex.quote(result['model_path'])}"
    lines += [
        f"  ppliteseg val    {common}",
        f"  ppliteseg export {common} --save_dir {shlex.quote(result['save_dir'] + '/export')}",
    ]
    return "\n".join(lines)
