"""The checks of a configuration's form: keys and kinds of values, each fault one line with its key and the fix.

Nothing is imported or built; `components` checks what needs PaddleSeg's registries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.config.keys import KEYS, REQUIRED, TOP_LEVEL, keys_of
from ppliteseg_paddle.config.kinds import COLOR, TYPED, Kind, kind_of
from ppliteseg_paddle.config.source import Source
from ppliteseg_paddle.errors import ConfigError, suggest

BLOCKS = [place for place in dict.fromkeys(key.place for key in KEYS) if place in TOP_LEVEL]
_CLOSED = ("loss", "distill_loss")  # blocks that are no components and hold nothing but the keys of the table
_LIST = " `ppliteseg configs keys` lists all."
_OTHER_NAMES = {"lr": "learning_rate", "epochs": "iters", "max_iters": "iters"}  # as other tools call them
_NUMBER_WITHOUT_POINT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def check_form(values: Mapping[str, Any], source: Source) -> None:
    """Check the keys of the top level and of its blocks, and the kinds of their values.

    A key of a file's top level that resembles none of the table is left alone, as PaddleSeg leaves it. One that only
    --opts has is refused: whoever types it means something by it.

    Raises: ConfigError
    """
    for key in values:
        near = suggest(key, TOP_LEVEL)
        typed = str(key) in source.options and not any(key in content for _, content in source.files)
        if key not in TOP_LEVEL and (typed or near.startswith(" Did you mean")):
            raise ConfigError(f"{source.of(str(key))}: unknown key.{_elsewhere(str(key), values) or near or _LIST}")
    required = [key.name for key in TOP_LEVEL.values() if key.default == REQUIRED]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{source.path}: missing {', '.join(missing)}. A configuration needs {', '.join(required)}.")
    for name, row in TOP_LEVEL.items():
        if name in values:
            expect(row.kind, source, name, values[name])
            if row.kind is TYPED and not isinstance(values[name].get("type"), str):
                raise ConfigError(f"{source.of(name)}: no 'type' is given: it names the class to build.")
    for place in BLOCKS:
        if place in values:
            _check_block(place, values[place], source)
    for place in ("loss", "distill_loss"):
        if place in values:
            _check_number_of_losses(place, values[place], source)
    _check_test_config(values.get("test_config", {}), source)
    for index, color in enumerate(values.get("palette") or ()):
        expect(COLOR, source, f"palette.{index:d}", color)


def _elsewhere(name: str, values: Mapping[str, Any]) -> str:
    """Where the key that was meant is, if it belongs in a block of this configuration or has another name here."""
    meant = _OTHER_NAMES.get(name, name)
    blocks = {place: block for place, block in values.items() if isinstance(block, Mapping)}
    found = [meant] if meant in TOP_LEVEL else []
    for place, block in blocks.items():
        if any(meant in keys for keys in (block, keys_of(place), keys_of(str(block.get("type"))))):
            found.append(f"{place}.{meant}")
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def expect(kind: Kind, source: Source, key: str, value: Any) -> None:
    """Raises: ConfigError: if `value` is not of this kind; the text says what is expected and what was found."""
    if kind.accepts(value):
        return
    hint = ""
    if isinstance(value, str) and _NUMBER_WITHOUT_POINT.fullmatch(value):
        hint = f" YAML reads {value} as text: write a point and a sign, as in 1.0e-5."
    raise ConfigError(f"{source.of(key)}: expected {kind.words}, found {kind_of(value)}.{hint}")


def _check_block(place: str, block: Mapping[str, Any], source: Source) -> None:
    known = keys_of(place)
    for name in block if place in _CLOSED else ():
        if name not in known:
            near = suggest(str(name), [key for key in known if not key.endswith(".*")])
            raise ConfigError(f"{source.of(f'{place}.{name}')}: unknown key.{near}")
    for name, key in known.items():
        if name.endswith(".*"):
            for index, item in enumerate(block.get(name[:-2], [])):
                expect(key.kind, source, f"{place}.{name[:-1]}{index:d}", item)
        elif name in block or key.default == REQUIRED:
            expect(key.kind, source, f"{place}.{name}", block.get(name))


def _check_number_of_losses(key: str, loss: Mapping[str, Any], source: Source) -> None:
    types, coefs = len(loss["types"]), len(loss["coef"])
    if types not in (1, coefs):
        raise ConfigError(
            f"{source.of(key)}: {types:d} types for {coefs:d} coef: give one type for all outputs, or one for each."
        )


def _check_test_config(test: Mapping[str, Any], source: Source) -> None:
    """PaddleSeg's `evaluate` takes these keys and no others (PaddleSeg `core/val.py`)."""
    known = keys_of("test_config")
    for key in test:
        if key not in known:
            raise ConfigError(f"{source.of(f'test_config.{key}')}: unknown key.{suggest(key, known)}")
    for key in ("crop_size", "stride"):
        if test.get("is_slide") and test.get(key) is None:
            raise ConfigError(
                f"{source.of('test_config.is_slide')}: a sliding window needs test_config.{key}: [width, height]."
            )
