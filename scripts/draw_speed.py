#!/usr/bin/env python3
"""Draw docs/images/speed.svg, README's figure, from the tables of docs/performance.md:

    python scripts/draw_speed.py [--check]

With --check, which writes nothing, exit status 1 if the figure is not up to date.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "speed.svg"
WIDTH, TOP, BAR, GAP = 1000, 70, 18, 8
PANELS = ((24, 98), (480, 164))  # left side, width of the labels
UNIT = 33  # pixels that mean "once as fast"
FILLS = ("#4253d6", "#f0913a")
MACHINES = ("two EPYC cores (AVX2)", "two Xeon cores (VNNI, AMX)")


class Bar(NamedTuple):
    label: str
    ratio: str
    fill: str


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[0]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines()][2:]


def training_bars(text: str) -> list[Bar]:
    """A bar for each Paddle: how many steps ours takes in the time of one of PaddleSeg's."""
    bars, paddle = [], ""
    for version, whose, *_, ratio in rows_of(text, "Training step"):
        paddle = version or paddle
        if whose == "ours":
            bars.append(Bar(f"Paddle {paddle}", ratio, FILLS[1]))
    return bars


def inference_bars(text: str) -> list[Bar]:
    """Two bars for each runtime that is faster: on the processor without VNNI, and on that with it."""
    bars = []
    for whose, _, old, _, new in rows_of(text, "Inference on the CPU"):
        label = whose.removeprefix("ours, ")
        if whose != label and float(new) > 1:
            bars += [Bar(label, old, FILLS[0]), Bar("", new, FILLS[1])]
    return bars


def draw(text: str) -> str:
    """The figure as SVG."""
    shapes: list[str] = []
    training, inference = training_bars(text), inference_bars(text)
    bottom = TOP + max(len(training), len(inference)) * (BAR + GAP)
    panels = (("A training step", training, 2), ("Inference, 1024x512", inference, 1))
    for (left, labels), (title, bars, lines) in zip(PANELS, panels):
        start = left + labels
        shapes.append(f'<text class="title" x="{left}" y="28">{title}: times as fast as PaddleSeg’s own</text>')
        for number, bar in enumerate(bars):
            y = TOP + number * lines * (BAR + GAP) + (lines - 1) * (BAR + GAP) // 2
            y += 0 if bar.label else -GAP + 2  # pairs stand close together
            width = float(bar.ratio) * UNIT
            shapes.append(f'<rect x="{start}" y="{y}" width="{width:.0f}" height="{BAR}" rx="3" fill="{bar.fill}"/>')
            shapes.append(f'<text x="{start + width + 7:.0f}" y="{y + 14}">{bar.ratio}</text>')
            if bar.label:
                place = f'x="{start - 9}" y="{y + 14 + (2 - lines) * (BAR + 2) // 2}"'
                shapes.append(f'<text class="label" {place}>{escape(bar.label)}</text>')
        shapes.append(f'<path d="M{start + UNIT},{TOP - 8} V{bottom}"/>')
    x = PANELS[0][0]
    for name, fill in zip(MACHINES, FILLS):
        shapes.append(f'<rect x="{x}" y="40" width="12" height="12" rx="3" fill="{fill}"/>')
        shapes.append(f'<text x="{x + 18}" y="51">{name}</text>')
        x += 200
    style = (
        "text{font:13px 'DejaVu Sans',Arial,sans-serif;fill:#37474f}.label{text-anchor:end}"
        ".title{font-weight:bold;font-size:14px;fill:#102027}path{stroke:#90a4ae;stroke-dasharray:4 4}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 12}" role="img">',
            "<title>How many times as fast as PaddleSeg's own PP-LiteSeg</title>",
            f'<style>{style}</style><rect width="100%" height="100%" rx="8" fill="white"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write or check the figure."""
    figure = draw(SOURCE.read_text("utf-8"))
    if "--check" in arguments:
        if figure != (TARGET.read_text("utf-8") if TARGET.exists() else ""):
            print(f"{TARGET.relative_to(ROOT)} is not up to date: run python scripts/draw_speed.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(figure, "utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
