"""The pinhole camera of the car, and clipping against its near plane.

World: x to the right, y up, z forward along the street, metres; the ground is y = 0. Image: u to the
right, v down, pixels of the (supersampled) canvas.
"""
from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import numpy as np

NEAR = 0.6


class Camera:
    """A camera at `eye`, turned by `yaw` about the vertical and by `roll` about its axis.

    Pitch is given by `horizon`, the canvas row of the horizon: a small pitch moves the picture and hardly
    changes it, so verticals stay vertical.

    Args:
        width, height: canvas size, pixels.
        focal: focal length, pixels.
        eye: (x, y, z), metres.
        yaw, roll: radians.
    """

    def __init__(self, width: int, height: int, focal: float, horizon: float, eye: Sequence[float],
                 yaw: float, roll: float) -> None:
        self.width, self.height, self.focal, self.horizon = width, height, focal, horizon
        self.eye = np.asarray(eye, np.float64)
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
        return (x - self.eye[0]) * self._sin + (z - self.eye[2]) * self._cos

    def flatten(self, turned: np.ndarray) -> np.ndarray:
        """Points in camera axes (..., 3), depth >= NEAR, on the canvas (..., 2)."""
        scale = self.focal / np.maximum(turned[..., 2], NEAR)
        du, dv = turned[..., 0] * scale, -turned[..., 1] * scale
        out = np.empty(turned.shape[:-1] + (2,))
        out[..., 0] = self._centre + du * self._cos_roll - dv * self._sin_roll
        out[..., 1] = self.horizon + du * self._sin_roll + dv * self._cos_roll
        return out

    def project(self, world) -> Tuple[np.ndarray, np.ndarray]:
        """World points (..., 3): canvas points (..., 2) and depths (...). Points nearer than NEAR are wrong."""
        turned = self.turn(world)
        return self.flatten(turned), turned[..., 2]

    def polygon(self, world) -> Optional[np.ndarray]:
        """A world polygon (N, 3) on the canvas (M, 2), clipped by the near plane; None if nothing is left."""
        turned = clip_near(self.turn(world))
        if turned is None:
            return None
        flat = self.flatten(turned)
        low, high = flat.min(0), flat.max(0)
        if high[0] < 0 or high[1] < 0 or low[0] > self.width or low[1] > self.height:
            return None
        return flat

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether an upright thing of that radius at (x, z) can be in the picture and not around the lens."""
        depth = self.depth(x, z)
        if depth < NEAR + radius:
            return False
        right = (x - self.eye[0]) * self._cos - (z - self.eye[2]) * self._sin
        return abs(right) - radius * 1.5 < depth * self._centre / self.focal

    def ground_grid(self, rows: int, columns: int, top: int, step: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World x, z and depth of the ground under a grid of canvas points.

        Args:
            top: canvas row of the grid's first row.
            step: canvas pixels from one grid point to the next.

        Shape: three float32 arrays (rows, columns). Points above the horizon get a depth of 10 km.
        """
        du = ((np.arange(columns, dtype=np.float32) + 0.5) * step - self._centre)[None]
        dv = ((np.arange(rows, dtype=np.float32) + 0.5) * step + top - self.horizon)[:, None]
        fall = np.maximum(dv * np.float32(self._cos_roll) - du * np.float32(self._sin_roll), 1e-3)
        right = du * np.float32(self._cos_roll) + dv * np.float32(self._sin_roll)
        depth = np.minimum(np.float32(self.eye[1] * self.focal) / fall, np.float32(1e4))
        across = right * depth * np.float32(1.0 / self.focal)
        x = across * np.float32(self._cos) + depth * np.float32(self._sin) + np.float32(self.eye[0])
        z = depth * np.float32(self._cos) - across * np.float32(self._sin) + np.float32(self.eye[2])
        return x, z, depth


def clip_near(turned: np.ndarray) -> Optional[np.ndarray]:
    """The part of a polygon (N, 3), in camera axes, that lies beyond the near plane."""
    inside = turned[:, 2] >= NEAR
    if inside.all():
        return turned
    if not inside.any():
        return None
    kept = []
    count = len(turned)
    for i in range(count):
        a, b = turned[i], turned[(i + 1) % count]
        if inside[i]:
            kept.append(a)
        if inside[i] != inside[(i + 1) % count]:
            kept.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
    return np.array(kept)
