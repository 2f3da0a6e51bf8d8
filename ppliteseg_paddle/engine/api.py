"""`ppliteseg_paddle.train` and `.val`: the commands of these names as functions. `.export` is `export.run`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.config.options import EvalOptions, TrainOptions
from ppliteseg_paddle.engine import val as evaluation
from ppliteseg_paddle.engine.arguments import check_names, loaded, names_of
from ppliteseg_paddle.engine.train import run_training


def train(
    config: Any,
    opts: Sequence[str] = (),
    *,
    iters: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train, and leave checkpoints, the resolved configuration and a record of the run in `save_dir`.

        train("ppliteseg_t_camvid_480x360", batch_size=4, save_dir="output", do_eval=True)

    Args:
        config: a YAML file, the name of a shipped configuration, or what `engine.build.load_config` returns.
        opts: changes of the file's values, "key=value", as `--opts` takes them.
        iters, batch_size, learning_rate: in place of the file's; batch_size is one device's.
        options: fields of `TrainOptions`; each is a flag of `ppliteseg train`.
    Returns: iterations, final_loss, best_mIoU, best_iteration, model_path, history, seconds, ...
    Raises: ConfigError, DataError, WeightsError, DependencyError: before the start, for whatever would fail later;
        PPLiteSegError: if the loss stops being a number.
    """
    check_names("train", options, names_of(TrainOptions))
    return run_training(loaded(config, opts, iters, batch_size, learning_rate), TrainOptions(**options))


def val(config: Any, model_path: str, opts: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """Evaluate the weights of `model_path` on the configuration's validation set.

        val("output/config.yml", "output/best_model/model.pdparams")["mIoU"]

    Args:
        config, opts: as `train` takes them.
        model_path: a file of weights, its address, or the name of published ones.
        options: device, test_config, verbose, save_dir and fields of `EvalOptions`; each is a flag of `ppliteseg val`.
    Returns: mIoU, acc, kappa, dice, class_iou, class_names, images, ...
    Raises: ConfigError, DataError, WeightsError
    """
    check_names("val", options, ("device", "test_config", "verbose", "save_dir", *names_of(EvalOptions)))
    return evaluation.val(loaded(config, opts), model_path, **options)
