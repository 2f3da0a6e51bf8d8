"""The pinhole camera of the car, and clipping against its near plane.

World: x to the right, y up, z forward along the street, metres; the ground is y = 0. Image: u to the
right, v down, pixels of the (supersampled) canvas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

NEAR = 0.6
Point = tuple[float, float, float]


class Camera:
    """A camera at `eye`, turned by `yaw` about the vertical and by `roll` about its axis.

    Pitch is given by `horizon`, the canvas row of the horizon: a small pitch moves the image and hardly
    changes it, so verticals stay vertical.

    Args:
        width, height: canvas size, pixels.
        focal: focal length, pixels.
        eye: (x, y, z), metres.
        yaw, roll: radians.
    """

    def __init__(
        self, width: int, height: int, focal: float, horizon: float, eye: Sequence[float], yaw: float, roll: float
    ) -> None:
        self.width, self.height, self.focal, self.horizon = width, height, focal, horizon
        self.eye = np.asarray(eye, np.float64)
        self._x, self._y, self._z = (float(value) for value in eye)
        self.yaw, self.roll = yaw, roll
        self._cos, self._sin = math.cos(yaw), math.sin(yaw)
        self._cos_roll, self._sin_roll = math.cos(roll), math.sin(roll)
        self._centre = width / 2.0

    def turn(self, world) -> np.ndarray:
        """World points (..., 3) in camera axes: right, up, depth."""
        p = np.asarray(world, np.float64) - self.eye
        out = np.empty_like(p)
        out[..., 0] = p[..., 0] * self._cos - p[..., 2] * self._sin
        out[..., 1] = p[..., 1]
        out[..., 2] = p[..., 0] * self._sin + p[..., 2] * self._cos
        return out

    def depth(self, x: float, z: float) -> float:
        return (x - self._x) * self._sin + (z - self._z) * self._cos

    def flatten(self, turned: np.ndarray) -> np.ndarray:
        """Points in camera axes (..., 3), depth >= NEAR, on the canvas (..., 2)."""
        scale = self.focal / np.maximum(turned[..., 2], NEAR)
        du, dv = turned[..., 0] * scale, -turned[..., 1] * scale
        out = np.empty(turned.shape[:-1] + (2,))
        out[..., 0] = self._centre + du * self._cos_roll - dv * self._sin_roll
        out[..., 1] = self.horizon + du * self._sin_roll + dv * self._cos_roll
        return out

    def project(self, world) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3): canvas points (..., 2) and depths (...). Points nearer than NEAR are wrong."""
        turned = self.turn(world)
        return self.flatten(turned), turned[..., 2]

    def spot(self, x: float, y: float, z: float) -> tuple[float, float]:
        """One world point, beyond the near plane, on the canvas. Plain floats: ten times faster than an array."""
        x, z = x - self._x, z - self._z
        scale = self.focal / max(x * self._sin + z * self._cos, NEAR)
        return self._roll((x * self._cos - z * self._sin) * scale, (self._y - y) * scale)

    def _roll(self, du: float, dv: float) -> tuple[float, float]:
        return (
            self._centre + du * self._cos_roll - dv * self._sin_roll,
            self.horizon + du * self._sin_roll + dv * self._cos_roll,
        )

    def outline(self, world: Iterable[Point]) -> list[tuple[float, float]] | None:
        """A world polygon on the canvas, clipped by the near plane; None if nothing of it is in the image."""
        cos, sin, near_by = self._cos, self._sin, False
        turned = []
        for x, y, z in world:
            x, z = x - self._x, z - self._z
            depth = x * sin + z * cos
            near_by = near_by or depth < NEAR
            turned.append((x * cos - z * sin, self._y - y, depth))
        if near_by:
            turned = clip_near(turned)
            if not turned:
                return None
        focal = self.focal
        flat = [self._roll(right * focal / depth, down * focal / depth) for right, down, depth in turned]
        if (
            max(flat)[0] < 0
            or min(flat)[0] > self.width
            or all(p[1] < 0 for p in flat)
            or all(p[1] > self.height for p in flat)
        ):
            return None
        return flat

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether an upright thing of that radius at (x, z) can be in the image and not around the lens."""
        depth = self.depth(x, z)
        if depth < NEAR + radius:
            return False
        right = (x - self._x) * self._cos - (z - self._z) * self._sin
        return abs(right) - radius * 1.5 < depth * self._centre / self.focal

    def ground_depth(self, rows: int, columns: int, top: int, step: float) -> np.ndarray:
        """Distance of the ground under a grid of canvas points; 10 km above the horizon.

        Args:
            top: canvas row of the grid's first row.
            step: canvas pixels from one grid point to the next.

        Shape: float32 (rows, columns).
        """
        du = ((np.arange(columns, dtype=np.float32) + 0.5) * step - self._centre)[None]
        dv = ((np.arange(rows, dtype=np.float32) + 0.5) * step + top - self.horizon)[:, None]
        fall = np.maximum(dv * np.float32(self._cos_roll) - du * np.float32(self._sin_roll), 1e-3)
        return np.minimum(np.float32(self._y * self.focal) / fall, np.float32(1e4))

    def ground_matrix(self, top: int, step: float) -> np.ndarray:
        """Homography (3, 3) from pixels of a grid as in `ground_depth` to world (x, z) on the ground."""
        canvas = np.array(
            [[step, 0, 0.5 * step - self._centre], [0, step, 0.5 * step + top - self.horizon], [0, 0, 1.0]]
        )
        roll = np.array([[self._cos_roll, self._sin_roll, 0], [-self._sin_roll, self._cos_roll, 0], [0, 0, 1.0]])
        # (right, fall, 1) -> homogeneous (across, ahead, weight): ahead = y f / fall, across = right y / fall
        ground = np.array([[self._y, 0, 0], [0, 0, self._y * self.focal], [0, 1.0, 0]])
        turn = np.array([[self._cos, self._sin, self._x], [-self._sin, self._cos, self._z], [0, 0, 1.0]])
        return turn @ ground @ roll @ canvas


def clip_near(turned: list[Point]) -> list[Point]:
    """The part of a polygon, given as (right, down, depth), that lies beyond the near plane."""
    kept = []
    for i, b in enumerate(turned):
        a = turned[i - 1]
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            t = (NEAR - a[2]) / (b[2] - a[2])
            kept.append((a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, NEAR))
        if b[2] >= NEAR:
            kept.append(b)
    return kept
