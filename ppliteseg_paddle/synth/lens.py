"""What the camera does to the light: reflections on its way, blur, exposure, color cast, vignette, noise, JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from ppliteseg_paddle.synth.canvas import ROAD, Canvas
from ppliteseg_paddle.synth.light import Light
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.textures import noise_fields


def wet_road(canvas: Canvas, horizon: float, light: Light) -> None:
    """Mirror what stands above the horizon in the wet road, smeared downwards."""
    if light.wet < 0.15:
        return
    top = int(horizon)
    rows = canvas.height - top
    if top < 8 or rows < 8:
        return
    mirror = cv2.flip(canvas.image[max(top - rows, 0) : top], 0)
    small = cv2.resize(mirror, (canvas.width // 4, max(rows // 4, 2)), interpolation=cv2.INTER_AREA)
    small = cv2.blur(small, (3, max(rows // 14, 3) | 1))
    mirror = cv2.resize(small, (canvas.width, rows), interpolation=cv2.INTER_LINEAR)
    roi = canvas.image[top : top + rows]
    share = 0.42 * light.wet
    mixed = cv2.addWeighted(roi, 1 - share * 0.8, mirror, share, 0)
    cv2.copyTo(mixed, (canvas.label[top : top + rows] == ROAD).view(np.uint8), roi)


def develop(image: np.ndarray, rng: Rng, light: Light) -> np.ndarray:
    """The image (H, W, 3) as a cheap or a good camera stores it."""
    height, width = image.shape[:2]
    unit = height / 360.0
    blur = rng.between(0.25, 0.75) * unit + (rng.between(0.2, 0.8) * unit if rng.chance(0.15) else 0.0)
    image = cv2.GaussianBlur(image, (0, 0), blur)
    if rng.chance(0.5):  # sharpening in the camera, with its halos
        amount = rng.between(0.2, 0.8)
        image = cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), 1.3 * unit), -amount, 0)
    image = cv2.multiply(image, _vignette(width, height, rng), scale=1 / 255)
    image = cv2.LUT(image, _tone_curve(rng, light, float(image[::8, ::8].mean()) / 255))
    image = _saturate(image, rng.between(0.42, 0.95))
    image = _grain(image, rng, light)
    if rng.chance(0.35):
        quality = rng.integer(55, 95)
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image


def _vignette(width: int, height: int, rng: Rng) -> np.ndarray:
    strength = rng.between(0.0, 0.32)
    v = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None]
    u = (np.arange(width, dtype=np.float32) / width - 0.5)[None]
    fall = np.clip(255 * (1 - strength * 2 * (u * u + v * v)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(fall, cv2.COLOR_GRAY2BGR)


def _tone_curve(rng: Rng, light: Light, brightness: float) -> np.ndarray:
    """Exposure, contrast and white balance as a table (256, 1, 3).

    Cameras aim at a mean brightness, so that a dark street burns the sky out, unless they aim at the sky.
    """
    aim = rng.bell(0.50, 0.08) if rng.chance(0.84) else rng.between(0.2, 0.34)
    if light.weather == "dusk":
        aim *= rng.between(0.65, 1.0)
    gain = min(max(aim / max(brightness, 0.05), 0.4), 2.6)
    contrast = rng.between(0.1, 1.0)
    lift = rng.between(0, 0.04)
    gamma = rng.between(0.85, 1.15)
    warm, green = rng.bell(0, 0.05), rng.bell(0, 0.02)
    x = np.linspace(0, 1, 256)[:, None] * gain * np.array([1 - warm, 1 + green, 1 + warm])[None]
    # A shoulder, so that highlights burn out softly.
    x = np.where(x > 0.75, 0.75 + 0.25 * np.tanh((x - 0.75) / 0.25), x)
    curve = x**gamma
    curve = curve + contrast * (curve * curve * (3 - 2 * curve) - curve)
    return np.clip((lift + (1 - lift) * curve) * 255, 0, 255).astype(np.uint8)[:, None]


def _saturate(image: np.ndarray, amount: float) -> np.ndarray:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, amount, gray, 1 - amount, 0)


def _grain(image: np.ndarray, rng: Rng, light: Light) -> np.ndarray:
    """Sensor noise, the same gray noise with a share of its own in each channel."""
    height, width = image.shape[:2]
    sigma = rng.between(0.4, 3.0) * (1.7 if light.weather == "dusk" else 1.0)
    field = noise_fields()["grain"]
    size = field.shape[0]
    if height > size or width > size:
        field = np.tile(field, (-(-height // size) + 1, -(-width // size) + 1))
    channels = []
    for _ in range(3):
        y, x = rng.integer(0, field.shape[0] - height), rng.integer(0, field.shape[1] - width)
        channels.append(field[y : y + height, x : x + width])
    shared = channels[0] * np.float32(0.6 * sigma)
    noise = cv2.merge([shared + c * np.float32(0.7 * sigma) for c in channels])
    return cv2.add(image, noise, dtype=cv2.CV_8U)
