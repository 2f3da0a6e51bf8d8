"""The checks of a configuration's components against PaddleSeg's registries: each `type`, its arguments, and what must
agree between them. paddleseg is imported inside the functions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ppliteseg_paddle.config.check import expect
from ppliteseg_paddle.config.keys import OURS, keys_of
from ppliteseg_paddle.config.kinds import is_block, is_int, kind_of
from ppliteseg_paddle.config.multilabel import check_multilabel
from ppliteseg_paddle.config.source import Source
from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.registry import register

# Place of a component in the file -> (PaddleSeg registry, what to call one).
PLACES = (
    (re.compile(r"model"), "MODELS", "model"),
    (re.compile(r"model\.backbone"), "BACKBONES", "backbone"),
    (re.compile(r"(train|val)_dataset"), "DATASETS", "data set"),
    (re.compile(r"(train|val)_dataset\.transforms\.\d+"), "TRANSFORMS", "transform"),
    (re.compile(r"(distill_)?loss\.types\.\d+"), "LOSSES", "loss"),
    (re.compile(r"optimizer"), "OPTIMIZERS", "optimizer"),
)
REGISTRIES = ("MODELS", "BACKBONES", "DATASETS", "TRANSFORMS", "LOSSES", "OPTIMIZERS")
# PaddleSeg fills these in when they are absent.
FILLED_IN = {"model": {"num_classes", "in_channels"}, "model.backbone": {"in_channels"}}
OPTIMIZER_ALIASES = {"sgd": "SGD", "adam": "Adam"}


def components(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, block) of every block from which PaddleSeg builds a component, each before those inside it."""
    for key in ("model", "train_dataset", "val_dataset", "optimizer"):
        if key in values:
            yield from _nested(key, values[key])
    for key in ("loss", "distill_loss"):
        for index, block in enumerate(values.get(key, {}).get("types", [])):
            yield from _nested(f"{key}.types.{index:d}", block)


def _nested(key: str, block: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield key, block
    for name, value in block.items():
        if is_block(value):
            yield from _nested(f"{key}.{name}", value)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if is_block(item):
                    yield from _nested(f"{key}.{name}.{index:d}", item)


def check_components(values: Mapping[str, Any], source: Source) -> None:
    """Check every `type` and the argument names given with it, and that model and data agree on the classes.

    Registers our components with PaddleSeg first.

    Raises: ConfigError: with the nearest registered names, or the nearest parameters.
    """
    register()
    losses = {}
    for key, block in components(values):
        if not isinstance(block["type"], str):
            raise ConfigError(
                f"{source.of(key + '.type')}: expected the name of a class, found {kind_of(block['type'])}."
            )
        name = _optimizer_name(block) if key == "optimizer" else block["type"]
        component = _find(key, name, source)
        if key.startswith("loss."):
            losses[key] = component
        _check_arguments(key, block, component, source)
        _check_values(key, block, source)
    if (values.get("test_config") or {}).get("use_multilabel"):
        check_multilabel(values, losses, source)
    _check_weights(values, source)
    _check_scheduler(values["lr_scheduler"], source)
    _check_channels(values, source)
    for key in ("train_dataset", "val_dataset"):
        classes = _num_classes(values.get(key))
        given = values["model"].get("num_classes")
        if classes is not None and given is not None and given != classes:
            raise ConfigError(
                f"{source.of('model.num_classes')} is {given}, but {key} ({values[key]['type']}) has {classes:d} "
                "classes. Set them to one number."
            )


def _check_channels(values: Mapping[str, Any], source: Source) -> None:
    """See that data sets and the network agree on the images. PaddleSeg fills in `in_channels`, if it is not given."""
    given = []
    for key in ("train_dataset", "val_dataset"):
        block = values.get(key)
        if block:
            found = find_component(block["type"])
            channels = block.get("img_channels", getattr(found[1], "IMG_CHANNELS", 3) if found else 3)
            given.append((f"{key}.img_channels", channels, block.get("img_range")))
    place = "model.backbone" if is_block(values["model"].get("backbone")) else "model"
    block = values["model"]["backbone"] if place == "model.backbone" else values["model"]
    key, channels, value_range = given[0]
    if "in_channels" in block and block["in_channels"] != channels:
        raise ConfigError(
            f"{source.of(place + '.in_channels')} is {block['in_channels']}, but {key} is {channels}: set them to one "
            "number."
        )
    for other, found, other_range in given[1:]:
        if found != channels:
            raise ConfigError(f"{source.of(other)} is {found}, but {key} is {channels}: set them to one number.")
        if other_range != value_range:
            other, key = (name.replace("channels", "range") for name in (other, key))
            raise ConfigError(
                f"{source.of(other)} is {other_range}, but {key} is {value_range}: set them to one range."
            )


def find_component(name: str) -> tuple[str, Any] | None:
    """(registry name, component) of a `type`, looked up in PaddleSeg's order; None for an unknown name."""
    from paddleseg.cvlibs import manager

    for registry in REGISTRIES:
        held = getattr(manager, registry).components_dict
        if name in held:
            return registry, held[name]
    return None


def _optimizer_name(block: Mapping[str, Any]) -> str:
    """PaddleSeg's builder accepts two lower-case names and takes SGD with momentum for Momentum."""
    name = OPTIMIZER_ALIASES.get(block["type"], block["type"])
    return "Momentum" if name == "SGD" and "momentum" in block else name


def _find(key: str, name: str, source: Source) -> Any:
    from paddleseg.cvlibs import manager

    wanted, word = next(
        ((registry, word) for pattern, registry, word in PLACES if pattern.fullmatch(key)), (None, "component")
    )
    found = find_component(name)
    if found is not None and (wanted is None or found[0] == wanted or name in getattr(manager, wanted).components_dict):
        return found[1]
    names = [n for registry in ([wanted] if wanted else REGISTRIES) for n in getattr(manager, registry).components_dict]
    if found is not None:
        raise ConfigError(
            f"{source.of(key + '.type')}: '{name}' is registered among PaddleSeg's {found[0].lower()}, not as a "
            f"{word}.{suggest(name, names)}"
        )
    raise ConfigError(f"{source.of(key + '.type')}: there is no {word} '{name}'.{suggest(name, names)}")


def _check_arguments(key: str, block: Mapping[str, Any], component: Any, source: Source) -> None:
    parameters: dict[str, Any] = dict(_parameters(component))
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    ours = [name for name, row in keys_of(block["type"]).items() if row.origin == OURS]  # of a class that we extend
    for name in block:
        if name != "type" and name not in parameters and name not in ours:
            raise ConfigError(
                f"{source.of(f'{key}.{name}')}: {block['type']} takes no such argument.{suggest(name, parameters)}"
            )
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty
        and p.kind is not p.VAR_POSITIONAL
        and name not in block
        and name not in FILLED_IN.get(key, ())
    ]
    if missing:
        raise ConfigError(f"{source.of(key)}: {block['type']} needs {', '.join(missing)}, which is not given.")


