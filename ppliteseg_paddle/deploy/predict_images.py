"""Segment images and write what is wanted of each: the content of `ppliteseg predict` for images."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable

from ppliteseg_paddle import progress
from ppliteseg_paddle.data import submission
from ppliteseg_paddle.deploy.pipeline import overlapped
from ppliteseg_paddle.deploy.predict_report import OVERLAY_FORMATS, report
from ppliteseg_paddle.deploy.predictor import Prediction, Predictor
from ppliteseg_paddle.deploy.results import image_paths, tell_places, write_images
from ppliteseg_paddle.deploy.sources import Item
from ppliteseg_paddle.deploy.tally import Tally
from ppliteseg_paddle.errors import ConfigError, DataError, one_line
from ppliteseg_paddle.files import check_writable
from ppliteseg_paddle.outputs import Outputs
from ppliteseg_paddle.reading.image_form import COLOR
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.reading.labels import read_stored
from ppliteseg_paddle.reading.planes import read_planes
from ppliteseg_paddle.signals import Interrupted
from ppliteseg_paddle.visual.bands import shown_image
from ppliteseg_paddle.visual.coco import join_coco
from ppliteseg_paddle.visual.overlays import Overlays

MAX_AREAS = 10_000  # images whose shares are told one by one

# Opens the predictor, and says how its masks are drawn. Called after everything that is quick to check.
Opener = Callable[[], tuple[Any, Overlays]]


@dataclass(frozen=True)
class ImageRun:
    """What to write.

    Args:
        save_dir: for SAVE_DIR/KIND/NAME.png.
        kinds: of `predict_report.KINDS`.
        cityscapes: in place of all kinds write SAVE_DIR/submission and SAVE_DIR/submission.zip, as the official server
            takes them.
        overwrite: replace what earlier runs did not write, too.
        skip_existing: keep the images' results that earlier runs wrote, and segment the others only.
        grid: also draw `grid_images` of the images, with their ground truth where the list names labels, and
            predictions into one image file of that name, below `grid_title`.
        bands: which channels the pictures show, see `visual.bands`.
        overlay_format: of `predict_report.OVERLAY_FORMATS`.
    """

    save_dir: str
    kinds: tuple[str, ...] = ("mask", "overlay")
    cityscapes: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    grid: str | None = None
    grid_images: int = 4
    grid_title: str = ""
    bands: Sequence[int] | None = None
    overlay_format: str = OVERLAY_FORMATS[0]

    @cached_property
    def outputs(self) -> Outputs:
        return Outputs(self.save_dir, self.overwrite)

    def paths(self, item: Item) -> dict[str, str]:
        """Where an image's results go, by kind."""
        if self.cityscapes:
            return {"submission": os.path.join(self.save_dir, "submission", submission.file_name(item.path))}
        return image_paths(self.save_dir, item, self.kinds, self.overlay_format)

    @property
    def coco(self) -> str | None:
        """The file of all images' run lengths."""
        return os.path.join(self.save_dir, "rle.json") if "rle" in self.kinds else None


def predict_images(items: Sequence[Item], open_predictor: Opener, run: ImageRun) -> dict[str, Any]:
    """Segment images. One that cannot be read is reported on stderr and does not end the run.

    Args: open_predictor: gives a `Predictor`, or what has its `label_set`, `backend` and `predict`.
    Returns: plain values for the report; "exit_status" is 2 if an image could not be read.
    Raises: DataError: if a file cannot be written, or is there and not an earlier run's. Interrupted.
        Whatever `open_predictor` raises.
    """
    if run.cityscapes:
        submission.check_frames(item.path for item in items)
    all_items = items
    items, kept = _check_outputs(items, run)
    if "geojson" in run.kinds:
        tell_places([item.path for item in items])
    predictor, style = open_predictor()
    if run.cityscapes and predictor.artifact.multilabel:
        raise ConfigError(
            "--format cityscapes takes one class a pixel, and the model decides each class by itself (use_multilabel)."
        )
    tally, start = Tally(predictor), time.perf_counter()
    shown = _spread(len(items), run.grid_images) if run.grid else set()
    rows: list[tuple[Any, ...]] = []
    areas: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    finished: list[str] = []
    try:
        for item, found in _written(predictor, items, run, style, shown, finished):
            if found.error is not None:
                unreadable.append({"path": item.path, "error": str(found.error)})
                continue
            share = tally.add(found.mask)
            if len(areas) < MAX_AREAS:
                areas.append({"path": item.path, "share": share})
            if found.image is not None:
                truth = None if run.cityscapes else _truth(item, found.mask.shape)
                rows.append((found.image, truth, found.mask, item.name))
    except KeyboardInterrupt as interrupt:
        what = f"{len(finished) + len(kept)} of {len(items) + len(kept)} images are finished in {run.save_dir}"
        raise Interrupted.of(interrupt).saying(f"{what}; add --skip_existing to continue.") from None
    done = len(items) - len(unreadable)
    result = {
        "images": done,
        "kept": len(kept),
        **report(predictor, tally, run.save_dir, done, time.perf_counter() - start),
        "outputs": {kind: os.path.join(run.save_dir, kind) for kind in run.kinds} if done or kept else {},
        "area_of_images": areas,
        "area_of_images_omitted": done - len(areas),
        "unreadable": unreadable,
        "grid": None,
        "coco": None,
        "format": "cityscapes" if run.cityscapes else "masks",
        "exit_status": 2 if unreadable else 0,
    }
    if run.cityscapes and not unreadable:
        result["submission"] = _pack(run, [*kept, *items])
    if run.coco and result["outputs"]:
        there = {*finished, *(item.path for item in kept)}
        _join_coco(run, run.coco, [item for item in all_items if item.path in there], style.labels)
        result["coco"] = run.coco
    if run.grid and rows:
        _draw_grid(run, run.grid, rows, style.labels)
        result["grid"] = run.grid
    for bad in unreadable:
        print(f"error: {one_line(bad['error'])}", file=sys.stderr)
    return result


