"""A prediction as an answer: the forms that `POST /predict?format=...` gives."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

from ppliteseg_paddle.deploy.stream import Prediction
from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.reading.palettes import OPACITY
from ppliteseg_paddle.serve.options import RequestError
from ppliteseg_paddle.serve.service import Times
from ppliteseg_paddle.visual.areas import class_areas
from ppliteseg_paddle.visual.bands import shown_image
from ppliteseg_paddle.visual.coco import coco_image
from ppliteseg_paddle.visual.overlays import Overlays
from ppliteseg_paddle.visual.png import write_mask

_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_MILLISECONDS = 1000.0


class Form(NamedTuple):
    """`encode` makes the answer of: prediction, times, name of the image, how overlays are drawn."""

    media_type: str
    encode: Callable[[Prediction, Times, str, Overlays], bytes]


class Wanted(NamedTuple):
    """What a request asks for."""

    form: Form
    style: Overlays

    @classmethod
    def of(cls, query: Mapping[str, str], labels: LabelSet) -> Wanted:
        """From the parameters of an address. Raises: RequestError: 400 for what is unknown or not possible."""
        given = {"format": "json", "opacity": str(OPACITY), "legend": "1", **query}
        unknown = next((name for name in given if name not in ("format", "opacity", "legend")), None)
        if unknown is not None:
            raise RequestError(
                400, f"unknown parameter '{unknown}'.{suggest(unknown, ('format', 'opacity', 'legend'))}"
            )
        if given["format"] not in FORMS:
            raise RequestError(400, f"unknown format '{given['format']}'.{suggest(given['format'], FORMS)}")
        legend = _FLAGS.get(given["legend"].lower())
        if legend is None:
            raise RequestError(400, f"legend is '{given['legend']}': give 1 or 0.")
        try:
            style = Overlays(labels, float(given["opacity"]), legend)
        except (ValueError, ConfigError):
            raise RequestError(400, f"opacity is '{given['opacity']}': give a number from 0 to 1.") from None
        return cls(FORMS[given["format"]], style)


def _png(found: Prediction, times: Times, name: str, style: Overlays) -> bytes:
    """As `predict --outputs mask` writes it."""
    written: list[bytes] = []
    write_mask("", found.mask, style.labels.palette, lambda path, content: written.append(content))
    return written[0]


def _npy(found: Prediction, times: Times, name: str, style: Overlays) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(found.mask))
    return buffer.getvalue()


def _overlay(found: Prediction, times: Times, name: str, style: Overlays) -> bytes:
    """As `predict --outputs overlay` writes it."""
    return bytes(cv2.imencode(".png", style.draw(shown_image(found.image), found.mask))[1].tobytes())


def _rle(found: Prediction, times: Times, name: str, style: Overlays) -> bytes:
    """As `predict --outputs rle` writes it."""
    return _json(coco_image(name, found.mask, style.labels.classes, style.hidden_in(found.mask)))


def _areas(found: Prediction, times: Times, name: str, style: Overlays) -> bytes:
    """The classes with their areas, the largest first."""
    height, width = found.mask.shape[:2]
    areas = class_areas(found.mask, style.labels.num_classes).tolist()
    rows = [
        {**row, "pixels": areas[row["id"]], "share": round(areas[row["id"]] / (height * width), 6)}
        for row in class_rows(style.labels)
        if areas[row["id"]]
    ]
    return _json(
        {
            "name": name,
            "width": width,
            "height": height,
            "classes": sorted(rows, key=lambda row: -row["pixels"]),
            "latency_ms": in_milliseconds(times),
            "batch_size": times.batch,
        }
    )


FORMS = {
    "json": Form("application/json", _areas),
    "png": Form("image/png", _png),
    "rle": Form("application/json", _rle),
    "overlay": Form("image/png", _overlay),
    "npy": Form("application/octet-stream", _npy),
}


def class_rows(labels: LabelSet) -> list[dict[str, Any]]:
    """Id, name and color of each class."""
    return [
        {"id": number, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
        for number, (name, color) in enumerate(zip(labels.classes, labels.palette))
    ]


def in_milliseconds(times: Times) -> dict[str, float]:
    """What an image spent in each stage, and in all."""
    stages = {name: value for name, value in times._asdict().items() if name != "batch"}
    return {name: round(_MILLISECONDS * value, 3) for name, value in {**stages, "total": times.total}.items()}


def _json(values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode()
