"""Rows of houses along the street: which stand where, their roofs and end walls, and the shadows they cast."""

from __future__ import annotations

import numpy as np

from ppliteseg_paddle.synth.camera import NEAR
from ppliteseg_paddle.synth.canvas import BUILDING
from ppliteseg_paddle.synth.facades import Facade
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.textures import patterns, tint

_STYLES = {  # frontage: odds of style, storeys, length along the street
    "terrace": ({"terrace": 1.0}, (2, 4), (4.5, 12)),
    "houses": ({"house": 1.0}, (2, 3), (6, 12)),
    "blocks": ({"block": 0.45, "strip": 0.25, "glass": 0.14, "terrace": 0.16}, (3, 8), (12, 30)),
    "sheds": ({"shed": 1.0}, (1, 2), (18, 45)),
}
_MAX_TEXTURE = 380  # pixels: finer walls would not be seen behind the lens's blur


class House:
    """A box with windows and a roof, from z0 to z1 along one side of the street.

    Args:
        s: street coordinate of the front; depth: metres from front to back.
    """

    def __init__(
        self, stage: Stage, frontage: str, side: int, s: float, z0: float, z1: float, height_factor: float
    ) -> None:
        rng = stage.rng
        styles, storeys, _ = _STYLES[frontage]
        self.stage, self.side, self.s, self.z0, self.z1 = stage, side, s, z0, z1
        style = rng.weighted(styles)
        per_storey = {"shed": 5.2, "house": 2.7, "terrace": 3.05}.get(style, 3.4)
        self.height = max(1, round(rng.between(*storeys) * height_factor)) * per_storey * rng.between(0.95, 1.08)
        self.facade = Facade(rng, style, self.height)
        self.depth = rng.between(7, 11) if style in ("house", "terrace") else rng.between(10, 18)
        gabled = {"house": 0.95, "terrace": 0.75, "shed": 0.3}.get(style, 0.08)
        self.rise = rng.between(0.28, 0.5) * self.depth if rng.chance(gabled) else 0.0
        if style == "shed":
            self.rise *= 0.4
        self.roof = rng.color(rng.pick([(62, 66, 74), (54, 66, 108), (70, 82, 120), (84, 86, 90), (58, 62, 66)]), 0.2)
        self.roof_pattern = patterns()[rng.pick(["roof_tiles", "slates"])]
        self.hidden_end = False  # whether the house before stands against it and is as tall
        self.chimneys = (
            [rng.between(0.05, 0.95) for _ in range(rng.integer(0, 2))] if style in ("house", "terrace") else []
        )

    def key(self) -> float:
        """Distance for the painting order: the far end, so that what stands before the wall comes later."""
        x, z = self.stage.street.point(self.s, self.z1)
        return self.stage.camera.depth(x, z)

    def paint(self) -> None:
        stage = self.stage
        camera_z = float(stage.camera.eye[2])
        normal = np.array([-self.side, 0.0, 0.0])
        back = self.s + self.side * self.depth
        if self.rise:
            self._roof(back)
        self._end_wall(back, self.z0 if self.z0 > camera_z and not self.hidden_end else None)
        self._wall((self.s, self.z0), (self.s, self.z1), normal, True)
        if self.rise == 0.0 and stage.rng.chance(0.3):
            self._plant_room(back)

    def _end_wall(self, back: float, z: float | None) -> None:
        """The wall that faces the camera, with its gable."""
        if z is None:
            return
        normal = np.array([0.0, 0.0, -1.0])
        corner = self.stage.rng.chance(0.3) or self.stage.street.open_at(self.side, z - 6, z)
        self._wall((back, z), (self.s, z), normal, corner) if self.side < 0 else self._wall(
            (self.s, z), (back, z), normal, corner
        )
        if self.rise:
            street = self.stage.street
            gable = street.at(
                [self.s, (self.s + back) / 2, back], [z, z, z], [self.height, self.height + self.rise, self.height]
            )
            flat = self.stage.camera.outline(gable)
            if flat is not None:
                color = self.stage.light.shade(self.facade.color, normal, self.stage.sun_at(self.s, z, self.height))
                self.stage.canvas.fill(flat, self.stage.far(color, self.s, z), BUILDING)

    def _wall(self, a: tuple[float, float], b: tuple[float, float], normal: np.ndarray, front: bool) -> None:
        """An upright wall between two street points (s, z), its visible part only."""
        stage, camera = self.stage, self.stage.camera
        share = np.linspace(0, 1, 33)
        s, z = a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
        turned = camera.turn(stage.street.at(s, z, 0.0))
        seen = (turned[:, 2] > NEAR * 1.5) & (np.abs(turned[:, 0]) * camera.focal < turned[:, 2] * camera.width * 0.62)
        if not seen.any():
            return
        ok = turned[:, 2] > NEAR * 1.2
        first = max(int(np.argmax(seen)) - 1, 0)
        last = min(32 - int(np.argmax(seen[::-1])) + 1, 32)
        first, last = (first if ok[first] else first + 1), (last if ok[last] else last - 1)
        if last <= first:
            return
        ends = stage.street.at(s[[first, last]], z[[first, last]], 0.0)
        length = float(np.linalg.norm(ends[1] - ends[0]))
        near, far = sorted(turned[[first, last], 2])
        scale = camera.focal / (near * 0.65 + far * 0.35)
        scale = min(scale, _MAX_TEXTURE / max(length, self.height), 64.0)
        if scale * self.height < 3:
            return
        to_eye = camera.eye - ends[0]
        if float(np.dot(to_eye, normal)) <= 0:
            return
        shade_below = (
            stage.shade_line(self.side, (s[first] + s[last]) / 2, (z[first] + z[last]) / 2)
            if abs(normal[0]) > 0.5
            else 0.0
        )
        texture = self.facade.draw(length, normal, stage.light, scale, shade_below, front)
        flipped = a[1] != b[1] and (self.side > 0)
        top = ends + (0, self.height, 0)
        quad = camera.project(np.array([top[0], top[1], ends[1], ends[0]]))[0]
        if flipped:
            quad = quad[[1, 0, 3, 2]]
        stage.canvas.warp(stage.veiled(texture, (near + far) / 2), quad, BUILDING)

    def _roof(self, back: float) -> None:
        """The slope towards the street, and chimneys on the ridge."""
        stage = self.stage
        middle, over = (self.s + back) / 2, self.s - self.side * 0.35
        near = max(self.z0, stage.nearest(middle))
        if near >= self.z1:
            return
        ridge = self.height + self.rise
        corners = stage.street.at(
            [middle, middle, over, over],
            [near, self.z1, self.z1, near],
            [ridge, ridge, self.height - 0.1, self.height - 0.1],
        )
        quad, depth = stage.camera.project(corners)
        normal = np.array([-self.side * self.rise, self.depth / 2, 0.0])
        normal /= np.linalg.norm(normal)
        if depth.min() < NEAR * 1.5:
            return
        for place in self.chimneys:
            self._chimney(middle, near + place * (self.z1 - near), ridge)
        if float(np.dot(stage.camera.eye - corners[3], normal)) <= 0:
            return
        length, slope = self.z1 - near, float(np.hypot(self.rise, self.depth / 2))
        scale = min(stage.camera.focal / float(depth.mean()), 30.0, _MAX_TEXTURE / max(length, slope))
        columns, rows = max(int(length * scale), 3), max(int(slope * scale), 3)
        texture = tint(
            self.roof_pattern.patch(stage.rng, columns, rows, scale),
            self.roof * stage.light.factor(normal, stage.sun_at(self.s, near, ridge)),
        )
        stage.canvas.warp(stage.veiled(texture, float(depth.mean())), quad, BUILDING)

    def _chimney(self, s: float, z: float, ridge: float) -> None:
        stage = self.stage
        tall, wide = stage.rng.between(0.8, 1.7), 0.5
        for normal, points in (
            (np.array([0, 0, -1.0]), ((s - wide, z), (s + wide, z))),
            (np.array([-self.side, 0, 0.0]), ((s - self.side * wide, z), (s - self.side * wide, z + 0.7))),
        ):
            (s0, z0), (s1, z1) = points
            flat = stage.camera.outline(
                stage.street.at(
                    [s0, s1, s1, s0], [z0, z1, z1, z0], [ridge - 1.2, ridge - 1.2, ridge + tall, ridge + tall]
                )
            )
            if flat is not None:
                stage.canvas.fill(flat, stage.far(stage.light.shade(self.facade.color * 0.9, normal), s, z), BUILDING)

    def _plant_room(self, back: float) -> None:
        stage = self.stage
        s, z = (self.s + back) / 2, self.z0 + (self.z1 - self.z0) * stage.rng.between(0.2, 0.6)
        tall, long = stage.rng.between(1.2, 3), stage.rng.between(2, 6)
        flat = stage.camera.outline(
            stage.street.at(
                [s, s, s, s],
                [z, z + long, z + long, z],
                [self.height - 1, self.height - 1, self.height + tall, self.height + tall],
            )
        )
        if flat is not None:
            color = stage.light.shade(self.facade.color * 0.8, np.array([-self.side, 0, 0.0]))
            stage.canvas.fill(flat, stage.far(color, s, z), BUILDING)

    def cast(self) -> None:
        """Shadow on the ground."""
        if not self.stage.light.sunny:
            return
        back = self.s + self.side * self.depth
        where, tall = self.stage.street.where, self.height + self.rise * 0.6
        base = [where(self.s, self.z0), where(self.s, self.z1), where(back, self.z1), where(back, self.z0)]
        for i in range(4):
            self.stage.ground.wall_shadow(base[i - 1], base[i], tall)
        self.stage.ground.roof_shadow(base, tall)


