"""List, show and copy the shipped configurations, which --config takes by their names, and explain their keys.

ppliteseg configs list
ppliteseg configs show ppliteseg_t_camvid_480x360
ppliteseg configs copy ppliteseg_t_camvid_480x360 mine.yml
ppliteseg configs keys
ppliteseg configs keys PPLiteSegNet
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="names and what they are for", allow_abbrev=False)
    show = actions.add_parser("show", help="print one as a single file, its bases merged", allow_abbrev=False)
    copy = actions.add_parser("copy", help="write one as a single file, to change it", allow_abbrev=False)
    for each in (show, copy):
        each.add_argument("name", metavar="NAME", help="of `configs list`, or a .yml file")
    copy.add_argument("file", metavar="FILE", nargs="?", help="file to write (default: NAME.yml)")
    keys = actions.add_parser("keys", help="what keys there are and what each means", allow_abbrev=False)
    keys.add_argument(
        "block", metavar="BLOCK", nargs="?", default="", help="a block or a type (default: the keys of the top level)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "list":
        return {"action": "list", "configs": _listed()}
    if args.action == "keys":
        return {"action": "keys", "block": args.block, "keys": _keys(args.block), "blocks": _blocks()}
    text = _as_one_file(args.name)
    if args.action == "show":
        return {"action": "show", "name": args.name, "text": text}
    path = args.file or re.sub(r"\.ya?ml$", "", os.path.basename(args.name)) + ".yml"
    return {"action": "copy", "name": args.name, "written": _write(text, path)}


def summary(result: dict[str, Any]) -> str:
    if result["action"] == "show":
        return result["text"].rstrip("\n")
    if result["action"] == "keys":
        return _explained(result)
    if result["action"] == "copy":
        return f"wrote {result['written']}\nnext: ppliteseg train --config {result['written']} --do_eval"
    width = max(len(row["name"]) for row in result["configs"])
    return "\n".join(f"{row['name']:{width}}  {row['about']}" for row in result["configs"])


def _listed() -> list[dict[str, Any]]:
    from ppliteseg_paddle.config.read import shipped_configs

    return [{"name": name, "about": _about(path), "path": path} for name, path in shipped_configs().items()]


def _blocks() -> list[str]:
    from ppliteseg_paddle.config.keys import KEYS

    return [place for place in dict.fromkeys(key.place for key in KEYS) if place]


def _keys(block: str) -> list[dict[str, str]]:
    from ppliteseg_paddle.config.reference import rows
    from ppliteseg_paddle.errors import ConfigError, suggest

    if block and block not in _blocks():
        raise ConfigError(f"configs keys: there is no block or type '{block}'.{suggest(block, _blocks())}")
    return [{name: cell.replace("`", "") for name, cell in row._asdict().items()} for row in rows(block)]


def _explained(result: dict[str, Any]) -> str:
    """A line for each key, with its value and default below."""
    from ppliteseg_paddle.config.keys import REQUIRED

    lines = []
    for row in result["keys"]:
        default = row["default"] if row["default"] == REQUIRED else f"default: {row['default']}"
        lines += [f"{row['key']}: {row['meaning']}", f"    {row['value']}{', ' + default if row['default'] else ''}"]
    blocks = ", ".join(name for name in result["blocks"] if name != result["block"])
    return "\n".join([*lines, f"further blocks and types (ppliteseg configs keys BLOCK): {blocks}"])


def _about(path: str) -> str:
    """The first sentence of the comment that a file begins with."""
    text = " ".join(_comment(path).replace("#", " ").split())
    end = text.find(". ")
    return text if end < 0 else text[:end]


def _comment(path: str) -> str:
    """The comment that a file begins with."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                break
            lines.append(line)
    return "".join(lines)


def _as_one_file(name: str) -> str:
    import yaml

    from ppliteseg_paddle.config.read import find
    from ppliteseg_paddle.config.source import Source, read_with_bases, without_marks

    source = Source(find(name))
    values = without_marks(read_with_bases(source.path, source))
    return _comment(source.path) + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _write(text: str, path: str) -> str:
    from ppliteseg_paddle.errors import ConfigError
    from ppliteseg_paddle.files import write_bytes

    if not path.endswith((".yml", ".yaml")):
        raise ConfigError(f"configs copy: {path} must end in .yml or .yaml.")
    if os.path.lexists(path):
        raise ConfigError(f"configs copy: {path} exists; give another FILE.")
    write_bytes(path, text.encode())
    return path