def _check_outputs(items: Sequence[Item], run: ImageRun) -> tuple[list[Item], list[Item]]:
    """The images to segment, and those whose results are kept.

    Raises: DataError: if something would be replaced that an earlier run did not write, or an image is to be the grid.
    """
    targets = [path for item in items for path in run.paths(item).values()]
    if run.cityscapes:
        targets.append(_archive(run))
    if run.coco:
        targets.append(run.coco)
    if run.grid:
        check_writable(run.grid)
        targets.append(run.grid)
        if os.path.realpath(run.grid) in {os.path.realpath(item.path) for item in items}:
            raise DataError(f"--grid {run.grid} is one of the images; give another file.")
    run.outputs.check(targets)
    kept = {item for item in items if run.skip_existing and all(map(run.outputs.wrote, run.paths(item).values()))}
    return [item for item in items if item not in kept], [item for item in items if item in kept]


def _written(
    predictor: Any, items: Sequence[Item], run: ImageRun, style: Overlays, shown: set[int], finished: list[str]
) -> Iterator[tuple[Item, Prediction]]:
    """Each image with its prediction, once that is written, in order. Only those of the indices `shown` keep their
    pixels. Paths of images whose results are written are added to `finished`."""

    def write(numbered: tuple[int, Prediction]) -> tuple[Item, Prediction]:
        index, found = numbered
        item = items[index]
        if found.error is None:
            found = found._replace(image=shown_image(found.image, run.bands))
            if run.cityscapes:
                folder = os.path.join(run.save_dir, "submission")
                submission.write_prediction(folder, item.path, found.mask, run.outputs.saving)
            else:
                write_images(run.paths(item), found, style, run.outputs.write, item)
            finished.append(item.path)
        return item, found if index in shown else found._replace(image=None)

    threads = max(1, min(4, (os.cpu_count() or 1) // 2))
    stream = _stream(predictor, [item.path for item in items], "confidence" in run.kinds)
    with contextlib.closing(overlapped(write, _numbered(stream), threads)) as written:
        yield from progress.bar(written, total=len(items), desc="predict", unit="image")


def _numbered(stream: Generator[Prediction, None, None]) -> Iterator[tuple[int, Prediction]]:
    """`enumerate` that closes the generator that it counts, and with it that one's threads."""
    with contextlib.closing(stream):
        yield from enumerate(stream)


def _stream(predictor: Any, paths: list[str], with_confidence: bool) -> Generator[Prediction, None, None]:
    """One `Prediction` for each path, in order."""
    if isinstance(predictor, Predictor):
        yield from predictor.stream(paths, with_confidence=with_confidence, keep_going=True)
        return
    for path in paths:
        try:
            image = read_image(path, *getattr(predictor, "image_form", COLOR))
            yield Prediction(image, predictor.predict(image))
        except DataError as error:
            yield Prediction(None, None, None, error)


def _archive(run: ImageRun) -> str:
    return os.path.join(run.save_dir, "submission.zip")


def _pack(run: ImageRun, items: Sequence[Item]) -> dict[str, Any]:
    folder = os.path.join(run.save_dir, "submission")
    return {
        **submission.check_folder(folder, submission.check_frames(item.path for item in items)),
        "expected": submission.TEST_IMAGES,
        "folder": folder,
        "archive": submission.pack(folder, _archive(run), run.outputs.saving),
    }


def _join_coco(run: ImageRun, path: str, items: Sequence[Item], labels: LabelSet) -> None:
    with run.outputs.saving(path) as temporary:
        join_coco((run.paths(item)["rle"] for item in items), labels.classes, temporary)


def _draw_grid(run: ImageRun, path: str, rows: Sequence[tuple[Any, ...]], labels: LabelSet) -> None:
    from ppliteseg_paddle.visual.grid import Row, grid
    from ppliteseg_paddle.visual.png import write_image

    write_image(path, grid([Row(*row) for row in rows], labels, run.grid_title), run.outputs.write)


def _spread(count: int, wanted: int) -> set[int]:
    """Indices of `wanted` among `count` images, evenly spread."""
    wanted = min(count, wanted)
    return {round(i * (count - 1) / max(wanted - 1, 1)) for i in range(wanted)}


def _truth(item: Item, shape: tuple[int, ...]) -> Any:
    """The label in a mask's shape; None without one of that."""
    if item.label is None or not os.path.isfile(item.label):
        return None
    if len(shape) == 3:
        try:
            return read_planes(item.label, shape[2], (shape[0], shape[1]))
        except DataError:
            return None
    label = read_stored(item.label).pixels
    return label.astype("uint8" if label.max() < 256 else "uint16") if label.shape == shape else None
