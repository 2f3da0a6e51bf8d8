#!/usr/bin/env python3
"""Find words that users would not search for: python scripts/check_words.py [FILE ...]

Markdown, YAML and shell files are read as they stand; of Python files, the comments, strings and identifiers. A phrase
is found across line breaks and across adjacent string literals. Prints file:line, the word and what to write instead;
exit status 1 if any is found. Without FILE every tracked text of the repository is checked.

An exception belongs in ALLOWED, with its reason.
"""

from __future__ import annotations

import fnmatch
import io
import keyword
import re
import subprocess
import sys
import tokenize
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".md", ".yml", ".yaml", ".sh", ".toml", ".cff"}
EVERYWHERE = ("*",)
# Elsewhere floors are those of houses and of the layers of the architecture.
SPEED = ("docs/performance.md", "docs/benchmark.md", "docs/studies/*", "ppliteseg_paddle/benchmark/*", "README.md")
IDENTIFIERS = "identifiers"


class Word(NamedTuple):
    pattern: (
        str  # a regular expression, matched without case and between word boundaries; a space matches any white space
    )
    instead: str
    where: tuple[str, ...] = EVERYWHERE  # globs of paths
    kind: str = "any"  # or IDENTIFIERS


BANNED = (
    Word(r"mend(?:s|ed|ing)?", "fix"),
    Word(r"whole numbers?", "integer"),
    Word(r"(?:go|goes|going|went|gone) past", "skip"),
    Word(r"(?:go|goes|going|went) on", "continue, resume"),
    Word(r"peers?", "baseline"),
    Word(r"floors?", "roofline", SPEED),
    Word(r"colour\w*", "color"),
    Word(r"grey(?:s|ed)?", "gray"),
    Word(r"or so", "about"),
    Word(r"(?:stand|stands|stood) at", "is, reaches"),
    Word(r"what (?:it|that|this) costs", "the cost of"),
    Word(r"judges?", "evaluator, server"),
    Word(r"(?:meet|meets|meeting|meetings)", "barrier, synchronize; reach"),
    Word(r"(?:file|name|name's|names|file's) endings?", "extension"),
    Word(r"whole or not at all|written whole", "atomically, complete"),
    Word(r"settle[sd]?", "choose, calibrate"),
    Word(r"observers?", "callback"),
    Word(r"of ours|people's own|brings? along", "our; a user's own; contains"),
    Word(r"(?:there )?(?-i:is none)", "is missing, does not exist"),  # not `is None` in an f-string
    Word(r"left out|leaves? out|leaving out", "skipped, omitted"),
    Word(r"^most(?! common)|most$|^least|least$", "max, min", kind=IDENTIFIERS),
)

# glob of paths -> (regular expression of the line, reason)
ALLOWED = (
    ("scripts/check_words.py", r".", "the list itself"),
    ("tests/engine/loop/test_distributed.py", r"reset by peer", "a message of the operating system"),
    ("ppliteseg_paddle/engine/loop/launcher.py", r"sync_peers", "a name of Paddle"),
    ("CHANGELOG.md", r"--colours|`mend`", "names the flag and the JSON key that are gone"),
    ("ppliteseg_paddle/benchmark/studies/roofline.py", r'"Floor"', "an operator of ONNX"),
)


class Text(NamedTuple):
    """A piece of one file with the line of each of its parts."""

    kind: str
    parts: list[tuple[int, str]]


def _texts(path: Path) -> Iterator[Text]:
    source = path.read_text("utf-8")
    if path.suffix != ".py":
        yield Text("text", [(number, line) for number, line in enumerate(source.splitlines(), 1)])
        return
    comments: list[tuple[int, str]] = []
    strings: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "COMMENT":
            if comments and token.start[0] > comments[-1][0] + 1:
                yield Text("comment", comments)
                comments = []
            comments.append((token.start[0], token.string.lstrip("#! ")))
        elif name in ("STRING", "FSTRING_MIDDLE"):
            first, inside = token.start[0], token.string
            if name == "STRING":
                inside = re.sub(r"""^[A-Za-z]*("{3}|'{3}|"|')(.*)\1$""", r"\2", inside, flags=re.DOTALL)
            strings.extend((first + offset, line) for offset, line in enumerate(inside.split("\n")))
        elif name in ("NL", "FSTRING_START", "FSTRING_END"):
            continue
        else:
            if name == "NAME" and not keyword.iskeyword(token.string):
                words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", token.string).strip("_").replace("_", " ")
                yield Text(IDENTIFIERS, [(token.start[0], words)])
            if strings:
                yield Text("string", strings)
                strings = []
    yield Text("comment", comments)
    yield Text("string", strings)


def _compile(word: Word) -> re.Pattern[str]:
    return re.compile(r"(?<![\w-])(?:" + word.pattern.replace(" ", r"\s+") + r")(?![\w-])", re.IGNORECASE)


PATTERNS = [(word, _compile(word)) for word in BANNED]


def findings(path: Path, name: str) -> Iterator[tuple[int, str, str]]:
    """(line, what was found, what to write instead) for one file; `name` is its path in the repository."""
    words = [(word, pattern) for word, pattern in PATTERNS if any(fnmatch.fnmatch(name, glob) for glob in word.where)]
    lines = path.read_text("utf-8").splitlines()
    allowed = [re.compile(line) for glob, line, _ in ALLOWED if fnmatch.fnmatch(name, glob)]
    for text in _texts(path):
        starts, joined = [], ""
        for _, part in text.parts:
            starts.append(len(joined))
            # A literal that ends in a space is joined to the next one without another.
            joined += part if part.endswith(" ") else part + " "
        joined = joined.rstrip()
        for word, pattern in words:
            if word.kind == IDENTIFIERS and text.kind != IDENTIFIERS:
                continue
            for match in pattern.finditer(joined):
                number = text.parts[bisect_right(starts, match.start()) - 1][0]
                if not any(line.search(lines[number - 1]) for line in allowed):
                    yield number, " ".join(match.group().split()), word.instead


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z"]  # the git of the PATH, as a contributor's shell takes it
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)  # noqa: S603 - fixed arguments
    names = done.stdout.decode().split("\0")
    return [ROOT / name for name in names if Path(name).suffix in SUFFIXES and (ROOT / name).is_file()]


def main(arguments: list[str]) -> int:
    """Print every finding; 1 if there is one, else 0."""
    found = 0
    for path in [Path(argument).resolve() for argument in arguments] or tracked():
        name = path.relative_to(ROOT).as_posix() if ROOT in path.parents else path.as_posix()
        for number, word, instead in sorted(findings(path, name)):
            print(f"{name}:{number}: {word!r}: write {instead}")
            found += 1
    if found:
        print(
            f"{found} found. An exception belongs in ALLOWED of scripts/check_words.py, with its reason.",
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
