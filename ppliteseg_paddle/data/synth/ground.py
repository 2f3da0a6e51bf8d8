"""The ground: road, kerbs, pavements, yards, markings, their textures, and the shadows that lie on them."""
from __future__ import annotations

from typing import List

import cv2
import numpy as np

from ppliteseg_paddle.data.synth.camera import Camera
from ppliteseg_paddle.data.synth.canvas import PAVEMENT, ROAD, TREE, Canvas
from ppliteseg_paddle.data.synth.dice import Dice
from ppliteseg_paddle.data.synth.light import Light
from ppliteseg_paddle.data.synth.street import Street, between
from ppliteseg_paddle.data.synth.textures import patterns

UP = np.array([0.0, 1.0, 0.0])
KERB = 0.12  # height of the pavement above the road, metres
_BACK = -3.0  # the ground starts behind the camera, which may look sideways


def _stations(start: float, stop: float) -> np.ndarray:
    """Places along the street, close together near the camera, for following its bend."""
    start_root, stop_root = np.sign(start) * abs(start) ** 0.5, max(stop, 0.01) ** 0.5
    roots = np.linspace(start_root, stop_root, 14 if stop - start > 12 else 5)
    return np.sign(roots) * roots * roots


class Ground:
    """Paints the ground of one scene. Call `paint`, then `shadow` for what casts one, then `finish`."""

    def __init__(self, canvas: Canvas, camera: Camera, street: Street, light: Light, dice: Dice) -> None:
        self.canvas, self.camera, self.street, self.light, self.dice = canvas, camera, street, light, dice
        self.sunlight = light.factor(UP)
        tone = dice.between(62, 132) * (1 - 0.3 * light.wet)
        self.road = np.array([tone * dice.between(0.97, 1.06), tone, tone * dice.between(0.95, 1.03)])
        self.paving = dice.colour(dice.pick([(128, 134, 140), (112, 122, 134), (96, 98, 100), (120, 138, 158),
                                             (88, 108, 142), (104, 104, 106), (146, 152, 158)]), 0.15)
        self.paving_pattern = dice.pick(["flags", "pavers", "asphalt", "concrete", "flags"])
        self.green = dice.colour(dice.pick([(48, 106, 92), (44, 92, 70), (60, 112, 108), (62, 100, 96)]), 0.2)
        self.white = dice.colour((205, 210, 212), 0.12)
        self.yellow = dice.colour((60, 160, 200), 0.12)
        top = int(camera.horizon - canvas.width * abs(np.tan(camera.roll)) / 2 - 2)
        self.top = min(max(top, 0), canvas.height - 2)
        self._shadow = np.zeros((canvas.height - self.top, canvas.width), np.uint8)

    def lit(self, colour) -> np.ndarray:
        return np.minimum(np.asarray(colour) * self.sunlight, 250)

    def strip(self, s0, s1, start: float, stop: float, colour, label=None, height: float = 0.0) -> None:
        """A band along the street from s0 to s1."""
        z = _stations(start, stop)
        edge = np.concatenate([self.street.at(s0, z, height), self.street.at(s1, z[::-1], height)])
        self.area(edge, colour, label)

    def area(self, world: np.ndarray, colour, label=None) -> None:
        flat = self.camera.polygon(world)
        if flat is not None:
            self.canvas.fill(flat, colour, label)

    def paint(self) -> None:
        """Every surface and marking, in flat colours."""
        canvas, street = self.canvas, self.street
        open_ground = {"car_park": (self.road, ROAD), "edge": (self.green, TREE)}.get(
            street.kind, (self.paving * 0.9, PAVEMENT))
        corners = np.array([[0, canvas.height], [0, self.horizon_at(0)],
                            [canvas.width, self.horizon_at(canvas.width)], [canvas.width, canvas.height]])
        canvas.fill(corners, self.lit(open_ground[0]), open_ground[1])
        far = street.end + (0.0 if street.closed else 60.0)
        for side in (-1, 1):
            self._yards(side, far)
        road = self.lit(self.road)
        self.strip(-street.half, street.half, _BACK, far, road, ROAD)
        for side in (-1, 1):
            self._pavement(side, far)
        for crossing in street.crossings:
            for side in crossing.sides:
                self._side_street(crossing, side, road)
        self._blemishes(far)
        if street.kind == "car_park":
            self._bays()
        else:
            self._markings(far)

    def horizon_at(self, u: float) -> float:
        return self.camera.horizon + (u - self.canvas.width / 2) * np.tan(self.camera.roll)

    def _yards(self, side: int, far: float) -> None:
        plan = self.street.sides[side]
        inner = side * (self.street.half + plan.pavement)
        colour, label = (self.green, TREE) if plan.yard in ("garden", "grass") else (self.paving * 0.95, PAVEMENT)
        for start, stop in self.street.pieces(side, _BACK, far, 2.0):
            self.strip(inner, inner + side * (plan.setback + 14), start, stop, self.lit(colour), label)
            at = start + self.dice.between(2, 9)
            while plan.yard == "garden" and at < min(stop, 60):  # drives and paths
                self.strip(inner, inner + side * plan.setback, at, at + self.dice.between(1, 3.5),
                           self.lit(self.paving * self.dice.between(0.75, 1.1)), PAVEMENT)
                at += self.dice.between(7, 14)

    def _pavement(self, side: int, far: float) -> None:
        plan, street = self.street.sides[side], self.street
        kerb, colour = street.kerb(side), self.lit(self.paving)
        stone = self.lit(self.paving * 0.4 + self.dice.between(60, 115))
        lay = street.pieces(side, _BACK, far)
        for start, stop in lay:
            self.strip(kerb, kerb + side * plan.pavement, start, stop, colour, PAVEMENT)
            self.strip(kerb, kerb + side * 0.16, start, stop, stone, PAVEMENT)
            self.strip(kerb - side * 0.035, kerb, start, stop, stone * 0.55)
            self.strip(kerb - side * 0.35, kerb - side * 0.035, start, stop, self.lit(self.road * 0.88))
            if street.kind != "car_park":
                self._corners(kerb, side, plan.pavement, start, stop, far)

    def _corners(self, kerb: float, side: int, width: float, start: float, stop: float, far: float) -> None:
        """Round the kerb where a side street leaves: pavement that the road takes back."""
        radius = min(width * 0.9, self.dice.between(1.5, 4.0))
        for z, direction in ((stop, -1), (start, 1)):
            if not _BACK < z < far - 0.1:
                continue
            turn = np.linspace(0, np.pi / 2, 6)
            s = kerb + side * radius * (1 - np.cos(turn))
            along = z + direction * radius * (1 - np.sin(turn))
            corner = self.street.at(np.append(s, kerb), np.append(along, z))
            self.area(corner, self.lit(self.road), ROAD)

    def _side_street(self, crossing, side: int, road) -> None:
        street, plan = self.street, self.street.sides[side]
        z0, z1 = crossing.z0, crossing.z1
        x0, x1 = side * (street.half - 0.1), side * 90.0
        middle = street.point(0.0, (z0 + z1) / 2)[0]
        band = lambda a, b, from_x=x0: np.array([[middle + from_x, 0, a], [middle + x1, 0, a],  # noqa: E731
                                                 [middle + x1, 0, b], [middle + from_x, 0, b]])
        walk = min(plan.pavement, 2.5)
        inner = side * (street.half + plan.pavement * 0.5)
        self.area(band(z0 - walk, z0, inner), self.lit(self.paving), PAVEMENT)
        self.area(band(z1, z1 + walk, inner), self.lit(self.paving), PAVEMENT)
        self.area(band(z0, z1), road, ROAD)
        self.area(band(z1 - 0.02, z1 + 0.15, inner), self.lit(self.paving * 0.55 + 60), PAVEMENT)
        if self.dice.chance(0.6):  # give-way line
            s = side * (street.half + 0.2)
            for z in np.arange(z0 + 0.5, z1 - 0.5, 1.1):
                self.strip(s, s + side * 0.25, z, z + 0.6, self.lit(self.white * 0.9))

    def _blemishes(self, far: float) -> None:
        """Repairs, tar seams, manholes, tyre tracks."""
        dice, street = self.dice, self.street
        for _ in range(dice.integer(1, 6)):
            s, z = dice.between(-0.9, 0.7) * street.half, dice.between(2, 32)
            self.strip(s, s + dice.between(0.6, 2.6), z, z + dice.between(1, 9),
                       self.lit(self.road * dice.between(0.72, 1.22)))
        for _ in range(dice.integer(0, 3)):
            s = dice.between(-0.9, 0.9) * street.half
            self.strip(s, s + 0.06, dice.between(0, 8), dice.between(12, 50), self.lit(self.road * 0.7))
        tracks = dice.between(0.86, 1.1)
        for lane in (-0.5, 0.5):
            for wheel in (-0.8, 0.8):
                s = lane * street.half + wheel
                self.strip(s - 0.25, s + 0.25, _BACK, far, self.lit(self.road * tracks))
        for _ in range(dice.integer(0, 3)):
            s, z, r = dice.between(-0.7, 0.7) * street.half, dice.between(3.5, 18), dice.between(0.25, 0.4)
            turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            self.area(street.at(s + r * np.cos(turn), z + r * np.sin(turn)), self.lit(self.road * dice.between(0.5, 0.8)))

    def _dashes(self, s: float, start: float, stop: float, length: float, gap: float, width: float, colour) -> None:
        z = start
        while z < stop:
            self.strip(s - width / 2, s + width / 2, z, min(z + length, stop), colour)
            z += length + gap

    def _markings(self, far: float) -> None:
        dice, street = self.dice, self.street
        white, yellow = self.lit(self.white), self.lit(self.yellow)
        phase = dice.between(0, 6)
        stop = min(far, 110)
        if dice.chance(0.85):
            style = dice.weighted({"dashed": 0.6, "solid": 0.14, "double": 0.1, "long": 0.16})
            colour = yellow if dice.chance(0.12) else white
            for start, end in between([(c.z0, c.z1) for c in street.crossings], _BACK, stop):
                if style in ("dashed", "long"):
                    length, gap = (2.0, 4.0) if style == "dashed" else (4.0, 2.0)
                    self._dashes(0.0, start + phase % 3, end, length, gap, 0.13, colour)
                else:
                    for s in ((0.0,) if style == "solid" else (-0.14, 0.14)):
                        self.strip(s - 0.06, s + 0.06, start, end, colour)
        for lane in range(1, street.lanes // 2):
            for side in (-1, 1):
                s = side * street.half * 2 * lane / street.lanes
                self._dashes(s, _BACK + phase, stop, 2.0, 4.0, 0.12, white)
        edge = dice.weighted({"none": 0.4, "white": 0.2, "yellow": 0.1, "double_yellow": 0.3})
        for side in (-1, 1):
            if edge == "none":
                continue
            colour = white if edge == "white" else yellow
            for start, end in street.pieces(side, _BACK, stop, 1.0):
                for s in ((0.35,) if edge != "double_yellow" else (0.28, 0.48)):
                    s = street.kerb(side) - side * s
                    self.strip(s - 0.05, s + 0.05, start, end, colour)
        for crossing in street.crossings:
            if dice.chance(0.55):
                self._zebra(crossing.z0 - dice.between(3.2, 5.0))
            if dice.chance(0.5):
                lane = street.keep * street.half
                s0, s1 = sorted((0.1 * street.keep, lane - 0.3 * street.keep))
                z = crossing.z0 - dice.between(5.5, 7)
                self.strip(s0, s1, z, z + 0.3, white)
            if dice.chance(0.2):
                self._box(crossing)
        if dice.chance(0.25):
            self._zebra(dice.between(5, 30))
        if dice.chance(0.4):
            for z in (dice.between(4, 12), dice.between(16, 34)):
                self._arrow(street.keep * street.half * dice.pick([0.5, 0.3, 0.7]), z, white)
        if dice.chance(0.14):  # a bicycle lane in colour
            side = dice.side()
            tone = dice.colour(dice.pick([(60, 70, 130), (70, 110, 70), (110, 80, 60)]), 0.2)
            s = street.kerb(side)
            self.strip(s - side * 1.6, s - side * 0.4, _BACK, stop, self.lit(tone * 0.5 + self.road * 0.5))
            self.strip(s - side * 1.75, s - side * 1.6, _BACK, stop, white)

    def _zebra(self, z: float) -> None:
        if z < 1.0:
            return
        white = self.lit(self.white * self.dice.between(0.8, 1.05))
        depth = self.dice.between(2.2, 3.5)
        if self.dice.chance(0.35):  # only two dashed lines, as at traffic lights
            for line in (z, z + depth):
                for s in np.arange(-self.street.half + 0.2, self.street.half - 0.2, 0.6):
                    self.strip(s, s + 0.3, line, line + 0.15, white)
            return
        for s in np.arange(-self.street.half + 0.3, self.street.half - 0.4, 1.0):
            self.strip(s, s + 0.5, z, z + depth, white)

    def _box(self, crossing) -> None:
        """Yellow box junction."""
        colour, half = self.lit(self.yellow), self.street.half - 0.3
        for t in np.linspace(0.1, 0.9, 5):
            for mirror in (1, -1):
                a = self.street.at(mirror * (-half), crossing.z0 + t * (crossing.z1 - crossing.z0))
                b = self.street.at(mirror * (-half + 2 * half * (1 - t)), crossing.z1)
                off = np.array([0.07, 0, 0.0])
                self.area(np.array([a - off, b - off, b + off, a + off]), colour)

    def _arrow(self, s: float, z: float, colour) -> None:
        self.strip(s - 0.07, s + 0.07, z, z + 2.6, colour)
        head = self.street.at([s - 0.35, s, s + 0.35], [z + 2.5, z + 4.0, z + 2.5])
        self.area(head, colour)

    def _bays(self) -> None:
        white, street = self.lit(self.white * 0.9), self.street
        for side in (-1, 1):
            s1 = street.kerb(side)
            s0 = s1 - side * 4.8
            for z in np.arange(1.0, street.end - 6, 2.6):
                self.strip(s0, s1, z, z + 0.1, white)
        for z in (5.0, 16.0, 28.0):
            self._arrow(self.dice.between(-1.5, 1.5), z, white)

    def shadow(self, world: np.ndarray, strength: int = 255) -> None:
        """Darken a ground polygon (N, 3), in `finish`."""
        flat = self.camera.polygon(world)
        if flat is not None:
            points = np.clip((flat - (0, self.top)) * 8, -2 ** 24, 2 ** 24).astype(np.int32)
            cv2.fillPoly(self._shadow, [points], strength, cv2.LINE_8, 3)

    def finish(self, contact: List[np.ndarray]) -> None:
        """Multiply textures and shadows in, and let the distance fade.

        Args:
            contact: ground polygons under things, dark whatever the light is.
        """
        step, canvas, light = self.canvas.supersampling, self.canvas, self.light
        rows, columns = (canvas.height - self.top) // step, canvas.width // step
        x, z, depth = self.camera.ground_grid(rows, columns, self.top, step)
        small = cv2.resize(canvas.label[self.top:], (columns, rows), interpolation=cv2.INTER_NEAREST)
        detail = self._detail(small, x, z, depth)
        tall = (canvas.width, canvas.height - self.top)
        detail = cv2.resize(detail, tall, interpolation=cv2.INTER_LINEAR)
        factor = cv2.cvtColor(detail, cv2.COLOR_GRAY2BGR)
        if light.sunny:
            sigma = 0.8 * step
            shadow = cv2.GaussianBlur(self._shadow, (0, 0), sigma)
            rest = light.shadow_factor()
            ramp = 255 * (1 - np.linspace(0, 1, 256)[:, None] * (1 - rest[None]))
            factor = cv2.multiply(factor, cv2.applyColorMap(shadow, ramp.astype(np.uint8)[:, None]), scale=1 / 255)
        if contact:
            factor = cv2.multiply(factor, self._contact(contact), scale=1 / 255)
        veil = 1 - np.exp(-depth / np.float32(light.haze_range))
        haze = cv2.resize(np.ascontiguousarray((veil * 255).astype(np.uint8)), tall, interpolation=cv2.INTER_LINEAR)
        roi = canvas.image[self.top:]
        ramp = np.linspace(0, 1, 256)[:, None]
        add = cv2.applyColorMap(haze, np.clip(ramp * light.haze[None], 0, 255).astype(np.uint8)[:, None])
        keep = cv2.applyColorMap(haze, np.broadcast_to(((1 - ramp) * 255).astype(np.uint8), (256, 3))[:, None].copy())
        ground = cv2.multiply(cv2.multiply(roi, factor, scale=1 / 128), keep, scale=1 / 255)
        cv2.copyTo(cv2.add(ground, add), (canvas.label[self.top:] > 0).view(np.uint8), roi)

    def _detail(self, label: np.ndarray, x: np.ndarray, z: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Grey factor (128 neutral) of each ground point, fading with distance as detail gets finer than pixels."""
        shift_x, shift_z = self.dice.between(0, 50), self.dice.between(0, 50)
        near = np.clip(1.4 - depth / np.float32(26.0), 0.0, 1.0)
        out = None
        for name, ids in ((self.dice.pick(["asphalt", "asphalt_old"]), None), (self.paving_pattern, PAVEMENT),
                          ("grass", TREE)):
            mask = None if ids is None else label == ids
            if mask is not None and not mask.any():
                continue
            pattern = patterns()[name]
            scale = np.float32(pattern.grey.shape[0] / pattern.metres)
            side = np.float32(pattern.grey.shape[0])
            map_x, map_z = (x + np.float32(shift_x)) * scale % side, (z + np.float32(shift_z)) * scale % side
            piece = cv2.remap(pattern.grey, map_x, map_z, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            out = piece if mask is None else np.where(mask, piece, out)
        stains = cv2.remap(patterns()["grime"].grey, (x + np.float32(shift_z)) * np.float32(18) % np.float32(512),
                           (z * np.float32(0.5) + np.float32(shift_x)) * np.float32(18) % np.float32(512), cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_WRAP)
        total = (out.astype(np.float32) - 128) * near + (stains.astype(np.float32) - 128) * 0.7 + 128
        return np.clip(total, 0, 255).astype(np.uint8)

    def _contact(self, polygons: List[np.ndarray]) -> np.ndarray:
        canvas = self.canvas
        dark = np.full((canvas.height - self.top, canvas.width), 255, np.uint8)
        for world in polygons:
            flat = self.camera.polygon(world)
            if flat is not None:
                cv2.fillPoly(dark, [((flat - (0, self.top)) * 8).astype(np.int32)], 70, cv2.LINE_8, 3)
        dark = cv2.blur(dark, (5 * canvas.supersampling, 2 * canvas.supersampling + 1))
        return cv2.cvtColor(dark, cv2.COLOR_GRAY2BGR)
