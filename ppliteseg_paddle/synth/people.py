"""Pedestrians and bicyclists: jointed figures in the world, painted limb by limb."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ppliteseg_paddle.synth.canvas import BICYCLIST, PEDESTRIAN, fixed
from ppliteseg_paddle.synth.stage import Stage

_CLOTHES = (
    (38, 36, 34),
    (60, 50, 44),
    (96, 62, 40),
    (50, 46, 110),
    (120, 118, 112),
    (190, 192, 190),
    (54, 78, 60),
    (60, 90, 130),
    (90, 50, 80),
    (48, 60, 80),
    (150, 120, 80),
    (70, 110, 170),
    (38, 36, 34),
    (72, 66, 60),
)
_LEGS = ((38, 36, 36), (70, 54, 44), (96, 72, 52), (60, 66, 74), (90, 110, 128), (30, 30, 34), (120, 90, 66))
_SKIN = ((128, 158, 206), (110, 140, 190), (80, 108, 158), (52, 72, 112), (140, 170, 214))
_HAIR = ((24, 28, 34), (34, 48, 70), (60, 90, 120), (120, 150, 170), (150, 150, 150), (30, 40, 52))
_RIM = tuple((math.cos(i * math.pi / 9), math.sin(i * math.pi / 9)) for i in range(18))


class _Figure:
    """Someone at (s, z), turned by `heading` from the street's direction. Own axes: x ahead, y up, w left."""

    label = PEDESTRIAN

    def __init__(self, stage: Stage, s: float, z: float, heading: float) -> None:
        rng = stage.rng
        self.stage, self.s, self.z, self.heading = stage, s, z, heading
        self.top = rng.color(rng.pick(_CLOTHES), 0.3)
        self.legs = rng.color(rng.pick(_LEGS), 0.3)
        self.skin = rng.color(rng.pick(_SKIN), 0.12)
        self.hair = rng.color(rng.pick(_HAIR), 0.2)

    def key(self) -> float:
        return self.stage.depth(self.s, self.z)

    def _place(self, own) -> np.ndarray:
        """Own points (N, 3) on the canvas."""
        sin, cos = math.sin(self.heading), math.cos(self.heading)
        x, z = self.stage.street.point(self.s, self.z)
        spot = self.stage.camera.spot
        return np.array([spot(x + a * sin - w * cos, y, z + a * cos + w * sin) for a, y, w in own])

    def _ready(self) -> bool:
        """Work out scale and light; False if the figure cannot be seen."""
        x, z = self.stage.street.point(self.s, self.z)
        if not self.stage.camera.sees(x, z, 1.0):
            return False
        self.distance = self.key()
        self.metre = self.stage.camera.focal / self.distance
        light = self.stage.light
        lit = self.stage.sun_at(self.s, self.z, 1.2)
        self.tone = light.ambient * 0.88 + light.sun * 0.55 * lit
        sun = self.stage.camera.turn(light.towards_sun + self.stage.camera.eye)
        self.bright_side = 1.0 if sun[0] > 0 else -1.0
        self.contrast = 0.16 + 0.22 * lit * float(light.sunny)
        return True

    def _color(self, color, factor: float = 1.0) -> np.ndarray:
        return self.stage.light.far(np.minimum(color * self.tone * factor, 250), self.distance)

    def _limb(self, a, b, wide_a: float, wide_b: float, color, factor: float = 1.0) -> None:
        """From canvas point a to b; widths in metres. The side away from the light is darker."""
        metre, canvas = self.metre, self.stage.canvas
        wa, wb = max(wide_a * metre, 1.0), max(wide_b * metre, 1.0)
        canvas.taper(a, b, wa, wb, self._color(color, factor), self.label)
        if wa > 4:
            off = np.array([-self.bright_side * wa * 0.24, 0.0])
            canvas.taper(
                a + off, b + off * wb / wa, wa * 0.5, wb * 0.5, self._color(color, factor * (1 - self.contrast))
            )

    def _head(self, at, size: float = 0.105) -> None:
        canvas, metre = self.stage.canvas, self.metre
        r = size * metre
        canvas.disc(at, max(r * 0.82, 1), max(r * 1.08, 1), self._color(self.skin), self.label)
        if r > 2.0:
            towards = math.cos(self.heading - self.stage.camera.yaw)
            shift = (0.0, -r * 0.35)
            canvas.disc((at[0] + shift[0], at[1] + shift[1]), r * 0.88, r * 0.8, self._color(self.hair), self.label)
            if towards < 0.3:  # the face looks our way
                face = -0.25 * r * math.sin(self.heading - self.stage.camera.yaw)
                canvas.disc((at[0] - face, at[1] + r * 0.22), r * 0.62, r * 0.72, self._color(self.skin), None)

    def cast(self) -> None:
        stage, light = self.stage, self.stage.light
        stage.ground_contact(self.s, self.z, 0.28, 0.25)
        if light.sunny:
            x, z = stage.street.point(self.s, self.z)
            stage.ground.bar_shadow(x, z, 1.7, 0.18)


