"""The colors that a person's masks have, kept for the masks that the network will draw."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ppliteseg_paddle.reading.label_sets import palette_for
from ppliteseg_paddle.reading.palettes import RGB, further_colors


def own_palette(rows: Sequence[Any], num_classes: int, tables: Collection[tuple[RGB, ...]] = ()) -> tuple[RGB, ...]:
    """The color of each class, by id, as the masks have it.

    Args: rows: of a mask's form: `source` (a value, or a color), `id`, `pixels`; tables: palettes of the masks, of
        which each is the beginning of the longest.
    Returns: () where the masks have no colors (gray ones only show values), give two classes one, or have those that
        are taken anyway. A class that occurs in no mask gets another color.
    """
    table = max(tables, key=len, default=())
    found: dict[int, RGB] = {}
    for row in sorted(rows, key=lambda row: row.pixels):  # of several colors of a class the most frequent one
        color = row.source if isinstance(row.source, tuple) else table[row.source] if row.source < len(table) else None
        if color is not None and row.id < num_classes:
            found[row.id] = color
    used = set(found.values())
    if len(used) < len(found) or all(len(set(color)) == 1 for color in used):
        return ()
    default = palette_for(num_classes)
    spare = (color for color in (*default, *further_colors(num_classes)) if color not in used)
    palette = tuple(found[number] if number in found else next(spare) for number in range(num_classes))
    return () if palette == default else palette
