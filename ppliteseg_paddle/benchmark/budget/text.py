"""What `ppliteseg benchmark --budget_ms` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.benchmark.tables import describe_machine, text_table
from ppliteseg_paddle.progress import duration

# Half of a point's calls further apart than this share of their median: another program was busy.
_NOISY = 0.2


def budget_text(result: Mapping[str, Any]) -> str:
    """The points, those that nothing beats marked; the best within the budget; what to do next."""
    width, height = result["image_size"]
    parts = [
        f"images of {width}x{height}, one at a time, from decoded pixels to a mask of the image's size; networks with "
        f"random weights\n{describe_machine(result['machine'])}",
        _table(result),
        "\n".join(_notes(result)),
        _verdict(result),
    ]
    if result["commands"]:
        parts.append("\n".join(["next:", *("  " + command for command in result["commands"])]))
    return "\n\n".join(filter(None, parts))


def _table(result: Mapping[str, Any]) -> str:
    header = ["", "input", "scale", "precision", "runtime", "ms", "images/s", "mIoU %", ""]
    lines = []
    for row in result["rows"]:
        height, width = row["input_size"]
        marks = ("*" if row["on_front"] else "") + (" best" if row["name"] == result["best"] else "")
        lines.append(
            [
                row["network"],
                f"{width:d}x{height:d}",
                f"{row['scale']:g}",
                row["precision"],
                row["backend"]["name"],
                f"{row['latency_ms']:.1f}",
                f"{row['fps']:.1f}",
                "-" if row["miou"] is None else f"{row['miou']:.2f}",
                marks,
            ]
        )
    return text_table(header, lines)


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = ["* no measured point is known to be as accurate and faster"]
    if result["miou_on"]:
        notes.append(
            f"mIoU: published by PaddleSeg for FP32 on {result['miou_on']} (images of 2048x1024), not measured here; "
            "INT8 counts as one point less, the most that `export` lets it lose, BF16 as a fifth of one"
        )
    else:
        notes.append(
            f"mIoU is not known for {result['config']}: points are in the order of the published figures on Cityscapes"
        )
    if result["skipped"]:
        notes.append(f"{len(result['skipped']):d} points were skipped; --json gives each with its reason")
    noisy = sum(row["stages"]["total"]["spread"] > _NOISY for row in result["rows"])
    if noisy:
        notes.append(f"the machine is busy: times of {noisy:d} points varied by more than {100 * _NOISY:.0f} %")
    notes += result["notes"]
    notes.append(f"measured in {duration(result['seconds'])}")
    return notes


def _verdict(result: Mapping[str, Any]) -> str:
    name = result["best"] or result["fastest"]
    row = next(row for row in result["rows"] if row["name"] == name)
    shown = f"{name}: {row['latency_ms']:.1f} ms, {row['fps']:.1f} images/s"
    if result["best"] is None:
        return f"nothing fits into {result['budget_ms']:g} ms here. The fastest is {shown}."
    miou = "" if row["miou"] is None else f", {row['miou']:.2f} % mIoU published for FP32"
    return f"best within {result['budget_ms']:g} ms: {shown}{miou}\nwrote {', '.join(result['files'])}"
