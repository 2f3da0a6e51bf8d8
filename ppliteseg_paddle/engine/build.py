"""A configuration becomes objects through PaddleSeg's own `SegBuilder`, with our checks before and our errors after."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.config import read as reader
from ppliteseg_paddle.config.components import check_components, components, find_component
from ppliteseg_paddle.config.keys import value_of
from ppliteseg_paddle.config.plugins import check_plugins, loaded_plugins
from ppliteseg_paddle.errors import ConfigError, DataError, PPLiteSegError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS, LabelSet, numbered, palette_for

# What a component raises because of its arguments. Anything else is a defect and keeps its traceback.
ARGUMENT_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
    OSError,
)
# PaddleSeg's data sets whose classes we know by name.
KNOWN_LABELS = {"Cityscapes": "cityscapes"}


# --------------------------------------------------------------------------------------------
# The configuration
# --------------------------------------------------------------------------------------------
def load_config(
    path: str,
    opts: Sequence[str] | None = None,
    iters: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
):
    """Read and check a configuration.

    Args:
        path: YAML file; opts: `key=value` changes; the rest overrides the file's values.

    Returns: a PaddleSeg `Config` (so that any PaddleSeg tool takes it) with the attribute `source`.
    Raises: ConfigError: one line for whatever is wrong.
    Source: PaddleSeg `cvlibs/config.py`, `cvlibs/config_checker.py`.
    """
    values, source = reader.load(path, opts, iters, batch_size, learning_rate)
    check_plugins(values.get("plugin", []), source)
    if loaded_plugins():
        values["plugin"] = loaded_plugins()
    check_components(values, source)
    return _config_class()(values, source)


def save_config(config, path: str) -> None:
    """Write the resolved configuration (bases merged, options and variables applied) as one YAML file, atomically."""
    from ppliteseg_paddle.files import save_atomic

    with save_atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(str(config))


def _config_class():
    from paddleseg.cvlibs import Config

    class CheckedConfig(Config):
        """PaddleSeg's `Config` filled from our reader; PaddleSeg's own rules still run over it."""

        def __init__(self, values, source):
            self.dic, self.source = values, source
            try:
                with quiet_paddleseg():
                    self._build_default_checker().apply_all_rules(self)
            except RuntimeError as error:
                cause = error.__context__
                raise ConfigError(f"{source.path}: {_first_line(cause or error)}") from error

    return CheckedConfig


# --------------------------------------------------------------------------------------------
# Objects
# --------------------------------------------------------------------------------------------
def make_builder(config, verbose: bool = False):
    """PaddleSeg's `SegBuilder` for `config`, with our errors, and checked reading for `type: Dataset`.

    The model, optimizer, scheduler, losses and data sets are its attributes, built on first use.
    """
    from paddleseg.cvlibs import SegBuilder
    from paddleseg.datasets import Dataset

    from ppliteseg_paddle.compat import fixed_transform
    from ppliteseg_paddle.compat_losses import fixed
    from ppliteseg_paddle.data.dataset import CheckedDataset

    class Builder(SegBuilder):
        @classmethod
        def show_msg(cls, name, cfg):
            if verbose:
                super().show_msg(name, cfg)

        def build_component_impl(self, component_class, *args, **kwargs):
            component_class = CheckedDataset if component_class is Dataset else fixed_transform(fixed(component_class))
            try:
                built = super().build_component_impl(component_class, *args, **kwargs)
                # PaddleSeg's data sets that differ in their lists only, as Cityscapes does.
                reads_plainly = isinstance(built, Dataset) and type(built).__getitem__ is Dataset.__getitem__
                return CheckedDataset.of(built) if reads_plainly else built
            except PPLiteSegError:
                raise
            except ARGUMENT_ERRORS as error:
                name = getattr(component_class, "__name__", str(component_class))
                raise ConfigError(
                    f"{_key_of(config, name)}: {name} could not be built: {_first_line(error)}"
                ) from error

    return Builder(config)


def build(builder, name: str, verbose: bool = False):
    """One attribute of a builder ("model", "optimizer", "loss", "train_dataset", "val_dataset"), its errors as ours.

    Raises: ConfigError, DataError, WeightsError: what the component said, without PaddleSeg's wrapping.
    """
    from ppliteseg_paddle.engine.pretrained import safe_pretrained

    _check_root(builder.config, name)
    with contextlib.nullcontext() if verbose else quiet_paddleseg(), safe_pretrained():
        try:
            built = getattr(builder, name)
        except ARGUMENT_ERRORS as error:
            # PaddleSeg wraps whatever most constructors raise into a RuntimeError; the cause hangs on it as context.
            inner = (
                error.__context__ if isinstance(error, (RuntimeError, AssertionError)) and error.__context__ else error
            )
            if isinstance(inner, PPLiteSegError):
                raise inner from None
            if isinstance(inner, ARGUMENT_ERRORS):
                raise ConfigError(f"{builder.config.source.path}: {name}: {_first_line(inner)}") from error
            raise inner from None
    if name.endswith("_dataset") and use_multilabel(builder.config):
        if not hasattr(built, "use_multilabel"):
            raise ConfigError(
                f"{builder.config.source.of('test_config.use_multilabel')}: {name} ({type(built).__name__}) reads its "
                "labels itself: give type Dataset."
            )
        built.use_multilabel()
    cache = builder.config.dic.get("data_cache")
    if cache and hasattr(built, "use_cache") and built.cache is None:
        built.use_cache(cache)
    return built


def use_multilabel(config) -> bool:
    """Whether a pixel may be of several classes: `test_config.use_multilabel`."""
    return bool((config.dic.get("test_config") or {}).get("use_multilabel"))


def _check_root(config, name: str) -> None:
    """Say of a missing data folder which key and variable set it, which the data set itself cannot know."""
    block = config.dic.get(name)
    if not name.endswith("_dataset") or not block or not isinstance(block.get("dataset_root"), str):
        return
    from ppliteseg_paddle.data.dataset import existing_root

    key, root = name + ".dataset_root", block["dataset_root"]
    origin = getattr(_class_of(block), "origin", "")
    variable = config.source.variables.get(key)
    same = [
        part + ".dataset_root"
        for part in ("train_dataset", "val_dataset")
        if (config.dic.get(part) or {}).get("dataset_root") == root
    ]
    advice = (
        f" It is set by {config.source.of(key)}; give another with --opts {' '.join(f'{part}=DIR' for part in same)}"
    )
    advice += f" or the environment variable {variable}." if variable else "."
    existing_root(root, f"{advice} {origin % root}" if origin else advice)


def build_model(config, pretrained: bool = True, verbose: bool = False):
    """The model of a configuration.

    Args:
        pretrained: False skips every `pretrained:` in the file, where weights are loaded afterwards anyway.
    """
    return build(make_builder(config if pretrained else without_pretrained(config), verbose), "model", verbose)


def build_train_dataset(config, verbose: bool = False):
    """The training data set. Raises: DataError, ConfigError."""
    return build(make_builder(config, verbose), "train_dataset", verbose)


def build_val_dataset(config, verbose: bool = False):
    """The validation data set. Raises: ConfigError: if the file has none; DataError."""
    if not config.val_dataset_cfg:
        raise ConfigError(
            f"{config.source.path}: there is no val_dataset, so there is nothing to evaluate on: add one."
        )
    return build(make_builder(config, verbose), "val_dataset", verbose)


def without_pretrained(config):
    """A copy of `config` in which no component loads weights of its own."""
    import copy

    changed = copy.copy(config)
    changed.dic = copy.deepcopy(config.dic)
    for key, block in components(changed.dic):
        if key.split(".")[0] == "model":
            block.pop("pretrained", None)
    return changed


def num_classes_of(config) -> int:
    """The number of classes that the configured model tells apart."""
    values = config.dic
    for block in (values["model"], values["train_dataset"]):
        if "num_classes" in block:
            return int(block["num_classes"])
    return int(_class_of(values["train_dataset"]).NUM_CLASSES)


def label_set_of(config) -> LabelSet:
    """Names and colors of the configured classes, without reading any image.

    Names are those of the data set's class, else of `classes.txt` in its root, else numbered; colors those of the
    configuration's `palette`, else of the data set's class, else `palette_for`.

    Raises: ConfigError: if `palette` has another number of colors than there are classes.
    """
    found, palette = _label_set_of_data(config), value_of(config.dic, "palette")
    if palette is None:
        return found
    if len(palette) != found.num_classes:
        raise ConfigError(
            f"{config.source.of('palette')}: {len(palette):d} colors for {found.num_classes:d} classes: give one "
            "[red, green, blue] for each class, in the order of their ids."
        )
    return dataclasses.replace(found, palette=tuple((color[0], color[1], color[2]) for color in palette))


def _label_set_of_data(config) -> LabelSet:
    values, classes = config.dic, num_classes_of(config)
    for block in (values.get("val_dataset"), values["train_dataset"]):
        if not block:
            continue
        known = getattr(_class_of(block), "label_set", None) or LABEL_SETS.get(KNOWN_LABELS.get(block["type"], ""))
        if known is not None and known.num_classes == classes:
            return known
        names = _names_in(block.get("dataset_root"), classes)
        if names:
            return LabelSet("classes.txt", tuple(names), palette_for(classes), int(block.get("ignore_index", 255)))
    return numbered(classes)


def _names_in(root: Any, classes: int):
    if not isinstance(root, str):
        return None
    from ppliteseg_paddle.data.dataset import read_class_names

    return read_class_names(reader.expand_env(root), classes)


# --------------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------------
@contextlib.contextmanager
def quiet_paddleseg(level: int = 0):
    """PaddleSeg logs every component that it builds and warns of each value that it fills in: errors only,
    meanwhile."""
    from paddleseg.utils import logger

    if not hasattr(logger, "log_level"):  # as in PaddleSeg's develop branch, which training refuses
        yield
        return
    before, logger.log_level = logger.log_level, level
    try:
        yield
    finally:
        logger.log_level = before


def check_dataset_size(dataset, batch_size: int, ranks: int = 1, accumulate: int = 1) -> None:
    """See that an epoch holds at least the full batches of one update: PaddleSeg's loop drops incomplete ones and would
    spin for ever.

    Raises: DataError: with both numbers and the fix.
    """
    per_rank = -(-len(dataset) // ranks)
    if accumulate > 1 and batch_size <= per_rank < batch_size * accumulate:
        raise DataError(
            f"the training set has {len(dataset):d} images, {per_rank:d} on each device, fewer than the {accumulate:d} "
            f"batches of {batch_size:d} of one update. Use --accumulate {per_rank // batch_size:d}, or add images."
        )
    if per_rank < batch_size:
        share = f" ({per_rank:d} on each of {ranks:d} devices)" if ranks > 1 else ""
        raise DataError(
            f"the training set {_name_of(dataset)} has {len(dataset):d} "
            f"image{('' if len(dataset) == 1 else 's')}{share}, fewer than one batch of {batch_size:d}. Use "
            f"--batch_size {per_rank:d}, or add images."
        )


def _name_of(dataset: Any) -> str:
    """Its list, else its folder, else its class."""
    for name in ("list_path", "dataset_root"):
        if getattr(dataset, name, None):
            return str(getattr(dataset, name))
    return type(dataset).__name__


def _class_of(block: dict[str, Any]) -> Any:
    """The component that a block of a checked configuration names."""
    found = find_component(block["type"])
    return found[1] if found else None


def _key_of(config, type_name: str) -> str:
    names = {type_name, "Dataset"} if type_name == "CheckedDataset" else {type_name}
    for key, block in components(config.dic):
        if block.get("type") in names:
            return config.source.of(key)
    return config.source.path


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, KeyError):
        text = f"missing key {text}"
    return " ".join(text.split("\n\n")[0].split()) or type(error).__name__
