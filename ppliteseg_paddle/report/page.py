"""The page of `ppliteseg report --runs`: one HTML file that loads nothing, in light and dark, and to print.

Texts of files are escaped by the template, pictures are decoded and written anew, and the page may run no script.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.progress import duration
from ppliteseg_paddle.reading.run_files import CONFIG_FILE
from ppliteseg_paddle.report.charts import Curve, chart, color_of, reliability_chart, with_trend
from ppliteseg_paddle.report.runs import Run, iou_of, number

REPORT_FILE = "report.html"
TITLE = "Training runs"
TABLE_CLASSES = 32  # up to which a confusion matrix is a table
CONFUSIONS, WORST = 10, 10  # rows of the tables of confusions, and of the worst images
PICTURE_WIDTH = 1800  # pixels at most
_ABSENT = "–"


def write_page(path: str, runs: Sequence[Run], title: str = TITLE) -> None:
    """Raises: ConfigError: if it cannot be written; DependencyError: without matplotlib."""
    from ppliteseg_paddle.files import write_bytes

    write_bytes(path, render(runs, title).encode())


def render(runs: Sequence[Run], title: str = TITLE) -> str:
    """The page's text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from ppliteseg_paddle import __version__

    folder = os.path.dirname(os.path.abspath(__file__))
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, value=shown, duration=lambda seconds: _ABSENT if seconds is None else duration(seconds)
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        version=__version__,
        runs=[{"run": run, "color": color_of(i), **summary(run)} for i, run in enumerate(runs)],
        charts=curves(runs),
        classes=class_table(runs),
        confusions=[{"name": run.name, "command": val_command(run), **confusion(run)} for run in runs],
        reliability=reliability(runs),
        images=[{"name": run.name, **images(run)} for run in runs],
        environment_rows=differing(runs, environment_of),
        config_rows=[row for row in differing(runs, lambda run: run.config) if row["differs"]],
    )


# --------------------------------------------------------------------------------------------
# Numbers of a run
# --------------------------------------------------------------------------------------------
def summary(run: Run) -> dict[str, Any]:
    """What is told of a run in one row, plain values."""
    plain, ema = run.best(ema=False), run.best(ema=True)
    steps = [row["batch_cost"] for row in run.rows if row.get("batch_cost")]
    reading = [row["reader_cost"] for row in run.rows if "reader_cost" in row]
    rates = [row["ips"] for row in run.rows if row.get("ips")]
    losses = [row["loss"] for row in run.rows if "loss" in row]
    evaluating = [row["seconds"] for row in run.evaluations if "seconds" in row]
    step = statistics.median(steps) if steps else None
    return {
        "best": plain["mIoU"] if plain else None,
        "best_iteration": int(plain["iter"]) if plain else None,
        "ema_best": ema["mIoU"] if ema else None,
        "ema_best_iteration": int(ema["iter"]) if ema else None,
        "loss": losses[-1] if losses else None,
        "iterations": int(run.rows[-1]["iter"]) if run.rows else 0,
        "finished": run.record.get("finished") is True,
        "seconds": number(run.record.get("seconds")),
        "images_per_second": statistics.median(rates) if rates else None,
        "step_seconds": step,
        "source": _source(run),
        "reading_share": statistics.median(reading) / step if reading and step else None,
        "evaluation_seconds": statistics.median(evaluating) if evaluating else None,
    }


def _source(run: Run) -> str:
    """Where its classes' IoU are from."""
    best = run.best()
    if run.measured is not None and run.measured.matrix is not None:
        return f"as val has measured it ({run.measured.folder})"
    if best is None:
        return "no evaluation"
    return f"the evaluation at iteration {int(best['iter']):d}{', averaged weights' if best['ema'] else ''}"


def val_command(run: Run) -> str:
    """That measures the best model of a run into its folder."""
    best = run.best()
    file = "ema_best_model/ema_model.pdparams" if best is not None and best["ema"] else "best_model/model.pdparams"
    folder = run.folder.rstrip("/" + os.sep)
    paths = {"config": CONFIG_FILE, "model_path": file, "save_dir": "val"}
    flags = " ".join(f"--{flag} {shlex.quote(f'{folder}/{path}')}" for flag, path in paths.items())
    return f"ppliteseg val {flags}"


def environment_of(run: Run) -> dict[str, Any]:
    """Versions, hardware and options of a run."""
    record, versions = run.record, run.record.get("versions")
    keys = ("device", "precision", "ranks", "batch_size", "gradient_accumulation_steps", "iters", "max_minutes", "seed")
    found = {key.replace("_", " "): record.get(key) for key in (*keys, "resumed_from")}
    found.update({str(key): value for key, value in (versions if isinstance(versions, dict) else {}).items()})
    noted = ("processor", "instruction sets", "threads", "NumPy", "OpenCV")
    return {**found, **{key: run.conditions[key] for key in noted if key in run.conditions}}


