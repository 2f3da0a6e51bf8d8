"""What is painted on the road: lines, zebra crossings, arrows, box junctions, parking bays."""

from __future__ import annotations

import numpy as np

from ppliteseg_paddle.synth.ground import Ground
from ppliteseg_paddle.synth.street import BACK, between


def _dashes(
    ground: Ground, s: float, start: float, stop: float, length: float, gap: float, width: float, color
) -> None:
    z = start
    while z < stop:
        ground.strip(s - width / 2, s + width / 2, z, min(z + length, stop), color)
        z += length + gap


def paint_markings(ground: Ground) -> None:
    """A street's lines, arrows and crossings, or a car park's bays."""
    if ground.street.kind == "car_park":
        _bays(ground)
    else:
        _street_markings(ground)


def _street_markings(ground: Ground) -> None:
    rng, street = ground.rng, ground.street
    white, yellow = ground.lit(ground.white), ground.lit(ground.yellow)
    stop = min(ground.far, 110)
    _lane_lines(ground, stop, white, yellow)
    _edge_lines(ground, stop, white, yellow)
    for crossing in street.crossings:
        if rng.chance(0.55):
            _zebra(ground, crossing.z0 - rng.between(3.2, 5.0))
        if rng.chance(0.5):  # a stop line
            s0, s1 = sorted((0.1 * street.keep, street.keep * (street.half - 0.3)))
            z = crossing.z0 - rng.between(5.5, 7)
            ground.strip(s0, s1, z, z + 0.3, white)
        if rng.chance(0.2):
            _box(ground, crossing)
    if rng.chance(0.25):
        _zebra(ground, rng.between(5, 30))
    if rng.chance(0.4):
        for z in (rng.between(4, 12), rng.between(16, 34)):
            _arrow(ground, street.keep * street.half * rng.pick([0.5, 0.3, 0.7]), z, white)
    if rng.chance(0.14):
        _bicycle_lane(ground, stop, white)


def _lane_lines(ground: Ground, stop: float, white, yellow) -> None:
    rng, street = ground.rng, ground.street
    phase = rng.between(0, 6)
    if rng.chance(0.85):
        style = rng.weighted({"dashed": 0.6, "solid": 0.14, "double": 0.1, "long": 0.16})
        color = yellow if rng.chance(0.12) else white
        for start, end in between([(c.z0, c.z1) for c in street.crossings], BACK, stop):
            if style in ("dashed", "long"):
                length, gap = (2.0, 4.0) if style == "dashed" else (4.0, 2.0)
                _dashes(ground, 0.0, start + phase % 3, end, length, gap, 0.13, color)
            else:
                for s in (0.0,) if style == "solid" else (-0.14, 0.14):
                    ground.strip(s - 0.06, s + 0.06, start, end, color)
    for lane in range(1, street.lanes // 2):
        for side in (-1, 1):
            _dashes(ground, side * street.half * 2 * lane / street.lanes, BACK + phase, stop, 2.0, 4.0, 0.12, white)


def _edge_lines(ground: Ground, stop: float, white, yellow) -> None:
    street = ground.street
    style = ground.rng.weighted({"none": 0.4, "white": 0.2, "yellow": 0.1, "double_yellow": 0.3})
    if style == "none":
        return
    color = white if style == "white" else yellow
    for side in (-1, 1):
        for start, end in street.pieces(side, BACK, stop, 1.0):
            for inset in (0.28, 0.48) if style == "double_yellow" else (0.35,):
                s = street.kerb(side) - side * inset
                ground.strip(s - 0.05, s + 0.05, start, end, color)


def _bicycle_lane(ground: Ground, stop: float, white) -> None:
    rng = ground.rng
    side = rng.side()
    tone = rng.color(rng.pick([(60, 70, 130), (70, 110, 70), (110, 80, 60)]), 0.2)
    s = ground.street.kerb(side)
    ground.strip(s - side * 1.6, s - side * 0.4, BACK, stop, ground.lit(tone * 0.5 + ground.road * 0.5))
    ground.strip(s - side * 1.75, s - side * 1.6, BACK, stop, white)


def _zebra(ground: Ground, z: float) -> None:
    if z < 1.0:
        return
    white = ground.lit(ground.white * ground.rng.between(0.8, 1.05))
    depth = ground.rng.between(2.2, 3.5)
    if ground.rng.chance(0.35):  # only two dashed lines, as at traffic lights
        for line in (z, z + depth):
            for s in np.arange(-ground.street.half + 0.2, ground.street.half - 0.2, 0.6):
                ground.strip(s, s + 0.3, line, line + 0.15, white)
        return
    for s in np.arange(-ground.street.half + 0.3, ground.street.half - 0.4, 1.0):
        ground.strip(s, s + 0.5, z, z + depth, white)


def _box(ground: Ground, crossing) -> None:
    """Yellow box junction."""
    color, half = ground.lit(ground.yellow), ground.street.half - 0.3
    for t in np.linspace(0.1, 0.9, 5):
        for mirror in (1, -1):
            a, za = mirror * (-half), crossing.z0 + t * (crossing.z1 - crossing.z0)
            b, zb = mirror * (-half + 2 * half * (1 - t)), crossing.z1
            where = ground.street.where
            ground.area([where(a - 0.07, za), where(b - 0.07, zb), where(b + 0.07, zb), where(a + 0.07, za)], color)


def _arrow(ground: Ground, s: float, z: float, color) -> None:
    ground.strip(s - 0.07, s + 0.07, z, z + 2.6, color)
    where = ground.street.where
    head = [where(s - 0.35, z + 2.5), where(s, z + 4.0), where(s + 0.35, z + 2.5)]
    ground.area(head, color)


def _bays(ground: Ground) -> None:
    """A car park's bays and arrows."""
    white, street = ground.lit(ground.white * 0.9), ground.street
    for side in (-1, 1):
        s1 = street.kerb(side)
        s0 = s1 - side * 4.8
        for z in np.arange(1.0, street.end - 6, 2.6):
            ground.strip(s0, s1, z, z + 0.1, white)
    for z in (5.0, 16.0, 28.0):
        _arrow(ground, ground.rng.between(-1.5, 1.5), z, white)
