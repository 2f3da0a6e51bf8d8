"""The checks of a configuration, before anything is built from it: each fault one line, with its key and the mend.

`check_form` looks at keys and kinds of values; `check_components` asks PaddleSeg's registry for
every `type` and compares its arguments, and imports paddleseg for that, inside the function.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.registry import register

if TYPE_CHECKING:
    from ppliteseg_paddle.config.source import Source

REQUIRED = ("batch_size", "iters", "train_dataset", "optimizer", "lr_scheduler", "loss", "model")
TOP_LEVEL = REQUIRED + (
    "val_dataset",
    "test_config",
    "to_static_training",
    "distill_loss",
    "recipe",
    "max_unreadable_share",
    "data_cache",
    "ema_decay",
    "precise_bn",
)
UNUSED = ("test_dataset",)  # resembles two of the above, occurs in PaddleSeg files, and nothing reads it
# What `evaluate` takes from `test_config`; the loop passes the rest itself. Source: PaddleSeg core/val.py.
TEST_CONFIG = (
    "aug_eval",
    "scales",
    "flip_horizontal",
    "flip_vertical",
    "is_slide",
    "stride",
    "crop_size",
    "auc_roc",
    "print_detail",
)
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
# Kinds of values in our components, where Python would say of another one only which operation failed on it.
_WHOLE, _WHOLES, _NUMBERS = "a whole number", "a list of whole numbers", "a list of numbers"
VALUES = {
    "PPLiteSegNet": {"num_classes": _WHOLE, "seg_head_channels": _WHOLES},
    "SPPM": {"in_channels": _WHOLE, "out_channels": _WHOLE, "bin_sizes": _WHOLES},
    "FLDHead": {"in_channels": _WHOLES, "neck_channels": _WHOLE, "out_channels": _WHOLES},
    "CELoss": {"weight": _NUMBERS},
    "Normalize": {"mean": _NUMBERS, "std": _NUMBERS},
}
OPTIMIZER_ALIASES = {"sgd": "SGD", "adam": "Adam"}

_NUMBER_WITHOUT_POINT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


# --------------------------------------------------------------------------------------------
# Checking the form: keys and kinds of values, without asking any registry
# --------------------------------------------------------------------------------------------
def check_form(values: Mapping[str, Any], source: Source) -> None:
    """Check top-level keys, their kinds of values, the loss table and `test_config`.

    A top-level key that resembles none of ours is left alone, as PaddleSeg leaves it.

    Raises: ConfigError
    """
    for key in values:
        near = suggest(key, TOP_LEVEL)
        if key not in TOP_LEVEL + UNUSED and near.startswith(" Did you mean"):
            raise ConfigError(f"{source.of(str(key))}: unknown key.{near}")
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise ConfigError(f"{source.path}: missing {', '.join(missing)}. A configuration needs {', '.join(REQUIRED)}.")
    for key in ("batch_size", "iters"):
        _expect(_is_int(values[key]) and values[key] >= 1, source, key, values[key], "a whole number of at least 1")
    if "max_unreadable_share" in values:
        share = values["max_unreadable_share"]
        _expect(_is_number(share) and 0 <= share <= 1, source, "max_unreadable_share", share, "a number from 0 to 1")
    if "ema_decay" in values:
        decay = values["ema_decay"]
        _expect(
            _is_number(decay) and 0 < decay < 1,
            source,
            "ema_decay",
            decay,
            "a number between 0 and 1 (PaddleSeg's is 0.999)",
        )
    if "precise_bn" in values:
        images = values["precise_bn"]
        _expect(
            _is_int(images) and (images == 0 or images >= 2),
            source,
            "precise_bn",
            images,
            "a number of images: 0 (off), or 2 and more",
        )
    if values.get("data_cache") is not None:
        _expect(
            isinstance(values["data_cache"], str),
            source,
            "data_cache",
            values["data_cache"],
            "a folder of `data cache`, or memory",
        )
    for key in ("train_dataset", "val_dataset", "optimizer", "lr_scheduler", "loss", "model", "test_config"):
        if key in values:
            _expect(isinstance(values[key], dict), source, key, values[key], "a block of 'key: value' lines")
    for key in ("train_dataset", "val_dataset", "optimizer", "lr_scheduler", "model"):
        if key in values and not isinstance(values[key].get("type"), str):
            raise ConfigError(f"{source.of(key)}: no 'type' is given: it names the class to build.")
    for key in ("backbone", "neck", "head") if values["model"]["type"] == "PPLiteSegNet" else ("backbone",):
        if key in values["model"]:
            _expect(
                _is_block(values["model"][key]), source, "model." + key, values["model"][key], "a block with a 'type'"
            )
    for key in ("train_dataset", "val_dataset"):
        if "transforms" in values.get(key, {}):
            _check_transforms(key + ".transforms", values[key]["transforms"], source)
    for key in ("learning_rate", "warmup_start_lr", "end_lr", "power", "warmup_iters"):
        if key in values["lr_scheduler"]:
            rate = values["lr_scheduler"][key]
            _expect(_is_number(rate) and rate >= 0, source, "lr_scheduler." + key, rate, "a number of at least 0")
    for key in ("loss", "distill_loss"):
        if key in values:
            _check_loss(key, values[key], source)
    _check_test_config(values.get("test_config", {}), source)


def _check_transforms(key: str, transforms: Any, source: Source) -> None:
    _expect(isinstance(transforms, list), source, key, transforms, "a list of blocks with a 'type'")
    for index, item in enumerate(transforms):
        _expect(_is_block(item), source, f"{key}.{index:d}", item, "a block with a 'type'")


def _check_loss(key: str, loss: Mapping[str, Any], source: Source) -> None:
    for part in ("types", "coef"):
        _expect(isinstance(loss.get(part), list) and loss[part], source, key + "." + part, loss.get(part), "a list")
    for index, item in enumerate(loss["types"]):
        _expect(
            isinstance(item, dict) and isinstance(item.get("type"), str),
            source,
            f"{key}.types.{index:d}",
            item,
            "a block with a 'type'",
        )
    for index, number in enumerate(loss["coef"]):
        _expect(_is_number(number), source, f"{key}.coef.{index:d}", number, "a number")
    types, coefs = len(loss["types"]), len(loss["coef"])
    if types not in (1, coefs):
        raise ConfigError(
            f"{source.of(key)}: {types:d} types for {coefs:d} coef: give one type for all outputs, or one for each."
        )


def _check_test_config(test: Mapping[str, Any], source: Source) -> None:
    for key in test:
        if key not in TEST_CONFIG:
            raise ConfigError(f"{source.of(f'test_config.{key}')}: unknown key.{suggest(key, TEST_CONFIG)}")
    if "scales" in test:
        scales = test["scales"]
        # PaddleSeg takes a float or a list and fails on a whole number, after the first training interval.
        good = isinstance(scales, float) or (
            isinstance(scales, (list, tuple)) and scales and all(map(_is_number, scales))
        )
        _expect(good, source, "test_config.scales", scales, "a number with a point (1.0) or a list of numbers")
    for key in ("crop_size", "stride"):
        if test.get(key) is not None:
            pair = test[key]
            good = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(_is_int(n) and n > 0 for n in pair)
            _expect(good, source, "test_config." + key, pair, "[width, height]")
        elif test.get("is_slide"):
            raise ConfigError(
                f"{source.of('test_config.is_slide')}: a sliding window needs test_config.{key}: [width, height]."
            )


def _expect(good: Any, source: Source, key: str, value: Any, wanted: str) -> None:
    if good:
        return
    hint = ""
    if isinstance(value, str) and _NUMBER_WITHOUT_POINT.fullmatch(value):
        hint = f" YAML reads {value} as text: write a point and a sign, as in 1.0e-5."
    raise ConfigError(f"{source.of(key)}: expected {wanted}, found {kind_of(value)}.{hint}")


# --------------------------------------------------------------------------------------------
# Checking the components: types and their arguments, against PaddleSeg's registry
# --------------------------------------------------------------------------------------------
def components(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, block) of every block that PaddleSeg's builder will build: those with a `type`, and those directly in
    them."""
    for key in ("model", "train_dataset", "val_dataset", "optimizer"):
        if key in values:
            yield from _nested(key, values[key])
    for key in ("loss", "distill_loss"):
        for index, block in enumerate(values.get(key, {}).get("types", [])):
            yield from _nested(f"{key}.types.{index:d}", block)


