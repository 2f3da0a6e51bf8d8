"""Weather: where the light comes from, its colors, the haze, and the sky.

Colors are BGR, 0-255, as an ideal camera would store them before its exposure is chosen (`lens`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ppliteseg_paddle.synth.canvas import Canvas
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.textures import noise_fields

# name: odds, sun, ambient, sun's elevation (degrees), cloud cover, metres until haze hides two thirds, wetness
_WEATHERS = {
    "clear": (0.28, (0.75, 1.05), (0.34, 0.46), (24, 55), (0.0, 0.35), (350, 1500), (0, 0)),
    "broken": (0.20, (0.50, 0.85), (0.40, 0.54), (20, 50), (0.35, 0.7), (250, 900), (0, 0)),
    "low_sun": (0.12, (0.75, 1.05), (0.30, 0.42), (9, 20), (0.0, 0.5), (160, 600), (0, 0.2)),
    "overcast": (0.24, (0.0, 0.12), (0.55, 0.85), (25, 60), (0.8, 1.0), (180, 800), (0, 0)),
    "wet": (0.08, (0.0, 0.10), (0.45, 0.68), (20, 50), (0.85, 1.0), (110, 350), (0.5, 1.0)),
    "dusk": (0.08, (0.0, 0.15), (0.26, 0.42), (5, 15), (0.3, 0.95), (160, 600), (0, 0.4)),
}


@dataclass
class Light:
    """One scene's light.

    Attributes:
        towards_sun: unit vector, world axes.
        sun, ambient: BGR factors of a surface's own color.
        haze: BGR of the far air; haze_range: metres.
        wet: 0 for a dry road, 1 for a mirror.
    """

    weather: str
    towards_sun: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray
    sky_top: np.ndarray
    sky_low: np.ndarray
    haze: np.ndarray
    haze_range: float
    clouds: float
    wet: float

    @property
    def sunny(self) -> bool:
        return float(self.sun.max()) > 0.2

    def factor(self, normal, lit: float = 1.0) -> np.ndarray:
        """BGR factor of a surface with that unit normal; `lit` 0 is in the shade, 1 in the sun."""
        facing = max(0.0, float(np.dot(normal, self.towards_sun)))
        return self.ambient * (0.78 + 0.22 * normal[1]) + self.sun * (facing * lit)

    def shade(self, color, normal, lit: float = 1.0) -> np.ndarray:
        return np.minimum(np.asarray(color) * self.factor(normal, lit), 255.0)

    def veil(self, depth: float) -> float:
        """The share of haze in what is seen at that distance."""
        return 1.0 - math.exp(-max(depth, 0.0) / self.haze_range)

    def far(self, color, depth: float) -> np.ndarray:
        """A color seen through `depth` metres of air."""
        share = self.veil(depth)
        return np.asarray(color) * (1.0 - share) + self.haze * share

    def shadow_factor(self) -> np.ndarray:
        """What is left of the ground's brightness where the sun does not reach, BGR."""
        upright = np.array([0.0, 1.0, 0.0])
        return self.factor(upright, 0.0) / np.maximum(self.factor(upright, 1.0), 1e-3)


def sample_light(rng: Rng) -> Light:
    """Draw a weather."""
    weather = rng.weighted({name: row[0] for name, row in _WEATHERS.items()})
    _, sun, ambient, elevation, clouds, haze_range, wet = _WEATHERS[weather]
    height = math.radians(rng.between(*elevation))
    # Not from straight ahead or behind more often than from anywhere else.
    bearing = rng.between(-math.pi, math.pi)
    towards_sun = np.array(
        [math.cos(height) * math.sin(bearing), math.sin(height), math.cos(height) * math.cos(bearing)]
    )
    warmth = max(0.0, 1.0 - math.degrees(height) / 40.0) * rng.between(0.4, 1.0)
    cover = rng.between(*clouds)
    blue = rng.between(0.3, 1.0) * (1.0 - 0.75 * cover)
    bright = rng.between(0.82, 1.05) if weather != "dusk" else rng.between(0.6, 0.9)
    top = np.array([232 - 10 * blue, 226 - 62 * blue, 224 - 118 * blue]) * bright
    low = np.array([246, 243 - 10 * blue - 8 * warmth, 240 - 26 * blue + 12 * warmth * (1 - cover)]) * bright
    cool = np.array([1.0 + 0.10 * blue, 1.0, 1.0 - 0.07 * blue])
    strength = rng.between(*sun) * (1.0 - 0.35 * cover)
    haze = np.minimum(low * rng.between(0.82, 0.97), 250)
    return Light(
        weather,
        towards_sun,
        strength * np.array([1.0 - 0.42 * warmth, 1.0 - 0.16 * warmth, 1.0 + 0.04 * warmth]),
        rng.between(*ambient) * cool,
        np.minimum(top, 255),
        np.minimum(low, 255),
        haze,
        rng.between(*haze_range),
        cover,
        rng.between(*wet),
    )


