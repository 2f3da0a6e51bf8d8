"""The page: one document with its style and its script in it, so that it loads nothing else, and a policy that says so
to the browser."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent
_STYLES, _SCRIPTS = ("page.css",), ("masks.js", "sources.js", "page.js")


class Page(NamedTuple):
    """`content` of the document, and its Content-Security-Policy."""

    content: bytes
    policy: str


@lru_cache(maxsize=1)
def load_page() -> Page:
    style, script = (
        "\n" + "\n".join((_FOLDER / name).read_text("utf-8") for name in names) for names in (_STYLES, _SCRIPTS)
    )
    document = (_FOLDER / "page.html").read_text("utf-8")
    for mark, text in (
        ("<style></style>", f"<style>{style}</style>"),
        ("<script></script>", f"<script>{script}</script>"),
    ):
        document = document.replace(mark, text)
    rules = {
        "default-src": "'none'",
        "style-src": f"'sha256-{_hash(style)}'",
        "script-src": f"'sha256-{_hash(script)}'",
        "connect-src": "'self'",
        "img-src": "blob: data:",
        "media-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Page(document.encode(), "; ".join(f"{name} {value}" for name, value in rules.items()))


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
