"""One scene: plan a street, place things on it, paint them from far to near, take the photograph."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ppliteseg_paddle.synth.buildings import build_rows
from ppliteseg_paddle.synth.camera import Camera
from ppliteseg_paddle.synth.canvas import BUILDING, TREE, VOID, Canvas, fixed
from ppliteseg_paddle.synth.ground import Ground
from ppliteseg_paddle.synth.lens import develop, wet_road
from ppliteseg_paddle.synth.light import paint_sky, sample_light
from ppliteseg_paddle.synth.markings import paint_markings
from ppliteseg_paddle.synth.placement import place_everything
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.street import sample_street
from ppliteseg_paddle.synth.textures import noise_fields

SMALLEST, LARGEST = 64, 8192  # pixels, of either side
_FULL_SUPERSAMPLING = 900_000  # images with more pixels are sharp enough without


def render_scene(
    seed_or_rng: int | np.random.Generator, size: tuple[int, int] = (480, 360)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street scene.

    Args:
        seed_or_rng: a seed, or a generator, whose state is advanced.
        size: (width, height), pixels.

    Shape: image (H, W, 3) uint8 BGR; label (H, W) uint8, CamVid's class ids, 255 = void.
    """
    generator = seed_or_rng if isinstance(seed_or_rng, np.random.Generator) else np.random.default_rng(seed_or_rng)
    rng = Rng(generator)
    width, height = size
    canvas = Canvas(width, height, 2 if width * height <= _FULL_SUPERSAMPLING else 1)
    street, light = sample_street(rng), sample_light(rng)
    camera = _sample_camera(rng, canvas, street)
    stage = Stage(canvas, camera, street, light, rng)
    stage.ground = ground = Ground(canvas, camera, street, light, rng)
    paint_sky(canvas, rng, light, camera.horizon, _sun_on_canvas(camera, light))
    ground.paint()
    paint_markings(ground)
    houses = build_rows(stage)
    things = place_everything(stage)
    for thing in houses + things:
        thing.cast()
    ground.finish(stage.contacts)
    _backdrop(stage)
    for thing in sorted(houses + things, key=lambda t: -t.key()):
        thing.paint()
    wet_road(canvas, camera.horizon, light)
    if rng.chance(0.14):
        _bonnet(stage)
    image, label = canvas.finish()
    return develop(image, rng, light), label


def _sample_camera(rng: Rng, canvas: Canvas, street) -> Camera:
    """A camera behind the windscreen, in its own lane, mostly looking along the street."""
    focal = canvas.width * rng.between(0.92, 1.3)
    horizon = canvas.height * rng.bell(0.50, 0.035)
    lane = street.keep * street.half * rng.between(0.25, 0.6) if street.kind != "car_park" else rng.between(-2, 2)
    eye = (lane, rng.between(1.15, 1.75), 0.0)
    yaw = rng.bell(0.0, 0.05)
    near_crossing = any(c.z0 < 20 for c in street.crossings)
    if rng.chance(0.25 if near_crossing else 0.06):
        yaw = rng.side() * rng.between(0.12, 0.5)
    return Camera(canvas.width, canvas.height, focal, horizon, eye, yaw, math.radians(rng.bell(0, 0.6)))


def _sun_on_canvas(camera: Camera, light) -> tuple[float, float]:
    turned = camera.turn(camera.eye + light.towards_sun * 1000.0)
    if turned[2] < 1:
        return (-1e5, -1e5)
    u, v = camera.flatten(turned[None])[0]
    return float(u), float(v)


def _backdrop(stage: Stage) -> None:
    """Roofs and trees far away, along the horizon, where the street lets one see that far."""
    canvas, rng, light, camera = stage.canvas, stage.rng, stage.light, stage.camera
    field = noise_fields()["clump"]
    columns = np.arange(0, canvas.width + 1, 2)
    slope = math.tan(camera.roll)
    for layer, depth in ((0, 300.0), (1, 190.0), (2, 130.0)):
        if rng.chance(0.25):
            continue
        base = camera.horizon + (columns - canvas.width / 2) * slope + canvas.height * 0.006 * (layer + 1)
        metre = camera.focal / depth
        if rng.chance(0.6):
            color = rng.color(rng.pick([(48, 88, 70), (56, 72, 76), (50, 96, 84)]), 0.2)
            row = field[rng.integer(0, 511)]
            fine = noise_fields()["leaf"][rng.integer(0, 511)]
            at = (columns * rng.between(0.05, 0.2) + rng.between(0, 512)).astype(int) % 512
            rise = np.clip(rng.between(4, 10) + row[at] * 3.0 + fine[(columns // 2) % 512] * 0.5, 0, None) * metre
            edge = np.stack([columns, base - rise], -1)
            label = TREE
        else:
            color = rng.color(rng.pick([(110, 118, 126), (80, 90, 120), (130, 136, 140)]), 0.25)
            label, edge_rows, u = BUILDING, [], -20.0
            while u < canvas.width + 20:
                wide, high = rng.between(6, 22) * metre, rng.between(4, 14) * metre
                v = camera.horizon + (u - canvas.width / 2) * slope
                edge_rows += [
                    (u, v - high),
                    (u + wide * 0.5, v - high - rng.between(0, 3) * metre),
                    (u + wide, v - high),
                ]
                u += wide
            edge = np.array(edge_rows)
        tone = light.far(light.shade(color, (0.0, 0.4, -0.9), 0.5), depth)
        low = np.stack([columns[::-1], base[::-1]], -1)
        polygon = fixed(np.concatenate([edge, low]))
        cv2.fillPoly(canvas.image, [polygon], tuple(float(c) for c in tone), cv2.LINE_8, 3)
        cv2.fillPoly(canvas.label, [polygon], label, cv2.LINE_8, 3)


def _bonnet(stage: Stage) -> None:
    """The own car's bonnet: void."""
    canvas, rng = stage.canvas, stage.rng
    high, lean = rng.between(0.02, 0.06) * canvas.height, rng.between(-0.3, 0.3)
    u = np.linspace(0, canvas.width, 24)
    arch = 1.0 - ((u / canvas.width - 0.5 + lean * 0.3) * 1.6) ** 2
    top = np.stack([u, canvas.height - high * np.clip(arch, 0.15, 1)], -1)
    color = rng.color((40, 40, 42), 0.5) * stage.light.ambient + stage.light.sky_low * 0.12
    canvas.fill(np.concatenate([top, [[canvas.width, canvas.height + 2], [0, canvas.height + 2]]]), color, VOID)
    shine = np.concatenate([top + (0, high * 0.12), top[::-1] + (0, high * 0.3)])
    canvas.fill(shine, np.minimum(color * 1.5 + 15, 250))