def paint_sky(canvas: Canvas, rng: Rng, light: Light, horizon: float, sun_at: tuple[float, float]) -> None:
    """Fill the canvas above the horizon with sky: gradient, clouds in perspective, glow around the sun.

    Args:
        sun_at: canvas point of the sun, far outside if it is behind the camera.
    """
    rows = int(min(max(horizon + canvas.height * 0.08, 2), canvas.height))
    coarse_rows, coarse_columns = max(rows // 4, 2), max(canvas.width // 4, 2)
    v = (np.arange(coarse_rows, dtype=np.float32) + 0.5)[:, None] / coarse_rows
    u = (np.arange(coarse_columns, dtype=np.float32) + 0.5)[None] / coarse_columns
    blend = np.clip(v, 0, 1) ** rng.between(0.7, 1.6)
    top, low = light.sky_top.astype(np.float32), light.sky_low.astype(np.float32)
    sky = np.empty((coarse_rows, coarse_columns, 3), np.float32)
    sky[:] = top + (low - top) * blend[..., None].astype(np.float32)
    if light.clouds > 0.05:
        sky = _add_clouds(sky, rng, light, v, u)
    if light.sunny:
        du = (u * canvas.width - np.float32(sun_at[0])) / canvas.width
        dv = (v * rows - np.float32(sun_at[1])) * np.float32(1.2 / canvas.width)
        glow = cv2.exp(cv2.sqrt(du * du + dv * dv) * np.float32(-rng.between(3.0, 7.0))) * np.float32(
            0.7 - 0.5 * light.clouds
        )
        tint = (light.sun / light.sun.max() * 255).astype(np.float32)
        sky += (tint - sky) * glow[..., None]
    painted = cv2.resize(np.clip(sky, 0, 255).astype(np.uint8), (canvas.width, rows), interpolation=cv2.INTER_LINEAR)
    canvas.image[:rows] = painted
    canvas.image[rows:] = np.clip(light.haze, 0, 255).astype(np.uint8)


def _add_clouds(sky: np.ndarray, rng: Rng, light: Light, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Clouds on a flat layer overhead: they flatten and crowd towards the horizon."""
    fields = noise_fields()
    size = fields["cloud"].shape[0]
    away = 1.0 / (1.12 - v)  # distance of the layer along the row
    scale = rng.between(25, 90)
    map_x = (u - 0.5) * away * np.float32(scale * 2) + np.float32(rng.between(0, size))
    map_y = np.empty_like(map_x)
    map_y[:] = away * np.float32(scale) + np.float32(rng.between(0, size))
    thick = cv2.remap(fields["cloud"], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    wisps = cv2.remap(fields["cloud_fine"], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    body = thick + 0.45 * wisps
    edge = np.clip((body + np.float32((light.clouds - 0.5) * 4.5)) * np.float32(rng.between(0.4, 0.9)) + 0.5, 0, 1)
    cover = edge * edge * (3 - 2 * edge) * np.float32(min(light.clouds * 2.2, 1))
    bright = float(light.sky_low.mean())
    dark = bright * rng.between(0.55, 0.92)
    relief = np.clip(0.5 - 0.28 * body, 0, 1)
    shade = np.float32(dark) + np.float32(min(bright * 1.05, 252) - dark) * relief
    tone = shade[..., None] * np.array([1.01, 1.0, rng.between(0.96, 1.0)], np.float32)
    return sky + (tone - sky) * cover[..., None]
