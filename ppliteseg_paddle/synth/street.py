"""The plan of a street, seen from above: what runs where, before anything is painted.

Street coordinates: s is the distance to the right of the centre line, z the way along the street. The
centre line bends, so `Street.at` gives the world point of (s, z, height).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ppliteseg_paddle.synth.rng import Rng

BACK = -3.0  # z where roads and pavements start: behind the camera, which may look sideways

# What lies behind the pavement, as odds, and how wide things are (metres). One row per kind of street.
# frontage: odds of what stands along the street; road, pavement, setback: ranges of widths.
KINDS: dict[str, dict] = {
    "high_street": dict(
        odds=0.30,
        frontage={"terrace": 0.86, "gap": 0.06, "park": 0.08},
        road=(6.5, 10),
        pavement=(2.0, 4.5),
        setback=(0, 0.3),
        trees=0.22,
        parked=0.5,
        people=2.2,
        rails=0.28,
        signs=1.6,
        poles=1.0,
        traffic=1.2,
    ),
    "residential": dict(
        odds=0.22,
        frontage={"houses": 0.72, "terrace": 0.14, "park": 0.14},
        road=(5.5, 8),
        pavement=(1.4, 2.6),
        setback=(2, 7),
        trees=0.55,
        parked=1.0,
        people=0.7,
        rails=0.12,
        signs=0.9,
        poles=0.9,
        traffic=0.7,
    ),
    "avenue": dict(
        odds=0.14,
        frontage={"blocks": 0.55, "park": 0.30, "terrace": 0.15},
        road=(8, 14),
        pavement=(2.5, 6),
        setback=(0, 6),
        trees=1.0,
        parked=0.6,
        people=1.2,
        rails=0.35,
        signs=1.4,
        poles=1.3,
        traffic=1.4,
    ),
    "city": dict(
        odds=0.15,
        frontage={"blocks": 0.85, "gap": 0.08, "terrace": 0.07},
        road=(8, 15),
        pavement=(2.5, 6),
        setback=(0, 3),
        trees=0.3,
        parked=0.45,
        people=2.4,
        rails=0.30,
        signs=1.8,
        poles=1.2,
        traffic=1.8,
    ),
    "edge": dict(
        odds=0.11,
        frontage={"park": 0.5, "sheds": 0.35, "houses": 0.15},
        road=(6.5, 11),
        pavement=(1.2, 2.5),
        setback=(3, 12),
        trees=0.7,
        parked=0.3,
        people=0.4,
        rails=0.55,
        signs=1.2,
        poles=1.2,
        traffic=1.0,
    ),
    "car_park": dict(
        odds=0.08,
        frontage={"sheds": 0.8, "blocks": 0.2},
        road=(18, 34),
        pavement=(1.2, 2.5),
        setback=(0.5, 4),
        trees=0.6,
        parked=2.2,
        people=1.0,
        rails=0.4,
        signs=1.5,
        poles=0.9,
        traffic=0.5,
    ),
}


@dataclass
class Side:
    """One side of the street: pavement width, setback of the buildings behind it, what the setback is."""

    pavement: float
    setback: float
    yard: str  # "paved", "garden" or "grass"


@dataclass
class Crossing:
    """A side street from z0 to z1. `sides` tells on which side it leaves (-1, 1)."""

    z0: float
    z1: float
    sides: tuple[int, ...]


@dataclass
class Street:
    """A street's plan.

    Attributes:
        half: half of the road's width; bend: the centre line is s = bend * z * z for z > 0.
        keep: side that traffic keeps to, -1 left, 1 right.
        end: z at which the street ends against a cross street, or where it vanishes.
        roofs: for each side, (z0, z1, height, s) of what casts shadow, filled while the rows are built.
    """

    kind: str
    traits: dict
    half: float
    lanes: int
    bend: float
    keep: int
    end: float
    closed: bool
    sides: dict[int, Side]
    crossings: list[Crossing] = field(default_factory=list)
    roofs: dict[int, list] = field(default_factory=lambda: {-1: [], 1: []})

    def at(self, s, z, y=0.0) -> np.ndarray:
        """World points (..., 3) of street coordinates; arguments broadcast."""
        s, z, y = np.broadcast_arrays(np.asarray(s, float), np.asarray(z, float), np.asarray(y, float))
        ahead = np.maximum(z, 0.0)
        return np.stack([s + self.bend * ahead * ahead, y, z], -1)

    def where(self, s: float, z: float, y: float = 0.0) -> tuple[float, float, float]:
        """The world point of one place."""
        return (s + self.bend * z * z if z > 0 else s, y, z)

    def point(self, s: float, z: float) -> tuple[float, float]:
        """World x and z."""
        return s + self.bend * max(z, 0.0) ** 2, z

    def heading(self, z: float) -> float:
        """Angle of the centre line to the z axis, radians, positive to the right."""
        return math.atan(2 * self.bend * max(z, 0.0))

    def kerb(self, side: int) -> float:
        return side * self.half

    def front(self, side: int) -> float:
        """s of the building line."""
        return side * (self.half + self.sides[side].pavement + self.sides[side].setback)

    def open_at(self, side: int, z0: float, z1: float, margin: float = 0.0) -> bool:
        """Whether a side street leaves there."""
        return any(side in c.sides and z1 > c.z0 - margin and z0 < c.z1 + margin for c in self.crossings)

    def pieces(self, side: int, start: float, stop: float, margin: float = 0.0) -> list[tuple[float, float]]:
        """The stretches of [start, stop] between side streets."""
        return between([(c.z0 - margin, c.z1 + margin) for c in self.crossings if side in c.sides], start, stop)


def between(cuts: list[tuple[float, float]], start: float, stop: float) -> list[tuple[float, float]]:
    """The stretches of [start, stop] that no cut (from, to) covers."""
    out, at = [], start
    for z0, z1 in sorted(cuts):
        if z0 > at:
            out.append((at, min(z0, stop)))
        at = max(at, z1)
    if at < stop:
        out.append((at, stop))
    return [piece for piece in out if piece[1] > piece[0]]


def sample_street(rng: Rng) -> Street:
    """Draw a plan."""
    kind = rng.weighted({name: row["odds"] for name, row in KINDS.items()})
    traits = KINDS[kind]
    half = rng.between(*traits["road"]) / 2
    lanes = max(2, int(2 * half / 3.1)) if kind != "car_park" else 2
    sides = {}
    for side in (-1, 1):
        setback = rng.between(*traits["setback"])
        yard = "paved" if setback < 1.2 or kind in ("high_street", "city") else rng.pick(["garden", "grass", "paved"])
        sides[side] = Side(rng.between(*traits["pavement"]), setback, yard)
    bend = 0.0 if rng.chance(0.4) else rng.side() * rng.between(0.0003, 0.0028)
    closed = rng.chance(0.35)
    end = rng.between(26, 75) if closed else rng.between(90, 190)
    if kind == "car_park":
        bend, closed, end = 0.0, True, rng.between(35, 75)
    street = Street(kind, traits, half, lanes, bend, -1 if rng.chance(0.6) else 1, end, closed, sides)
    z = rng.between(4, 45)
    while z < end - 22 and kind != "car_park":
        width = rng.between(6, 13)
        leaves = (-1, 1) if rng.chance(0.45) else (rng.side(),)
        if rng.chance(0.62):
            street.crossings.append(Crossing(z, z + width, leaves))
        z += width + rng.between(22, 70)
    if closed:
        width = rng.between(7, 12)
        street.crossings.append(Crossing(end - width, end, (-1, 1)))
    return street