def differing(runs: Sequence[Run], values_of: Callable[[Run], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each key, with the value of each run and whether they differ."""
    found = [values_of(run) for run in runs]
    rows = []
    for key in dict.fromkeys(key for values in found for key in values):
        values = [values.get(key) for values in found]
        differs = len({json.dumps(value, default=str, sort_keys=True) for value in values}) > 1
        rows.append({"key": key, "values": values, "differs": differs})
    return rows


def class_table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each class, with its IoU in each run."""
    found = [run.class_iou() for run in runs]
    return [
        {"name": name, "values": [values.get(name) for values in found]}
        for name in dict.fromkeys(name for values in found for name in values)
    ]


def confusion(run: Run) -> dict[str, Any]:
    """Of a run that `val` has measured: shares of the labelled pixels, and the largest confusions."""
    measured = run.measured
    if measured is None or measured.matrix is None:
        return {"matrix": None, "picture": None, "largest": [], "folder": None}
    matrix, names = measured.matrix, measured.classes
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    wrong = shares - np.diag(np.diag(shares))
    order = np.argsort(wrong, axis=None)[::-1][:CONFUSIONS]
    places = [divmod(int(place), len(names)) for place in order]
    rows = [
        {"name": name, "shares": share.tolist(), "total": float(total), "iou": iou}
        for name, share, total, iou in zip(names, shares, totals[:, 0], iou_of(matrix))
    ]
    small = len(names) <= TABLE_CLASSES
    return {
        "folder": measured.folder,
        "names": names,
        "matrix": rows if small else None,
        "picture": None if small else data_uri(_heat(shares), ".png"),
        "largest": [
            {"label": names[i], "prediction": names[j], "share": float(shares[i, j]), "pixels": float(matrix[i, j])}
            for i, j in places
            if wrong[i, j] > 0
        ],
    }


def reliability(runs: Sequence[Run]) -> dict[str, Any]:
    """Of the runs whose confidence `val` has measured: a row each, and one reliability diagram. All of it is computed
    from the bins."""
    rows, curves, shares = [], [], []
    for place, run in enumerate(runs):
        bins = run.measured.reliability if run.measured is not None else []
        if not bins:
            continue
        share, sure, right = (np.array([row[key] for row in bins]) for key in ("pixels", "confidence", "accuracy"))
        share = share / share.sum()
        color = color_of(place)
        rows.append(
            {
                "run": run,
                "color": color,
                "ece": float((share * np.abs(right - sure)).sum()),
                "confidence": float((share * sure).sum()),
                "accuracy": float((share * right).sum()),
            }
        )
        curves.append(Curve(sure.tolist(), right.tolist(), color))
        shares.append(share.tolist())
    return {"rows": rows, "svg": reliability_chart(curves, shares, "reliability diagram") if rows else ""}


# --------------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------------
def curves(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Heading and SVG of each chart that has something to show."""
    losses: list[Curve] = []
    rates: list[Curve] = []
    scores: list[Curve] = []
    for place, run in enumerate(runs):
        color = color_of(place)
        losses += with_trend(*_columns(run.rows, "loss"), color)
        rates.append(Curve(*_columns(run.rows, "lr"), color))
        for ema in (False, True):
            chosen = [row for row in run.evaluations if row["ema"] == ema]
            scores.append(Curve(*_columns(chosen, "mIoU"), color, dashed=ema, dots=True))
    averaged = ", averaged weights dashed" if any(row["ema"] for run in runs for row in run.evaluations) else ""
    found = [
        ("Loss", chart(losses, "loss")),
        (f"mIoU of the validation set, %{averaged}", chart(scores, "mIoU", percent=True)),
        ("Learning rate", chart(rates, "learning rate")),
    ]
    return [(heading, svg) for heading, svg in found if svg]


def _columns(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    rows = [row for row in rows if key in row]
    return [row["iter"] for row in rows], [row[key] for row in rows]


def images(run: Run) -> dict[str, Any]:
    """Pictures of predictions: those of `val`, else those of the run; and the scores of the worst images."""
    measured = run.measured
    chosen = measured.pictures if measured is not None and measured.pictures else run.pictures
    found = [(heading, picture(path)) for heading, path in chosen]
    scored = [row for row in (measured.images if measured else ()) if row["mIoU"] is not None]
    return {"pictures": [(heading, uri) for heading, uri in found if uri], "worst": scored[:WORST]}


def picture(path: str) -> str | None:
    """A picture as a data URI, decoded and written anew; None if it cannot be read."""
    import cv2

    from ppliteseg_paddle.reading.images import read_image

    try:
        image = read_image(path)
    except PPLiteSegError:
        return None
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH:
        size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return data_uri(image, ".webp")


def data_uri(image: np.ndarray, extension: str) -> str:
    """Args: extension: .webp, or .png for what must stay exact. Shape: image (H, W, 3) or (H, W) uint8, BGR."""
    import cv2

    options = [cv2.IMWRITE_WEBP_QUALITY, 85] if extension == ".webp" else []
    content = base64.b64encode(cv2.imencode(extension, image, options)[1].tobytes()).decode("ascii")
    return f"data:image/{extension[1:]};base64,{content}"


def _heat(shares: np.ndarray) -> np.ndarray:
    """A pixel for each cell: white for none, blue for all. Shape: (classes, classes, 3) uint8, BGR."""
    full = np.array([0xB0, 0x5A, 0x1F], np.float64)
    return np.rint(255 - shares[..., np.newaxis] * (255 - full)).astype(np.uint8)


# --------------------------------------------------------------------------------------------
# In words
# --------------------------------------------------------------------------------------------
def percent(value: float | None, digits: int = 1) -> str:
    return _ABSENT if value is None else f"{100 * value:.{digits}f}"


def shown(value: Any) -> str:
    """A plain value as text."""
    if value is None:
        return _ABSENT
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
