"""Benchmark results as text and Markdown. It knows plain values only: what the benchmark wrote as JSON."""

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


# --------------------------------------------------------------------------------------------
# `ppliteseg benchmark`
# --------------------------------------------------------------------------------------------
def benchmark_text(result: Mapping[str, Any]) -> str:
    """What a person reads after `ppliteseg benchmark`."""
    rows = rows_of(result)
    parts = [
        _heading(result, rows),
        _throughput_text(rows) if result["protocol"] == "throughput" else _latency_text(rows),
    ]
    if result.get("reported"):
        parts.append(reported_text(result["reported"]))
    return "\n\n".join(parts)


def _heading(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    what = {
        "latency": "latency, one image at a time, from decoded pixels to a mask of the image's size",
        "paper": "the paper's protocol: image to the network's size, inference, mask back",
        "throughput": "throughput, several images in flight, from decoded pixels to masks of the image's size",
    }
    lines = [what[result["protocol"]], describe_machine(result["machine"])]
    for row in rows:
        backend = row["backend"]
        threads = "" if backend.get("num_threads") is None else f", {backend['num_threads']} threads"
        lines.append(
            f"{row['name']}: {backend['runtime']} {backend['version']} ({backend['name']}) on {backend['device']}"
            f"{threads}, {row['precision']}, image {'x'.join(map(str, row['image_size']))}, "
            f"input {'x'.join(map(str, row['input_shape']))}"
        )
    return "\n".join(lines)


def _latency_text(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    if len(rows) > 1:
        parts.append(
            text_table(
                ["", "median ms", "p90", "p99", "images/s", "spread", "times faster", "(quartiles)"],
                [
                    [
                        row["name"],
                        f"{total['median_ms']:.2f}",
                        f"{total['p90_ms']:.2f}",
                        f"{total['p99_ms']:.2f}",
                        f"{total['fps']:.1f}",
                        f"{(100 * total['spread']):.0f} %",
                        *ratio_cells(row),
                    ]
                    for row in rows
                    for total in [row["stages"]["total"]]
                ],
            )
        )
        parts.append(
            "where the time goes, median ms; '.' is part of forward, '-' does not take place\n" + stages_table(rows)
        )
    else:
        (row,) = rows
        lines = [
            [
                ("= " if stage in SUMS else "  ") + STAGE_NAMES.get(stage, stage),
                *[f"{values[key]:.2f}" for key in ("median_ms", "p90_ms", "p99_ms", "min_ms")],
            ]
            for stage, values in row["stages"].items()
        ]
        parts.append(text_table(["ms", "median", "p90", "p99", "min"], lines))
        if row["fused"]:
            parts.append(
                "\n".join(f"{STAGE_NAMES.get(part, part)}: in {place}" for part, place in row["fused"].items())
            )
        parts.append(
            f"{row['fps']:.1f} images a second; {row['repeats']:d} calls after {row['warmup']:d} to warm up; half of "
            f"the calls within {100 * row['stages']['total']['spread']:.1f} % of each other"
        )
    unsteady = [row["name"] for row in rows if not row["steady"]]
    if unsteady:
        parts.append(
            f"times were not steady yet when timing started ({', '.join(unsteady)}): the machine is busy, or --warmup "
            "is small"
        )
    return "\n\n".join(parts)


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


def _throughput_text(rows: Sequence[Mapping[str, Any]]) -> str:
    table = text_table(
        [
            "",
            "images/s",
            "(quartiles)",
            "streams",
            "threads each",
            "batch",
            "median ms in flight",
            "p99",
            "times faster",
            "(quartiles)",
        ],
        [
            [
                row["name"],
                f"{row['fps']:.1f}",
                f"({row['fps_p25']:.1f}-{row['fps_p75']:.1f})",
                row["streams"],
                row["threads_per_stream"],
                row["batch_size"],
                f"{row['latency_in_flight']['median_ms']:.1f}",
                f"{row['latency_in_flight']['p99_ms']:.1f}",
                *ratio_cells(row),
            ]
            for row in rows
        ],
    )
    tried = [
        "{}: tried {}".format(
            row["name"],
            ", ".join(f"{each['streams']:d}x{each['batch_size']:d}: {each['fps']:.1f}" for each in row["tried"]),
        )
        for row in rows
        if row["tried"]
    ]
    return "\n\n".join([table, *(["\n".join(tried) + "   (streams x batch: images/s)"] if tried else [])])


# --------------------------------------------------------------------------------------------
# The authors' figures
# --------------------------------------------------------------------------------------------
_REPORTED_HEADER = ("", "input", "val mIoU", "test mIoU", "FPS")


def _reported_rows(reported: Sequence[Mapping[str, Any]]) -> list[list[str]]:
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


def reported_text(reported: Sequence[Mapping[str, Any]]) -> str:
    """The paper's rows for a terminal."""
    return reported_note(reported) + "\n" + text_table(_REPORTED_HEADER, _reported_rows(reported))


def reported_markdown(reported: Sequence[Mapping[str, Any]]) -> str:
    """The paper's rows in Markdown."""
    return reported_note(reported) + "\n\n" + markdown_table(_REPORTED_HEADER, _reported_rows(reported))


# --------------------------------------------------------------------------------------------
# `ppliteseg report`
# --------------------------------------------------------------------------------------------
def accuracy_text(row: Mapping[str, Any]) -> str:
    """ "73.1 (paper)": mIoU in percent and whose figure it is; "-" without one."""
    accuracy = row.get("accuracy")
    if not accuracy:
        return "-"
    return f"{accuracy['miou']:.1f} ({('paper' if accuracy.get('reported') else 'measured')})"


def markdown(results: Sequence[Mapping[str, Any]], title: str, figure: str = "", notes: Sequence[str] = ()) -> str:
    """A report of any number of results: a section for each, then the paper's rows once.

    Args: figure: file name of a picture to show; notes: sentences above everything.
    """
    parts = ["# " + title, *notes]
    if figure:
        parts.append(f"![accuracy against speed]({figure})")
    reported: dict[str, Mapping[str, Any]] = {}
    for result in results:
        parts += _section(result)
        reported.update((row["name"], row) for row in result.get("reported", ()))
    if reported:
        parts += ["## The paper's rows", reported_markdown(list(reported.values()))]
    return "\n\n".join(parts) + "\n"


def _section(result: Mapping[str, Any]) -> list[str]:
    rows = rows_of(result)
    machine = result["machine"]
    heading = f"## Measured: protocol `{result['protocol']}`, {machine['time'][:10]}"
    versions = ", ".join("{} {}".format(*item) for item in machine["versions"].items())
    header = [
        "",
        "input",
        "runtime",
        "precision",
        "median ms",
        "p90",
        "p99",
        "FPS",
        "spread",
        "times faster",
        "mIoU (whose)",
    ]
    body = []
    for row in rows:
        times = row["stages"]["total"] if "stages" in row else row["latency_in_flight"]
        body.append(
            [
                row["name"],
                "x".join(map(str, row["input_shape"])),
                f"{row['backend']['name']} {row['backend']['version']}",
                row["precision"],
                *[f"{times[key]:.2f}" for key in ("median_ms", "p90_ms", "p99_ms")],
                f"{row['fps']:.1f}",
                f"{(100 * (times['spread'] if 'stages' in row else row['spread'])):.0f} %",
                " ".join(ratio_cells(row)),
                accuracy_text(row),
            ]
        )
    parts = [
        heading,
        f"{describe_machine(machine)}; {machine['system']}.",
        versions + ".",
        markdown_table(header, body),
    ]
    staged = [row for row in rows if "stages" in row]
    if staged:
        parts.append(
            "Where the time goes, median ms ('.' is part of forward, '-' does not take "
            f"place):\n\n```\n{stages_table(staged)}\n```"
        )
    return parts
