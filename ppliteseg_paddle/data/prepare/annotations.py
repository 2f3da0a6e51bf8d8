"""Class masks from annotations: labelme's JSON files, COCO's instance and panoptic files."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import os
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
from PIL import Image, ImageDraw

from ppliteseg_paddle.config.kinds import COLOR, is_int, is_number
from ppliteseg_paddle.data.prepare.label_forms import IGNORED, ignored_value
from ppliteseg_paddle.errors import DataError, DependencyError
from ppliteseg_paddle.reading.color_masks import codes, read_rgb
from ppliteseg_paddle.reading.files import PILLOW_ERRORS, checked_header

BACKGROUND = "background"
MAX_SIDE, MAX_PIXELS = 1 << 16, 1 << 28  # of an image: lines far outside take memory, too
_LINE_WIDTH, _POINT_RADIUS = 10, 5  # pixels; labelme's


def read_json(path: str) -> Any:
    """Raises: DataError: if it is no JSON."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:  # the last one: nested too deep
        raise DataError(f"{path} cannot be read as JSON: {getattr(error, 'strerror', None) or error}.") from None


# --------------------------------------------------------------------------------------------
# labelme
# --------------------------------------------------------------------------------------------
def labelme_names(path: str) -> list[str]:
    """The labels that a labelme file uses. Raises: DataError: if it is something else."""
    content = read_json(path)
    return [str(shape.get("label")) for shape in _shapes(content, path)]


def _shapes(content: Any, path: str) -> list[dict[str, Any]]:
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f"{path} is no labelme file: it has no list 'shapes'.")
    return shapes


def labelme_label(path: str, size: tuple[int, int], names: Sequence[str]) -> np.ndarray:
    """Draw a labelme file's shapes in their order, each over those before it, as labelme's own exporter does. (labelme
    is a desktop program that brings Qt along; its shapes are drawn here with the same Pillow calls.)

    Args: size: (width, height) of the image; names: of the classes, in order; pixels without a shape are class 0 if
        that is `BACKGROUND`, else ignored.
    Shape: returns (H, W) uint8, or uint16 with more than 255 classes.
    Raises: DataError: for a label or shape type that is not known.
    """
    ignored = ignored_value(len(names))
    label = Image.new("I", size, 0 if names[0] == BACKGROUND else ignored)
    for shape in _shapes(read_json(path), path):
        name = str(shape.get("label"))
        if name != "__ignore__" and name not in names:
            raise DataError(f"{path}: the label '{name}' is not among the classes ({', '.join(names)}).")
        value = ignored if name == "__ignore__" else names.index(name)
        mask = Image.new("1", size, 0)
        _draw_shape(mask, shape, path)
        label.paste(value, (0, 0), mask)
    return np.asarray(label).astype(_dtype(ignored))


def _dtype(ignored: int) -> type[np.unsignedinteger]:
    """The type of labels that hold this ignored value."""
    return np.uint8 if ignored == IGNORED else np.uint16


def _draw_shape(mask: Image.Image, shape: dict[str, Any], path: str) -> None:
    kind, draw = str(shape.get("shape_type") or "polygon"), ImageDraw.Draw(mask)
    if not _are_points(shape.get("points")):
        raise DataError(f"{path}: the points of '{shape.get('label')}' are no list of [x, y] in pixels.")
    points = [tuple(point) for point in shape["points"]]
    needed = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "mask": 2}
    if kind not in needed:
        raise DataError(f"{path}: unknown shape type '{kind}'; known are {', '.join(needed)}.")
    if len(points) < needed[kind] or (kind == "rectangle" and len(points) != 2):
        raise DataError(
            f"{path}: a {kind} of '{shape.get('label')}' has {len(points):d} points; it needs {needed[kind]:d}."
        )
    if kind == "polygon":
        draw.polygon(points, outline=1, fill=1)
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = points
        draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], outline=1, fill=1)
    elif kind in ("circle", "point"):
        x, y = points[0]
        radius = math.dist(points[0], points[1]) if kind == "circle" else _POINT_RADIUS
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    elif kind == "mask":
        mask.paste(_stored_mask(shape, path), (int(points[0][0]), int(points[0][1])))
    else:
        draw.line(points, fill=1, width=_LINE_WIDTH)


def _are_points(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_coordinate, point)) for point in value
    )


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= MAX_SIDE  # NaN is not


def _stored_mask(shape: dict[str, Any], path: str) -> Image.Image:
    try:
        content = io.BytesIO(base64.b64decode(shape.get("mask") or "", validate=True))
        with checked_header(f"the stored mask of '{shape.get('label')}' in", content, path) as image:
            return image.convert("1", dither=Image.Dither.NONE)
    except (*PILLOW_ERRORS, binascii.Error, TypeError):
        raise DataError(f"{path}: the stored mask of '{shape.get('label')}' cannot be decoded.") from None


