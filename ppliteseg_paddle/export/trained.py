"""A trained model from its configuration and weights, ready to be exported or to predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.predictor import Predictor
    from ppliteseg_paddle.deploy.preprocess import Preprocess


def load_trained(
    config_path: str,
    model_path: str,
    opts: Sequence[str] | None = None,
    device: str | None = None,
    verbose: bool = False,
) -> tuple[Any, Any]:
    """The configuration, and its model in evaluation mode with the weights of `model_path`.

    Args: opts: changes of the configuration; device: None takes a GPU where there is one, else the CPU.
    Raises: ConfigError, WeightsError.
    """
    from ppliteseg_paddle.engine.build import build_model, load_config
    from ppliteseg_paddle.engine.device import select_device
    from ppliteseg_paddle.weights.load import load_weights

    config = load_config(config_path, opts)
    select_device(device)
    model = build_model(config, pretrained=False, verbose=verbose)
    load_weights(model, model_path, strict=True)
    model.eval()
    return config, model


def val_transforms(config: Any) -> Preprocess:
    """The validation transforms as a `Preprocess`.

    Raises: ConfigError: if there are none, or one that cannot be applied to new images.
    """
    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.errors import ConfigError

    block = config.dic.get("val_dataset") or {}
    if "transforms" not in block:
        raise ConfigError(
            f"{config.source.path}: there is no val_dataset.transforms, so it is not known how images enter the model; "
            "add it."
        )
    return Preprocess(block["transforms"], config.source.of("val_dataset.transforms"))


def trained_predictor(config: Any, model: Any, with_scores: bool, **options: Any) -> Predictor:
    """A `Predictor` that runs a trained model itself.

    Args: with_scores: whether scores leave the model, as confidence and sliding windows need them; options: as
        `Predictor` has them.
    """
    from ppliteseg_paddle.engine.build import label_set_of
    from ppliteseg_paddle.export.eager import eager_predictor

    output_op = "none" if with_scores else "argmax"
    return eager_predictor(model, label_set_of(config), val_transforms(config), output_op, **options)
