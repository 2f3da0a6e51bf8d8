#!/usr/bin/env python3
"""Draw docs/images/architecture.svg from the package's imports: python scripts/draw_architecture.py [--check]

Layers and captions come from LAYERS, imports from the code. Imports of the ground layer are omitted, as every module
may have them. Exit status 1 if a folder is missing in LAYERS or an import points upwards; with --check, which writes
nothing, also if the picture is not up to date.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ppliteseg_paddle"
TARGET = ROOT / "docs" / "images" / "architecture.svg"

# Top layer first: (name of the layer, ((module, caption, ...), ...)).
LAYERS = (
    ("commands", (("cli", "one file per command:", "flags in, a dict out"),)),
    (
        "services",
        (
            ("benchmark", "protocols, timing, report;", "studies/ compare with PaddleSeg"),
            ("report", "training runs", "as one page"),
            ("serve", "page and API,", "batches what waits"),
            ("diagnosis", "what is installed and works,", "for doctor"),
        ),
    ),
    ("export", (("export", "copy, convert, check, compare,", "describe; one file per format"),)),
    (
        "run",
        (
            ("engine", "build, train, val, checkpoint;", "loop/: PaddleSeg's loop", "callbacks/: progress, curves"),
            ("deploy", "artifact, runtimes, Predictor,", "pipeline, video;", "never imports PaddleSeg"),
        ),
    ),
    (
        "parts",
        (
            ("data", "dataset, transforms,", "cache, check, prepare/"),
            ("synth", "generator of", "street scenes"),
            ("losses", "cross entropy, OHEM", "from small logits"),
            ("models", "STDC, SPPM, UAFM,", "FLD; fused/: oneDNN"),
            ("weights", "formats, names,", "downloads"),
            ("visual", "overlays, grids,", "plots"),
        ),
    ),
    (
        "input",
        (
            ("config", "YAML, variables,", "checks of keys"),
            ("reading", "one reader each for images,", "labels and lists"),
        ),
    ),
    (
        "ground",
        (
            ("registry", "our components", "in PaddleSeg"),
            ("environment", "what Paddle needs", "before its import"),
            ("compat", "fixes of PaddleSeg", "and Paddle"),
            ("compat_losses", "its losses on", "Paddle 3"),
            ("files", "atomic", "writes"),
            ("outputs", "what commands wrote", "may be replaced"),
            ("progress", "bars where a", "terminal is"),
            ("signals", "as exceptions;", "workers' ends"),
            ("signal_watch", "what the system", "answers"),
            ("errors", "one-line errors,", "exit statuses"),
            ("causes", "their causes,", "for the docs"),
        ),
    ),
)

WIDTH, LABEL, TOP, GAP, ROW_GAP, LINE = 1280, 136, 16, 14, 22, 18
USES_WIDTH = 6.8  # pixels of a character
FILLS = ("#fde9d9", "#fdf3d0", "#eaf4d3", "#dcefe0", "#dbeaf7", "#e5e2f5", "#eceff1")


def imports() -> set[tuple[str, str]]:
    """(importing module, imported module) of the package's first level."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        importer = path.relative_to(PACKAGE).parts[0].replace(".py", "")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
                parts = node.module.split(".")
                imported = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
                imported = [parts[1] for parts in names if parts[0] == PACKAGE.name and len(parts) > 1]
            else:
                continue
            found |= {(importer, module) for module in imported if module != importer}
    return found


def faults(edges: set[tuple[str, str]], depth: dict[str, int]) -> list[str]:
    """What the picture could not show truthfully."""
    modules = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    modules -= {name for name in modules if name.startswith("__")}
    found = [f"{name} has no place in LAYERS" for name in sorted(modules - set(depth))]
    found += [f"{name} of LAYERS does not exist" for name in sorted(set(depth) - modules)]
    return found + [f"{a} imports {b}, which lies above it" for a, b in sorted(edges) if depth[a] > depth[b]]


def draw(edges: set[tuple[str, str]]) -> str:
    """The picture as SVG: a row of boxes for each layer, in each box what it imports above the ground."""
    ground = {name for name, *_ in LAYERS[-1][1]}
    shapes, texts, y = [], [], TOP
    for fill, (layer, boxes) in zip(FILLS, LAYERS):
        width = (WIDTH - LABEL - GAP * len(boxes)) / len(boxes)
        uses = {
            name: _wrapped(sorted(b for a, b in edges if a == name and b not in ground), width) for name, *_ in boxes
        }
        height = 36 + LINE * max(len(captions) + max(1, len(uses[name])) for name, *captions in boxes)
        texts.append(f'<text class="layer" x="{LABEL - 14}" y="{y + height / 2 + 5:.0f}">{layer}</text>')
        if y > TOP:
            shapes.append(f'<path d="M{(WIDTH + LABEL) / 2 - 10:.0f},{y - 16} h20 l-10,11 z"/>')
        for index, (name, *captions) in enumerate(boxes):
            x = LABEL + index * (width + GAP)
            shapes.append(f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{height}" rx="8" fill="{fill}"/>')
            lines = [("name", name), *(("", caption) for caption in captions)]
            lines += [("uses", text) for text in uses[name]]
            for line, (kind, text) in enumerate(lines):
                place = f'x="{x + width / 2:.0f}" y="{y + 23 + LINE * line + 2 * (kind != "name")}"'
                texts.append(f'<text class="{kind}" {place}>{escape(text)}</text>')
        y += height + ROW_GAP
    style = (
        "text{font:13px 'DejaVu Sans',Arial,sans-serif;text-anchor:middle;fill:#37474f}"
        ".name{font:bold 16px 'DejaVu Sans Mono',Consolas,monospace;fill:#102027}"
        ".uses{font:11px 'DejaVu Sans Mono',Consolas,monospace;fill:#1a5c8a}"
        ".layer{font:italic 14px 'DejaVu Sans',Arial,sans-serif;text-anchor:end;fill:#607d8b}"
        "rect{stroke:#90a4ae}path{fill:#90a4ae}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - ROW_GAP + TOP}" role="img">',
            "<title>The layers of ppliteseg_paddle and what each module imports</title>",
            f'<style>{style}</style><rect width="100%" height="100%" fill="white" style="stroke:none"/>',
            *shapes,
            *texts,
            "</svg>\n",
        ]
    )


def _wrapped(names: list[str], width: float) -> list[str]:
    """What a box imports, in lines that fit into it."""
    return textwrap.wrap("\u2192 " + " ".join(names), int(width / USES_WIDTH)) if names else []


def main(arguments: list[str]) -> int:
    """Write or check the picture; 1 if the code contradicts it."""
    depth = {name: number for number, (_, boxes) in enumerate(LAYERS) for name, *_ in boxes}
    edges = {(a, b) for a, b in imports() if a in depth and b in depth}
    found = faults(edges, depth)
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    picture = draw(edges)
    if "--check" in arguments:
        if picture != TARGET.read_text("utf-8"):
            print(
                f"{TARGET.relative_to(ROOT)} is not up to date: run python scripts/draw_architecture.py",
                file=sys.stderr,
            )
            return 1
        return 0
    TARGET.write_text(picture, "utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
