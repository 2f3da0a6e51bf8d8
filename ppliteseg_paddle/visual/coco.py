"""Masks in COCO's form: run lengths of each class, as pycocotools reads them.

The encoding is COCO's: runs of outside and inside in turns, down one column after the other, beginning outside; as text
each length beyond the third is the difference to the one two before, in groups of five bits, the lowest first.
pycocotools holds the same in C, which an exported model would then need to run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.visual.areas import class_regions

_FIRST_CHARACTER, _BITS = 48, 5
_CONTINUED = 1 << _BITS


def rle(region: np.ndarray) -> dict[str, Any]:
    """A region as `pycocotools.mask.encode` gives it, with `counts` as text.

    Shape: region (H, W) bool.
    """
    return {"size": list(region.shape), "counts": _text(_counts(region))}


def _counts(region: np.ndarray) -> np.ndarray:
    pixels = np.ascontiguousarray(region.T).reshape(-1)
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]]))
    return np.concatenate([[0], counts]) if pixels.size and pixels[0] else counts


def _text(counts: np.ndarray) -> str:
    values = counts.copy()
    values[3:] -= counts[1:-2]
    characters, unfinished = [], np.ones(len(values), bool)
    while unfinished.any():
        groups = values & (_CONTINUED - 1)
        values >>= _BITS
        # Finished where what remains is the sign of the last group's highest bit.
        unfinished_then = unfinished & (values != np.where(groups & (_CONTINUED >> 1), -1, 0))
        text = groups + np.where(unfinished_then, _CONTINUED, 0) + _FIRST_CHARACTER
        characters.append(np.where(unfinished, text, 0))
        unfinished = unfinished_then
    table = np.stack(characters, axis=1).reshape(-1)
    return table[table > 0].astype(np.uint8).tobytes().decode("ascii")


def bounding_box(region: np.ndarray) -> list[int]:
    """[left, top, width, height] of a region that is not empty. Shape: region (H, W) bool."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def coco_image(file_name: str, mask: np.ndarray, classes: Sequence[str], omitted: Iterable[int] = ()) -> dict[str, Any]:
    """The classes of a mask in the form of a COCO data set of one image: an annotation for each class that is there.
    Category ids are class ids, the values of the mask.

    Args: omitted: class ids without an annotation.
    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes) of 0 and 1.
    """
    hidden = set(omitted)
    ids = [number for number in range(len(classes)) if number not in hidden]
    annotations = [
        {
            "id": index,
            "image_id": 1,
            "category_id": number,
            "segmentation": rle(region),
            "area": int(np.count_nonzero(region)),
            "bbox": bounding_box(region),
            "iscrowd": 0,
        }
        for index, (number, region) in enumerate(class_regions(mask, ids), 1)
    ]
    return {
        "images": [{"id": 1, "file_name": file_name, "width": mask.shape[1], "height": mask.shape[0]}],
        "annotations": annotations,
        "categories": _categories(classes),
    }


def _categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes)]


def join_coco(paths: Iterable[str], classes: Sequence[str], target: str) -> None:
    """Join files of one image each, as `coco_image` gives them, into one of all. One image is in memory at a time.

    Raises: OSError
    """
    images: list[dict[str, Any]] = []
    number, separator = 0, ""
    with open(target, "w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for path in paths:
            with open(path, encoding="utf-8") as source:
                content = json.load(source)
            images.append({**content["images"][0], "id": len(images) + 1})
            for annotation in content["annotations"]:
                number += 1
                file.write(separator + "\n" + json.dumps({**annotation, "id": number, "image_id": len(images)}))
                separator = ","
        rest = {"images": images, "categories": _categories(classes)}
        file.write("\n], " + json.dumps(rest, ensure_ascii=False)[1:] + "\n")
