"""Kinds of values: what a key accepts, and the words with which an error says so."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable


@dataclasses.dataclass(frozen=True)
class Kind:
    """`words` completes "expected ..."; `null` tells whether null is accepted as well."""

    words: str
    test: Callable[[Any], bool]
    null: bool = False

    def accepts(self, value: Any) -> bool:
        return (value is None and self.null) or self.test(value)


def or_null(kind: Kind) -> Kind:
    return dataclasses.replace(kind, null=True)


def is_block(value: Any) -> bool:
    """Whether PaddleSeg builds a component from `value`."""
    return isinstance(value, dict) and "type" in value


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _list_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(test, value))


def _size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(is_int(n) and n > 0 for n in value)


def _scales(value: Any) -> bool:
    # PaddleSeg takes a float or a list, and fails on an integer after the first training interval.
    return isinstance(value, float) or (_list_of(is_number)(value) and bool(value))


def _is_color(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(is_int(n) and 0 <= n <= 255 for n in value)


ANY = Kind("anything", lambda value: True)
TEXT = Kind("a text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, int) and value in (0, 1))
TEXTS = Kind("a list of texts", _list_of(lambda value: isinstance(value, str)))
INT = Kind("an integer", is_int)
POSITIVE_INT = Kind("an integer of at least 1", lambda value: is_int(value) and value >= 1)
INTS = Kind("a list of integers", _list_of(is_int))
NUMBER = Kind("a number", is_number)
NON_NEGATIVE = Kind("a number of at least 0", lambda value: is_number(value) and value >= 0)
SHARE = Kind("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
DECAY = Kind("a number between 0 and 1", lambda value: is_number(value) and 0 < value < 1)
IMAGES = Kind("a number of images: 0 (off), or 2 and more", lambda value: is_int(value) and value >= 0 and value != 1)
NUMBERS = Kind("a list of numbers", _list_of(is_number))
CHANNEL_NUMBERS = Kind("a number or a list of numbers", lambda value: is_number(value) or _list_of(is_number)(value))
SCALES = Kind("a number with a point (1.0) or a list of numbers", _scales)
COLOR = Kind("[red, green, blue], each an integer from 0 to 255", _is_color)
SIZE = Kind("[width, height]", _size)
LIST = Kind("a list", lambda value: isinstance(value, (list, tuple)))
FILLED_LIST = Kind("a list", lambda value: isinstance(value, list) and bool(value))
LIST_OF_BLOCKS = Kind("a list of blocks with a 'type'", lambda value: isinstance(value, list))  # see its items' key
DICT = Kind("a block of 'key: value' lines", lambda value: isinstance(value, dict))
TYPED = Kind(
    "a block of 'key: value' lines", lambda value: isinstance(value, dict)
)  # its `type` has a check of its own
BLOCK = Kind("a block with a 'type'", is_block)
NAMED_BLOCK = Kind("a block with a 'type'", lambda value: is_block(value) and isinstance(value["type"], str))


def kind_of(value: Any) -> str:
    """What was found, in words: "a block", "the list [1, 2]", "the text 'x'", "3"."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, (list, tuple)):
        return "a list" if len(str(value)) > 40 else f"the list {value}"
    return f"the text '{shortened(value)}'" if isinstance(value, str) else shortened(repr(value))


def shortened(text: str, limit: int = 120) -> str:
    """A text as a message quotes it."""
    return text if len(text) <= limit else text[:limit] + "..."
