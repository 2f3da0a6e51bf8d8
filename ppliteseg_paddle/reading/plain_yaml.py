"""YAML from anyone: plain data only, within bounds that are checked while it is read.

PyYAML's own loaders have none: aliases of aliases fill the memory, deep nesting and odd values end in a traceback, and
the `FullLoader` that PaddleSeg uses hands out functions of imported modules (`!!python/name:os.system`).
"""

from __future__ import annotations

import os
import stat
from typing import Any

import yaml

MAX_BYTES = 1 << 20  # of a file; long configurations have 10 KB
MAX_DEPTH = 100
MAX_VALUES = 100_000  # with each alias counted as all that it stands for; long texts count more
MAX_DIGITS = 100  # of an integer
_TEXT_OF_ONE_VALUE = 64


class PlainYamlError(ValueError):
    """Not YAML, or not plain, or beyond the bounds. `place` is ":LINE", to stand after the path, or ""."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None):
        super().__init__(" ".join(problem.split()))
        self.place = f":{mark.line + 1:d}" if mark else ""


def read_plain_yaml(path: str) -> Any:
    """The one document of a YAML file: dicts, lists, tuples, texts, numbers, truth values, dates, bytes, None.

    Raises: PlainYamlError: in one line. OSError, UnicodeDecodeError.
    """
    with open(path, "rb", opener=_open_regular) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PlainYamlError(f"it has more than the {MAX_BYTES:d} bytes that are allowed")
    return parse_plain_yaml(content.decode("utf-8"))


def parse_plain_yaml(text: str) -> Any:
    """As `read_plain_yaml`, of a text."""
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        raise PlainYamlError(problem, getattr(error, "problem_mark", None)) from None
    except (ValueError, OverflowError) as error:  # a character that Unicode does not have
        raise PlainYamlError(str(error)) from None


def _open_regular(path: str, flags: int) -> int:
    """A pipe would be waited for, a device may have no end."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PlainYamlError("it is no regular file")
    return descriptor


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._values_of: dict[int, int] = {}  # id of a node -> how many values it stands for

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event, before = self.peek_event(), self._values  # type: ignore[no-untyped-call]
        alias, mark = isinstance(event, yaml.AliasEvent), event.start_mark
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH:d} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias:
            if id(node) not in self._values_of:
                raise yaml.MarkedYAMLError(problem="an alias stands in what it names", problem_mark=mark)
            self._values += self._values_of[id(node)]
        else:
            self._values += 1
            if isinstance(node, yaml.ScalarNode):
                self._values += len(node.value) // _TEXT_OF_ONE_VALUE
            self._values_of[id(node)] = self._values - before
        if self._values > MAX_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_VALUES:d} values, with aliases written out", problem_mark=mark
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """PyYAML lets what Python says of a bad date or number through."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"'{str(node.value)[:40]}' is no {kind}", problem_mark=node.start_mark
            ) from None

    def construct_int(self, node: yaml.ScalarNode) -> int:
        if len(self.construct_scalar(node)) > MAX_DIGITS:
            raise ValueError
        return self.construct_yaml_int(node)

    def construct_tuple(self, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
# What PaddleSeg's own dump of a configuration may hold.
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_tuple)
