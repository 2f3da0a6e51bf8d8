"""The outlines of a mask's regions, along the sides of pixels, so that they enclose exactly the pixels of the mask.

OpenCV's `findContours` joins pixel centers: its polygons lose half a pixel at each side, and lines and single pixels
altogether. GDAL's polygonize follows the sides, but is a large dependency for this alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

# Sides of a pixel: 0 top, 1 right, 2 bottom, 3 left, each passed with its pixel on the right hand of one who walks on
# the screen. Where they end, (x, y) from the pixel's upper left:
_ENDS = np.array([(1, 0), (1, 1), (0, 1), (0, 0)])

Vertex = tuple[int, int]  # (x, y) in pixels from the mask's upper left corner, y downwards
Ring = list[Vertex]  # only corners; the first one is not repeated at the end


class Polygon(NamedTuple):
    """A region: pixels of one value that are connected by their sides.

    In (x, y) taken as numbers the outline runs counterclockwise (on a screen, where y grows downwards, clockwise), and
    the holes run the other way. No ring comes to one vertex twice; a hole may touch the outline or another hole in
    single vertices.
    """

    value: int
    outline: Ring
    holes: list[Ring]
    pixels: int


def polygons(mask: np.ndarray, values: Collection[int]) -> list[Polygon]:
    """The regions of some of a mask's values, by value.

    Shape: mask (H, W) uint8 or uint16.
    """
    table = np.zeros(np.iinfo(mask.dtype).max + 1, np.uint16)  # a mask's highest value is no class
    table[list(values)] = np.asarray(list(values)) + 1
    regions = table[mask]
    if not regions.any():
        return []
    borders = _Borders(np.pad(regions, 1))
    pixels = np.zeros(len(borders.rings), np.int64)
    np.add.at(pixels, borders.owners, borders.doubled_areas // 2)
    outlines: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {number: [] for number in set(borders.owners)}
    for ring, owner, area in zip(borders.rings, borders.owners, borders.doubled_areas.tolist()):
        whole = [borders.vertices[turn] for turn in ring]
        for simple in _split(whole):
            if (area if len(simple) == len(whole) else doubled_area(simple)) > 0:
                outlines[owner] = simple
            else:
                holes[owner].append(simple)
    found = [
        Polygon(borders.values[number] - 1, outline, holes[number], int(pixels[number]))
        for number, outline in outlines.items()
    ]
    return sorted(found, key=lambda polygon: polygon.value)


class _Borders:
    """The closed ways along the borders of all regions.

    Args: padded: (H + 2, W + 2), what belongs to no region is 0, at least all around.
    Attributes: `vertices`, where each turn of the ways is. For each way: `rings`, its turns; `values`, its region's;
        `doubled_areas`, see `doubled_area`, negative around holes; `owners`, the outline of its region, as a number of
        a way. Where pixels of a region touch in a corner only, ways pass them one by one, so that a way may come to
        that vertex twice, but belongs to one region.
    """

    def __init__(self, padded: np.ndarray) -> None:
        self._rows, self._columns = padded.shape
        flat, stride = padded.reshape(-1), self._columns
        inner = flat[stride:-stride]
        outward = (-stride, 1, stride, -1)  # from a pixel to the one across its side
        self._turns: list[np.ndarray] = []  # pixels at whose side a way turns, in the order of `_places`
        targets = []
        for side in range(4):
            out, along = outward[side], outward[(side + 1) % 4]
            pixels = np.flatnonzero((inner != 0) & (inner != flat[stride + out : len(flat) - stride + out])) + stride
            if side == 3:
                self._left_ends = pixels
            ahead = flat[pixels + along] == flat[pixels]
            turning = ~ahead | (flat[pixels + along + out] == flat[pixels])
            pixels, ahead = pixels[turning], ahead[turning]
            order = np.argsort(self._places(pixels, side))
            pixels, ahead = pixels[order], ahead[order]
            self._turns.append(pixels)
            # Around the pixel's own corner, or to the region's pixel diagonally ahead.
            next_pixels = np.where(ahead, pixels + along + out, pixels)
            targets.append((next_pixels, np.where(ahead, (side + 3) % 4, (side + 1) % 4)))
        self._first = np.cumsum([0, *map(len, self._turns)])
        following = np.empty(self._first[-1], np.int64)
        for start, (pixels, sides) in zip(self._first, targets):
            for side in range(4):
                chosen = np.flatnonzero(sides == side)
                following[start + chosen] = self._next_turns(pixels[chosen], side)
        self.rings = _cycles(following.tolist())
        pixels, sides = np.concatenate(self._turns), np.repeat(np.arange(4), np.diff(self._first))
        vertices = np.stack([pixels % stride - 1, pixels // stride - 1], axis=1) + _ENDS[sides]
        self.vertices: list[Vertex] = list(map(tuple, vertices.tolist()))
        self.values: list[int] = flat[pixels[[ring[0] for ring in self.rings]]].tolist()
        self._ring_of = np.empty(len(pixels), np.int64)
        self._ring_of[np.concatenate(self.rings)] = np.repeat(np.arange(len(self.rings)), list(map(len, self.rings)))
        self.doubled_areas = np.zeros(len(self.rings), np.int64)
        (x, y), (next_x, next_y) = vertices.T, vertices[following].T
        np.add.at(self.doubled_areas, self._ring_of, x * next_y - next_x * y)
        self.owners = self._owners()

    def _places(self, pixels: np.ndarray, side: int) -> np.ndarray:
        """Numbers that grow in the direction in which a side is passed, line after line."""
        row, column = pixels // self._columns, pixels % self._columns
        if side % 2 == 0:
            return row * self._columns + (column if side == 0 else -column)
        return column * self._rows + (row if side == 1 else -row)

    def _next_turns(self, pixels: np.ndarray, side: int) -> np.ndarray:
        """The turns at which straight ways end that pass a side of these pixels."""
        return self._first[side] + np.searchsorted(self._places(self._turns[side], side), self._places(pixels, side))

    def _owners(self) -> list[int]:
        """From a hole's leftmost border one comes, through pixels of its region, to another of its borders further
        left."""
        leftmost = np.full(len(self.rings), -1)
        start, rights = self._first[1], self._turns[1]  # by columns
        leftmost[self._ring_of[start : start + len(rights)][::-1]] = rights[::-1]  # the last assignment stays
        ends = self._left_ends[np.searchsorted(self._left_ends, leftmost, "right") - 1]
        parents = self._ring_of[self._next_turns(ends, 3)].tolist()
        owners = []
        for number in range(len(self.rings)):
            while self.doubled_areas[number] < 0:
                number = parents[number]
            owners.append(number)
        return owners


def _cycles(following: list[int]) -> list[list[int]]:
    """The cycles of a permutation."""
    seen, cycles = bytearray(len(following)), []
    for start in range(len(following)):
        cycle, item = [], start
        while not seen[item]:
            seen[item] = 1
            cycle.append(item)
            item = following[item]
        if cycle:
            cycles.append(cycle)
    return cycles


def _split(ring: Ring) -> Iterator[Ring]:
    """A ring as rings that come to no vertex twice."""
    if len(set(ring)) == len(ring):
        yield ring
        return
    path: Ring = []
    places: dict[Vertex, int] = {}
    for vertex in ring:
        if vertex in places:
            place = places[vertex]
            yield path[place:]
            for passed in path[place:]:
                del places[passed]
            del path[place:]
        places[vertex] = len(path)
        path.append(vertex)
    yield path


def doubled_area(ring: Ring) -> int:
    """Twice the signed area: positive if the ring runs counterclockwise in (x, y) as numbers."""
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(ring, ring[1:] + ring[:1]))
