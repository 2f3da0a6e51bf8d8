"""Fit a recipe to other hardware: learning rate, iterations and OHEM's share by the linear rule.

A recipe says in its configuration what its numbers were chosen for, `recipe: {devices: 4, batch_size: 4}`, which
PaddleSeg's own `Config` carries along and never reads.

Source: Goyal et al., "Accurate, Large Minibatch SGD" (arXiv 1706.02677), section 2.1, for the linear rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ppliteseg_paddle.errors import ConfigError


@dataclass
class Scaling:
    """`changes`: dotted key -> new value, in the form of --opts keys. `sentences`: what was done and why, one a
    line."""

    changes: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def scale_recipe(
    config: Mapping[str, Any], devices: int, batch_size: int, given: Collection[str] = (), accumulate: int = 1
) -> Scaling:
    """What to change in `config` so that training on this hardware follows the recipe.

    The learning rate grows with the images of a step, which average the gradient; iterations and warm-up shrink with
    them, so that as many images are seen; `min_kept` of OHEM grows with one device's images, as it counts pixels of one
    device's batch.

    Args:
        config: the values of a configuration; nothing is changed in it.
        devices: processes that train together; batch_size: images of a step on each.
        accumulate: such steps for one update, whose gradients are added up.
        given: keys that the user set by hand (`Source.options`); they are left alone, and that is said.
    Returns: empty if there is no recipe, or the hardware is the recipe's.
    Raises: ConfigError: if `recipe` is not two positive integers.
    """
    if "recipe" not in config:
        return Scaling()
    recipe_devices, recipe_batch, recipe_steps = _reference(config["recipe"])
    total, recipe_total = devices * batch_size * accumulate, recipe_devices * recipe_batch * recipe_steps
    scaling = Scaling()
    if total != recipe_total:
        scaling.sentences.append(
            f"the recipe takes {_images(recipe_total)} a step "
            f"({_factors(recipe_devices, recipe_batch, recipe_steps)}), "
            f"this run takes {total:d} ({_factors(devices, batch_size, accumulate)}):"
        )
        ratio = total / recipe_total
        _change(
            scaling,
            config,
            "lr_scheduler.learning_rate",
            lambda rate: float(f"{(rate * ratio):.6g}"),
            given,
            f"the gradient is the mean over {_rounded(ratio):g} times as many images (linear rule)",
        )
        for key in ("iters", "lr_scheduler.warmup_iters"):
            _change(
                scaling,
                config,
                key,
                lambda count: max(1, -(-count * recipe_total // total)),
                given,
                "so that as many images are seen",
            )
    if batch_size != recipe_batch:
        for key in _min_kept_keys(config):
            _change(
                scaling,
                config,
                key,
                lambda count: max(1, round(count * batch_size / recipe_batch)),
                given,
                f"it counts pixels of one device's batch, {_images(batch_size)} instead of {recipe_batch:d}",
                "OHEM's min_kept",
            )
    if scaling.sentences:
        scaling.sentences.append("keep the configuration's own numbers with --no_auto_scale")
    return scaling


def apply_changes(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put `Scaling.changes` into the values of a configuration, in place."""
    for key, value in changes.items():
        *path, last = key.split(".")
        place: Any = config
        for part in path:
            place = place[int(part) if isinstance(place, list) else part]
        place[last] = value


def _factors(devices: int, batch_size: int, accumulate: int) -> str:
    return f"{devices:d} x {batch_size:d}" + (f" x {accumulate:d} accumulated" if accumulate > 1 else "")


def _reference(recipe: Any) -> tuple[int, int, int]:
    numbers: list[Any] = [None]
    if isinstance(recipe, Mapping):
        numbers = [recipe.get("devices"), recipe.get("batch_size"), recipe.get("gradient_accumulation_steps", 1)]
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in numbers):
        raise ConfigError(
            f"recipe is {recipe!r}; it must name the hardware of the recipe, as in {{devices: 4, batch_size: 4}}."
        )
    return numbers[0], numbers[1], numbers[2]


def _change(
    scaling: Scaling, config: Mapping[str, Any], key: str, rule, given: Collection[str], why: str, name: str = ""
) -> None:
    before = _value(config, key)
    if before is None:
        return
    name, after = name or key, rule(before)
    if any(key == option or key.startswith(option + ".") for option in given):
        sentence = f"{name} stays {before}, as it was set by hand"
    elif after != before:
        scaling.changes[key] = after
        sentence = f"{name} {before} -> {after}: {why}"
    else:
        return
    if sentence not in scaling.sentences:  # PaddleSeg makes one loss for all outputs into equal ones for each
        scaling.sentences.append(sentence)


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[int(part)] if isinstance(config, list) else config.get(part)
        if config is None:
            return None
    return config


def _min_kept_keys(config: Mapping[str, Any]) -> Iterator[str]:
    for index, loss in enumerate(config.get("loss", {}).get("types", [])):
        if "min_kept" in loss:
            yield f"loss.types.{index:d}.min_kept"


def _images(count: int) -> str:
    return f"{count:d} image{('' if count == 1 else 's')}"


def _rounded(ratio: float) -> float:
    return float(f"{ratio:.3g}")
