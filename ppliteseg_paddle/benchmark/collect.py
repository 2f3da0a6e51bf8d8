"""Results of benchmarks collected into a report: JSON, Markdown and the figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.benchmark.paper import REPORTED, TABLE2
from ppliteseg_paddle.files import save_atomic, write_json
from ppliteseg_paddle.visual.report import describe_machine, markdown
from ppliteseg_paddle.visual.speed import draw

FIGURE, REPORT = "accuracy_speed.png", "report"


def write_report(
    results: Sequence[Mapping[str, Any]],
    save_dir: str,
    title: str,
    accuracies: Mapping[str, float] | None = None,
    stem: str = REPORT,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write STEM.md, STEM.json and the figure.

    Args:
        results: each with protocol, machine and rows, as `protocols.result_of` and `benchmark.table2` make them.
        accuracies: name of a row -> its measured mIoU in percent.
        notes: sentences for the top of the Markdown.
    Returns: the files, and whether there was anything to draw.
    Raises: DataError: if a file cannot be written.
    """
    results = [
        {**result, "rows": [_with_accuracy(row, accuracies or {}) for row in result["rows"]]} for result in results
    ]
    os.makedirs(save_dir, exist_ok=True)
    measured = [(where, points) for result in results for where, points in _panels(result)]
    files = []
    if measured:
        reported = [REPORTED[key] for key in TABLE2]
        figure = draw(
            os.path.join(save_dir, FIGURE),
            measured,
            [{"name": row.name, "fps": row.fps, "miou": row.val_miou} for row in reported],
            title,
        )
        files.append(figure)
    if not any(result.get("reported") for result in results):
        results[0] = {**results[0], "reported": [REPORTED[key].to_dict() for key in TABLE2]}
    paths = {extension: os.path.join(save_dir, stem + extension) for extension in (".md", ".json")}
    with save_atomic(paths[".md"]) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(markdown(results, title, FIGURE if measured else "", notes))
    write_json(paths[".json"], results[0] if len(results) == 1 else {"results": results})
    return {
        "files": [paths[".md"], paths[".json"], *files],
        "drawn": bool(measured),
        "rows": sum(len(result["rows"]) for result in results),
    }


def _with_accuracy(row: Mapping[str, Any], accuracies: Mapping[str, float]) -> dict[str, Any]:
    if row["name"] in accuracies:
        return {**row, "accuracy": {"miou": accuracies[row["name"]], "reported": False}}
    return dict(row)


def _panels(result: Mapping[str, Any]) -> list[tuple]:
    """(where, points) for each runtime and precision of a result."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        accuracy = row.get("accuracy")
        if not accuracy or not row.get("fps"):
            continue
        runtime = f"{row['backend']['runtime']} {row['backend']['version']}, {row['precision']}"
        groups.setdefault(runtime, []).append(
            {
                "name": row.get("network") or row["name"],
                "fps": row["fps"],
                "miou": accuracy["miou"],
                "paper_miou": accuracy.get("reported", False),
            }
        )
    where = describe_machine({**result["machine"], "load_average": None})
    return [(f"{runtime}, protocol {result['protocol']}\n{where}", points) for runtime, points in groups.items()]
