#!/usr/bin/env python3
"""mypy with a ratchet: python scripts/check_types.py [--update]

`type_errors.txt` beside this file says how many errors a room of the package may have; a room that is not listed may
have none. More errors fail, and so do fewer, so that the number is lowered: `--update` does it, and never raises one.
Which rooms are checked strictly is said in pyproject.toml.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = ROOT / "scripts" / "type_errors.txt"
_ERROR = re.compile(r"^ppliteseg_paddle[/\\](\w+)(?:\.py)?[^:]*:\d+: error: ")


def allowed_errors(text: str) -> dict[str, int]:
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {room: int(count) for room, count in rows}


def by_room(lines: Iterable[str]) -> dict[str, list[str]]:
    """mypy's errors by the package or module below `ppliteseg_paddle` in which they are."""
    found = defaultdict(list)
    for line in lines:
        match = _ERROR.match(line)
        if match:
            found[match.group(1)].append(line)
    return dict(found)


def report(found: Mapping[str, list[str]], allowed: Mapping[str, int]) -> list[str]:
    """What is wrong, line by line; nothing if every room has exactly the errors that it may have."""
    lines = []
    for room in sorted({*found, *allowed}):
        errors, limit = found.get(room, []), allowed.get(room, 0)
        if len(errors) > limit:
            lines += [*errors, f"{room}: {len(errors)} type errors, {limit} allowed"]
        elif len(errors) < limit:
            lines.append(f"{room}: {len(errors)} type errors, {limit} allowed: python scripts/check_types.py --update")
    return lines


def lowered(text: str, found: Mapping[str, list[str]]) -> str:
    """The table with every number that may fall lowered; rows that reach 0 go."""
    head = [line for line in text.splitlines() if line.startswith("#")]
    counts = {room: min(count, len(found.get(room, []))) for room, count in allowed_errors(text).items()}
    return "\n".join(head + [f"{room} {count}" for room, count in sorted(counts.items()) if count]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="mypy with a ratchet")
    parser.add_argument("--update", action="store_true", help="lower the numbers to those found")
    args = parser.parse_args()
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--no-color-output", "--hide-error-context"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603 - this Python, fixed arguments
    if done.returncode not in (0, 1):
        print(done.stdout + done.stderr, file=sys.stderr)
        return 2
    found, text = by_room(done.stdout.splitlines()), ALLOWED.read_text("utf-8")
    if args.update:
        text = lowered(text, found)
        ALLOWED.write_text(text, "utf-8")
    lines = report(found, allowed_errors(text))
    print("\n".join(lines) or f"{sum(map(len, found.values()))} type errors, as allowed")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