class Pedestrian(_Figure):
    """Someone walking or standing."""

    def __init__(self, stage: Stage, s: float, z: float, heading: float) -> None:
        super().__init__(stage, s, z, heading)
        rng = stage.rng
        self.size = rng.bell(1.0, 0.05) * (rng.between(0.62, 0.8) if rng.chance(0.1) else 1.0)
        self.step = rng.between(-0.32, 0.32) if rng.chance(0.75) else rng.between(-0.06, 0.06)
        self.girth = rng.between(0.9, 1.2)
        self.coat = rng.chance(0.4)
        self.skirt = rng.chance(0.14)
        self.bag = rng.weighted({"none": 0.5, "hand": 0.2, "back": 0.3})
        self.bag_color = rng.color(rng.pick(_CLOTHES), 0.3)
        self.hat = rng.chance(0.12)

    def _joints(self) -> dict[str, np.ndarray]:
        """Where the parts of the body are on the canvas."""
        k, step, girth = self.size, self.step, self.girth
        hip, knee, chest, neck = 0.88 * k, 0.47 * k, 1.30 * k, 1.45 * k
        bend = abs(step) * 0.35
        offsets = {
            "hip_l": (0, hip, 0.09),
            "hip_r": (0, hip, -0.09),
            "knee_l": (step * 0.55 + bend * 0.2, knee, 0.1),
            "knee_r": (-step * 0.45 + bend * 0.2, knee, -0.1),
            "foot_l": (step - max(0, -step) * 0.1, 0.04, 0.1),
            "foot_r": (-step - max(0, step) * 0.1, 0.04, -0.1),
            "chest": (0, chest, 0),
            "neck": (0.02, neck, 0),
            "head": (0.03, 1.61 * k, 0),
            "sh_l": (0, 1.40 * k, 0.2 * girth),
            "sh_r": (0, 1.40 * k, -0.2 * girth),
            "el_l": (-step * 0.4, 1.1 * k, 0.25 * girth),
            "el_r": (step * 0.4, 1.1 * k, -0.25 * girth),
            "ha_l": (-step * 0.7 + 0.06, 0.86 * k, 0.24 * girth),
            "ha_r": (step * 0.7 + 0.06, 0.86 * k, -0.24 * girth),
            "pelvis": (0, hip - 0.05, 0),
            "pack": (-0.2, 1.2 * k, 0),
            "toe_l": (step + 0.13, 0.03, 0.1),
            "toe_r": (-step + 0.13, 0.03, -0.1),
            "hem": (0, 0.55 * k, 0),
            "shoulders": (0, 1.40 * k, 0),
        }
        return dict(zip(offsets, self._place(list(offsets.values()))))

    def paint(self) -> None:
        if not self._ready():
            return
        joints, girth = self._joints(), self.girth
        pelvis, shoulders = joints["pelvis"], joints["shoulders"]
        left_far = math.cos(self.heading - self.stage.camera.yaw + math.pi / 2) * 1.0 > 0
        shoe = np.array([34.0, 36, 40])
        wide = abs(math.cos(self.heading - self.stage.camera.yaw))
        torso = (0.22 + 0.16 * wide) * girth
        legs = [[joints[f"{part}_{side}"] for part in ("hip", "knee", "foot", "toe")] for side in "lr"]
        arms = [[joints[f"{part}_{side}"] for part in ("sh", "el", "ha")] for side in "lr"]
        if not left_far:
            legs, arms = legs[::-1], arms[::-1]
        leg_color = self.skin if self.skirt else self.legs
        self._arm(arms[0], 0.82)
        for (a, b, c, d), factor in zip(legs, (0.82, 1.0)):
            self._limb(a, b, 0.165 * girth, 0.125, leg_color, factor)
            self._limb(b, c, 0.125, 0.085, leg_color, factor)
            self._limb(c, d, 0.09, 0.07, shoe)
        if self.bag == "back" and wide < 0.8:
            self._limb(joints["pack"], (joints["pack"] + pelvis) / 2, 0.26, 0.26, self.bag_color)
        self._limb(shoulders, pelvis, torso, torso * 0.88, self.top)
        if self.coat or self.skirt:
            self._limb(
                pelvis,
                joints["hem"],
                torso * 0.88,
                torso * (1.05 if self.skirt else 0.98),
                self.legs if self.skirt else self.top,
            )
        if self.bag == "back" and math.cos(self.heading - self.stage.camera.yaw) > 0.5:
            self._limb((shoulders * 3 + pelvis) / 4, (shoulders + pelvis * 2) / 3, 0.27, 0.3, self.bag_color)
        self._limb(joints["neck"], joints["head"], 0.11, 0.1, self.skin, 0.85)
        self._head(joints["head"])
        if self.hat:
            self._limb(
                joints["head"] + (0, -0.10 * self.metre),
                joints["head"] + (0, -0.06 * self.metre),
                0.16,
                0.2,
                self.top,
                0.8,
            )
        self._arm(arms[1], 1.0)
        if self.bag == "hand":
            self._limb(
                arms[1][2] + (0, 0.05 * self.metre), arms[1][2] + (0, 0.3 * self.metre), 0.24, 0.28, self.bag_color
            )

    def _arm(self, arm, factor: float) -> None:
        shoulder, elbow, hand = arm
        self._limb(shoulder, elbow, 0.125, 0.1, self.top, factor * 0.94)
        self._limb(elbow, hand, 0.1, 0.07, self.top, factor * 0.94)
        self._limb(hand, hand + (0, 0.05 * self.metre), 0.075, 0.06, self.skin, factor)