class CrossHouse:
    """A house front that closes the street: it faces the camera beyond the cross street."""

    def __init__(self, stage: Stage, x0: float, x1: float, z: float, frontage: str) -> None:
        rng = stage.rng
        styles, storeys, _ = _STYLES[frontage]
        self.stage, self.x0, self.x1, self.z = stage, x0, x1, z
        style = rng.weighted(styles)
        self.height = rng.integer(*storeys) * (5.2 if style == "shed" else 3.1)
        self.facade = Facade(rng, style, self.height)
        self.rise = rng.between(2, 4) if style in ("terrace", "house") and rng.chance(0.8) else 0.0
        self.roof = rng.color(rng.pick([(62, 66, 74), (54, 66, 108), (84, 86, 90)]), 0.2)

    def key(self) -> float:
        return self.stage.camera.depth((self.x0 + self.x1) / 2, self.z)

    def paint(self) -> None:
        stage, normal = self.stage, np.array([0.0, 0.0, -1.0])
        y = self.height
        box = np.array([[self.x0, y, self.z], [self.x1, y, self.z], [self.x1, 0, self.z], [self.x0, 0, self.z]])
        quad, depth = stage.camera.project(box)
        if depth.min() < NEAR * 2 or quad[:, 0].max() < 0 or quad[:, 0].min() > stage.canvas.width:
            return
        if self.rise:
            roof = box.copy()
            roof[2:] = box[1::-1]
            roof[:2, 1] += self.rise
            roof[:2, 2] += 4.0
            tilt = np.array([0.0, 4.0, -self.rise]) / np.hypot(4.0, self.rise)
            flat = stage.camera.outline(roof)
            if flat is not None:
                color = stage.light.shade(self.roof, tilt)
                stage.canvas.fill(flat, stage.light.far(color, float(depth.mean())), BUILDING)
        length = self.x1 - self.x0
        scale = min(stage.camera.focal / float(depth.min()), _MAX_TEXTURE / max(length, y), 64.0)
        texture = self.facade.draw(length, normal, stage.light, scale, 0.0, True)
        stage.canvas.warp(stage.veiled(texture, float(depth.mean())), quad, BUILDING)

    def cast(self) -> None:
        """It stands too far away for its shadow to matter."""


