"""Tileable gray patterns of materials, drawn once a process, tinted and scaled for each use.

A pattern's gray is a factor: 128 leaves the material's color as it is. All patterns come from fixed
seeds, so every process has the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np

from ppliteseg_paddle.synth.rng import Rng

SIZE = 512


def fractal_noise(seed: int, roughness: float, size: int = SIZE) -> np.ndarray:
    """Tileable noise whose power falls with frequency ** -`roughness`: float32, mean 0, deviation 1."""
    rng = np.random.default_rng((77, seed))
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.sqrt(fx * fx + fy * fy)
    frequency[0, 0] = 1.0
    noise = np.fft.irfft2(spectrum * frequency ** (-roughness / 2), s=(size, size))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


@dataclass
class Pattern:
    """A tileable gray pattern. `metres` is the length of its side in the world."""

    gray: np.ndarray
    metres: float
    _scaled: dict[int, np.ndarray] = field(default_factory=dict)

    def tile(self, pixels_per_metre: float) -> np.ndarray:
        """The pattern at that scale, its side rounded to a multiple of 8 pixels."""
        side = max(8, int(round(self.metres * pixels_per_metre / 8.0)) * 8)
        side = min(side, 2 * SIZE)
        if side not in self._scaled:
            how = cv2.INTER_AREA if side < self.gray.shape[0] else cv2.INTER_LINEAR
            self._scaled[side] = cv2.resize(self.gray, (side, side), interpolation=how)
        return self._scaled[side]

    def patch(self, rng: Rng, width: int, height: int, pixels_per_metre: float) -> np.ndarray:
        """A (height, width) piece from a random place."""
        tile = self.tile(pixels_per_metre)
        side = tile.shape[0]
        y, x = rng.integer(0, side - 1), rng.integer(0, side - 1)
        if y + height <= side and x + width <= side:
            return tile[y : y + height, x : x + width]
        repeat = np.tile(tile, (-(-(height + y) // side), -(-(width + x) // side)))
        return repeat[y : y + height, x : x + width]


def tint(gray: np.ndarray, color) -> np.ndarray:
    """A gray piece (h, w), 128 neutral, in a BGR color: (h, w, 3) uint8."""
    ramp = np.arange(256, dtype=np.float32)[:, None] * (np.asarray(color, np.float32)[None] / 128.0)
    return cv2.applyColorMap(np.ascontiguousarray(gray), np.clip(ramp, 0, 255).astype(np.uint8)[:, None])


def _gray(field: np.ndarray) -> np.ndarray:
    return np.clip(128 + field, 0, 255).astype(np.uint8)


def _blocks(
    seed: int, rows: int, columns: int, joint: int, spread: float, joint_shade: float, bond: float = 0.5
) -> np.ndarray:
    """Bricks, stones or flags: `rows` courses, each shifted against the last by `bond` of a block."""
    rng = np.random.default_rng((78, seed))
    out = np.zeros((SIZE, SIZE), np.float32)
    edges_y = np.linspace(0, SIZE, rows + 1).astype(int)
    width = SIZE / columns
    for row in range(rows):
        y0, y1 = edges_y[row], edges_y[row + 1]
        shift = (row * bond % 1.0) * width
        for column in range(columns):
            x0, x1 = int(column * width + shift), int((column + 1) * width + shift)
            at = np.arange(x0, x1 - joint) % SIZE
            out[y0 : y1 - joint, at] = rng.normal(0, spread)
            out[y0 : y1 - joint, np.arange(x1 - joint, x1) % SIZE] = joint_shade
        out[y1 - joint : y1] = joint_shade
    return out


def _planks(seed: int, count: int, gap: int) -> np.ndarray:
    rng = np.random.default_rng((79, seed))
    out = np.zeros((SIZE, SIZE), np.float32)
    edges = np.linspace(0, SIZE, count + 1).astype(int)
    for x0, x1 in zip(edges[:-1], edges[1:]):
        out[:, x0:x1] = rng.normal(0, 12)
        out[:, x1 - gap : x1] = -60
    return out + np.roll(fractal_noise(seed + 40, 1.0), seed, 1).mean(0, keepdims=True) * 20


def _roof_tiles(seed: int, rows: int) -> np.ndarray:
    blocks = _blocks(seed, rows, 24, 2, 11, -25)
    fall = (np.arange(SIZE) % (SIZE / rows)) / (SIZE / rows)
    return blocks + (fall[:, None] * 30 - 15)


@cache
def patterns() -> dict[str, Pattern]:
    """Every material's pattern, by name."""
    fine, medium, coarse = fractal_noise(1, 0.3), fractal_noise(2, 1.3), fractal_noise(3, 2.3)
    specks = np.where(fine > 2.1, 45, 0) + np.where(fine < -2.3, -45, 0)
    made = {
        "asphalt": (fine * 7 + specks * 0.5 + medium * 5 + coarse * 7, 6.0),
        "asphalt_old": (fine * 9 + specks * 0.8 + medium * 8 + coarse * 12, 7.0),
        "concrete": (fine * 4 + medium * 4 + coarse * 9, 5.0),
        "plaster": (fine * 2 + medium * 2 + coarse * 5, 7.0),
        "brick": (_blocks(1, 24, 8, 3, 14, 22) + fine * 4 + coarse * 8, 1.8),
        "brick_dark": (_blocks(2, 24, 8, 3, 20, -28) + fine * 5 + coarse * 10, 1.8),
        "stone": (_blocks(3, 10, 6, 3, 13, -26, 0.43) + fine * 5 + medium * 5 + coarse * 4, 4.0),
        "panels": (_blocks(4, 4, 3, 3, 5, -35, 0.0) + coarse * 6 + fine * 2, 7.0),
        "cladding": (_planks(5, 24, 3).T + fine * 3 + coarse * 5, 4.0),
        "planks": (_planks(6, 18, 4) + fine * 6 + coarse * 8, 2.6),
        "flags": (_blocks(7, 8, 6, 4, 8, -30) + fine * 6 + coarse * 9, 4.8),
        "pavers": (_blocks(8, 32, 16, 3, 12, -22) + fine * 5 + coarse * 9, 3.2),
        "roof_tiles": (_roof_tiles(9, 20) + coarse * 8, 5.0),
        "slates": (_blocks(10, 22, 18, 2, 9, -22) + coarse * 7, 4.5),
        "grass": (fine * 13 + medium * 16 + coarse * 15, 3.0),
        "bark": (np.roll(medium, 9, 0).mean(0, keepdims=True) * 40 + medium * 12 + fine * 8, 1.5),
        "grime": (coarse * 13 + medium * 3, 16.0),
        "leaves": (fine * 12 + fractal_noise(11, 1.0) * 26, 2.2),
    }
    return {name: Pattern(_gray(detail), metres) for name, (detail, metres) in made.items()}


@cache
def noise_fields() -> dict[str, np.ndarray]:
    """Float32 noise for shapes: `leaf` (crowns), `cloud` (skies), `grain` (the sensor's)."""
    return {
        "leaf": fractal_noise(21, 1.35),
        "clump": fractal_noise(22, 2.2),
        "cloud": fractal_noise(23, 3.0),
        "cloud_fine": fractal_noise(24, 2.2),
        "grain": fractal_noise(25, 0.15, 1024),
    }


def field_piece(rng: Rng, name: str, width: int, height: int, cells: float) -> np.ndarray:
    """A (height, width) float32 piece of a noise field, `cells` of its samples across the longer side."""
    source = noise_fields()[name]
    limit = source.shape[0]
    zoom = min(cells, limit - 2) / max(width, height)
    w, h = max(int(width * zoom), 2), max(int(height * zoom), 2)
    y, x = rng.integer(0, limit - h), rng.integer(0, limit - w)
    piece = source[y : y + h, x : x + w]
    if rng.chance(0.5):
        piece = piece[:, ::-1]
    how = cv2.INTER_AREA if w > width else cv2.INTER_LINEAR
    return cv2.resize(piece, (width, height), interpolation=how)
