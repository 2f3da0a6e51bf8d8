"""What tests start as each of several ranks: short trainings through the loop, an evaluation, and what each rank saw of
them."""

import contextlib
import json
import sys

import numpy as np

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.precise_bn import precise_statistics_of
from ppliteseg_paddle.engine.val import evaluate
from ppliteseg_paddle.weights.load import load_weights

ITERS = 3
build_parts = trainer.build_parts


def with_fixed_statistics(*args, **kwargs):
    parts = build_parts(*args, **kwargs)
    for layer in parts.model.sublayers():
        if hasattr(layer, "_use_global_stats"):
            layer._use_global_stats = True
    return parts


def losses(config_path, batch_size, save_dir, fixed):
    """The losses that a run records, image for image the same whatever the number of ranks."""
    trainer.build_parts = with_fixed_statistics if fixed else build_parts
    try:
        trainer.train(
            load_config(config_path, iters=ITERS, batch_size=batch_size),
            save_dir=save_dir,
            log_iters=3 if fixed else 1,
            do_eval=not fixed,
            save_interval=3,
            seed=3,
            device="cpu",
        )
    finally:
        trainer.build_parts = build_parts
    if distributed.rank():
        return None
    with open(save_dir + "/train.json") as file:
        record = json.load(file)
    return {"train": [row["loss"] for row in record["train"]], "eval": [row["mIoU"] for row in record["eval"]]}


def scores(config_path, weights):
    config = load_config(config_path)
    model = build_model(config)
    load_weights(model, weights)
    return evaluate(model, build_val_dataset(config), progress=False)


def precise(config_path, weights):
    """The first layer's statistics, counted anew over all ranks."""
    config = load_config(config_path)
    builder = build.make_builder(config)
    dataset = build.build(builder, "train_dataset")
    config.dic["precise_bn"] = 4
    model = build_model(config)
    load_weights(model, weights)
    precise_statistics_of(config, builder, dataset, contextlib.nullcontext)(model)
    layer = next(layer for layer in model.sublayers() if hasattr(layer, "_variance"))
    return {"mean": layer._mean.numpy().tolist(), "variance": layer._variance.numpy().tolist()}


def main(config_path, out):
    result = {
        "plain": losses(config_path, 2, out + "/plain", False),
        "fixed": losses(config_path, 2, out + "/fixed", True),
    }
    distributed.barrier()
    result["scores"] = scores(config_path, out + "/plain/iter_3/model.pdparams")
    result["precise"] = precise(config_path, out + "/plain/iter_3/model.pdparams")
    result["share"] = list(distributed.share(5))
    result["sum"] = distributed.sum_over_ranks(np.array([1, 10 ** distributed.rank()])).tolist()
    with open(f"{out}/rank_{distributed.rank():d}.json", "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
