"""What goes with `test_config.use_multilabel`, labels in which a pixel may be of several classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.config.source import Source
from ppliteseg_paddle.errors import ConfigError

# Of PaddleSeg's losses and ours: those that take a plane of 0 and 1 for each class. `MixedLoss` hands it to its own.
LOSSES = ("BCELoss", "LovaszHingeLoss", "MixedLoss")
_KNOWN = ("paddleseg.", "ppliteseg_paddle.")


def check_multilabel(values: Mapping[str, Any], losses: Mapping[str, Any], source: Source) -> None:
    """Check a configuration with `use_multilabel`.

    Args: losses: key of each loss's block -> its class.
    Raises: ConfigError: for a loss or an evaluation that takes one class a pixel.
    """
    where = source.of("test_config.use_multilabel")
    for key, loss in losses.items():
        if loss.__module__.startswith(_KNOWN) and loss.__name__ not in LOSSES:
            raise ConfigError(
                f"{source.of(key)}: {loss.__name__} takes one class a pixel, and {where} is set: use BCELoss, or a "
                "MixedLoss of BCELoss and LovaszHingeLoss."
            )
    if values["test_config"].get("auc_roc"):
        raise ConfigError(f"{where} and auc_roc exclude each other: PaddleSeg's curve is of one class a pixel.")
