"""Parts of the model that train at rates of their own: `optimizer.custom_cfg`."""

from __future__ import annotations

from ppliteseg_paddle.errors import ConfigError


def fit_parameter_groups(config, model) -> None:
    """See that each item of `optimizer.custom_cfg` means weights that the model trains: of others PaddleSeg says
    nothing, or raises an IndexError. Items that mean frozen weights only are taken out, in place.

    Raises: ConfigError
    """
    groups = (config.dic.get("optimizer") or {}).get("custom_cfg")
    if not isinstance(groups, list):  # of anything else PaddleSeg says that it is no list
        return
    where, weights = config.source.of("optimizer.custom_cfg"), dict(model.named_parameters())
    trained = [name for name, weight in weights.items() if not weight.stop_gradient]
    kept = []
    for item in groups:
        part = item.get("name") if isinstance(item, dict) else None
        if not isinstance(part, str):
            raise ConfigError(f"{where}: expected items such as {{name: backbone, lr_mult: 0.1}}, found {item}.")
        if not any(part in name for name in weights):
            raise ConfigError(
                f"{where}: no weight of the model has '{part}' in its name; names are as in "
                f"{' and '.join(list(weights)[:2])}."
            )
        left = [name for name in trained if part not in name]
        if len(left) < len(trained):
            kept.append(item)
        elif any(part in name and not weight.stop_gradient for name, weight in weights.items()):
            raise ConfigError(f"{where}: the items before '{part}' mean all of its weights: move it to the front.")
        trained = left
    groups[:] = kept
