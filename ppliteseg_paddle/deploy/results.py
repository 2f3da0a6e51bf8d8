"""What is written of predictions: masks, overlays, colors, confidences, of images or as videos.

mask        the class ids: a palette PNG up to 8 bits, a gray one of 16 bits beyond; of a video one PNG a frame; of a
            georeferenced TIFF a TIFF with its tags
overlay     the classes' colors over the image
color       the classes' colors alone
confidence  0 (none) to 255 (certain): a palette PNG; of a video its colors
rle         the classes' run lengths, as a COCO data set of one image; of images only
geojson     the classes' regions as polygons; of images only
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from numpy.typing import NDArray

from ppliteseg_paddle.deploy.predict_report import OVERLAY_FORMATS
from ppliteseg_paddle.deploy.predictor import Prediction
from ppliteseg_paddle.deploy.sources import Item
from ppliteseg_paddle.deploy.video import VideoWriter
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.georeference import georeference
from ppliteseg_paddle.reading.rasters import geo_tags
from ppliteseg_paddle.visual.coco import coco_image
from ppliteseg_paddle.visual.draw import colorize, draw_confidence
from ppliteseg_paddle.visual.geojson import geojson
from ppliteseg_paddle.visual.overlays import Overlays
from ppliteseg_paddle.visual.png import Write, write_confidence, write_image, write_mask
from ppliteseg_paddle.visual.tiff import write_geo_mask

log = logging.getLogger("ppliteseg_paddle")

_CONVERT = "GDAL and QGIS read it; for other readers convert it (ogr2ogr -t_srs EPSG:4326)."
_EXTENSIONS = {"rle": ".json", "geojson": ".geojson"}
_FRAME = re.compile(r"\d{6}\.png$")

# kind -> its image, (H, W, 3) uint8 BGR. Frames of a video have no legend: they keep their size.
PICTURES: dict[str, Callable[[Prediction, Overlays], NDArray[Any]]] = {
    "overlay": lambda found, style: style.draw(found.image, found.mask),
    "color": lambda found, style: colorize(found.mask, style.labels.palette),
    "confidence": lambda found, _: draw_confidence(found.confidence),
}
FRAMES: dict[str, Callable[[Prediction, Overlays], NDArray[Any]]] = {
    **PICTURES,
    "overlay": lambda found, style: style.frame(found.image, found.mask),
}


def image_paths(
    save_dir: str, item: Item, kinds: Sequence[str], overlay_format: str = OVERLAY_FORMATS[0]
) -> dict[str, str]:
    """Where the results of an image go: SAVE_DIR/KIND/NAME.png, or with the extension that the kind has;
    SAVE_DIR/mask/NAME.tif if the image is georeferenced. Args: overlay_format: of `OVERLAY_FORMATS`."""
    extensions = {**_EXTENSIONS, "overlay": f".{overlay_format}"}
    paths = {kind: os.path.join(save_dir, kind, item.name + extensions.get(kind, ".png")) for kind in kinds}
    if "mask" in paths and geo_tags(item.path):
        paths["mask"] = os.path.join(save_dir, "mask", item.name + ".tif")
    return paths


def write_images(paths: Mapping[str, str], found: Prediction, style: Overlays, write: Write, item: Item) -> None:
    """Write the results of an image.

    Args: paths: kind -> file, from `image_paths`; style: of overlays, with the classes' colors; which classes it leaves
        uncolored, `rle` and `geojson` omit.
    Raises: DataError: if a file cannot be written; none is left half-written.
    """
    labels = style.labels
    for kind, path in paths.items():
        if kind == "mask" and path.endswith(".tif"):
            write_geo_mask(path, found.mask, labels.palette, geo_tags(item.path), write)
        elif kind == "mask":
            write_mask(path, found.mask, labels.palette, write)
        elif kind == "confidence":
            write_confidence(path, found.confidence, write)
        elif kind == "rle":
            content = coco_image(item.file_name, found.mask, labels.classes, style.hidden_in(found.mask))
            write(path, json.dumps(content, ensure_ascii=False).encode())
        elif kind == "geojson":
            place = georeference(item.path)
            write(path, geojson(found.mask, labels, style.hidden_in(found.mask), place).encode())
        else:
            write_image(path, PICTURES[kind](found, style), write)


def tell_places(paths: Sequence[str]) -> None:
    """Say which georeferenced images have GeoJSON that readers who know RFC 7946 only would misplace: a line for each
    reference system."""
    others: dict[str, list[str]] = {}
    for path in paths:
        place = georeference(path)
        if place is None and geo_tags(path):
            others.setdefault("pixels: the tags that georeference it give no transformation.", []).append(path)
        elif place is not None and not place.is_wgs84:
            others.setdefault(f"{place.name}, not in WGS 84: see `crs` in the file. {_CONVERT}", []).append(path)
    for system, found in others.items():
        more = f" and {len(found) - 1:d} more" if len(found) > 1 else ""
        log.warning("GeoJSON of %s%s is in %s", found[0], more, system)


class VideoResults:
    """The results of a video: SAVE_DIR/KIND/NAME.EXT for each kind, and SAVE_DIR/mask/NAME/000000.png and on.

    The videos appear when they are complete: on leaving the `with` block without an error; see `VideoWriter`.

    Args: name: with the videos' extension, a key of `video.CODECS`; fps: frames a second; style:
        of overlays, with the classes' colors; None if nothing is going to be drawn.
    Attributes: `frames`, how many were written; `paths`, where each kind is.
    """

    def __init__(self, outputs: Outputs, name: str, fps: float, kinds: Sequence[str], style: Overlays | None):
        self._outputs, self._kinds, self._style = outputs, tuple(kinds), style
        self._masks = os.path.join(outputs.folder, "mask", os.path.splitext(name)[0]) if "mask" in kinds else None
        self._writers = {
            kind: VideoWriter(os.path.join(outputs.folder, kind, name), fps, outputs.remember)
            for kind in kinds
            if kind != "mask"
        }
        self._stack = contextlib.ExitStack()
        self.frames = 0

    def check(self, source: str | int, size: tuple[int, int]) -> None:
        """See that nothing but results of earlier runs is replaced, and never the source.

        Args: size: (width, height) of the video.
        Raises: DataError
        """
        paths = [writer.path_for(size) for writer in self._writers.values()]
        for path in paths:
            if isinstance(source, str) and os.path.exists(path) and os.path.samefile(path, source):
                raise DataError(f"video {source} lies where its own result goes; give another --save_dir.")
        if self._masks is not None and os.path.isdir(self._masks):
            paths += [os.path.join(self._masks, name) for name in sorted(os.listdir(self._masks)) if _FRAME.match(name)]
        self._outputs.check(paths)

    def draw(self, found: Prediction) -> tuple[Prediction, dict[str, NDArray[Any]]]:
        """The pictures of a frame. May run in another thread than `write`."""
        assert self._style is not None  # noqa: S101 - given where there is something to draw
        return found, {kind: FRAMES[kind](found, self._style) for kind in self._writers}

    def write(self, found: Prediction, pictures: dict[str, NDArray[Any]], times: int = 1) -> None:
        """Add a frame, `times` times to the videos."""
        for kind, picture in pictures.items():
            for _ in range(times):
                self._writers[kind].write(picture)
        if self._masks is not None:
            path = os.path.join(self._masks, f"{self.frames:06d}.png")
            write_mask(path, found.mask, self._style.labels.palette if self._style else (), self._outputs.write)
        self.frames += 1

    @property
    def paths(self) -> dict[str, str]:
        return {kind: self._masks or "" if kind == "mask" else self._writers[kind].path for kind in self._kinds}

    def __enter__(self) -> VideoResults:
        for writer in self._writers.values():
            self._stack.enter_context(writer)
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self._stack.__exit__(*exception)
