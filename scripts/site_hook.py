"""For MkDocs: README and its neighbours are pages of the site, and links work in it as they do in the repository."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# Pages outside docs/, in the repository -> in the site.
OUTSIDE = {**{path.name: path.name for path in ROOT.glob("[A-Z]*.md")}, "README.md": "index.md"}
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and the configurations and licences that pages link to, as files."""
    for source, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for path in [*ROOT.glob("configs/**/*.yml"), *ROOT.glob("scripts/*"), ROOT / "LICENSE", ROOT / "NOTICE"]:
        if path.is_file():
            uri = f"source/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, uri + ("" if path.suffix else ".txt"), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn each link to a file of the repository into one to its place in the site; what the site does not have, such
    as a folder, keeps its text alone."""
    inside = {uri: source for source, uri in OUTSIDE.items()}
    here = inside.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def place(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        if re.match(r"[a-z]+:", target):
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        candidates = [OUTSIDE.get(path), path.removeprefix("docs/") if path.startswith("docs/") else None]
        candidates += [f"source/{path}", f"source/{path}.txt"]
        for uri in candidates:
            if uri and files.get_file_from_path(uri):
                return f"{text}({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor or ''})"
        return match.group() if text.startswith("!") else text[1:-1]

    return _LINK.sub(place, markdown)