def build_rows(stage: Stage) -> list:
    """Houses along both sides, and across the end of a street that ends."""
    rng, street = stage.rng, stage.street
    houses: list = []
    tallness = rng.between(0.7, 1.25)
    for side in (-1, 1):
        frontage = rng.weighted(street.traits["frontage"])
        for start, stop in street.pieces(side, -8.0, street.end, 2.5):
            if rng.chance(0.25):
                frontage = rng.weighted(street.traits["frontage"])
            houses += _row(stage, side, frontage, start, stop, tallness)
    if street.closed:
        x = street.point(0.0, street.end)[0] - 60.0
        frontage = rng.weighted({"terrace": 0.4, "blocks": 0.3, "sheds": 0.15, "houses": 0.15})
        far = street.end + rng.between(3, 9)
        while x < 70:
            width = rng.between(*_STYLES[frontage][2])
            if not rng.chance(0.16):
                houses.append(CrossHouse(stage, x, x + width, far, frontage))
            x += width + (rng.between(2, 6) if frontage == "houses" else 0.0)
    return houses


def _row(stage: Stage, side: int, frontage: str, start: float, stop: float, tallness: float) -> list[House]:
    rng, street = stage.rng, stage.street
    out: list[House] = []
    z = start
    front = street.front(side)
    while z < stop - 3 and frontage in _STYLES:
        low, high = _STYLES[frontage][2]
        length = min(rng.between(low, high), stop - z)
        step = rng.between(0, 0.6) if frontage == "terrace" else rng.between(0, 2.5)
        if not rng.chance(0.04):
            house = House(stage, frontage, side, front + side * step, z, z + length, tallness)
            if out and out[-1].z1 > z - 0.1 and out[-1].height >= house.height and not (house.rise or out[-1].rise):
                house.hidden_end = out[-1].depth > house.depth - 2
            out.append(house)
            street.roofs[side].append((z, z + length, house.height + house.rise * 0.5, house.s))
        z += length
        if frontage in ("houses", "sheds"):
            z += rng.between(1.5, 5)
        elif frontage == "blocks" and rng.chance(0.35):
            z += rng.between(2, 9)
    return out