def _check_values(key: str, block: Mapping[str, Any], source: Source) -> None:
    """Kinds that the table knows: of another one, Python would only say which operation failed on it."""
    for name, row in keys_of(block["type"]).items():
        if name in block:
            expect(row.kind, source, f"{key}.{name}", block[name])


def _check_weights(values: Mapping[str, Any], source: Source) -> None:
    """A loss with class weights needs as many as there are classes."""
    classes = values["model"].get("num_classes", _num_classes(values["train_dataset"]))
    for index, block in enumerate(values["loss"]["types"]):
        weight = block.get("weight")
        if isinstance(weight, list) and is_int(classes) and len(weight) != classes:
            raise ConfigError(
                f"{source.of(f'loss.types.{index:d}.weight')}: {len(weight):d} weights for {classes:d} classes: give "
                "one for each, in the order of their ids."
            )


def _parameters(component: Any) -> dict[str, inspect.Parameter]:
    if not inspect.isclass(component):
        return dict(inspect.signature(component).parameters)
    parameters = dict(inspect.signature(component.__init__).parameters)
    parameters.pop("self", None)
    return parameters


def _check_scheduler(block: Mapping[str, Any], source: Source) -> None:
    import paddle

    schedulers = {
        name: item
        for name, item in vars(paddle.optimizer.lr).items()
        if inspect.isclass(item) and issubclass(item, paddle.optimizer.lr.LRScheduler)
    }
    if block["type"] not in schedulers:
        raise ConfigError(
            f"{source.of('lr_scheduler.type')}: there is no learning-rate scheduler "
            f"'{block['type']}'.{suggest(block['type'], schedulers)}"
        )
    parameters = inspect.signature(schedulers[block["type"]].__init__).parameters
    extra = {"warmup_iters", "warmup_start_lr"}
    for name in block:
        if name != "type" and name not in extra and name not in parameters:
            raise ConfigError(
                f"{source.of(f'lr_scheduler.{name}')}: {block['type']} takes no such "
                f"argument.{suggest(name, (set(parameters) | extra) - {'self'})}"
            )
    if "warmup_iters" in block and "warmup_start_lr" not in block:
        raise ConfigError(
            f"{source.of('lr_scheduler.warmup_iters')}: a warm-up needs lr_scheduler.warmup_start_lr, too."
        )
    start, rate = block.get("warmup_start_lr"), block.get("learning_rate")
    if not (block.get("warmup_iters") and isinstance(start, (int, float)) and isinstance(rate, (int, float))):
        return
    if start >= rate:
        raise ConfigError(
            f"{source.of('lr_scheduler.warmup_start_lr')} is {start:g}: a warm-up starts below the learning rate, "
            f"which is {rate:g}."
        )


def _num_classes(block: Mapping[str, Any] | None) -> int | None:
    if not block:
        return None
    found = find_component(block["type"])
    number: int | None = block.get("num_classes", getattr(found[1], "NUM_CLASSES", None) if found else None)
    return number
