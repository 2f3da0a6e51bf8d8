"""Where this package joins PaddleSeg's training loop: one table, checked before each run.

The loop runs as PaddleSeg wrote it: its own code, over a private copy of its module's names (see `rebind`). A seam is a
name that the loop looks up and that means something else in that copy. Nothing changes for anybody else in the
process: neither PaddleSeg's modules nor Paddle's are touched.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable

from ppliteseg_paddle.engine.loop import (
    accumulation,
    data_parallel,
    ema,
    evaluation,
    log,
    precise_bn,
    precision,
    sampling,
    saving,
    steps,
    workers,
)
from ppliteseg_paddle.engine.loop.rebind import look_up, looked_up_by, rebound
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import DependencyError

SUPPORTED = "2.8.0 and 2.9.1"
# The parameters of the loop that a run sets.
PARAMETERS = (
    *("model", "train_dataset", "val_dataset", "optimizer", "save_dir", "iters", "batch_size", "resume_model"),
    *("save_interval", "log_iters", "num_workers", "use_vdl", "use_ema", "losses", "keep_checkpoint_max"),
    *("test_config", "precision", "amp_level", "to_static_training"),
)


@dataclass(frozen=True)
class Seam:
    """A name that the loop looks up, and what it finds there.

    Args:
        name: dotted, as in the loop's source.
        replace: functions of the run and the original; each gets what the one before it returned.
        why: it is replaced; until: when that can go.
        signature: the parameters of the original that are relied on, in their order.
        method: of the original, whose signature is meant.
    """

    name: str
    replace: tuple[Callable[[LoopRun, Any], Any], ...]
    why: str
    until: str
    signature: tuple[str, ...] = ()
    method: str = ""


_CALLBACKS = "the loop has callbacks"
SEAMS: tuple[Seam, ...] = (
    # --- a step ---
    Seam(
        "paddle.io.DistributedBatchSampler",
        (sampling.resumed_sampler,),
        why="a resume begins a new epoch, numbered from 0, and nobody is told that one begins",
        until="the loop resumes in its epochs",
        signature=("dataset", "batch_size", "shuffle", "drop_last"),
    ),
    Seam(
        "paddle.io.DataLoader",
        (workers.guarded_loader, accumulation.loader_of_parts),
        why="its workers outlive a killed run, end by signals meant for it, fill shared memory, and are waited for "
        "when they are dead; and the loop does not accumulate gradients",
        until="Paddle's DataLoader looks after its workers, and the loop accumulates",
        signature=("dataset", "batch_sampler", "num_workers", "use_shared_memory", "worker_init_fn"),
    ),
    Seam(
        "loss_computation",
        (steps.losses_with_a_dimension,),
        why="PaddleSeg 2.8.0 indexes each loss, which has no dimension since Paddle 2.5",
        until="support for PaddleSeg 2.8.0 ends",
        signature=("logits_list", "labels", "edges", "losses"),
    ),
    Seam(
        "sum",
        (steps.read_losses, accumulation.sum_of_parts),
        why="the loop keeps a step's losses for itself; it adds them up here, whoever computed them",
        until=_CALLBACKS,
    ),
    Seam(
        "train_profiler",
        (data_parallel.count_step, steps.note_gradients, precise_bn.precise_at_the_end, data_parallel.share_statistics),
        why="called after each update, on every rank, before the evaluation and the checkpoint",
        until=_CALLBACKS,
        signature=("options_str",),
        method="add_profiler_step",
    ),
    Seam(
        "TimeAverager",
        (steps.noted_times, sampling.seeded_steps),
        why="called with the times of reading, before a step computes, and of the step, at its end",
        until=_CALLBACKS,
        signature=("usetime", "num_samples"),
        method="record",
    ),
    # --- mixed precision ---
    Seam(
        "paddle.amp.auto_cast",
        (precision.auto_cast,),
        why="the loop knows fp16 only",
        until="the loop knows bf16",
        signature=("enable", "custom_white_list", "custom_black_list", "level", "dtype"),
    ),
    Seam(
        "paddle.amp.GradScaler",
        (precision.loss_scaler,),
        why="the loss scale starts again after a resume, and bf16 needs none",
        until="the loop resumes it and knows bf16",
        signature=("enable", "init_loss_scaling"),
    ),
    Seam(
        "paddle.amp.decorate",
        (precision.decorate,),
        why="the loop knows fp16 only",
        until="the loop knows bf16",
        signature=("models", "optimizers", "level", "dtype", "save_dtype"),
    ),
    # --- several ranks ---
    Seam(
        "paddle.distributed.fleet.init",
        (data_parallel.init,),
        why="it reads a field that protobuf 7 has removed",
        until="fleet runs with protobuf 7",
        signature=("is_collective",),
    ),
    Seam(
        "paddle.distributed.fleet.distributed_optimizer",
        (data_parallel.distributed_optimizer,),
        why="it needs what fleet.init sets up, and wraps nothing without a strategy",
        until="fleet runs with protobuf 7",
    ),
    Seam(
        "paddle.distributed.fleet.distributed_model",
        (data_parallel.distributed_model,),
        why="on the CPU, DataParallel aborts the process when another rank is gone",
        until="DataParallel raises instead",
        signature=("model",),
    ),
    # --- averaged weights (EMA) ---
    Seam(
        "init_ema_params",
        (ema.resumed_average,),
        why="a resume starts the average again from the plain weights",
        until="the loop resumes its average",
        signature=("ema_model", "model"),
    ),
    Seam(
        "update_ema_model",
        (ema.average_in_place, precise_bn.precise_average_at_the_end, ema.note_average, steps.done_with_average),
        why="slow, of one decay, and the averaged model lives inside the loop; with it a step is complete",
        until="the loop takes a decay",
        signature=("ema_model", "model", "step", "decay"),
    ),
    # --- evaluations, checkpoints, log ---
    Seam(
        "evaluate",
        (evaluation.fast_and_noted,),
        why="slow, wrong on several ranks, and most of its result is dropped",
        until="PaddleSeg's is as fast",
        signature=("model", "eval_dataset", "precision", "amp_level", "num_workers", "print_detail", "auc_roc"),
    ),
    Seam(
        "paddle.save",
        (saving.no_saves,),
        why="writes in place and after the evaluation, and a resume saves a worse model over the best one",
        until="the loop saves complete folders before it evaluates, and resumes its best score",
        signature=("obj", "path"),
    ),
    Seam(
        "logger",
        (log.run_log,),
        why="after a resume, and on several ranks, the loop's losses and best scores are wrong",
        until="the loop resumes both",
        signature=("message",),
        method="info",
    ),
    Seam(
        "resume",
        (log.logged_resume,),
        why="its line would break the progress line, and Paddle warns of states that it does load",
        until=_CALLBACKS,
        signature=("model", "optimizer", "resume_model"),
    ),
    Seam(
        "paddle.flops",
        (steps.no_operation_count,),
        why="prints pages after the last step, and fails for models that it cannot trace",
        until="the loop does not count operations",
        signature=("net", "input_size", "custom_ops"),
    ),
)


def loop_function() -> Callable:
    """PaddleSeg's `train`. Its module is found by name: the attribute `paddleseg.core.train` is the function."""
    importlib.import_module("paddleseg.core.train")
    return sys.modules["paddleseg.core.train"].train


