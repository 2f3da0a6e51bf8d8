"""The label sets that are known by name: their classes, their colors, the value that is ignored.

Pure Python, so that the command line and the exported model's metadata can read it for free.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ppliteseg_paddle.errors import ConfigError, DataError, suggest
from ppliteseg_paddle.reading.lists import read_names
from ppliteseg_paddle.reading.palettes import COLORS, RGB, further_colors, read_colors


@dataclass(frozen=True)
class LabelSet:
    """Classes of a data set: class id `i` is called `classes[i]` and drawn in `palette[i]` (RGB, 0-255).

    Raises: ConfigError: if there are not as many colors as classes, or a class name occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[RGB, ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ConfigError(
                f"label set '{self.name}' has {len(self.classes)} classes and {len(self.palette)} colors; give one "
                "color per class"
            )
        twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
        if twice:
            raise ConfigError(f"label set '{self.name}' names {', '.join(twice)} twice; class names must differ")

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def _from_rows(name: str, *rows: tuple[str, RGB]) -> LabelSet:
    return LabelSet(name, tuple(r[0] for r in rows), tuple(r[1] for r in rows))


LABEL_SETS = {
    # Source: the 11 classes that segmentation papers use of CamVid's 32, in SegNet's order and colors.
    "camvid": _from_rows(
        "camvid",
        ("sky", (128, 128, 128)),
        ("building", (128, 0, 0)),
        ("pole", (192, 192, 128)),
        ("road", (128, 64, 128)),
        ("pavement", (60, 40, 222)),
        ("tree", (128, 128, 0)),
        ("sign_symbol", (192, 128, 128)),
        ("fence", (64, 64, 128)),
        ("car", (64, 0, 128)),
        ("pedestrian", (64, 64, 0)),
        ("bicyclist", (0, 128, 192)),
    ),
    # Source: the 19 evaluated classes of Cityscapes, in the order of its train ids, official colors.
    "cityscapes": _from_rows(
        "cityscapes",
        ("road", (128, 64, 128)),
        ("sidewalk", (244, 35, 232)),
        ("building", (70, 70, 70)),
        ("wall", (102, 102, 156)),
        ("fence", (190, 153, 153)),
        ("pole", (153, 153, 153)),
        ("traffic light", (250, 170, 30)),
        ("traffic sign", (220, 220, 0)),
        ("vegetation", (107, 142, 35)),
        ("terrain", (152, 251, 152)),
        ("sky", (70, 130, 180)),
        ("person", (220, 20, 60)),
        ("rider", (255, 0, 0)),
        ("car", (0, 0, 142)),
        ("truck", (0, 0, 70)),
        ("bus", (0, 60, 100)),
        ("train", (0, 80, 100)),
        ("motorcycle", (0, 0, 230)),
        ("bicycle", (119, 11, 32)),
    ),
}


def label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises: ConfigError: for another name; the message names the nearest ones.
    """
    if name in LABEL_SETS:
        return LABEL_SETS[name]
    raise ConfigError(f"unknown label set '{name}'.{suggest(name, LABEL_SETS)}")


def numbered(num_classes: int) -> LabelSet:
    """Classes that nobody has named. Raises: ConfigError: see `palette_for`."""
    return LabelSet("numbered", tuple(f"class_{i:d}" for i in range(num_classes)), palette_for(num_classes))


def chosen(name: str | None = None, classes: str | None = None) -> LabelSet | None:
    """The label set that is meant by `--label_set NAME` or `--classes FILE`; None without either.

    Args: classes: a file that names the classes, one a line, in the order of their ids.
    Raises: ConfigError: for an unknown name, or both. DataError: if the file cannot be read, or names a class twice.
    """
    if name is not None and classes is not None:
        raise ConfigError("--label_set and --classes exclude each other: give a known set's name, or a file of names.")
    if classes is None:
        return None if name is None else label_set(name)
    names = read_names(classes, "--classes")
    return LabelSet("custom", tuple(names), palette_for(len(names)))


def recolored(known: LabelSet, path: str | None) -> LabelSet:
    """A label set in the colors of a palette file; itself without one.

    Raises: DataError: if the file cannot be read, or has another number of colors than the set has classes.
    """
    if path is None:
        return known
    rows = read_colors(path)
    if len(rows) != known.num_classes:
        raise DataError(
            f"palette {path} has {len(rows):d} colors, but there are {known.num_classes:d} classes: give one a line, "
            "in the order of their ids."
        )
    return replace(known, palette=tuple(color for color, _ in rows))


def palette_for(num_classes: int) -> tuple[RGB, ...]:
    """Distinct colors for a data set that brings none: those of the known set of that size, else those of
    `palettes.COLORS`, whose neighbors stay apart for color-blind readers, too.

    The first colors stay the same whatever `num_classes` is, unless a known set has exactly that size.

    Raises: ConfigError: if `num_classes` is not between 1 and 65535 (masks have 8 or 16 bits).
    """
    if not 1 <= num_classes <= 65535:
        raise ConfigError(f"num_classes is {num_classes}; a palette holds 1 to 65535 colors")
    for known in LABEL_SETS.values():
        if known.num_classes == num_classes:
            return known.palette
    return COLORS[:num_classes] + further_colors(num_classes - len(COLORS))


def aligned(names: Sequence[str], min_width: int = 0) -> list[str]:
    """Names padded to one width, `min_width` or more, as a terminal shows them: characters of East Asia are two columns
    wide."""
    columns = [sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in name) for name in names]
    width = max([min_width, *columns])
    return [name + " " * (width - taken) for name, taken in zip(names, columns)]
