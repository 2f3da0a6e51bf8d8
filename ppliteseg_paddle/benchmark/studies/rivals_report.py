"""The table and the figure of `studies.rivals`, from its JSON: milliseconds measured, mIoU as published."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ppliteseg_paddle.benchmark.studies.rivals_graphs import FORMS, NETWORKS
from ppliteseg_paddle.benchmark.tables import describe_machine, markdown_table, text_table
from ppliteseg_paddle.files import save_atomic

Size = tuple[int, int]  # height, width
# mIoU in % on Cityscapes val, one scale, as their authors report it. YOLO26-sem: Ultralytics' table of models, June
# 2026. PP-LiteSeg: PaddleSeg's table of released weights. LibreYOLO's: super-gradients' weights, which it converts.
PUBLISHED: dict[str, dict[Size, float]] = {
    "YOLO26n-sem": {(1024, 2048): 78.3},
    "YOLO26s-sem": {(1024, 2048): 80.8},
    "PP-LiteSeg-T": {(512, 1024): 73.10, (768, 1536): 76.03, (1024, 2048): 77.04},
    "PP-LiteSeg-B": {(512, 1024): 75.25, (768, 1536): 78.75, (1024, 2048): 79.04},
    "LibreYOLO PP-LiteSeg-T": {(512, 1024): 74.9, (768, 1536): 77.6},
    "LibreYOLO PP-LiteSeg-B": {(512, 1024): 76.5, (768, 1536): 78.5},
}
# Which of a row's times counts: that of the clock, or the processor time of all threads, which tells more on a machine
# that others use too.
CLOCKS = {"wall": ("ms", "milliseconds"), "cpu": ("cpu_ms", "milliseconds of processor time, all threads together")}
_RUNTIMES = {"onnxruntime": "ORT", "openvino": "OpenVINO"}
_GROUPS = {"FP32": ("fp32",), "8 bits": ("int8", "int8-same")}
_COLORS = ("#d9722a", "#a2431b", "#2a6fbb", "#173f70", "#6fae5c", "#3d7030")


class Point(NamedTuple):
    """The fastest of a network's runs at a size; `miou` in %, None where none is published."""

    network: str
    size: Size
    group: str
    ms: float
    how: str
    miou: float | None

    def __str__(self) -> str:
        return f"{self.network} at {_shown(self.size)}"


def points(result: Mapping[str, Any]) -> list[Point]:
    """One of each network, size and group of forms."""
    found: dict[tuple[str, Size, str], Point] = {}
    for row in result["rows"]:
        size = (row["size"][0], row["size"][1])
        for group, forms in _GROUPS.items():
            if row["form"] in forms:
                key, ms = (row["network"], size, group), _median(result, row)
                if key not in found or ms < found[key].ms:
                    miou = PUBLISHED.get(row["network"], {}).get(size)
                    found[key] = Point(*key, ms, f"{row['form']}, {row['runtime']}", miou)
    return list(found.values())


def _clock(result: Mapping[str, Any]) -> tuple[str, str]:
    return CLOCKS[result.get("clock", next(iter(CLOCKS)))]