class Bicycle(_Figure):
    """A bicycle, with its rider or parked. The wheels' discs are labelled whole, as annotators do."""

    label = BICYCLIST

    def __init__(self, stage: Stage, s: float, z: float, heading: float, rider: bool = True) -> None:
        super().__init__(stage, s, z, heading)
        rng = stage.rng
        self.rider, self.pedal = rider, rng.between(0, 2 * math.pi)
        self.frame = rng.color(
            rng.pick([(40, 36, 36), (50, 40, 150), (140, 80, 40), (170, 170, 170), (60, 120, 60)]), 0.3
        )
        if rng.chance(0.25):
            self.top = rng.color((40, 210, 210), 0.15)  # high-visibility yellow
        self.helmet = rng.chance(0.5)
        self.bag = rng.chance(0.35)
        self.size = rng.bell(1.0, 0.04)
        self.basket = rng.chance(0.3)

    def paint(self) -> None:
        if not self._ready():
            return
        dark = np.array([30.0, 30, 32])
        for x in (-0.52, 0.52):
            self._tyre(self._place([(x + 0.34 * u, 0.34 + 0.34 * v, 0.0) for u, v in _RIM]), dark)
        p = self._place(
            [
                (-0.52, 0.34, 0),
                (-0.08, 0.3, 0),
                (-0.2, 0.82, 0),
                (0.38, 0.85, 0),
                (0.52, 0.34, 0),
                (0.36, 1.02, 0),
                (0.42, 1.02, 0.28),
                (0.42, 1.02, -0.28),
                (-0.24, 0.92, 0),
            ]
        )
        for a, b in ((0, 1), (1, 2), (2, 3), (1, 3), (0, 2), (3, 4), (3, 5)):
            self._limb(p[a], p[b], 0.045, 0.045, self.frame)
        self._limb(p[6], p[7], 0.04, 0.04, dark)
        self._limb(p[8] - (0.1 * self.metre, 0), p[8] + (0.1 * self.metre, 0), 0.07, 0.07, dark)
        if self.basket:
            self._limb(p[3], p[5], 0.3, 0.34, np.array([60.0, 84, 104]))
        if self.rider:
            self._rider()

    def _tyre(self, ring: np.ndarray, dark) -> None:
        canvas = self.stage.canvas
        low, high = ring.min(0), ring.max(0)
        if high[0] - low[0] < 3:
            centre = ring.mean(0)
            self._limb(centre + (0, -0.32 * self.metre), centre + (0, 0.32 * self.metre), 0.06, 0.06, dark)
            return
        points = fixed(ring)
        cv2.fillPoly(canvas.label, [points], self.label, cv2.LINE_8, 3)
        wide = max(int(round(0.05 * self.metre)), 1)
        color = tuple(float(c) for c in self._color(dark))
        cv2.polylines(canvas.image, [points], True, color, wide, cv2.LINE_8, 3)
        cv2.polylines(canvas.label, [points], True, self.label, wide, cv2.LINE_8, 3)
        if self.metre > 60:
            spoke = tuple(float(c) for c in self._color(np.array([110.0, 110, 110])))
            for i in range(9):
                cv2.polylines(canvas.image, [points[[i, i + 9]]], False, spoke, 1, cv2.LINE_8, 3)

    def _rider(self) -> None:
        k = self.size
        a = self.pedal
        feet = [(-0.08 + 0.17 * math.cos(a + t), 0.3 + 0.17 * math.sin(a + t)) for t in (0, math.pi)]
        knees = []
        for _, y in feet:
            lift = (y - 0.13) / 0.34
            knees.append((0.22 + 0.1 * lift, 0.62 + 0.12 * lift))
        lean = 0.16
        p = self._place(
            [
                (-0.22, 0.96, 0.09),
                (-0.22, 0.96, -0.09),
                (knees[0][0], knees[0][1], 0.12),
                (knees[1][0], knees[1][1], -0.12),
                (feet[0][0], feet[0][1], 0.12),
                (feet[1][0], feet[1][1], -0.12),
                (-0.2, 0.95, 0),
                (lean, 1.45 * k, 0),
                (lean + 0.06, 1.66 * k, 0),
                (lean, 1.42 * k, 0.19),
                (lean, 1.42 * k, -0.19),
                (0.28, 1.18, 0.24),
                (0.28, 1.18, -0.24),
                (0.42, 1.04, 0.26),
                (0.42, 1.04, -0.26),
                (-0.16, 1.25, 0),
            ]
        )
        wide = abs(math.cos(self.heading - self.stage.camera.yaw))
        torso = 0.24 + 0.13 * wide
        sides = [(0, 2, 4, 9, 11, 13), (1, 3, 5, 10, 12, 14)]
        if math.sin(self.heading - self.stage.camera.yaw) > 0:
            sides = sides[::-1]
        for i, (hip, knee, foot, shoulder, elbow, hand) in enumerate(sides):
            factor = 0.8 if i == 0 else 1.0
            if i == 1:
                self._limb(p[7], p[6], torso, torso * 0.85, self.top)
                if self.bag:
                    self._limb(p[15], (p[7] + p[15]) / 2, 0.3, 0.28, self.legs)
                self._limb(p[7], p[8], 0.12, 0.1, self.skin, 0.85)
                self._head(p[8])
                if self.helmet:
                    self._limb(
                        p[8] + (-0.06 * self.metre, -0.07 * self.metre),
                        p[8] + (0.06 * self.metre, -0.07 * self.metre),
                        0.13,
                        0.13,
                        self.frame,
                        1.2,
                    )
            self._limb(p[hip], p[knee], 0.17, 0.13, self.legs, factor)
            self._limb(p[knee], p[foot], 0.12, 0.08, self.legs, factor)
            self._limb(p[shoulder], p[elbow], 0.12, 0.1, self.top, factor * 0.93)
            self._limb(p[elbow], p[hand], 0.1, 0.07, self.top, factor * 0.93)
