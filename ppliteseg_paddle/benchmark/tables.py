"""Parts of benchmark results as tables. It knows plain values only: what the benchmark wrote as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STAGE_NAMES = {
    "decode": "decode (not counted)",
    "copy_in": "copy in",
    "copy_out": "copy out",
    "resize_back": "resize back",
    "convert": "to 8 bits",
}
# Sums of the stages before them: shown apart.
SUMS = ("preprocess", "inference", "postprocess", "total")


def rows_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of any file that a benchmark here wrote; none if it is something else."""
    if isinstance(result.get("rows"), list):
        return list(result["rows"])
    if "fps" in result:
        top = {key: value for key, value in result.items() if key not in ("compared", "machine", "reported")}
        return [top, *result.get("compared", [])]
    return []


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: the first column to the left, the others to the right."""
    lines = [list(map(str, header)), *[list(map(str, row)) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = ["| " + " | ".join(map(str, header)) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows])


def describe_machine(machine: Mapping[str, Any]) -> str:
    """One line: processor or GPU, load."""
    parts = [f"{machine['processor']}, {machine['cpus_usable']} of {machine['cpus']} CPUs"]
    parts += [f"{gpu['name']} (driver {gpu['driver']})" for gpu in machine.get("gpus", ())]
    if machine.get("load_average") is not None:
        parts.append(f"load {machine['load_average']:.1f}")
    return "; ".join(parts)


def stages_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Median milliseconds of each part, a line for each row."""
    parts = [
        part
        for part in ("resize", "normalise", "copy_in", "forward", "copy_out", "argmax", "resize_back", "convert")
        if any(part in row["stages"] or part in row["fused"] for row in rows)
    ]
    cells = [
        [
            row["name"],
            *[
                f"{row['stages'][part]['median_ms']:.2f}"
                if part in row["stages"]
                else "."
                if part in row["fused"]
                else "-"
                for part in parts
            ],
            f"{row['stages']['total']['median_ms']:.2f}",
        ]
        for row in rows
    ]
    return text_table(["", *[STAGE_NAMES.get(part, part) for part in parts], "total"], cells)


def ratio_cells(row: Mapping[str, Any]) -> list[str]:
    """ "1.52x" and its quartiles; empty without a ratio."""
    ratio = row.get("times_faster")
    return [f"{ratio['median']:.2f}x", f"({ratio['p25']:.2f}-{ratio['p75']:.2f})"] if ratio else ["", ""]


def accuracy_text(row: Mapping[str, Any]) -> str:
    """ "73.1 (paper)": mIoU in percent and whose figure it is; "-" without one."""
    accuracy = row.get("accuracy")
    if not accuracy:
        return "-"
    return f"{accuracy['miou']:.1f} ({('paper' if accuracy.get('reported') else 'measured')})"


REPORTED_HEADER = ("", "input", "val mIoU", "test mIoU", "FPS")


def reported_rows(reported: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [
            row["name"],
            "{}x{}".format(*row["size"]),
            *["-" if row[key] is None else f"{row[key]:.1f}" for key in ("val_miou", "test_miou", "fps")],
        ]
        for row in reported
    ]


def reported_note(reported: Sequence[Mapping[str, Any]]) -> str:
    """What the authors measured on."""
    return f"The authors' own figures, on their machine ({reported[0]['setting']}), from the paper; not measured here:"
