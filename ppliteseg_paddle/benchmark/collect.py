"""`ppliteseg report`: results of benchmarks collected into JSON, Markdown and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.benchmark.markdown import markdown
from ppliteseg_paddle.benchmark.paper import REPORTED, TABLE2
from ppliteseg_paddle.benchmark.tables import describe_machine, rows_of
from ppliteseg_paddle.errors import ConfigError, DataError, suggest
from ppliteseg_paddle.files import read_json, save_atomic, write_json
from ppliteseg_paddle.visual.speed import draw

FIGURE, REPORT, TITLE = "accuracy_speed.png", "report", "Accuracy against speed"


def read_result(path: str) -> dict[str, Any]:
    """A file that `benchmark` or a study wrote, its rows in one list.

    Raises: DataError: if it is missing or holds something else.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} does not exist; give a file that 'ppliteseg benchmark --save_json' wrote.")
    result = read_json(path) or {}
    rows = rows_of(result)
    if not rows or "machine" not in result:
        raise DataError(f"{path} holds no benchmark results; give a file that 'ppliteseg benchmark --save_json' wrote.")
    return {
        **{key: result[key] for key in ("protocol", "machine", "reported", "note", "title") if key in result},
        "rows": rows,
        "file": path,
    }


def read_accuracy(item: str) -> tuple[str, float]:
    """Name and mIoU in percent of NAME=FILE, a file of `val --save_json`, or of NAME=PERCENT.

    Raises: ConfigError: if it is neither.
    """
    name, equals, value = item.rpartition("=")
    if not equals or not name:
        raise ConfigError(f"--accuracy takes NAME=FILE or NAME=PERCENT, not '{item}'.")
    try:
        return name, float(value)
    except ValueError:
        metrics = read_json(value)
    if not metrics or not isinstance(metrics.get("mIoU"), (int, float)):
        raise ConfigError(
            f"--accuracy {name}: {value} is neither a number nor a file with an mIoU, as 'val --save_json' writes it."
        )
    return name, 100.0 * metrics["mIoU"]


def check_names(accuracies: Mapping[str, float], results: Sequence[Mapping[str, Any]]) -> None:
    """Raises: ConfigError: for an accuracy whose name no result has."""
    names = [row["name"] for result in results for row in result["rows"]]
    for name in accuracies:
        if name not in names:
            raise ConfigError(f"--accuracy names '{name}', which no result has.{suggest(name, names)}")


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


def _panels(result: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
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
