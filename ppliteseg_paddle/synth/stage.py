"""What every painter of one scene shares: canvas, camera, street, light, ground and random choices."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from ppliteseg_paddle.synth.camera import NEAR, Camera
from ppliteseg_paddle.synth.canvas import Canvas
from ppliteseg_paddle.synth.ground import Ground
from ppliteseg_paddle.synth.light import Light
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.street import Street


@dataclass
class Stage:
    """One scene while it is painted. s and z are street coordinates (see `street`)."""

    canvas: Canvas
    camera: Camera
    street: Street
    light: Light
    rng: Rng
    ground: Ground = field(init=False)  # laid when the street is known
    contacts: list[list] = field(default_factory=list)

    def ground_contact(self, s: float, z: float, half_s: float, half_z: float) -> None:
        """Remember a rectangle of ground that lies dark under a thing."""
        where = self.street.where
        self.contacts.append(
            [
                where(s - half_s, z - half_z),
                where(s + half_s, z - half_z),
                where(s + half_s, z + half_z),
                where(s - half_s, z + half_z),
            ]
        )

    def depth(self, s: float, z: float) -> float:
        return self.camera.depth(*self.street.point(s, z))

    def far(self, color, s: float, z: float) -> np.ndarray:
        """A color as it looks from the camera when it is at (s, z)."""
        return self.light.far(color, self.depth(s, z))

    def veiled(self, image: np.ndarray, depth: float) -> np.ndarray:
        """An image (h, w, 3) seen through `depth` metres of air."""
        share = self.light.veil(depth)
        if share < 0.02:
            return image
        haze = self.light.haze * share
        return cv2.add(
            cv2.convertScaleAbs(image, alpha=1 - share), (float(haze[0]), float(haze[1]), float(haze[2]), 0.0)
        )

    def nearest(self, s: float) -> float:
        """Smallest z along the street at `s` that the camera can have in front of it."""
        z = float(self.camera.eye[2])
        for _ in range(40):
            if self.depth(s, z) > NEAR * 2:
                return z
            z += 0.5
        return z

    def sun_at(self, s: float, z: float, height: float = 0.8) -> float:
        """1 where the sun shines, 0 in the shadow of the houses."""
        sun = self.light.towards_sun
        if not self.light.sunny:
            return 0.0
        side = 1 if sun[0] > 0 else -1
        for z0, z1, roof, front in self.street.roofs[side]:
            away = (front - s) * side
            if away <= 0 or abs(sun[0]) < 0.05:
                continue
            hit = z + sun[2] / abs(sun[0]) * away
            if z0 <= hit <= z1 and height + sun[1] / abs(sun[0]) * away < roof:
                return 0.0
        return 1.0

    def shade_line(self, side: int, s: float, z: float) -> float:
        """Height up to which a wall at (s, z), on that side, lies in the shadow of the houses opposite."""
        sun = self.light.towards_sun
        if not self.light.sunny or sun[0] * side >= -0.05:
            return 0.0
        line = 0.0
        for z0, z1, roof, front in self.street.roofs[-side]:
            away = abs(front - s)
            hit = z + sun[2] / abs(sun[0]) * away
            if z0 <= hit <= z1:
                line = max(line, roof - sun[1] / abs(sun[0]) * away)
        return line
