"""The objects of a training run, built in an order in which frequent faults are found early."""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ppliteseg_paddle.config.keys import value_of
from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.best import Metric
from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, check_fits
from ppliteseg_paddle.engine.freeze import Frozen, freeze
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.precise_bn import PreciseStatistics, precise_statistics_of
from ppliteseg_paddle.engine.parameter_groups import fit_parameter_groups
from ppliteseg_paddle.engine.resume import check_optimizer
from ppliteseg_paddle.engine.scaling import apply_changes, scale_recipe
from ppliteseg_paddle.errors import ConfigError

if TYPE_CHECKING:
    from ppliteseg_paddle.engine.loop.budget import Budget


@dataclass
class Parts:
    """What PaddleSeg's loop is called with. `loss`: {"types": [...], "coef": [...]}; `metric`: of the best model."""

    train_dataset: Any
    val_dataset: Any
    precise_bn: PreciseStatistics | None
    model: Any
    loss: dict[str, Any]
    optimizer: Any
    metric: Metric = Metric()
    frozen: Frozen = Frozen()


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


def fit_recipe(config: Any, devices: int, say: bool = True) -> None:
    """Scale the recipe of `config`, in place, to this number of devices and the configured batch, and say what was
    done.

    The `recipe` then names this hardware, so that the saved configuration is not scaled again.
    """
    accumulate = value_of(config.dic, "gradient_accumulation_steps")
    scaling = scale_recipe(config.dic, devices, config.batch_size, config.source.options, accumulate)
    apply_changes(config.dic, scaling.changes)
    if scaling.sentences:
        config.dic["recipe"] = {"devices": devices, "batch_size": config.batch_size}
        if accumulate > 1:
            config.dic["recipe"]["gradient_accumulation_steps"] = accumulate
    for sentence in scaling.sentences if say else ():
        print(f"scaling: {sentence}", flush=True)


def build_parts(
    config: Any,
    options: TrainOptions,
    device: str,
    budget: Budget | None = None,
    mixed_precision: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Parts:
    """Data first: its faults are the most frequent and the quickest to find.

    Args: device: as set; mixed_precision: gives the context in which batch norm's statistics are counted.
    Raises: ConfigError, DataError, WeightsError
    """
    if options.do_eval and not config.val_dataset_cfg:
        raise ConfigError(f"{config.source.path}: --do_eval needs a val_dataset: add one, or leave --do_eval out.")
    resumed, given = options.resume_model, options.model_path
    # Weights given on the command line replace those that the file names.
    builder = build.make_builder(build.without_pretrained(config) if resumed or given else config, options.verbose)

    def built(name: str) -> Any:
        return build.build(builder, name, options.verbose)

    train_dataset = built("train_dataset")
    accumulate = value_of(config.dic, "gradient_accumulation_steps")
    build.check_dataset_size(train_dataset, config.batch_size, distributed.ranks(), accumulate)
    val_dataset = built("val_dataset") if options.do_eval else None
    precise_bn = precise_statistics_of(config, builder, train_dataset, mixed_precision)
    model = built("model")
    if given:
        from ppliteseg_paddle.weights.load import load_weights

        load_weights(model, given)
    if resumed:
        check_fits(model, resumed, by_time=budget is not None)
        if options.use_ema and distributed.rank() == 0 and not os.path.isfile(os.path.join(resumed, EMA_PARAMS)):
            print(
                f"averaged weights (EMA): {resumed} holds none, so the average starts anew from its plain weights",
                flush=True,
            )
    if distributed.ranks() > 1 and device.startswith("gpu"):
        # Each device sees a part of the batch: statistics over all of them. Before the optimizer collects parameters.
        import paddle

        model = builder.__dict__["model"] = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if budget is not None:
        from ppliteseg_paddle.engine.loop.budget import ScheduleByTime

        builder.__dict__["lr_scheduler"] = ScheduleByTime(built("lr_scheduler"), budget)
    frozen = freeze(model, value_of(config.dic, "freeze"), config.source.of("freeze"))
    fit_parameter_groups(builder.config, model)
    metric = Metric.of(value_of(config.dic, "best_by"), build.label_set_of(config).classes)
    parts = Parts(train_dataset, val_dataset, precise_bn, model, built("loss"), built("optimizer"), metric, frozen)
    if resumed:
        check_optimizer(parts.optimizer, resumed)
    _check_outputs(model, parts.loss, config)
    if getattr(model, "full_size_logits", False):
        model.full_size_logits = False  # the losses upsample for less
    return parts


def _check_outputs(model: Any, loss: dict[str, Any], config: Any) -> None:
    """See that there is a loss for each output that the model has in training, as far as it tells their number."""
    outputs, coefs = len(getattr(model, "seg_heads", ())), len(loss["coef"])
    if outputs and outputs != coefs:
        raise ConfigError(
            f"{config.source.of('loss.coef')}: {coefs:d} numbers for the {outputs:d} outputs that the model has in "
            "training: give one for each, the main one first."
        )
