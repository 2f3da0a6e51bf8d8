"""For MkDocs: `Shape:`, `Returns:` and their like, as our docstrings write them, are paragraphs of the reference."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_PART = re.compile(r"^(Args|Returns|Yields|Raises|Shape|Source|Reason|Can go): (\S.*(?:\n {4,}\S.*)*)$", re.MULTILINE)


class Paragraphs(Extension):
    """What begins a line with the first of its words; parameters one a line are left to the style `google`."""

    def on_package(self, *, pkg: Object, **kwargs: Any) -> None:
        _visit(pkg)


def _visit(item: Object) -> None:
    if item.docstring is not None:
        item.docstring.value = _PART.sub(_paragraph, item.docstring.value)
    for member in item.members.values():
        if not member.is_alias:
            _visit(member)


def _paragraph(match: re.Match[str]) -> str:
    name, text = match.groups()
    return f"\n**{name}:** {' '.join(text.split())}\n"