def _nested(key: str, block: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield key, block
    for name, value in block.items():
        if _is_block(value):
            yield from _nested(f"{key}.{name}", value)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if _is_block(item):
                    yield from _nested(f"{key}.{name}.{index:d}", item)


def check_components(values: Mapping[str, Any], source: Source) -> None:
    """Check every `type` and the argument names given with it, and that model and data agree on the classes.

    Registers our components with PaddleSeg first.

    Raises: ConfigError: with the nearest registered names, or the nearest parameters.
    """
    register()
    for key, block in components(values):
        if not isinstance(block["type"], str):
            raise ConfigError(
                f"{source.of(key + '.type')}: expected the name of a class, found {kind_of(block['type'])}."
            )
        name = _optimizer_name(block) if key == "optimizer" else block["type"]
        component = _find(key, name, source)
        _check_arguments(key, block, component, source)
        _check_values(key, block, source)
    _check_weights(values, source)
    _check_scheduler(values["lr_scheduler"], source)
    for key in ("train_dataset", "val_dataset"):
        classes = _num_classes(values.get(key), source)
        given = values["model"].get("num_classes")
        if classes is not None and given is not None and given != classes:
            raise ConfigError(
                f"{source.of('model.num_classes')} is {given}, but {key} ({values[key]['type']}) has {classes:d} "
                "classes. Set them to one number."
            )


def find_component(name: str):
    """(registry name, component) of a `type`, looked up in PaddleSeg's order; None if there is none."""
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


def _find(key: str, name: str, source: Source):
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


def _check_arguments(key: str, block: Mapping[str, Any], component, source: Source) -> None:
    parameters = _parameters(component)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in block:
        if name != "type" and name not in parameters:
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
    for name, wanted in VALUES.get(block["type"], {}).items():
        value = block.get(name)
        if name not in block or (value is None and name == "weight"):
            continue
        good = (
            _is_int(value)
            if wanted == _WHOLE
            else (isinstance(value, (list, tuple)) and all(map(_is_int if wanted == _WHOLES else _is_number, value)))
        )
        _expect(good, source, f"{key}.{name}", value, wanted)


def _check_weights(values: Mapping[str, Any], source: Source) -> None:
    """A loss with class weights needs as many as there are classes."""
    classes = values["model"].get("num_classes", _num_classes(values["train_dataset"], source))
    for index, block in enumerate(values["loss"]["types"]):
        weight = block.get("weight")
        if isinstance(weight, list) and _is_int(classes) and len(weight) != classes:
            raise ConfigError(
                f"{source.of(f'loss.types.{index:d}.weight')}: {len(weight):d} weights for {classes:d} classes: give "
                "one for each, in the order of their ids."
            )


def _parameters(component) -> dict[str, inspect.Parameter]:
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


def _num_classes(block: Mapping[str, Any] | None, source: Source) -> int | None:
    if not block:
        return None
    found = find_component(block["type"])
    return block.get("num_classes", getattr(found[1], "NUM_CLASSES", None) if found else None)


# --------------------------------------------------------------------------------------------
# Small questions
# --------------------------------------------------------------------------------------------
def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, (list, tuple)):
        return "a list" if len(str(value)) > 40 else f"the list {value}"
    return f"the text '{value}'" if isinstance(value, str) else f"{value!r}"