def _median(result: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    return float(row[_clock(result)[0]]["median_ms"])


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """For each published point of another package: what ours reach in its time."""
    lines = []
    every = [point for point in points(result) if point.miou is not None]
    for rival in (point for point in every if NETWORKS[point.network].package == "ultralytics"):
        ours = [point for point in every if NETWORKS[point.network].package == "ours" and point.group == rival.group]
        said = f"{rival.group}: {rival} takes {rival.ms:.0f} ms for {rival.miou:.1f} %. "
        within = [point for point in ours if point.ms <= rival.ms]
        if not within:
            lines.append(said + "Our networks are all slower.")
            continue
        best = max(within, key=lambda point: point.miou or 0)
        lead = (best.miou or 0) - (rival.miou or 0)
        lines.append(
            f"{said}In that time ours reach {best.miou:.1f} % ({best}, {best.ms:.0f} ms): {abs(lead):.1f} points "
            + ("less; the rival wins." if lead < 0 else "more; ours win." if lead > 0 else "apart; equal.")
        )
    return lines


def _cells(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a network at a size, and the median of each form on each runtime."""
    columns = [(form, runtime) for form in FORMS for runtime in _RUNTIMES]
    columns = [each for each in columns if any((row["form"], row["runtime"]) == each for row in result["rows"])]
    medians = {
        (row["network"], tuple(row["size"]), row["form"], row["runtime"]): _median(result, row)
        for row in result["rows"]
    }
    lines = []
    for network, size in dict.fromkeys((row["network"], tuple(row["size"])) for row in result["rows"]):
        values = [medians.get((network, size, *each)) for each in columns]
        fastest = min(value for value in values if value is not None)
        miou = PUBLISHED.get(network, {}).get(size)
        lines.append(
            [network, _shown(size), "-" if miou is None else f"{miou:.1f}"]
            + ["-" if value is None else f"{value:.0f}{'*' if value == fastest else ''}" for value in values]
        )
    heads = (f"{FORMS[form]}, {_RUNTIMES[runtime]}" for form, runtime in columns)
    return ["network", "input", "mIoU %", *heads], lines


def _conditions(result: Mapping[str, Any]) -> list[str]:
    load = [row["load_average"] for row in result["rows"] if row.get("load_average") is not None]
    machine = {**result["machine"], "load_average": None}
    ours, theirs = result["machine"]["versions"], result.get("env", {})
    named = [f"{name} {ours[name]}" for name in ("ppliteseg_paddle", "onnxruntime", "openvino") if name in ours]
    named += [f"{name} {theirs[name]}" for name in ("ultralytics", "libreyolo", "nncf") if name in theirs]
    return [
        f"{_clock(result)[1].capitalize()}, medians of {result['repeats']:d} in turns, image to class ids of its size, "
        f"batch 1, {result['num_threads']:d} threads; * is the fastest of a row. 8 bits, own: as each package makes "
        "them; same: by one quantisation. mIoU: Cityscapes val, one scale, as published for FP32.",
        f"{describe_machine(machine)}; {result['machine']['time'][:10]}; "
        + (f"load average {min(load):.1f} to {max(load):.1f}; " if load else "")
        + ", ".join(named),
    ]


def table(result: Mapping[str, Any]) -> str:
    """What a person reads on a terminal."""
    return "\n".join([text_table(*_cells(result)), "", *_conditions(result), "", *verdicts(result)])


def markdown(result: Mapping[str, Any]) -> str:
    parts = [markdown_table(*_cells(result)), *_conditions(result), "\n".join(f"- {line}" for line in verdicts(result))]
    return "\n\n".join(
        ["# Beside other networks", *(part for part in parts if part), "![mIoU against ms](rivals.png)\n"]
    )


def write(result: Mapping[str, Any], folder: str) -> None:
    """Write rivals.md and rivals.png."""
    os.makedirs(folder, exist_ok=True)
    with save_atomic(os.path.join(folder, "rivals.md")) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(markdown(result))
    figure(points(result), os.path.join(folder, "rivals.png"), _clock(result)[1])


def figure(found: Iterable[Point], path: str, unit: str = "milliseconds") -> str:
    """mIoU against time: filled marks are FP32, hollow ones 8 bits. Returns: `path`."""
    from ppliteseg_paddle.visual.plots import new_figure, save_figure

    drawn = new_figure((9, 6))
    axis = drawn.subplots()
    known = [point for point in found if point.miou is not None]
    for color, network in zip(_COLORS, NETWORKS):
        for group in _GROUPS:
            row = sorted((point for point in known if (point.network, point.group) == (network, group)), key=_by_time)
            if row:
                _draw(axis, row, color, group)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else "")
    axis.set_xlabel(f"{unit}, from an image to class ids (filled: FP32; hollow: 8 bits, mIoU of FP32)", fontsize=9.5)
    axis.set_ylabel("mIoU %, Cityscapes val, as published", fontsize=9.5)
    axis.grid(color="#dfe2e7", linewidth=0.7, which="both")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if known:
        axis.legend(frameon=False, fontsize=9)
    return save_figure(drawn, path)


def _draw(axis: Any, row: Sequence[Point], color: str, group: str) -> None:
    first = group == next(iter(_GROUPS))
    axis.plot(
        [point.ms for point in row],
        [point.miou for point in row],
        marker="o",
        color=color,
        markerfacecolor=color if first else "white",
        linestyle="-" if first else "--",
        linewidth=1.3,
        label=row[0].network if first else None,
    )
    for point in row:
        axis.annotate(
            f"{point.size[1]:d}", (point.ms, point.miou), (4, 4), textcoords="offset points", fontsize=7, color=color
        )


def _by_time(point: Point) -> float:
    return point.ms


def _shown(size: Sequence[int]) -> str:
    return f"{size[1]:d}x{size[0]:d}"
