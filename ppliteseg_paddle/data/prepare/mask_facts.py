"""What the masks of a folder hold: values or colors, how often; what tells ids from smeared or mixed binary masks."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.color_masks import codes, count_codes, read_rgb
from ppliteseg_paddle.reading.labels import read_stored
from ppliteseg_paddle.reading.palettes import RGB

MAX_COLORS = 256
THRESHOLD = 128  # between background and foreground of binary masks that compression or smoothing has smeared
# Smeared binary masks: nearly all pixels lie this near to 0 or 255, and few lie between the two halves' outer quarters.
_NEAR, _NEAR_SHARE, _BETWEEN_SHARE = 24, 0.85, 0.05
_FEW_VALUES = 3  # a half that holds fewer values can be ids (0, 1, 2, and 255 for ignored pixels)
_NEARLY_GRAY = 12  # largest difference between the channels of a gray image that JPEG has stored in color


class MaskFacts(NamedTuple):
    """What one mask holds: `kind` "values" or "colors", pixels of each value or color code."""

    kind: str
    counts: dict[int, int]
    palette: tuple[RGB, ...] = ()  # of a palette image
    jpeg: bool = False


def facts_of(path: str, as_colors: bool = False) -> MaskFacts:
    """Look at one mask.

    Args: as_colors: take the colors of a palette image, not its indices.
    Raises: DataError: if it cannot be decoded, or has more colors than a mask can have.
    """
    stored = read_stored(path, "mask")
    jpeg = stored.format == "JPEG"
    values = None if stored.mode == "P" and as_colors else values_of(stored.pixels, jpeg)
    if values is not None:
        if values.dtype.kind == "f":
            raise DataError(f"mask {path} holds floating-point numbers: save class ids as integers.")
        table = tuple(zip(*[iter(stored.palette)] * 3)) if stored.palette else ()
        return MaskFacts("values", count_codes(values), table, jpeg)
    counts = count_codes(codes(read_rgb(path)))
    if jpeg or len(counts) > MAX_COLORS:
        fault = "changed by JPEG" if jpeg else "more than classes can be"
        raise DataError(
            f"mask {path} holds {len(counts):d} colors, {fault}: it is a photograph, or was saved as JPEG or smoothed. "
            "Export the masks as PNG without anti-aliasing."
        )
    return MaskFacts("colors", counts)


def values_of(pixels: NDArray[Any], jpeg: bool) -> NDArray[Any] | None:
    """The values of a mask of one channel, or of a gray JPEG that is stored in color; None for colors."""
    if pixels.ndim == 2:
        return pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    if jpeg and pixels.shape[2] == 3 and int((pixels.max(axis=2) - pixels.min(axis=2)).max()) <= _NEARLY_GRAY:
        return pixels[..., 1]
    return None


class Census:
    """Sums over the masks of a folder."""

    def __init__(self) -> None:
        self.values: collections.Counter[int] = collections.Counter()
        self.colors: collections.Counter[int] = collections.Counter()
        self.palettes: set[tuple[RGB, ...]] = set()
        self.kinds: dict[str, str] = {}  # kind -> first file
        self.jpeg: str | None = None  # first file whose values JPEG has changed
        self.binary: dict[int, list[str]] = {1: [], 255: []}  # masks of 0 and 1, and of 0 and 255
        self.ignores = False  # whether a mask holds both 1 and 255, so that 255 is no foreground

    def add(self, path: str, facts: MaskFacts) -> None:
        self.kinds.setdefault(facts.kind, path)
        (self.values if facts.kind == "values" else self.colors).update(facts.counts)
        if facts.palette:
            used = max(facts.counts) + 1
            self.palettes.add(facts.palette[:used])
        held = set(facts.counts)
        if facts.jpeg and not held <= {0, 255}:
            self.jpeg = self.jpeg or path
        if facts.kind == "values":
            self.ignores = self.ignores or {1, 255} <= held
            for foreground, paths in self.binary.items():
                if foreground in held and held <= {0, foreground}:
                    paths.append(path)
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

    @property
    def smeared(self) -> bool:
        """Whether these are binary masks of 0 and 255 whose values compression or smoothing has spread."""
        return not self.colors and is_smeared(self.values, self.jpeg is not None)

    @property
    def mixed(self) -> str:
        """A warning where some binary masks are of 0 and 1 and others of 0 and 255; "" if they are not."""
        ones, full = self.binary[1], self.binary[255]
        if not ones or not full or self.ignores or not set(self.values) <= {0, 1, 255}:
            return ""
        return (
            f"{len(ones):d} masks hold 0 and 1 ({ones[0]}, ...), {len(full):d} hold 0 and 255 ({full[0]}, ...): 255 is "
            "ignored, so the latter have no foreground. If 255 is their foreground, add --remap 255=1."
        )


def is_smeared(counts: Mapping[int, int], jpeg: bool) -> bool:
    """Whether values form two clusters, at 0 and at 255.

    Args: counts: pixels of each value; jpeg: whether a JPEG is among the files, so that few values are no ids either.
    """
    values = np.array(sorted(counts), np.int64)
    if not values.size or values[0] < 0 or values[-1] > 255 or set(values.tolist()) <= {0, 255}:
        return False
    pixels = np.array([counts[value] for value in values.tolist()], np.float64)
    low, high = values < THRESHOLD // 2, values >= 256 - THRESHOLD // 2
    if not low.any() or not high.any() or pixels[~low & ~high].sum() > _BETWEEN_SHARE * pixels.sum():
        return False
    few = 1 if jpeg else _FEW_VALUES
    ends = ((low, values <= _NEAR), (high, values >= 255 - _NEAR))
    return all(half.sum() >= few and pixels[near].sum() >= _NEAR_SHARE * pixels[half].sum() for half, near in ends)
