"""The ground: road, kerbs, pavements, yards, their textures, and the shadows that lie on them."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ppliteseg_paddle.synth.camera import Camera
from ppliteseg_paddle.synth.canvas import PAVEMENT, ROAD, TREE, Canvas, fixed
from ppliteseg_paddle.synth.light import Light
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.street import BACK, Street
from ppliteseg_paddle.synth.textures import patterns

UP = np.array([0.0, 1.0, 0.0])
KERB = 0.12  # height of the pavement above the road, metres
_RAMP = np.linspace(0, 1, 256)[:, None]


def _stations(start: float, stop: float, straight: bool) -> list[float]:
    """Places along the street, close together near the camera, for following its bend."""
    steps = 1 if straight or stop - start < 2 else 4 if stop - start < 12 else 14
    a, b = math.copysign(abs(start) ** 0.5, start), math.copysign(abs(stop) ** 0.5, stop)
    roots = [a + (b - a) * i / steps for i in range(steps + 1)]
    return [math.copysign(root * root, root) for root in roots]


class Ground:
    """Paints the ground of one scene. Call `paint`, then `shadow` for what casts one, then `finish`.

    Attributes: `far`: up to where the street is painted, metres.
    """

    def __init__(self, canvas: Canvas, camera: Camera, street: Street, light: Light, rng: Rng) -> None:
        self.canvas, self.camera, self.street, self.light, self.rng = canvas, camera, street, light, rng
        self.sunlight = light.factor(UP)
        self.far = street.end + (0.0 if street.closed else 60.0)
        tone = rng.between(62, 132) * (1 - 0.3 * light.wet)
        self.road = np.array([tone * rng.between(0.97, 1.06), tone, tone * rng.between(0.95, 1.03)])
        self.paving = rng.color(
            rng.pick(
                [
                    (128, 134, 140),
                    (112, 122, 134),
                    (96, 98, 100),
                    (120, 138, 158),
                    (88, 108, 142),
                    (104, 104, 106),
                    (146, 152, 158),
                ]
            ),
            0.15,
        )
        self.rough = rng.between(0.35, 0.9)  # how much of the patterns' contrast shows
        self.paving_pattern = rng.pick(["flags", "pavers", "asphalt", "concrete", "flags"])
        self.green = rng.color(rng.pick([(58, 102, 90), (60, 92, 80), (70, 108, 106), (74, 98, 96)]), 0.2)
        self.white = rng.color((205, 210, 212), 0.12)
        self.yellow = rng.color((60, 160, 200), 0.12)
        top = int(camera.horizon - canvas.width * abs(np.tan(camera.roll)) / 2 - 2)
        self.top = min(max(top, 0), canvas.height - 2)
        sun = light.towards_sun
        self.reach = (-float(sun[0]) / max(float(sun[1]), 0.14), -float(sun[2]) / max(float(sun[1]), 0.14))
        self._shadow = np.zeros((canvas.height - self.top, canvas.width), np.uint8)

    def lit(self, color) -> np.ndarray:
        return np.minimum(np.asarray(color) * self.sunlight, 250)

    def strip(self, s0, s1, start: float, stop: float, color, label=None, height: float = 0.0) -> None:
        """A band along the street from s0 to s1."""
        stations, where = _stations(start, stop, self.street.bend == 0.0), self.street.where
        self.area(
            [where(s0, z, height) for z in stations] + [where(s1, z, height) for z in reversed(stations)], color, label
        )

    def area(self, world: list[tuple], color, label=None) -> None:
        flat = self.camera.outline(world)
        if flat is not None:
            self.canvas.fill(flat, color, label)

    def paint(self) -> None:
        """Every surface, in flat colors; `markings.paint_markings` follows."""
        canvas, street = self.canvas, self.street
        open_ground = {"car_park": (self.road, ROAD), "edge": (self.green, TREE)}.get(
            street.kind, (self.paving * 0.9, PAVEMENT)
        )
        corners = np.array(
            [
                [0, canvas.height],
                [0, self.horizon_at(0)],
                [canvas.width, self.horizon_at(canvas.width)],
                [canvas.width, canvas.height],
            ]
        )
        canvas.fill(corners, self.lit(open_ground[0]), open_ground[1])
        far = self.far
        for side in (-1, 1):
            self._yards(side, far)
        road = self.lit(self.road)
        self.strip(-street.half, street.half, BACK, far, road, ROAD)
        for side in (-1, 1):
            self._pavement(side, far)
        for crossing in street.crossings:
            for side in crossing.sides:
                self._side_street(crossing, side, road)
        self._blemishes(far)

    def horizon_at(self, u: float) -> float:
        return self.camera.horizon + (u - self.canvas.width / 2) * np.tan(self.camera.roll)

    def _yards(self, side: int, far: float) -> None:
        plan = self.street.sides[side]
        inner = side * (self.street.half + plan.pavement)
        color, label = (self.green, TREE) if plan.yard in ("garden", "grass") else (self.paving * 0.95, PAVEMENT)
        for start, stop in self.street.pieces(side, BACK, far, 2.0):
            self.strip(inner, inner + side * (plan.setback + 14), start, stop, self.lit(color), label)
            at = start + self.rng.between(2, 9)
            while plan.yard == "garden" and at < min(stop, 60):  # drives and paths
                self.strip(
                    inner,
                    inner + side * plan.setback,
                    at,
                    at + self.rng.between(1, 3.5),
                    self.lit(self.paving * self.rng.between(0.75, 1.1)),
                    PAVEMENT,
                )
                at += self.rng.between(7, 14)

    def _pavement(self, side: int, far: float) -> None:
        plan, street = self.street.sides[side], self.street
        kerb, color = street.kerb(side), self.lit(self.paving)
        stone = self.lit(self.paving * 0.4 + self.rng.between(60, 115))
        lay = street.pieces(side, BACK, far)
        for start, stop in lay:
            self.strip(kerb, kerb + side * plan.pavement, start, stop, color, PAVEMENT)
            self.strip(kerb, kerb + side * 0.16, start, stop, stone, PAVEMENT)
            self.strip(kerb - side * 0.035, kerb, start, stop, stone * 0.55)
            self.strip(kerb - side * 0.35, kerb - side * 0.035, start, stop, self.lit(self.road * 0.88))
            if street.kind != "car_park":
                self._corners(kerb, side, plan.pavement, start, stop, far)

    def _corners(self, kerb: float, side: int, width: float, start: float, stop: float, far: float) -> None:
        """Round the kerb where a side street leaves: pavement that the road takes back."""
        radius = min(width * 0.9, self.rng.between(1.5, 4.0))
        for z, direction in ((stop, -1), (start, 1)):
            if not BACK < z < far - 0.1:
                continue
            arc = [
                (radius * (1 - math.cos(t)), radius * (1 - math.sin(t))) for t in (0, 0.3, 0.6, 0.9, 1.2, math.pi / 2)
            ]
            corner = [self.street.where(kerb + side * u, z + direction * v) for u, v in arc]
            self.area(corner + [self.street.where(kerb, z)], self.lit(self.road), ROAD)

    def _side_street(self, crossing, side: int, road) -> None:
        street, plan = self.street, self.street.sides[side]
        z0, z1 = crossing.z0, crossing.z1
        x0, x1 = side * (street.half - 0.1), side * 90.0
        middle = street.point(0.0, (z0 + z1) / 2)[0]

        def band(a, b, from_x=x0):
            return [(middle + from_x, 0.0, a), (middle + x1, 0.0, a), (middle + x1, 0.0, b), (middle + from_x, 0.0, b)]

        walk = min(plan.pavement, 2.5)
        inner = side * (street.half + plan.pavement * 0.5)
        self.area(band(z0 - walk, z0, inner), self.lit(self.paving), PAVEMENT)
        self.area(band(z1, z1 + walk, inner), self.lit(self.paving), PAVEMENT)
        self.area(band(z0, z1), road, ROAD)
        self.area(band(z1 - 0.02, z1 + 0.15, inner), self.lit(self.paving * 0.55 + 60), PAVEMENT)
        if self.rng.chance(0.6):  # give-way line
            s = side * (street.half + 0.2)
            for z in np.arange(z0 + 0.5, z1 - 0.5, 1.1):
                self.strip(s, s + side * 0.25, z, z + 0.6, self.lit(self.white * 0.9))

    def _blemishes(self, far: float) -> None:
        """Repairs, tar seams, manholes, tyre tracks."""
        rng, street = self.rng, self.street
        for _ in range(rng.integer(1, 6)):
            s, z = rng.between(-0.9, 0.7) * street.half, rng.between(2, 32)
            self.strip(
                s, s + rng.between(0.6, 2.6), z, z + rng.between(1, 9), self.lit(self.road * rng.between(0.72, 1.22))
            )
        for _ in range(rng.integer(0, 3)):
            s = rng.between(-0.9, 0.9) * street.half
            self.strip(s, s + 0.06, rng.between(0, 8), rng.between(12, 50), self.lit(self.road * 0.7))
        tracks = rng.between(0.86, 1.1)
        for lane in (-0.5, 0.5):
            for wheel in (-0.8, 0.8):
                s = lane * street.half + wheel
                self.strip(s - 0.25, s + 0.25, BACK, far, self.lit(self.road * tracks))
        for _ in range(rng.integer(0, 3)):
            s, z, r = rng.between(-0.7, 0.7) * street.half, rng.between(3.5, 18), rng.between(0.25, 0.4)
            rim = [street.where(s + r * math.cos(t / 2), z + r * math.sin(t / 2)) for t in range(12)]
            self.area(rim, self.lit(self.road * rng.between(0.5, 0.8)))

    def shadow(self, world: list[tuple], strength: int = 255) -> None:
        """Darken a ground polygon, in `finish`."""
        flat = self.camera.outline(world)
        if flat is not None:
            cv2.fillPoly(self._shadow, [fixed([(u, v - self.top) for u, v in flat])], strength, cv2.LINE_8, 3)

    def bar_shadow(self, x: float, z: float, tall: float, half: float) -> None:
        """The shadow of something thin and upright at (x, z)."""
        du, dv = self.reach[0] * tall, self.reach[1] * tall
        long = math.hypot(du, dv) + 1e-6
        u, v = dv / long * half, -du / long * half
        self.shadow(
            [(x - u, 0.0, z - v), (x + u, 0.0, z + v), (x + du + u, 0.0, z + dv + v), (x + du - u, 0.0, z + dv - v)]
        )

    def wall_shadow(self, a: tuple, b: tuple, tall: float) -> None:
        """The shadow of an upright wall between two ground points."""
        du, dv = self.reach[0] * tall, self.reach[1] * tall
        self.shadow([a, b, (b[0] + du, 0.0, b[2] + dv), (a[0] + du, 0.0, a[2] + dv)])

    def roof_shadow(self, base: list[tuple], tall: float) -> None:
        """The shadow of a flat top over the ground polygon `base`."""
        self.shadow([(x + self.reach[0] * tall, 0.0, z + self.reach[1] * tall) for x, _, z in base])

    def finish(self, contact: list[list]) -> None:
        """Multiply textures and shadows in, and let the distance fade.

        Args:
            contact: ground polygons under things, dark whatever the light is.
        """
        step, canvas, light = self.canvas.supersampling, self.canvas, self.light
        rows, columns = (canvas.height - self.top) // step, canvas.width // step
        coarse = 4 * step
        depth = self.camera.ground_depth(
            (canvas.height - self.top) // coarse + 1, canvas.width // coarse + 1, self.top, coarse
        )
        small = cv2.resize(canvas.label[self.top :], (columns, rows), interpolation=cv2.INTER_NEAREST)
        veil = 1 - cv2.exp(depth * np.float32(-1 / light.haze_range))
        gray = cv2.multiply(
            self._detail(small, depth, step), _stretch((1 - veil) * 255, (columns, rows)), scale=1 / 255
        )
        factor = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
        if light.sunny:
            shadow = cv2.GaussianBlur(
                cv2.resize(self._shadow, (columns, rows), interpolation=cv2.INTER_AREA), (0, 0), 0.8
            )
            ramp = 255 * (1 - _RAMP * (1 - light.shadow_factor()[None]))
            factor = cv2.multiply(factor, cv2.applyColorMap(shadow, ramp.astype(np.uint8)[:, None]), scale=1 / 255)
        if contact:
            factor = cv2.multiply(factor, self._contact(contact, step), scale=1 / 255)
        tall = (canvas.width, canvas.height - self.top)
        factor = cv2.resize(factor, tall, interpolation=cv2.INTER_LINEAR)
        haze = cv2.applyColorMap(
            (veil * 255).astype(np.uint8), np.clip(_RAMP * light.haze, 0, 255).astype(np.uint8)[:, None]
        )
        haze = cv2.resize(haze, tall, interpolation=cv2.INTER_LINEAR)
        roi = canvas.image[self.top :]
        ground = cv2.add(cv2.multiply(roi, factor, scale=1 / 128), haze)
        cv2.copyTo(ground, cv2.compare(canvas.label[self.top :], 0, cv2.CMP_GT), roi)

    def _detail(self, label: np.ndarray, depth: np.ndarray, step: int) -> np.ndarray:
        """Gray factor (128 neutral) of each ground point, fading with distance as detail gets finer than pixels."""
        near = np.clip(1.5 - depth / np.float32(24.0), 0.0, 1.0)
        near = _stretch(near * 255, label.shape[::-1])
        out = self._lay(self.rng.pick(["asphalt", "asphalt_old"]), label.shape, step)
        for name, ids in ((self.paving_pattern, PAVEMENT), ("grass", TREE)):
            mask = cv2.compare(label, ids, cv2.CMP_EQ)
            if cv2.countNonZero(mask) > label.size * 0.01:
                cv2.copyTo(self._lay(name, label.shape, step), mask, out)
        near = cv2.convertScaleAbs(near, alpha=self.rough)
        fine = cv2.addWeighted(cv2.multiply(out, near, scale=1 / 255), 1.0, cv2.bitwise_not(near), 128 / 255, 0)
        stains = self._lay("grime", (label.shape[0] // 3 + 1, label.shape[1] // 3 + 1), step * 3)
        return cv2.addWeighted(fine, 1.0, cv2.resize(stains, label.shape[::-1]), 0.5, -0.5 * 128)

    def _lay(self, name: str, shape, step: int) -> np.ndarray:
        """A pattern laid on the ground, in perspective."""
        pattern, rng = patterns()[name], self.rng
        matrix = self.camera.ground_matrix(self.top, step)
        scale = pattern.gray.shape[0] / pattern.metres
        shift = np.array([[scale, 0, rng.between(0, 512)], [0, scale, rng.between(0, 512)], [0, 0, 1]])
        return cv2.warpPerspective(
            pattern.gray,
            shift @ matrix,
            (shape[1], shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )

    def _contact(self, polygons: list[list], step: int) -> np.ndarray:
        rows, columns = self._shadow.shape[0] // step, self._shadow.shape[1] // step
        dark = np.full((rows, columns), 255, np.uint8)
        for world in polygons:
            flat = self.camera.outline(world)
            if flat is not None:
                cv2.fillPoly(dark, [fixed([(u / step, (v - self.top) / step) for u, v in flat])], 70, cv2.LINE_8, 3)
        return cv2.cvtColor(cv2.blur(dark, (5, 3)), cv2.COLOR_GRAY2BGR)


def _stretch(coarse: np.ndarray, size) -> np.ndarray:
    """A coarse float map 0..255, as uint8 of that size (columns, rows)."""
    return cv2.resize(coarse.astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