def loop_for(run: LoopRun) -> Callable:
    """PaddleSeg's training loop with the seams of this run."""
    train = loop_function()
    names = {}
    for seam in SEAMS:
        value = look_up(train, seam.name)
        for replace in seam.replace:
            value = replace(run, value)
        names[seam.name] = value
    return rebound(train, names)


# --------------------------------------------------------------------------------------------
# Drift
# --------------------------------------------------------------------------------------------
def check_loop(train: Callable | None = None) -> None:
    """See that the installed PaddleSeg's loop is one that the seams fit.

    Raises: DependencyError: one line that names the seam, the version and what is supported.
    """
    import paddleseg

    fault = drift(loop_function() if train is None else train)
    if fault:
        raise DependencyError(
            f"PaddleSeg {paddleseg.__version__} in {os.path.dirname(paddleseg.__file__)} has another training loop "
            f"than this package knows: {fault}. Training works with PaddleSeg {SUPPORTED}: pip install paddleseg==2.8.0"
        )


def drift(train: Callable) -> str | None:
    """The first thing about a training loop that the seams do not fit; None if all is as expected."""
    if not isinstance(train, types.FunctionType):
        return f"paddleseg.core.train.train is a {type(train).__name__}, not a function"
    fault = _misfit(train, PARAMETERS, ordered=False)
    if fault:
        return f"train {fault}"
    used = looked_up_by(train)
    for seam in SEAMS:
        if seam.name not in used:
            return f"train does not look up `{seam.name}`"
        try:
            original = look_up(train, seam.name)
            original = getattr(original, seam.method) if seam.method else original
        except AttributeError:
            return f"there is no `{'.'.join(filter(None, (seam.name, seam.method)))}`"
        fault = _misfit(original, seam.signature) if seam.signature else None
        if fault:
            return f"`{'.'.join(filter(None, (seam.name, seam.method)))}` {fault}"
    return None


def _misfit(function: Callable, expected: Iterable[str], ordered: bool = True) -> str | None:
    """How a function's parameters differ from those expected; more of them may follow if they have defaults."""
    parameters = {
        name: parameter for name, parameter in inspect.signature(function).parameters.items() if name != "self"
    }
    missing = [name for name in expected if name not in parameters]
    if missing:
        return f"has no parameter {missing[0]}"
    if ordered and [name for name in parameters if name in expected] != list(expected):
        return f"has its parameters in another order: {', '.join(parameters)}"
    unknown = [
        name
        for name, parameter in parameters.items()
        if name not in expected
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return f"needs a parameter {unknown[0]}" if unknown else None
