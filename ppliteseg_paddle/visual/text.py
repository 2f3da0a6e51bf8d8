"""Text of any script in pictures: by a font that has its characters, else transliterated; never as boxes.

Fonts are tried in this order: Pillow's own (Latin), those of the package `weblate-fonts` (the extra `fonts`: nearly all
scripts), DejaVu as OpenCV's and matplotlib's packages bring it (Cyrillic, Greek, Arabic, ...), and the system's.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

# package -> its fonts. One that has no font for all of a text is of no use for it, so the widest come first.
_PACKAGED = {
    "weblate_fonts": [
        f"static/weblate_fonts/kurinto/ttf/KurintoSans{script}-Rg.ttf" for script in ("", "SC", "JP", "KR", "TC")
    ],
    "cv2": ["qt/fonts/DejaVuSans.ttf"],
    "matplotlib": ["mpl-data/fonts/ttf/DejaVuSans.ttf"],
}
# Names that Pillow finds in the folders of Windows, macOS and Linux.
_SYSTEM = (
    *("arial.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
    *("NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf"),
)
_NO_CHARACTER = "\U0010fffe"  # which no font has: what is drawn in its place is drawn for all that a font lacks
_SHAPED = ((0x0590, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFF))
_PROBE_SIZE = 20


def font_for(text: str, size: int) -> tuple[Any, str]:
    """A font for a text, and the text as it is to be drawn: with characters that no font has transliterated.

    Args: size: in pixels.
    """
    path, drawn = _choice(text)
    return _font(path, size), drawn


def font_file_for(text: str) -> tuple[str, str]:
    """`font_for` for programs that neither join Arabic letters nor place Indic vowels, as matplotlib does not: scripts
    that need it are transliterated.

    Returns: the path of a font, "" where any Latin font will do; the text as it is to be drawn.
    """
    path, drawn = _choice(text, False)
    return str(_font(path, _PROBE_SIZE).path) if path else "", drawn


def text_width(text: str, size: int) -> float:
    """Pixels."""
    font, drawn = font_for(text, size)
    return float(font.getlength(drawn))


def shortened(text: str, size: int, width: float) -> str:
    """A text, cut to `width` pixels; its end is an ellipsis then."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text.rstrip() + "..."


@functools.lru_cache(maxsize=1024)
def _choice(text: str, shapes: bool | None = None) -> tuple[str, str]:
    """The path of a font, "" for Pillow's own, and the text in characters that it has.

    Args: shapes: whether what draws it joins letters; None: as Pillow does here.
    """
    shapes = _shapes() if shapes is None else shapes
    needed = {char for char in text if not char.isspace()}
    shaping = any(low <= ord(char) <= high for char in needed for low, high in _SHAPED) and not shapes
    if not shaping:
        for path in _paths(frozenset(needed)):
            if not any(_lacks(path, char) for char in needed):
                return path, text
    from anyascii import anyascii

    # What is left of a text without its foreign characters is drawn by the font that has most of it.
    best = min(("", *_packaged()), key=lambda path: sum(_lacks(path, char) for char in needed))
    lost = {char for char in needed if shaping or _lacks(best, char)}
    drawn = "".join((anyascii(char) or _placeholder(char)) if char in lost else char for char in text)
    return (best if any(not char.isascii() for char in drawn) else ""), drawn


def _placeholder(char: str) -> str:
    """For a character that is not transliterated: nothing for marks and those that are not seen."""
    return "" if unicodedata.category(char)[0] in "CM" else "?"


def _paths(needed: frozenset[str]) -> Iterator[str]:
    """Fonts that may have all of these characters; looking for them costs more from one to the next."""
    yield ""
    if all(char.isascii() for char in needed):
        return
    yield from _packaged()
    yield from filter(_opens, _SYSTEM)
    yield from filter(_opens, _listed(needed))


@functools.cache
def _packaged() -> tuple[str, ...]:
    found = []
    for package, names in _PACKAGED.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            found += [path for path in (os.path.join(folder, *name.split("/")) for name in names) if _opens(path)]
    return tuple(found)


def _listed(needed: frozenset[str]) -> list[str]:
    """The system's fonts that have all of these characters, as fontconfig knows them."""
    program = shutil.which("fc-list")
    if program is None:
        return []
    charset = " ".join(f"{ord(char):x}" for char in sorted(needed))
    try:
        done = subprocess.run(  # noqa: S603 - fc-list, with numbers as arguments
            [program, f":charset={charset}", "file"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted(line.strip().rstrip(":") for line in os.fsdecode(done.stdout).splitlines() if line.strip())


@functools.cache
def _opens(path: str) -> bool:
    try:
        _font(path, _PROBE_SIZE)
    except OSError:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _font(path: str, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@functools.cache
def _lacks(path: str, char: str) -> bool:
    """Whether a font draws for this character what it draws for those that it does not have, or nothing."""
    drawn, absent = (_font(path, _PROBE_SIZE).getmask(text) for text in (char, _NO_CHARACTER))
    return drawn.getbbox() is None or (drawn.size == absent.size and bytes(drawn) == bytes(absent))


@functools.cache
def _shapes() -> bool:
    """Whether Pillow can join Arabic letters and place Indic vowels."""
    from PIL import features

    return bool(features.check("raqm"))
