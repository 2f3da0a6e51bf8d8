"""How masks become class ids, whatever they are: ids, palettes, colors, 0/255, counted from 1, ..."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from ppliteseg_paddle.data.prepare.mask_facts import MAX_COLORS, THRESHOLD, Census, values_of
from ppliteseg_paddle.data.prepare.own_colors import own_palette
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.color_masks import codes, color_of, ids_of_colors, read_rgb
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.reading.labels import read_stored
from ppliteseg_paddle.reading.palettes import RGB

IGNORED = 255
IGNORED_16_BIT = 65535  # where there are so many classes that 255 is the id of one
Source = Union[int, RGB]  # a value or a color of a mask
Remap = Mapping[Source, Optional[int]]  # -> class id; None is ignored


class Row(NamedTuple):
    """One value or color, and what becomes of it."""

    source: Any  # int, or (R, G, B)
    id: int
    name: str
    pixels: int


class Form(NamedTuple):
    """How masks are to be read.

    Attributes: `kind`, "values" or "colors"; `what`, for people; `names` of the classes; `ignored`, the id of pixels
        without a class; `smeared`, whether values are first cut at `THRESHOLD` into 0 and 255; `warning`, a sentence
        or ""; `palette`, the classes' own colors, () if there are none.
    """

    kind: str
    what: str
    rows: list[Row]
    names: tuple[str, ...]
    ignored: int = IGNORED
    smeared: bool = False
    warning: str = ""
    palette: tuple[RGB, ...] = ()


def ignored_value(classes: int) -> int:
    """The value of pixels without a class, for so many classes: 255 as long as it is not the id of one."""
    return IGNORED if classes <= IGNORED else IGNORED_16_BIT


def decide(
    census: Census,
    class_names: Sequence[str] | None = None,
    remap: Remap | None = None,
    table: Sequence[tuple[RGB, str]] | None = None,
) -> Form:
    """How the masks become class ids, and the colors that they give the classes.

    Args:
        class_names: in the order of their ids; None finds out how many there are.
        remap: value or color -> id by hand, None for ignored; other values stay what they are.
        table: (color, name) of each class.
    Raises: DataError: if the masks are of several kinds, or do not fit `class_names`, `remap` or `table`.
    """
    form = _decide(census, class_names, remap, table)
    return form._replace(palette=own_palette(form.rows, len(form.names), census.palettes))


def _decide(
    census: Census, class_names: Sequence[str] | None, remap: Remap | None, table: Sequence[tuple[RGB, str]] | None
) -> Form:
    by_color = table or any(isinstance(source, tuple) for source in remap or ())
    if len(census.kinds) > 1 and (any(len(set(color_of(code))) > 1 for code in census.colors) or by_color):
        raise DataError(
            f"the masks are of several kinds: {census.kinds['values']} holds class ids, {census.kinds['colors']} "
            "colors; prepare them apart."
        )
    if table is not None:
        return _by_table(census, table)
    gray = census.colors and all(len(set(color_of(code))) == 1 for code in census.colors)
    if census.colors and (not gray or by_color):
        return _by_remapped_colors(census, remap, class_names) if remap else _by_colors(census, class_names)
    values = collections.Counter(census.values)
    for code, pixels in census.colors.items():  # gray colors are values written three times
        values[code & 255] += pixels
    if not census.smeared and census.jpeg:
        raise DataError(
            f"mask {census.jpeg} is a JPEG, whose compression changes values; the masks hold {len(values):d} values, "
            "which are no two clusters at 0 and 255: export the masks as PNG."
        )
    if not census.smeared:
        return _by_values(dict(values), class_names, remap)._replace(warning="" if remap else census.mixed)
    halves: collections.Counter[int] = collections.Counter()
    for value, pixels in values.items():
        halves[255 if value >= THRESHOLD else 0] += pixels
    form = _by_values(dict(halves), class_names, remap)
    cause = "saved as JPEG" if census.jpeg else "with values in between"
    return form._replace(what=f"{form.what}, {cause}, cut at {THRESHOLD:d}", smeared=True)


def convert(path: str, form: Form) -> np.ndarray:
    """One mask as class ids. Shape: (H, W) uint8, or uint16 where ids need it. Raises: DataError: for a value or color
    that the form does not know."""
    dtype = np.uint8 if form.ignored == IGNORED else np.uint16
    if form.kind == "colors":
        sources, ids = np.array([row.source for row in form.rows]), np.array([row.id for row in form.rows], dtype)
        return ids_of_colors(read_rgb(path), sources, ids, path)
    stored = read_stored(path, "mask")
    values = values_of(stored.pixels, stored.format == "JPEG")
    # Gray colors are values written three times.
    values = codes(read_rgb(path)) & 255 if values is None else values
    if form.smeared:
        values = np.where(values >= THRESHOLD, np.uint8(255), np.uint8(0))
    known = {row.source: row.id for row in form.rows}
    found, inverse = np.unique(values, return_inverse=True)
    for value in found.tolist():
        if value not in known:
            raise DataError(
                f"mask {path} holds the value {value:d}, which was not there when the masks were looked through."
            )
    return np.array([known[value] for value in found.tolist()], dtype)[inverse.reshape(values.shape)]


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
    void = [name.lower() in ("void", "ignore", "ignored", "unlabelled", "unlabeled") for _, name in table]
    ignored = ignored_value(len(table) - sum(void))
    ids, count = [], 0
    for skip in void:
        ids.append(ignored if skip else count)
        count += not skip
    rows = [
        Row(tuple(color), ids[i], names[i], census.colors.get(int(codes(np.array(color))), 0))
        for i, (color, _) in enumerate(table)
    ]
    kept = tuple(row.name for row in rows if row.id != ignored)
    return Form("colors", "colors of the given table", rows, kept, ignored)


def _by_remapped_colors(census: Census, remap: Remap, class_names: Sequence[str] | None) -> Form:
    found: dict[Source, int] = {color_of(code): pixels for code, pixels in census.colors.items()}
    numbers = [source for source in remap if not isinstance(source, tuple)]
    if numbers:
        raise DataError(
            f"--remap names the value {numbers[0]}, but {census.kinds['colors']} holds colors: write R,G,B=ID, as in "
            "128,64,0=1."
        )
    _check_used(remap, found)
    others = [_flag(source) for source in sorted(set(found) - set(remap))]
    if others:
        raise DataError(
            f"--remap lacks {len(others):d} of the masks' colors ({' '.join(others[:5])}): give each an id, or ignore, "
            f"as in {others[0]}=ignore."
        )
    ids = {color: remap[color] for color in remap}
    names, ignored = _names_of_ids([i for i in ids.values() if i is not None], class_names)
    rows = [_row(color, ids[color], names, ignored, found.get(color, 0)) for color in remap]
    return Form("colors", "colors, mapped by hand", rows, names, ignored)


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
    rows = [Row(color, i, names[i], found[color]) for i, color in enumerate(colors)]
    return Form("colors", f"{len(colors):d} colors, found in the masks", rows, names, ignored_value(len(names)))


# --------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------
def _by_values(found: dict[int, int], class_names: Sequence[str] | None, remap: Remap | None) -> Form:
    values = sorted(found)
    number = len(class_names) if class_names is not None else None
    ignored = ignored_value(number or 0)
    known = [value for value in values if value != ignored]
    if values and (values[0] < 0 or (len(values) > max(MAX_COLORS, (number or 0) + 1))):
        raise DataError(
            f"the masks hold {len(values):d} values from {values[0]:d} to {values[-1]:d}: these are no class ids "
            "(instance ids, depth?). If they are, name the classes with --classes FILE."
        )
    ids: dict[int, int | None]
    if remap:
        _check_used(remap, found)
        ids = {value: remap.get(value, None if value == ignored else value) for value in values}
        what = "values, mapped by hand"
    elif set(values) <= {0, 255} and 255 in values and number in (None, 2):
        ids, what = {0: 0, 255: 1}, "binary masks of 0 and 255"
    else:
        ids, what = _ids_of_values(known, number)
        ids[ignored] = None
    classes = [i for value, i in ids.items() if i is not None and value in found]
    beyond = [i for i in classes if not 0 <= i < (number or IGNORED)]
    if beyond:
        allowed = f"the class file names {number:d}" if number else "ids go from 0 to 254 unless --classes names more"
        raise DataError(
            f"the masks give the class ids {sorted(set(beyond))[:8]}, but {allowed}; map values with --remap FROM=TO."
        )
    if not classes:
        raise DataError(f"the masks hold the ignored value {ignored:d} only.")
    binary = what.startswith("binary")
    names, ignored = _names_of_ids(classes, class_names or (("background", "foreground") if binary else None))
    return Form(
        "values", what, [_row(value, ids[value], names, ignored, found[value]) for value in values], names, ignored
    )


def _names_of_ids(ids: Sequence[int], class_names: Sequence[str] | None) -> tuple[tuple[str, ...], int]:
    """Names of the classes, numbered where none are given, and the ignored value beside so many."""
    names = tuple(class_names or [f"class_{i:d}" for i in range(max(ids, default=0) + 1)])
    beyond = sorted(i for i in set(ids) if i >= len(names))
    if beyond:
        raise DataError(f"--remap gives the class ids {beyond[:8]}, but the class file names {len(names):d}.")
    return names, ignored_value(len(names))


def _row(source: Source, number: int | None, names: Sequence[str], ignored: int, pixels: int) -> Row:
    return Row(source, ignored, "ignored", pixels) if number is None else Row(source, number, names[number], pixels)


def _check_used(remap: Remap, found: Mapping[Any, int]) -> None:
    """Raises: DataError: if nothing that `remap` names occurs, so that it has no effect."""
    if not any(source in found for source in remap):
        shown = " ".join(_flag(source) for source in sorted(found)[:8])
        raise DataError(f"--remap has no effect: the masks hold none of what it maps, but {shown}.")


def _flag(source: Source) -> str:
    """A value or color as --remap names it."""
    return str(source).strip("()").replace(" ", "")


def _ids_of_values(known: list[int], number: int | None) -> tuple[dict[int, int | None], str]:
    if not known:
        return {}, "class ids"
    one_off = known[0] == 1 and (
        known[-1] == number if number else known == list(range(1, known[-1] + 1)) and len(known) > 1
    )
    if one_off:
        return {value: value - 1 for value in known}, "class ids counted from 1"
    if number and known[0] == 0 and known[-1] == number:
        return {
            value: value - 1 if value else None for value in known
        }, "class ids counted from 1, and 0 where nothing is labelled"
    fits = known[-1] < number if number else known[-1] < 2 * len(known)
    if fits:
        return {value: value for value in known}, "class ids"
    _same_number(tuple(range(number)) if number else None, len(known), "values")
    return {value: i for i, value in enumerate(known)}, "values with gaps, numbered in their order"


def _same_number(class_names: Sequence[Any] | None, found: int, what: str) -> None:
    if class_names is not None and len(class_names) != found:
        raise DataError(f"the masks hold {found:d} {what}, but the class file names {len(class_names):d} classes.")