# --------------------------------------------------------------------------------------------
# COCO
# --------------------------------------------------------------------------------------------
class Coco:
    """A COCO annotation file. Category ids become class ids in their order; instances leave a background, class 0.

    Args: path: of the JSON file; mask_folder: of the PNGs that a panoptic file names.
    Attributes: `names` of the classes; `files` of the images; `palette`: the categories' colors, of panoptic files that
        give them, else ().
    Raises: DataError; DependencyError: without pycocotools, for instances.
    """

    def __init__(self, path: str, mask_folder: str | None = None):
        content = read_json(path)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
        ):
            raise DataError(f"{path} is no COCO file: it needs the lists images, annotations and categories.")
        self.path, self.mask_folder = path, mask_folder
        self.panoptic = any(
            "segments_info" in annotation for annotation in content["annotations"][:1] if isinstance(annotation, dict)
        )
        _check_coco(content, self.panoptic, path)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        first = 0 if self.panoptic else 1
        self.ids = {category["id"]: i + first for i, category in enumerate(categories)}
        self.names = ([] if self.panoptic else [BACKGROUND]) + [category["name"] for category in categories]
        colors = [category.get("color") for category in categories] if self.panoptic else []
        self.palette = tuple((int(r), int(g), int(b)) for r, g, b in colors) if all(map(COLOR.accepts, colors)) else ()
        self.images = {image["file_name"]: image for image in content["images"]}
        self.files = list(self.images)
        self.ignored = ignored_value(len(self.names))
        if self.panoptic:
            if not mask_folder:
                raise DataError(f"{path} is a panoptic file: give the folder of its PNGs with --masks.")
            self._segments = {annotation["image_id"]: annotation for annotation in content["annotations"]}
        else:
            self._coco = self._open()

    def _open(self):
        try:
            from pycocotools.coco import COCO
        except ImportError as error:
            raise DependencyError(
                f"COCO instances need pycocotools ({error}): pip install '.[data]' (or: pip install pycocotools)."
            ) from None
        import contextlib

        with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it takes
            return COCO(self.path)

    def label(self, file_name: str) -> np.ndarray:
        """The class mask of an image. Shape: (H, W) uint8, or uint16 with more than 255 classes. Raises: DataError."""
        image = self.images[file_name]
        return self._panoptic_label(image) if self.panoptic else self._instance_label(image)

    def _instance_label(self, image) -> np.ndarray:
        """Larger objects first, so that what lies on them stays visible; crowds are ignored where no object lies."""
        label = np.zeros((image["height"], image["width"]), _dtype(self.ignored))
        annotations = self._coco.loadAnns(self._coco.getAnnIds(imgIds=[image["id"]]))
        for annotation in sorted(annotations, key=lambda one: (not one.get("iscrowd"), -(one.get("area") or 0))):
            try:
                inside = self._coco.annToMask(annotation).astype(bool)
                if inside.shape != label.shape:
                    raise ValueError("its size is not the image's")
            except Exception as error:  # whatever pycocotools says of a form that it does not know
                raise DataError(
                    f"{self.path}: the segmentation of the annotation {annotation.get('id')} cannot be drawn "
                    f"({str(error)[:100]})."
                ) from None
            label[inside] = self.ignored if annotation.get("iscrowd") else self._class_of(annotation["category_id"])
        return label

    def _panoptic_label(self, image) -> np.ndarray:
        """Segment ids are written as R + 256 G + 65536 B; pixels of no segment are ignored. Source: COCO's format
        description."""
        annotation = self._segments.get(image["id"])
        if annotation is None:
            raise DataError(f"{self.path} has no annotation of the image {image['file_name']}.")
        path = os.path.join(self.mask_folder or "", annotation["file_name"])
        segments = codes(read_rgb(path)[..., ::-1])
        label = np.full(segments.shape, self.ignored, _dtype(self.ignored))
        for segment in annotation["segments_info"]:
            label[segments == segment["id"]] = self._class_of(segment["category_id"])
        return label

    def _class_of(self, category: int) -> int:
        if category not in self.ids:
            raise DataError(
                f"{self.path}: an annotation has the category {category}, which 'categories' does not list."
            )
        return self.ids[category]


# What a file says of itself: list -> key -> whether its value will do.
_COCO: dict[str, dict[str, Callable[[Any], bool]]] = {
    "categories": {"id": is_int, "name": lambda value: isinstance(value, str)},
    "images": {"id": is_int, "file_name": lambda value: isinstance(value, str)},
    "annotations": {"image_id": is_int},
}
_INSTANCES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "images": dict.fromkeys(("height", "width"), lambda value: is_int(value) and 0 < value <= MAX_SIDE),
    "annotations": {
        "id": is_int,
        "category_id": is_int,
        "area": lambda value: value is None or is_number(value),
        "segmentation": lambda value: isinstance(value, dict) or _are_polygons(value),
    },
}
_PANOPTIC: dict[str, dict[str, Callable[[Any], bool]]] = {
    "annotations": {
        "file_name": lambda value: isinstance(value, str),
        "segments_info": lambda value: (
            isinstance(value, list)
            and all(isinstance(one, dict) and is_int(one.get("id")) and is_int(one.get("category_id")) for one in value)
        ),
    }
}


def _are_polygons(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, list) and all(map(_is_coordinate, one)) for one in value)


def _check_coco(content: dict[str, Any], panoptic: bool, path: str) -> None:
    for table in (_COCO, _PANOPTIC if panoptic else _INSTANCES):
        for name, keys in table.items():
            for index, row in enumerate(content[name]):
                wrong = [key for key, fits in keys.items() if not (isinstance(row, dict) and fits(row.get(key)))]
                if wrong:
                    raise DataError(f"{path}: {name}.{index:d} is no COCO {name[:-1]}: see its '{wrong[0]}'.")
    for image in () if panoptic else content["images"]:
        if image["height"] * image["width"] > MAX_PIXELS:
            raise DataError(f"{path}: the image {image['file_name']} has more than the {MAX_PIXELS:d} pixels allowed.")
