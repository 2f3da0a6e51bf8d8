"""What the masks of a folder are (ids, palette, colors, 0/255, counted from 1, ...), and how they become class ids."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.color_masks import codes, color_of, count_codes, ids_of_colors, read_rgb
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.reading.labels import read_stored
from ppliteseg_paddle.reading.palettes import RGB

IGNORED = 255
MAX_COLORS = 256


class MaskFacts(NamedTuple):
    """What one mask holds: `kind` "values" or "colors", pixels of each value or color code."""

    kind: str
    counts: dict[int, int]
    palette: tuple[RGB, ...] = ()  # of a palette image


class Row(NamedTuple):
    """One value or color, and what becomes of it. `id` 255 is ignored."""

    source: Any  # int, or (R, G, B)
    id: int
    name: str
    pixels: int


class Form(NamedTuple):
    """How masks are to be read: `kind` "values" or "colors"; `what` for people; `names` and `palette` of the
    classes."""

    kind: str
    what: str
    rows: list[Row]
    names: tuple[str, ...]


def facts_of(path: str, as_colors: bool = False) -> MaskFacts:
    """Look at one mask.

    Args: as_colors: take the colors of a palette image, not its indices.
    Raises: DataError: if it cannot be decoded, or has more colors than a mask can have.
    """
    pixels, mode, palette = read_stored(path, "mask")
    if pixels.ndim == 2 and not (mode == "P" and as_colors):
        if pixels.dtype.kind == "f":
            raise DataError(f"mask {path} holds floating-point numbers: save class ids as integers.")
        table = tuple(zip(*[iter(palette)] * 3)) if palette else ()
        return MaskFacts("values", count_codes(pixels.astype(np.uint8) if pixels.dtype == bool else pixels), table)
    counts = count_codes(codes(read_rgb(path)))
    if len(counts) > MAX_COLORS:
        raise DataError(
            f"mask {path} holds {len(counts):d} colors, more than classes can be: it is a photograph, or was saved as "
            "JPEG or smoothed. Export the masks as PNG without anti-aliasing."
        )
    return MaskFacts("colors", counts)


class Census:
    """Sums over the masks of a folder."""

    def __init__(self):
        self.values: collections.Counter = collections.Counter()
        self.colors: collections.Counter = collections.Counter()
        self.palettes: set = set()
        self.kinds: dict[str, str] = {}  # kind -> first file

    def add(self, path: str, facts: MaskFacts) -> None:
        self.kinds.setdefault(facts.kind, path)
        (self.values if facts.kind == "values" else self.colors).update(facts.counts)
        if facts.palette:
            used = max(facts.counts) + 1
            self.palettes.add(facts.palette[:used])
        if len(self.colors) > MAX_COLORS:
            raise DataError(
                f"the masks hold more than {MAX_COLORS:d} colors in all ({path} is one of them): give the colors of "
                "the classes with --colors FILE."
            )

    @property
    def palettes_disagree(self) -> bool:
        """Whether an index means different colors in different files."""
        tables = sorted(self.palettes, key=len)
        return any(short != tables[-1][: len(short)] for short in tables)


def decide(
    census: Census,
    class_names: Sequence[str] | None = None,
    remap: Mapping[int, int] | None = None,
    table: Sequence[tuple[RGB, str]] | None = None,
) -> Form:
    """How the masks become class ids.

    Args:
        class_names: in the order of their ids; None finds out how many there are.
        remap: value -> id by hand; other values stay what they are.
        table: (color, name) of each class.
    Raises: DataError: if the masks are of several kinds, or do not fit `class_names` or `table`.
    """
    if len(census.kinds) > 1 and (any(len(set(color_of(code))) > 1 for code in census.colors) or table):
        raise DataError(
            f"the masks are of several kinds: {census.kinds['values']} holds class ids, {census.kinds['colors']} "
            "colors; prepare them apart."
        )
    if table is not None:
        return _by_table(census, table)
    gray = census.colors and all(len(set(color_of(code))) == 1 for code in census.colors)
    if census.colors and not gray:
        return _by_colors(census, class_names)
    values = collections.Counter(census.values)
    for code, pixels in census.colors.items():  # gray colors are values written three times
        values[code & 255] += pixels
    return _by_values(dict(values), class_names, remap)


def convert(path: str, form: Form) -> np.ndarray:
    """One mask as class ids. Shape: (H, W) uint8. Raises: DataError: for a value or color that the form does not
    know."""
    if form.kind == "colors":
        return ids_of_colors(
            read_rgb(path),
            np.array([row.source for row in form.rows]),
            np.array([row.id for row in form.rows], np.uint8),
            path,
        )
    values = read_stored(path, "mask").pixels
    # Gray colors are values written three times.
    values = codes(read_rgb(path)) & 255 if values.ndim == 3 else values.astype(np.int64)
    known = {row.source: row.id for row in form.rows}
    result = np.full(values.shape, IGNORED, np.uint8)
    for value in np.unique(values).tolist():
        if value not in known:
            raise DataError(
                f"mask {path} holds the value {value:d}, which was not there when the masks were looked through."
            )
        result[values == value] = known[value]
    return result


# --------------------------------------------------------------------------------------------
# Colors
# --------------------------------------------------------------------------------------------
def _by_table(census: Census, table: Sequence[tuple[RGB, str]]) -> Form:
    if not census.colors and census.values:
        raise DataError(f"--colors goes with color masks, but {census.kinds['values']} holds class ids.")
    known = {int(codes(np.array(color))): i for i, (color, _) in enumerate(table)}
    strangers = [code for code in census.colors if code not in known]
    if strangers:
        raise DataError(
            f"the masks hold {len(strangers):d} colors that the table does not know "
            f"({', '.join('{} {} {}'.format(*color_of(code)) for code in strangers[:5])}): add them to it."
        )
    names = _names_of(table)
    ids, count = [], 0
    for _, name in table:
        void = name.lower() in ("void", "ignore", "ignored", "unlabelled", "unlabeled")
        ids.append(IGNORED if void else count)
        count += not void
    rows = [
        Row(tuple(color), ids[i], names[i], census.colors.get(int(codes(np.array(color))), 0))
        for i, (color, _) in enumerate(table)
    ]
    return Form("colors", "colors of the given table", rows, tuple(row.name for row in rows if row.id != IGNORED))


def _names_of(table) -> list[str]:
    return [name or f"class_{i:d}" for i, (_, name) in enumerate(table)]


def _by_colors(census: Census, class_names: Sequence[str] | None) -> Form:
    found = {color_of(code): pixels for code, pixels in census.colors.items()}
    colored = set(found) - {(0, 0, 0)}
    for known in LABEL_SETS.values():
        if len(colored) >= 3 and colored <= set(known.palette) and class_names is None:
            rows = [Row(color, i, known.classes[i], found.get(color, 0)) for i, color in enumerate(known.palette)]
            if (0, 0, 0) in found:
                rows.append(Row((0, 0, 0), IGNORED, "ignored", found[0, 0, 0]))
            return Form("colors", f"the colors of {known.name}", rows, known.classes)
    colors = sorted(found)
    _same_number(class_names, len(colors), "colors")
    names = tuple(
        class_names or ["background" if color == (0, 0, 0) else f"class_{i:d}" for i, color in enumerate(colors)]
    )
    return Form(
        "colors",
        f"{len(colors):d} colors, found in the masks",
        [Row(color, i, names[i], found[color]) for i, color in enumerate(colors)],
        names,
    )


# --------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------
def _by_values(found: dict[int, int], class_names: Sequence[str] | None, remap: Mapping[int, int] | None) -> Form:
    values = sorted(found)
    known = [value for value in values if value != IGNORED]
    if values and (values[0] < 0 or (len(values) > MAX_COLORS)):
        raise DataError(
            f"the masks hold {len(values):d} values from {values[0]:d} to {values[-1]:d}: these are no class ids "
            "(instance ids, depth?)."
        )
    number = len(class_names) if class_names is not None else None
    if remap:
        ids, what = {value: remap.get(value, value) for value in values}, "values, mapped by hand"
    elif set(values) <= {0, 255} and 255 in values and number in (None, 2):
        ids, what = {0: 0, 255: 1}, "binary masks of 0 and 255"
    else:
        ids, what = _ids_of_values(known, number)
        ids[IGNORED] = IGNORED
    classes = [i for value, i in ids.items() if i != IGNORED and value in found]
    beyond = [i for i in classes if not 0 <= i < (number or IGNORED)]
    if beyond:
        raise DataError(
            f"the masks give the class ids {sorted(set(beyond))[:8]}, but "
            f"{(f'the class file names {number:d}' if number else 'ids go from 0 to 254')}; map values with --remap "
            "FROM=TO."
        )
    if not classes:
        raise DataError("the masks hold the ignored value 255 only.")
    count = number or max(classes) + 1
    default = ["background", "foreground"] if what.startswith("binary") else [f"class_{i:d}" for i in range(count)]
    names = tuple(class_names or default)
    rows = [
        Row(value, ids[value], "ignored" if ids[value] == IGNORED else names[ids[value]], found[value])
        for value in values
    ]
    return Form("values", what, rows, names)


def _ids_of_values(known: list[int], number: int | None) -> tuple[dict[int, int], str]:
    if not known:
        return {}, "class ids"
    one_off = known[0] == 1 and (
        known[-1] == number if number else known == list(range(1, known[-1] + 1)) and len(known) > 1
    )
    if one_off:
        return {value: value - 1 for value in known}, "class ids counted from 1"
    if number and known[0] == 0 and known[-1] == number:
        return {
            value: value - 1 if value else IGNORED for value in known
        }, "class ids counted from 1, and 0 where nothing is labelled"
    fits = known[-1] < number if number else known[-1] < 2 * len(known)
    if fits:
        return {value: value for value in known}, "class ids"
    _same_number(tuple(range(number)) if number else None, len(known), "values")
    return {value: i for i, value in enumerate(known)}, "values with gaps, numbered in their order"


def _same_number(class_names: Sequence[Any] | None, found: int, what: str) -> None:
    if class_names is not None and len(class_names) != found:
        raise DataError(f"the masks hold {found:d} {what}, but the class file names {len(class_names):d} classes.")
