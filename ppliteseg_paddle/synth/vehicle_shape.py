"""A vehicle's pose and proportions, and what paints a piece of it.

A vehicle's own axes: x forward, y up, w to its left, metres; the origin lies on the ground in its middle.
"""

from __future__ import annotations

import math

import numpy as np

from ppliteseg_paddle.synth.canvas import CAR
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.vehicle_bodies import BODIES, BUS_PAINTS, PAINTS

_RIM = tuple((math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16))


class VehicleShape:
    """A vehicle whose middle is at (s, z).

    Args:
        facing: its heading relative to the street, radians; 0 drives away from the camera, pi towards it.
        body: a key of `BODIES`, or "" to draw one.
    Attributes: set before painting: `lit`, whether the sun shines on it; `depth_now`, its distance; `detail`, whether
        small parts show; `eye_x`, `eye_w`, the camera in its own axes.
    """

    lit: float
    depth_now: float
    detail: bool
    eye_x: float
    eye_w: float

    def __init__(self, stage: Stage, s: float, z: float, facing: float, body: str = "", braking: bool = False) -> None:
        rng = stage.rng
        self.stage, self.s, self.z, self.braking = stage, s, z, braking
        self.body = body or rng.weighted({name: row["odds"] for name, row in BODIES.items()})
        row = BODIES[self.body]
        self.length, self.width, self.height = (rng.between(*limits) for limits in row["size"])
        self.row, self.heading = row, facing + stage.street.heading(z)
        if self.body == "bus":
            self.paint_color = rng.color(rng.pick(BUS_PAINTS), 0.2)
        elif self.body in ("van", "lorry") and rng.chance(0.6):
            self.paint_color = rng.color((212, 214, 214), 0.1)
        else:
            self.paint_color = rng.color(rng.weighted(PAINTS), 0.22)
        self.gloss = rng.between(0.08, 0.24)
        self.plate = rng.pick([(60, 190, 220), (215, 218, 218)])

    def key(self) -> float:
        return self.stage.depth(self.s, self.z)

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        forward = np.array([math.sin(self.heading), 0.0, math.cos(self.heading)])
        return forward, np.array([-forward[2], 0.0, forward[0]])

    def world(self, points, lift: float = 0.0) -> list[tuple[float, float, float]]:
        """Own points (x, y, w) as world points."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        x0, z0 = self.stage.street.point(self.s, self.z)
        return [(x0 + x * sin - w * cos, y + lift, z0 + x * cos + w * sin) for x, y, w in points]

    def flat(self, points) -> list[tuple[float, float]]:
        """Own points on the canvas."""
        spot = self.stage.camera.spot
        return [spot(*p) for p in self.world(points)]

    def tone(self, color, normal, mirror: float = 0.0) -> np.ndarray:
        """Color of a surface with that own-axes normal (x, y, w), some of the sky mirrored in it."""
        forward, left = self.axes()
        world = forward * normal[0] + left * normal[2] + np.array([0, normal[1], 0.0])
        light = self.stage.light
        tone = light.shade(color, world, self.lit)
        share = mirror * (0.35 + 0.65 * max(0.0, world[1]))
        return light.far(tone * (1 - share) + light.sky_low * share * (0.5 + 0.5 * light.ambient), self.depth_now)

    def half_width(self, x: float, y: float) -> float:
        """Half of the width at a point of the outline: narrower towards the roof, rounded towards both ends."""
        belt, roof = self.row["belt"], self.row["roof"]
        share = min(max((y - belt) / (1 - belt), 0.0), 1.0)
        end = min(max((abs(x) - 0.38) / 0.12, 0.0), 1.0)
        return self.width / 2 * (1.0 - (1.0 - roof) * share) * (1.0 - self.row.get("plan", 0.13) * end * end)

    def wheels(self) -> tuple[float, float]:
        return (
            -self.length * (0.29 if self.body != "bus" else 0.25),
            self.length * (0.31 if self.body != "bus" else 0.30),
        )

    def wheel(self, x: float, w: float, radius: float, color, label=None, lift: float = 0.0) -> None:
        y = self.row["wheel"] + lift
        ring = [(x + radius * u, y + radius * v, w) for u, v in (_RIM if self.detail else _RIM[::2])]
        self.stage.canvas.fill(self.flat(ring), color, label)

    def panel(self, x: float, w0: float, w1: float, y0: float, y1: float, color, label=CAR) -> None:
        self.stage.canvas.fill(self.flat([(x, y0, w0), (x, y0, w1), (x, y1, w1), (x, y1, w0)]), color, label)
