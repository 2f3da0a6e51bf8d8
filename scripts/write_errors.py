"""Write docs/errors.md: each message of a user's error, from the places in the code that make it, with the causes and
fixes of `ppliteseg_paddle.causes`.

    python scripts/write_errors.py           write it
    python scripts/write_errors.py --check   say whether it is current
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the package beside this script, installed or not

from ppliteseg_paddle.causes import CAUSES  # noqa: E402

PACKAGE = ROOT / "ppliteseg_paddle"
TARGET = ROOT / "docs" / "errors.md"
_BASE = "PPLiteSegError"
_HEAD = """# Error messages

Written by `python scripts/write_errors.py` from the code; do not edit. Search this page for a few words of the
message: what stands in {braces} is filled in. `--debug` shows where an error came from. Exit statuses: 0 success; 1 a
defect of this package, with its traceback; 2 bad input, or a check that found something wrong; 3 a rank of a
distributed run failed; 130, 143, 129 ended by Ctrl-C (SIGINT), SIGTERM, SIGHUP.
"""


class Message(NamedTuple):
    """What an error says, as the code has it, with {placeholders}; the error's class; where."""

    text: str
    error: str
    path: str


def error_classes(trees: dict[str, ast.Module]) -> dict[str, int]:
    """The exit status of each class of errors."""
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found: dict[str, int] = {}
    while True:
        new = {}
        for node in classes:
            bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
            known = [found[base] for base in bases if base in found]
            if node.name not in found and (known or node.name == _BASE):
                new[node.name] = _status(node) or (known[0] if known else 2)
        if not new:
            return found
        found.update(new)


def _status(node: ast.ClassDef) -> int | None:
    for line in node.body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "exit_status":
            return int(ast.literal_eval(line.value))
    return None


def messages(trees: dict[str, ast.Module], classes: dict[str, int]) -> Iterator[Message]:
    """Each message that is written where its error is made."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                text = template(node.args[0]) if name in classes or name in ("error", "_error") else None
                if text and any(word.isalpha() for word in text.split()):
                    yield Message(" ".join(text.split()), name if name in classes else _BASE, path)


def template(node: ast.expr) -> str | None:
    """The text of a message with {placeholders}; None of what is no text here."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = template(node.left), template(node.right)
        return None if parts == (None, None) else "".join("{...}" if part is None else part for part in parts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return template(node.func.value)
    return None


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "{" + _name(node.value) + "}" if isinstance(node, ast.FormattedValue) else ""


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id.lower()
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name(node.slice) if isinstance(node.slice, ast.Constant) else _name(node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return node.value
    return "..."


def read() -> tuple[dict[str, int], list[Message]]:
    """The classes of errors with their exit statuses, and all messages."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if "studies" not in path.parts]
    trees = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}
    classes = error_classes(trees)
    return classes, sorted(set(messages(trees, classes)), key=lambda row: (row.path, row.text))


def page() -> str:
    """The page's text."""
    classes, rows = read()
    lines = [_HEAD, "## Causes and fixes", ""]
    for topic, causes in CAUSES.items():
        lines += [f"### {topic}", ""]
        for each in causes:
            said = list(dict.fromkeys(row.text for row in rows if each.words in row.text))
            lines += [f"- {_code(text)}" for text in said]
            lines += ["", f"  Cause: {each.cause}", "", f"  Fix: {each.fix}", ""]
    lines += ["## All messages", ""]
    for room in dict.fromkeys(row.path.split("/")[0] for row in rows):
        lines += [f"### {room.replace('.py', '')}", "", "| message | error, exit status | made in |", "|---|---|---|"]
        for row in rows:
            if row.path.split("/")[0] == room:
                text = _code(row.text).replace("|", "\\|")
                lines.append(f"| {text} | {row.error}, {classes[row.error]} | `{row.path}` |")
        lines.append("")
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        current = TARGET.is_file() and TARGET.read_text("utf-8") == text
        print("docs/errors.md is current" if current else "docs/errors.md is not current: run scripts/write_errors.py")
        return 0 if current else 1
    TARGET.write_text(text, "utf-8")
    print("wrote docs/errors.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
