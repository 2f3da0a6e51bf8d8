"""A folder of images and a folder of masks, or annotations, become a data set that trains at once."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.data.prepare import label_forms
from ppliteseg_paddle.data.prepare.annotations import BACKGROUND, Coco, labelme_label, labelme_names
from ppliteseg_paddle.data.prepare.image_facts import ImageFacts, image_facts
from ppliteseg_paddle.data.prepare.label_forms import Form, Remap, decide, ignored_value
from ppliteseg_paddle.data.prepare.mask_facts import Census, facts_of
from ppliteseg_paddle.data.prepare.pairing import Pairing, find_files, pair_by_name
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.extensions import IMAGE_EXTENSIONS, LABEL_EXTENSIONS
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.images import channels_of, read_values
from ppliteseg_paddle.reading.label_sets import aligned
from ppliteseg_paddle.reading.palettes import RGB


@dataclass(frozen=True)
class Sources:
    """What a data set is made of.

    Args:
        images, masks: folders; `masks` may hold labelme's JSON files.
        annotations: a COCO file.
        mask_suffix: take only masks whose names end so.
        class_names, remap, table: as in `label_forms.decide`.
    """

    images: str
    masks: str | None = None
    annotations: str | None = None
    mask_suffix: str = ""
    class_names: Sequence[str] | None = None
    remap: Remap | None = None
    table: Sequence[tuple[RGB, str]] | None = None

    def refuse(self, kind: str, *names: str) -> None:
        """Raises: ConfigError: if one of these options is given, which has no effect on labels of this kind."""
        for name in names:
            if getattr(self, name):
                raise ConfigError(f"--{_FLAGS.get(name, name)} has no effect on {kind}: leave it out.")


_FLAGS = {"class_names": "classes", "table": "colors"}


class Plan(NamedTuple):
    """What is going to be done, to be shown before it is. `describe` for people."""

    pairing: Pairing
    names: tuple[str, ...]
    what: str
    rows: Sequence[label_forms.Row]
    make: Callable  # (image, source) -> label; a function that processes can be given
    warning: str = ""
    images: ImageFacts = ImageFacts(ImageForm())
    palette: tuple[RGB, ...] = ()

    @property
    def ignored(self) -> int:
        """The value of pixels without a class."""
        return ignored_value(len(self.names))

    def describe(self) -> str:
        lines = [f"{len(self.pairing.pairs):d} images with masks ({self.what})"]
        lines += [text for text in (self.images.describe(), self.warning and f"warning: {self.warning}") if text]
        for paths, text in (
            (self.pairing.images_alone, "images without a mask, skipped"),
            (self.pairing.masks_alone, "masks without an image, skipped"),
        ):
            if paths:
                lines.append(
                    f"{len(paths):d} {text}: "
                    f"{', '.join(map(os.path.basename, paths[:3]))}{(', ...' if len(paths) > 3 else '')}"
                )
        total = sum(row.pixels for row in self.rows) or 1
        for row, name in zip(self.rows, aligned([str(row.name) for row in self.rows], 20)):
            source = f"{row.source:3d}" if isinstance(row.source, int) else "({:3d}, {:3d}, {:3d})".format(*row.source)
            target = "ignore" if row.id == self.ignored else f"{row.id:6d}"
            lines.append(f"  {source} -> {target}  {name} {100 * row.pixels / total:6.2f} % of pixels")
        if not self.rows:
            lines += [f"  {number:3d}  {name}" for number, name in enumerate(self.names)]
        return "\n".join(lines)


# --------------------------------------------------------------------------------------------
# Looking
# --------------------------------------------------------------------------------------------
def plan_folder(sources: Sources, num_workers: int | None = None, progress: bool = True) -> Plan:
    """Find pairs, the form of the labels, and that of the images.

    Raises: DataError: for what cannot be made out, or does not fit together. ConfigError: for an option without effect.
    """
    plan = _plan(sources, num_workers, progress)
    return plan._replace(images=image_facts([image for image, _ in plan.pairing.pairs], num_workers, progress))


def _plan(sources: Sources, num_workers: int | None, progress: bool) -> Plan:
    images, masks = sources.images, sources.masks
    found = find_files(images, IMAGE_EXTENSIONS)
    if sources.annotations:
        sources.refuse("COCO annotations", "class_names", "remap", "table", "mask_suffix")
        return _plan_coco(found, images, sources.annotations, masks)
    if not masks:
        raise DataError("give the folder of the labels with --masks, or a COCO file with --annotations.")
    suffix = sources.mask_suffix
    labels = find_files(masks, LABEL_EXTENSIONS + (".json",))
    json_files = [path for path in labels if path.lower().endswith(".json")]
    if os.path.realpath(images) == os.path.realpath(masks):
        labels = json_files or [path for path in labels if suffix and _ends(path, suffix)]
        found = [path for path in found if path not in set(labels)]
        if not labels:
            raise DataError("images and masks are in one folder: say how the masks' names end, with --mask_suffix.")
    if json_files and len(json_files) * 2 >= len(labels):
        sources.refuse("labelme annotations", "remap", "table", "mask_suffix")
        return _plan_labelme(found, images, json_files, masks, sources.class_names)
    labels = [path for path in labels if path not in set(json_files) and _ends(path, suffix)]
    if not labels:
        raise DataError(f"no mask in {masks} has a name that ends in '{suffix}'.")
    pairing = pair_by_name(found, labels, images, masks)
    form = _form_of([mask for _, mask in pairing.pairs], sources, num_workers, progress)
    make = functools.partial(_convert, form=form)
    return Plan(pairing, form.names, form.what, form.rows, make, form.warning, palette=form.palette)


def _ends(path: str, suffix: str) -> bool:
    return os.path.splitext(path)[0].endswith(suffix) or path.endswith(suffix)


def _form_of(paths: list[str], sources: Sources, num_workers: int | None, progress: bool) -> Form:
    if sources.table is not None:
        sources.refuse("masks whose colors --colors names", "remap", "class_names")
    by_color = sources.table is not None or any(isinstance(source, tuple) for source in sources.remap or ())
    census = _census(paths, by_color, num_workers, progress)
    if census.palettes_disagree:
        census = _census(paths, True, num_workers, progress)
    return decide(census, sources.class_names, sources.remap, sources.table)


def _census(paths, as_colors: bool, num_workers, progress) -> Census:
    census = Census()
    for path, facts in zip(
        paths,
        run_parallel(
            functools.partial(facts_of, as_colors=as_colors), paths, num_workers, "looking at masks", "mask", progress
        ),
    ):
        census.add(path, facts)
    return census


def _plan_labelme(found, images: str, json_files, masks: str, class_names) -> Plan:
    pairing = pair_by_name(found, json_files, images, masks)
    used = sorted(
        {name for _, path in pairing.pairs for name in labelme_names(path)} - {"__ignore__", BACKGROUND, "_background_"}
    )
    names = tuple(class_names or [BACKGROUND] + used)
    return Plan(pairing, names, "labelme annotations", (), functools.partial(_draw_labelme, names=names))


def _plan_coco(found, images: str, annotations: str, masks: str | None) -> Plan:
    coco = Coco(annotations, masks)
    if masks and not coco.panoptic:
        raise ConfigError(f"--masks has no effect on the COCO instances of {annotations}: leave it out.")
    by_name = {os.path.relpath(path, images): path for path in found}
    by_name.update({os.path.basename(path): path for path in found if os.path.basename(path) not in by_name})
    pairs = [(by_name[name], name) for name in coco.files if name in by_name]
    if not pairs:
        raise DataError(
            f"none of the {len(coco.files):d} images that {annotations} names is in {images} (it names "
            f"{coco.files[:1]})."
        )
    taken = {path for path, _ in pairs}
    pairing = Pairing(
        pairs, [path for path in found if path not in taken], [name for name in coco.files if name not in by_name], None
    )
    kind = "COCO panoptic annotations" if coco.panoptic else "COCO instance annotations"
    make = functools.partial(_draw_coco, coco=coco)
    return Plan(pairing, tuple(coco.names), kind, (), make, palette=coco.palette)


# --------------------------------------------------------------------------------------------
# Making one label
# --------------------------------------------------------------------------------------------
def _convert(pair, form: Form) -> np.ndarray:
    return label_forms.convert(pair[1], form)


def _draw_labelme(pair, names) -> np.ndarray:
    # Upright, as training reads it and labelme shows it.
    height, width = read_values(pair[0], channels_of(pair[0])).shape[:2]
    return labelme_label(pair[1], (width, height), names)


def _draw_coco(pair, coco: Coco) -> np.ndarray:
    return coco.label(pair[1])
