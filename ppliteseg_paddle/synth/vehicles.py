"""Cars, vans, lorries and buses: a side outline, extruded, with windows, wheels and lights.

A vehicle's own axes: x forward, y up, w to its left, metres; the origin lies on the ground in its middle.
"""

from __future__ import annotations

import math

import numpy as np

from ppliteseg_paddle.synth.canvas import CAR
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.vehicle_bodies import BODIES, BUS_PAINTS, PAINTS

_RIM = tuple((math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16))


class Vehicle:
    """A vehicle whose middle is at (s, z).

    Args:
        facing: its heading relative to the street, radians; 0 drives away from the camera, pi towards it.
        body: a key of `BODIES`, or "" to draw one.
    """

    def __init__(self, stage: Stage, s: float, z: float, facing: float, body: str = "", braking: bool = False) -> None:
        dice = stage.dice
        self.stage, self.s, self.z, self.braking = stage, s, z, braking
        self.body = body or dice.weighted({name: row["odds"] for name, row in BODIES.items()})
        row = BODIES[self.body]
        self.length, self.width, self.height = (dice.between(*limits) for limits in row["size"])
        self.row, self.heading = row, facing + stage.street.heading(z)
        if self.body == "bus":
            self.paint_color = dice.color(dice.pick(BUS_PAINTS), 0.2)
        elif self.body in ("van", "lorry") and dice.chance(0.6):
            self.paint_color = dice.color((212, 214, 214), 0.1)
        else:
            self.paint_color = dice.color(dice.weighted(PAINTS), 0.22)
        self.gloss = dice.between(0.08, 0.24)
        self.plate = dice.pick([(60, 190, 220), (215, 218, 218)])

    def key(self) -> float:
        return self.stage.depth(self.s, self.z)

    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        forward = np.array([math.sin(self.heading), 0.0, math.cos(self.heading)])
        return forward, np.array([-forward[2], 0.0, forward[0]])

    def world(self, points, lift: float = 0.0) -> list[tuple[float, float, float]]:
        """Own points (x, y, w) as world points."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        x0, z0 = self.stage.street.point(self.s, self.z)
        return [(x0 + x * sin - w * cos, y + lift, z0 + x * cos + w * sin) for x, y, w in points]

    def _flat(self, points) -> list[tuple[float, float]]:
        """Own points on the canvas."""
        spot = self.stage.camera.spot
        return [spot(*p) for p in self.world(points)]

    def cast(self) -> None:
        """Dark ground below, and a shadow away from the sun."""
        stage, half_l, half_w = self.stage, self.length / 2, self.width / 2
        base = ((-half_l, 0, -half_w), (half_l, 0, -half_w), (half_l, 0, half_w), (-half_l, 0, half_w))
        floor = self.world(base)
        stage.contacts.append(floor)
        if not stage.light.sunny:
            return
        ground = stage.ground
        for i in range(4):
            ground.wall_shadow(floor[i - 1], floor[i], self.height * 0.6)
        ground.roof_shadow(self.world([(x * 0.75, y, w * 0.85) for x, y, w in base]), self.height * 0.95)
        ground.roof_shadow(floor, self.height * 0.6)
        ground.shadow(floor)

    def paint(self) -> None:
        stage = self.stage
        depth = self.key()
        x, z = stage.street.point(self.s, self.z)
        if (
            depth - self.length * 0.5 - 0.3 < 0.8
            and min(
                stage.camera.depth(p[0], p[2])
                for p in self.world(
                    [(sx * self.length / 2, 0, sw * self.width / 2) for sx in (-1, 1) for sw in (-1, 1)]
                )
            )
            < 0.8
        ):
            return
        metre = stage.camera.focal / depth
        middle = stage.camera.spot(x, 0.5, z)[0]
        if (
            metre * self.height < 5
            or abs(middle - stage.canvas.width / 2) > stage.canvas.width / 2 + metre * self.length * 0.8
        ):
            return
        self.lit = stage.sun_at(self.s, self.z, 0.9)
        self.depth_now = depth
        self.detail = stage.camera.focal / depth * self.height > 22
        forward, left = self._axes()
        eye = stage.camera.eye - (x, 0.0, z)
        self.eye_x, self.eye_w = float(eye @ forward), float(eye @ left)
        self._underside()
        faces = self._skin()
        order = sorted(faces, key=lambda face: -face[0])
        for _, corners, color in order:
            stage.canvas.fill(self._flat(corners), color, CAR)
        sides = [side for side in (-1, 1) if self.eye_w * side > self.width / 2]
        for side in sides:
            self._flank(side)
        if self.detail or self.height * stage.camera.focal / depth > 9:
            if self.eye_x < -self.length / 2:
                self._tail()
            if self.eye_x > self.length / 2:
                self._nose()

    # Surfaces

    def _tone(self, color, normal, mirror: float = 0.0) -> np.ndarray:
        """Color of a surface with that own-axes normal (x, y, w), some of the sky mirrored in it."""
        forward, left = self._axes()
        world = forward * normal[0] + left * normal[2] + np.array([0, normal[1], 0.0])
        light = self.stage.light
        tone = light.shade(color, world, self.lit)
        share = mirror * (0.35 + 0.65 * max(0.0, world[1]))
        return light.far(tone * (1 - share) + light.sky_low * share * (0.5 + 0.5 * light.ambient), self.depth_now)

    def _half_width(self, x: float, y: float) -> float:
        """Half of the width at a point of the outline: narrower towards the roof, rounded towards both ends."""
        belt, roof = self.row["belt"], self.row["roof"]
        share = min(max((y - belt) / (1 - belt), 0.0), 1.0)
        end = min(max((abs(x) - 0.38) / 0.12, 0.0), 1.0)
        return self.width / 2 * (1.0 - (1.0 - roof) * share) * (1.0 - self.row.get("plan", 0.13) * end * end)

    def _skin(self) -> list[tuple[float, list, np.ndarray]]:
        """The strips over tail, roof and nose that face the camera: (distance, corners, color)."""
        out = []
        outline = self.row["outline"]
        eye = np.array([self.eye_x, float(self.stage.camera.eye[1])])
        for (x0, y0, what), (x1, y1, _) in zip(outline[:-1], outline[1:]):
            a = np.array([x0 * self.length, y0 * self.height])
            b = np.array([x1 * self.length, y1 * self.height])
            along = b - a
            normal = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
            if float(normal @ (eye - a)) <= 0:
                continue
            wa, wb = self._half_width(x0, y0), self._half_width(x1, y1)
            own = (normal[0], normal[1], 0.0)
            quads = [(a, b, wa, wb, self._surface(what, own))]
            if what == "glass":
                rim, tall = 0.88, 0.10
                inner_a, inner_b = a + along * tall, b - along * tall * 0.6
                middle = (inner_a + inner_b) / 2
                wm = (wa + wb) / 2
                quads = [
                    (a, b, wa, wb, self._surface("body", own)),
                    (inner_a, middle, wa * rim, wm * rim, self._tone((44, 42, 40), own, 0.25)),
                    (middle, inner_b, wm * rim, wb * rim, self._tone((50, 48, 46), own, 0.55)),
                ]
                if along[0] > 0 and along[1] < 0:
                    quads[1], quads[2] = quads[1][:4] + (quads[2][4],), quads[2][:4] + (quads[1][4],)
            distance = float(np.hypot(*((a + b) / 2 - eye)))
            for rank, (p, q, wp, wq, color) in enumerate(quads):
                corners = [(p[0], p[1], -wp), (p[0], p[1], wp), (q[0], q[1], wq), (q[0], q[1], -wq)]
                out.append((distance - rank * 1e-3, corners, color))
        return out

    def _surface(self, what: str, normal) -> np.ndarray:
        if what == "bumper":
            return self._tone(self.paint_color * 0.62, normal, self.gloss * 0.4)
        if what in ("tail", "nose", "doors"):
            return self._tone(self.paint_color * 0.92, normal, self.gloss * 0.6)
        return self._tone(self.paint_color, normal, self.gloss * (2.2 if normal[1] > 0.8 else 1.0))

    def _underside(self) -> None:
        """Wheels of the far side and the dark below the floor."""
        half_l, half_w, low = self.length * 0.45, self.width / 2 * 0.86, self.height * self.row["outline"][0][1] * 1.15
        dark = self.stage.light.far(np.array([14.0, 13, 13]), self.depth_now)
        canvas = self.stage.canvas
        for x in (-1, 1):
            self._plate_box(x * half_l, -half_w, half_w, 0.16, low, dark)
        for w in (-1, 1):
            canvas.fill(
                self._flat(
                    [
                        (-half_l, 0.16, w * half_w),
                        (half_l, 0.16, w * half_w),
                        (half_l, low, w * half_w),
                        (-half_l, low, w * half_w),
                    ]
                ),
                dark,
                CAR,
            )
        radius = self.row["wheel"]
        for x in self._wheels():
            for w in (-1, 1):
                if self.detail and self.eye_w * w < self.width / 2:
                    self._wheel(x, w * (self.width / 2 * 0.97 - 0.1), radius, dark, CAR)

    def _wheels(self) -> tuple[float, float]:
        return (
            -self.length * (0.29 if self.body != "bus" else 0.25),
            self.length * (0.31 if self.body != "bus" else 0.30),
        )

    def _wheel(self, x: float, w: float, radius: float, color, label=None, lift: float = 0.0) -> None:
        y = self.row["wheel"] + lift
        ring = [(x + radius * u, y + radius * v, w) for u, v in (_RIM if self.detail else _RIM[::2])]
        self.stage.canvas.fill(self._flat(ring), color, label)

    def _flank(self, side: int) -> None:
        """One side: body, sill, glasshouse, doors, wheels."""
        canvas, row = self.stage.canvas, self.row
        normal = (0.0, 0.0, float(side))
        belt = row["belt"]
        body = self._tone(self.paint_color, normal, self.gloss)
        lower = [(x, y) for x, y, _ in row["outline"]]

        def at(points):
            return self._flat([(x * self.length, y * self.height, side * self._half_width(x, y)) for x, y in points])

        canvas.fill(at(lower), body, CAR)
        flat = 0.46
        low = row["outline"][0][1]
        canvas.fill(at([(-flat, low), (flat, low), (flat, low + 0.10), (-flat, low + 0.10)]), body * 0.55)
        canvas.fill(at([(-flat, low + 0.10), (flat, low + 0.10), (flat, low + 0.17), (-flat, low + 0.17)]), body * 0.8)
        shine = np.minimum(body * 1.12 + 6, 252)
        if self.body not in ("lorry", "bus", "van"):
            canvas.fill(
                at([(-flat, belt - 0.10), (flat * 0.9, belt - 0.13), (flat * 0.9, belt - 0.10), (-flat, belt - 0.05)]),
                shine,
            )
        self._side_glass(at, side, body)
        if not self.detail:
            for x in self._wheels():
                self._wheel(
                    x,
                    side * self.width / 2,
                    row["wheel"],
                    self.stage.light.far(np.array([22.0, 22, 23]), self.depth_now),
                    CAR,
                )
            return
        seam = body * 0.6
        for x in {"van": (0.12, 0.3), "lorry": (0.24,), "bus": (0.38, 0.46)}.get(self.body, (-0.22, 0.02, 0.2)):
            canvas.fill(at([(x, low + 0.08), (x + 0.006, low + 0.08), (x + 0.006, belt), (x, belt)]), seam)
        for x in (-0.06, 0.17):
            if self.body not in ("bus", "lorry"):
                canvas.fill(
                    at([(x - 0.035, belt - 0.07), (x, belt - 0.07), (x, belt - 0.05), (x - 0.035, belt - 0.05)]), seam
                )
        dark = self.stage.light.far(np.array([20.0, 20, 21]), self.depth_now)
        rim = self._tone((150, 150, 150) if self.stage.dice.chance(0.7) else (60, 60, 60), normal)
        for x in self._wheels():
            radius = row["wheel"]
            self._wheel(x, side * self.width / 2, radius * 1.17, dark * 0.6, CAR, radius * 0.17)
            self._wheel(x, side * self.width / 2, radius, dark, CAR)
            self._wheel(x, side * (self.width / 2 + 0.01), radius * 0.66, rim)
            self._wheel(x, side * (self.width / 2 + 0.01), radius * 0.2, dark)
            for spoke in range(5):
                turn = spoke * 1.2566 + 0.4
                mid = (
                    x + radius * 0.44 * math.cos(turn),
                    radius + radius * 0.44 * math.sin(turn),
                    side * self.width / 2,
                )
                point = self._flat([mid])[0]
                canvas.disc(
                    point,
                    max(self.stage.camera.focal / self.depth_now * 0.05, 1),
                    max(self.stage.camera.focal / self.depth_now * 0.05, 1),
                    dark,
                )
        if self.body not in ("bus", "lorry"):
            mirror = [(0.16, belt), (0.205, belt), (0.205, belt + 0.09), (0.165, belt + 0.08)]
            canvas.fill(
                self._flat([(x * self.length, y * self.height, side * (self.width / 2 + 0.14)) for x, y in mirror]),
                body * 0.7,
                CAR,
            )

    def _side_glass(self, at, side: int, body) -> None:
        canvas, belt = self.stage.canvas, self.row["belt"]
        glass = self._tone((40, 38, 36), (0.0, 0.15, float(side)), 0.22)
        bright = glass * 0.72 + self.stage.light.sky_low * 0.16
        panes: list[list] = []
        if self.body in ("van", "lorry"):
            panes = (
                [[(0.16, 0.56), (0.345, 0.56), (0.245, 0.90), (0.16, 0.90)]]
                if self.body == "van"
                else [[(0.27, 0.5), (0.42, 0.5), (0.36, 0.76), (0.27, 0.76)]]
            )
        elif self.body == "bus":
            levels = ((0.42, 0.88),) if self.height < 3.5 else ((0.26, 0.46), (0.62, 0.84))
            for y0, y1 in levels:
                panes += [[(x, y0), (x + 0.105, y0), (x + 0.105, y1), (x, y1)] for x in np.arange(-0.47, 0.36, 0.118)]
        else:
            top = [p for p in self.row["outline"] if p[1] > belt + 0.02]
            rear, front = top[0][0], top[-1][0]
            roofs = [p[0] for p in top if p[1] > 0.92]
            back, fore = min(roofs) + 0.03, max(roofs) - 0.015
            rear = min(rear + 0.05, back)
            edge = [(rear, belt + 0.03), (front - 0.035, belt + 0.03), (fore, 0.91), (back, 0.91)]
            split = (-0.20, 0.01) if self.body == "estate" else (0.0,)
            cuts = [-1.0] + list(split) + [1.0]
            for lo, hi in zip(cuts[:-1], cuts[1:]):
                panes.append(_slice(edge, lo + 0.008, hi - 0.008))
        for pane in panes:
            if len(pane) > 2:
                canvas.fill(at(pane), glass)
                x0, x1 = min(p[0] for p in pane), max(p[0] for p in pane)
                upper = [(x, y) for x, y in pane if y > 0.8 * self.row["belt"] + 0.2]
                if len(upper) == 2 and self.detail:
                    (xa, ya), (xb, yb) = upper
                    mid = (belt + ya) / 2
                    canvas.fill(
                        at(
                            [
                                (xa, ya),
                                (xb, yb),
                                (xb * 0.5 + x0 * 0.5 if xb < xa else xb, mid),
                                (xa * 0.5 + x1 * 0.5 if xa > xb else xa, mid),
                            ]
                        ),
                        bright,
                    )

    # Ends

    def _plate_box(self, x: float, w0: float, w1: float, y0: float, y1: float, color, label=CAR) -> None:
        self.stage.canvas.fill(self._flat([(x, y0, w0), (x, y0, w1), (x, y1, w1), (x, y1, w0)]), color, label)

    def _tail(self) -> None:
        high, half, x = self.height, self._half_width(-0.5, 0.4), -self.length / 2 - 0.01
        red = np.array([30.0, 24, 150]) if not self.braking else np.array([60.0, 60, 252])
        red = self.stage.light.far(
            red * (1.0 if self.braking else 0.5 + 0.5 * self.stage.light.ambient), self.depth_now
        )
        tall = self.body in ("hatch", "estate", "van", "suv") and self.width > 1.7
        y0, y1 = (0.42, 0.72) if tall else (0.46, 0.58)
        if self.body in ("bus", "lorry"):
            y0, y1 = 0.2, 0.27
        wide = 0.16 if tall else 0.3
        for side in (-1, 1):
            self._plate_box(x, side * half * 0.97, side * half * (0.97 - wide), y0 * high, y1 * high, red, None)
            self._plate_box(
                x,
                side * half * 0.97,
                side * half * (0.97 - wide),
                (y0 + 0.3 * (y1 - y0)) * high,
                (y0 + 0.5 * (y1 - y0)) * high,
                red * 0.5 + 90,
                None,
            )
        plate_y = 0.30 if self.body in ("van", "suv", "bus", "lorry") else 0.44
        self._plate_box(
            x, -0.26, 0.26, plate_y * high, plate_y * high + 0.11, self._tone(self.plate, (-1.0, 0, 0)), None
        )
        if self.body in ("van", "lorry"):
            seam = self._tone(self.paint_color * 0.55, (-1.0, 0, 0))
            self._plate_box(x, -0.02, 0.02, 0.3 * high, 0.95 * high, seam, None)
            if self.body == "van":
                for side in (-1, 1):
                    self._plate_box(
                        x,
                        side * 0.12,
                        side * half * 0.75,
                        0.58 * high,
                        0.85 * high,
                        self._tone((42, 40, 38), (-1.0, 0.1, 0), 0.3),
                        None,
                    )
        self._plate_box(
            x,
            -half * 0.9,
            half * 0.9,
            0.21 * high,
            0.27 * high,
            self._tone(self.paint_color * 0.35, (-1.0, 0, 0)),
            None,
        )

    def _nose(self) -> None:
        high, half, x = self.height, self._half_width(0.5, 0.4), self.length / 2 + 0.01
        lamp = self._tone((205, 205, 200), (1.0, 0, 0), 0.3)
        if self.stage.dice.chance(0.25 if self.stage.light.weather not in ("dusk", "wet") else 0.8):
            lamp = np.array([225.0, 245, 252])
        y = {"bus": 0.2, "lorry": 0.28, "van": 0.34}.get(self.body, 0.40)
        dark = self._tone((30, 30, 30), (1.0, 0, 0))
        self._plate_box(x, -half * 0.6, half * 0.6, (y - 0.04) * high, (y + 0.05) * high, dark, None)
        for side in (-1, 1):
            self._plate_box(x, side * half * 0.96, side * half * 0.62, (y + 0.0) * high, (y + 0.055) * high, lamp, None)
        self._plate_box(x, -half * 0.8, half * 0.8, 0.19 * high, 0.24 * high, dark, None)
        self._plate_box(x, -0.26, 0.26, 0.24 * high, 0.24 * high + 0.11, self._tone(self.plate, (1.0, 0, 0)), None)


def _slice(polygon: list[tuple[float, float]], low: float, high: float) -> list[tuple[float, float]]:
    """The part of a polygon with low <= x <= high."""
    for limit, sign in ((low, 1), (high, -1)):
        kept = []
        for i, a in enumerate(polygon):
            b = polygon[(i + 1) % len(polygon)]
            inside_a, inside_b = (a[0] - limit) * sign >= 0, (b[0] - limit) * sign >= 0
            if inside_a:
                kept.append(a)
            if inside_a != inside_b:
                t = (limit - a[0]) / (b[0] - a[0])
                kept.append((limit, a[1] + (b[1] - a[1]) * t))
        polygon = kept
        if not polygon:
            break
    return polygon
