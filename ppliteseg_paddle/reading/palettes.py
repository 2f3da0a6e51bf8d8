"""Colors for any number of classes, and colors from a file.

Pure Python, so that the command line and the exported model's metadata can read it for free.
"""

from __future__ import annotations

import re

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.lists import read_lines

RGB = tuple[int, int, int]
OPACITY = 0.55  # of colors over an image
OVERLAY_SCALE = 1.0  # of an overlay's sides, beside its image's

# 256 colors, each as far as possible from all before it, for normal sight and for protan, deutan and tritan sight
# (Machado, Oliveira and Fernandes 2009, full severity): the smallest of the four distances in CIELAB counts.
# Consecutive ones are at least 30 apart, any two of the first 12 at least 20, and all stay away from black, white and
# the color of unlabeled pixels.
_TABLE = (
    "0060c0ff8000ffe0e080604040c0ff8000ffa0c080c060a000ff60802060e02000c0a0a06020808000004020c0c0e0ff"
    "e020ffa0ffa000a040c0ff000080ff800040e080e0808080ffc040008000c02060a040a0ff6040c0c0a060606080c060"
    "ff80c0a080608000a0e0c0c0604080a0c0e0806080e020e080404060e060a0a08060402080ffc0a060c0a0e080a080c0"
    "4040e0c080a0c0e0a0c080ffffa0402040a0ffe040a020c060e0e0a060e0ff4020ff80ff0000ffe060e08040ff0080c0"
    "a0002000c0c0ff4060e0c0ffc00000ffc0e0a060ff40404080a06040e0406080a0c080206060a0e0a020406020a00080"
    "6000e02060408040e060c000c02080e0e060404060e06040e0c000ff80a080ff80404000206080c080800000e0ffa080"
    "2040ffc0a0c0a0600040a08060ffff8040a060ffe0ff00c080e000ff40e0208060a040e0a0c04040a0e00040c0ff4040"
    "8040c0a0a0408000e0a0a0ff4000c0a060404020a0e08080800060e0a0600060a0a0402060ff40e08060c0e0c0e040a0"
    "ffc080a06080ffe0ffe0800000e0c0804020e0c060ff40c0e00040c0a0e08020e0ffa0ff808000206060ff00208080e0"
    "ffe0c06020c080e0a08080ff60604000c0a0806000ffa0c0e00060a0ff60a0606080200000e0ffe00080e0c0e0808060"
    "ffe08040408080c0c060608080c0a08020408080c040e080e0e00000c060a020ffc0a080a0e040ffa0a0c0a0ffc0a000"
    "a080ff4080200020ffe08040004060e080a08020a0a0e0e08040606060e0c020402080a0a040ffffe0a0c06080c0a060"
    "a0c0ffa080008080a0a00040c0c0e0c020a0a02000e0e0a0c000806000a060ffa0a040c0e0c080c020c0a00000ffa060"
    "c0006080a040a0204040c040404020ff602020c080606000c0c000c02020e080c0a0a00020a060ff40ffc0a040c020e0"
    "e04040604060c0c060e04080a0a0e0ff2060a0e0c0608040e0c0a0c0404000e0a0800020a0c0a0804080a0c0c0c04060"
    "a0e0ff608000c0e06080c0e080a000c020ff80c080ff4000a0a0a08020c0006020ffa000c0200080c0ffa0c060c000c0"
)
COLORS: tuple[RGB, ...] = tuple(
    (int(_TABLE[i : i + 2], 16), int(_TABLE[i + 2 : i + 4], 16), int(_TABLE[i + 4 : i + 6], 16))
    for i in range(0, len(_TABLE), 6)
)
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")


def further_colors(count: int) -> tuple[RGB, ...]:
    """`count` colors beyond `COLORS`, different from those and from each other; consecutive ones lie far apart.

    Returns: () for a `count` below 1.
    """
    found: list[RGB] = []
    used, code = set(COLORS), 0
    while len(found) < count:
        code = (code + 0x9E3779) & 0xFFFFFF  # odd, so that every color occurs once
        color = (code >> 16, code >> 8 & 255, code & 255)
        if color not in used and 96 <= sum(color) <= 640:  # neither nearly black nor nearly white
            found.append(color)
    return tuple(found)


def read_colors(path: str) -> list[tuple[RGB, str]]:
    """Colors and names from a text file, one class a line, in the order of their ids.

    A line holds `R G B name` or `name R G B` (blanks, tabs or commas between), or `#rrggbb name`; the name is optional
    and may hold blanks. Blank lines and lines that begin with `//` or `# ` are skipped.

    Raises: DataError: for a line of another form, with its number; for a color that occurs twice.
    """
    rows: list[tuple[RGB, str]] = []
    first: dict[RGB, int] = {}
    for number, line in read_lines(path, "palette"):
        if line.startswith("//"):  # CamVid's own comments
            continue
        color, name = _parse(line, path, number)
        if color in first:
            raise DataError(
                f"{path}:{number:d}: the color {' '.join(map(str, color))} is that of line {first[color]:d}, too; "
                "each class needs a color of its own."
            )
        first[color] = number
        rows.append((color, name))
    if not rows:
        raise DataError(f"palette {path} is empty: it needs one 'R G B name' a line.")
    return rows


def _parse(line: str, path: str, number: int) -> tuple[RGB, str]:
    fields = [field for field in re.split(r"[\s,;]+", line) if field]
    match = _HEX.fullmatch(fields[0]) if fields else None
    if match and (fields[0].startswith("#") or not fields[0].isdigit()):
        code = match.group(1)
        return (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)), " ".join(fields[1:])
    for numbers, words in ((fields[:3], fields[3:]), (fields[-3:], fields[:-3])):
        if len(numbers) == 3 and all(re.fullmatch("[0-9]{1,3}", field) and int(field) <= 255 for field in numbers):
            return (int(numbers[0]), int(numbers[1]), int(numbers[2])), " ".join(words)
    raise DataError(
        f"{path}:{number:d}: expected 'R G B name' with numbers from 0 to 255, or '#rrggbb name', found '{line[:80]}'."
    )
