"""Trees with leaves, trees in winter, hedges and shrubs."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ppliteseg_paddle.synth.canvas import TREE
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.textures import field_piece

_GREENS = (
    (52, 92, 80),
    (52, 80, 70),
    (66, 104, 94),
    (64, 92, 98),
    (70, 86, 84),
    (54, 68, 64),
    (78, 92, 88),
    (50, 90, 72),
)
_AUTUMN = ((52, 92, 130), (50, 70, 112), (64, 116, 146), (62, 84, 96))
_BARK = ((66, 76, 86), (84, 92, 98), (54, 62, 70), (98, 106, 110))


_ROUND = tuple((math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)) for i in range(8))


class Season:
    """How the plants of one scene look: they share a season."""

    def __init__(self, stage: Stage) -> None:
        rng = stage.rng
        self.kind = rng.weighted({"summer": 0.5, "autumn": 0.12, "winter": 0.38})
        self.greens = [
            rng.color(rng.pick(_AUTUMN if self.kind == "autumn" and rng.chance(0.7) else _GREENS), 0.25)
            for _ in range(3)
        ]
        self.bark = rng.color(rng.pick(_BARK), 0.25)


def foliage(
    stage: Stage,
    centre,
    radius_u: float,
    radius_v: float,
    color,
    depth: float,
    density: float,
    lit: float,
    square: float = 0.0,
) -> None:
    """Leaves in clumps, lit from the sun's side, with sky between them.

    Args:
        centre: canvas point; radius_u, radius_v: pixels.
        density: 0.5 is airy, 1 is closed.
        square: 0 for a round crown, 1 for a clipped hedge.
    """
    canvas, rng = stage.canvas, stage.rng
    reach = 1.22
    box = canvas.window(
        centre[0] - radius_u * reach,
        centre[1] - radius_v * reach,
        centre[0] + radius_u * reach,
        centre[1] + radius_v * reach,
    )
    if box is None or radius_u < 1.5:
        return
    x0, y0, x1, y1 = box
    cells = 30
    grid = (np.arange(cells, dtype=np.float32) + 0.5) / cells * (2 * reach) - reach
    body, tone = _clumps(stage, grid, square, lit)
    # The clumps' small grid, stretched over the visible part of the crown; big crowns are drawn at half the detail.
    half = 0.5 if max(x1 - x0, y1 - y0) > 60 else 1.0
    matrix = np.array(
        [
            [2 * reach * radius_u / cells, 0, centre[0] - radius_u * reach - x0],
            [0, 2 * reach * radius_v / cells, centre[1] - radius_v * reach - y0],
        ],
        np.float32,
    ) * np.float32(half)
    full = (x1 - x0, y1 - y0)
    size = (max(int(full[0] * half), 2), max(int(full[1] * half), 2))
    body = cv2.warpAffine(body, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-2.0)
    tone = cv2.warpAffine(tone, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    zoom = max(radius_u, radius_v) / max(full)
    leaf = field_piece(rng, "leaf", size[0], size[1], 150.0 / max(zoom, 0.25))
    fine = field_piece(rng, "grain", size[0], size[1], min(420.0 / max(zoom, 0.25), max(size) * 0.8))
    solid = cv2.scaleAdd(leaf, 0.20, body)
    tone = cv2.scaleAdd(leaf, 0.13, cv2.scaleAdd(fine, 0.12, tone))
    index = cv2.convertScaleAbs(cv2.max(tone, 0.0), alpha=255)
    if size != full:
        solid, index = cv2.resize(solid, full), cv2.resize(index, full)
    mask = cv2.compare(solid, 0.62 - density * 0.62, cv2.CMP_GT)
    canvas.stamp(cv2.applyColorMap(index, _leaf_colors(stage, color, lit, depth)), mask, box, TREE)


def _clumps(stage: Stage, grid: np.ndarray, square: float, lit: float):
    """The crown's clumps on a small grid: their height (below 0 outside), and their tone from 0 (dark) to 1."""
    rng = stage.rng
    sun = stage.camera.turn(stage.light.towards_sun + stage.camera.eye)
    towards = np.array([sun[0], -max(sun[1], 0.35)]) / max(1.0, np.hypot(sun[0], sun[1]))
    balls = []
    for _ in range(rng.integer(12, 18)):
        if square:
            balls.append((rng.between(-0.95, 0.95), rng.between(-0.8, 0.9), rng.between(0.35, 0.55)))
        else:
            angle, out = rng.between(0, 2 * math.pi), math.sqrt(rng.unit()) * 0.72
            balls.append((out * math.cos(angle), out * math.sin(angle), rng.between(0.26, 0.48)))
    u, v, r = np.array(balls, np.float32).T[:, :, None, None]
    du, dv = (grid[None, None] - u) / r, (grid[None, :, None] - v) / r
    bumps = 1.0 - du * du - dv * dv
    nearest = bumps.argmax(0)[None]
    body = np.take_along_axis(bumps, nearest, 0)[0]
    facing = 0.7 * (du * np.float32(towards[0]) + dv * np.float32(towards[1]))
    facing += 0.8 * (u * np.float32(towards[0]) + v * np.float32(towards[1]))
    tilt = np.clip(np.take_along_axis(facing, nearest, 0)[0], -1.2, 1.2)
    tone = (
        tilt * np.float32(0.16 + 0.30 * lit * stage.light.sunny) + 0.46 - np.maximum(0.35 - body, 0) * np.float32(0.15)
    )
    return np.maximum(body, -1.0), tone


def _leaf_colors(stage: Stage, color, lit: float, depth: float) -> np.ndarray:
    """Ramp from the inside of a crown to its sunny leaves, seen through the air: (256, 1, 3)."""
    light = stage.light
    t = np.linspace(0, 1, 256)[:, None]
    bright = light.ambient + light.sun * lit
    warm = np.array([0.75, 1.05, 1.1])
    ramp = np.asarray(color)[None] * bright[None] * (0.22 + 1.45 * t) * (1 + (warm - 1)[None] * t)
    share = light.veil(depth)
    return np.clip(ramp * (1 - share) + light.haze[None] * share, 0, 255).astype(np.uint8)[:, None]


class Tree:
    """A tree at (s, z): trunk and crown, or bare branches."""

    def __init__(self, stage: Stage, season: Season, s: float, z: float) -> None:
        rng = stage.rng
        self.stage, self.season, self.s, self.z = stage, season, s, z
        self.height = rng.between(4.5, 13)
        self.crown = self.height * rng.between(0.24, 0.38)
        self.slim = rng.between(0.75, 1.25)
        self.evergreen = rng.chance(0.12)
        self.bare = season.kind == "winter" and not self.evergreen or (season.kind == "autumn" and rng.chance(0.2))
        self.color = rng.color(rng.pick(season.greens), 0.18)
        self.density = rng.between(0.55, 1.0)

    def key(self) -> float:
        return self.stage.depth(self.s, self.z)

    def cast(self) -> None:
        """A blotched shadow."""
        light, rng = self.stage.light, self.stage.rng
        self.stage.ground_contact(self.s, self.z, 0.3, 0.3)
        if not light.sunny:
            return
        ground, trunk = self.stage.ground, self.height - self.crown
        x, z = self.stage.street.point(self.s, self.z)
        ground.bar_shadow(x, z, trunk, 0.15)
        for _ in range(3 if self.bare else 9):
            h = trunk + rng.between(-0.7, 0.7) * self.crown
            r = self.crown * rng.between(0.18, 0.42)
            cx = x + ground.reach[0] * h + rng.between(-0.6, 0.6) * self.crown
            cz = z + ground.reach[1] * h + rng.between(-0.6, 0.6) * self.crown
            ground.shadow([(cx + r * u * 1.2, 0.0, cz + r * v) for u, v in _ROUND], 120 if self.bare else 230)

    def paint(self) -> None:
        stage, light = self.stage, self.stage.light
        x, z = stage.street.point(self.s, self.z)
        depth = stage.camera.depth(x, z)
        metre = stage.camera.focal / max(depth, 0.1)
        points = np.array([stage.camera.spot(x, 0.0, z), stage.camera.spot(x, self.height - self.crown, z)])
        reach = metre * self.crown * 1.6
        if depth < 1.5 or points[1][0] + reach < 0 or points[1][0] - reach > stage.canvas.width:
            return
        lit = stage.sun_at(self.s, self.z, self.height * 0.7)
        wide = max(metre * self.height * 0.03, 1.2)
        bark = self.season.bark * (light.ambient + light.sun * 0.4 * stage.sun_at(self.s, self.z, 1.5))
        bark = light.far(bark, depth)
        top = points[1] + (stage.rng.bell(0, 0.05) * metre * self.crown, 0)
        lower = points[1] * 0.75 + points[0] * 0.25
        stage.canvas.taper(points[0], lower, wide * 1.25, wide * 0.9, bark, TREE)
        stage.canvas.taper(lower, top, wide * 0.9, wide * 0.6, bark, TREE)
        half = np.array([wide * 0.25, 0])
        stage.canvas.taper(points[0] + half, lower + half, wide * 0.5, wide * 0.3, bark * 0.72)
        if self.bare:
            self._branches(lower, metre, wide, bark, depth)
            return
        for _ in range(3):
            tip = top + np.array([stage.rng.between(-0.8, 0.8), stage.rng.between(-0.6, 0.4)]) * metre * self.crown
            stage.canvas.taper(lower, tip, wide * 0.6, wide * 0.15, bark * 0.8, TREE)
        foliage(
            stage, top, metre * self.crown * self.slim, metre * self.crown * 1.12, self.color, depth, self.density, lit
        )

    def _branches(self, base: np.ndarray, metre: float, wide: float, bark, depth: float) -> None:
        """Boughs, and a veil of twigs around them."""
        stage, rng = self.stage, self.stage.rng
        reach = metre * self.crown
        top = base + (0, -reach * 1.3)
        tips = []
        stack = [(base, -math.pi / 2 + rng.bell(0, 0.1), reach * 0.75, wide * 0.8, 0)]
        while stack:
            start, angle, length, width, level = stack.pop()
            end = start + np.array([math.cos(angle), math.sin(angle)]) * length
            stage.canvas.taper(start, end, max(width, 1.0), max(width * 0.6, 1.0), bark, TREE)
            if level < 4 and length > 4:
                for turn in (-1, 1) if level else (-1, 0, 1):
                    spread = turn * rng.between(0.3, 0.65) + rng.bell(0, 0.1)
                    stack.append((end, angle + spread, length * rng.between(0.6, 0.82), width * 0.62, level + 1))
            else:
                tips.append(end)
        centre = np.mean(tips, 0) if tips else top
        self._twigs(centre, reach * 1.25, reach * 1.1, bark, depth)

    def _twigs(self, centre: np.ndarray, radius_u: float, radius_v: float, bark, depth: float) -> None:
        stage, rng = self.stage, self.stage.rng
        box = stage.canvas.window(
            centre[0] - radius_u, centre[1] - radius_v, centre[0] + radius_u, centre[1] + radius_v
        )
        if box is None or radius_u < 2:
            return
        x0, y0, x1, y1 = box
        size = (x1 - x0, y1 - y0)
        u = ((np.arange(x0, x1, dtype=np.float32) - centre[0]) / radius_u)[None]
        v = ((np.arange(y0, y1, dtype=np.float32) - centre[1]) / radius_v)[:, None]
        zoom = max(radius_u, radius_v) / max(size)
        coarse = field_piece(rng, "clump", size[0], size[1], 130.0 / max(zoom, 0.25))
        fine = field_piece(rng, "leaf", size[0], size[1], 200.0 / max(zoom, 0.25))
        inside = 1.0 - u * u - v * v
        # Thin winding lines: where a noise field passes through one of many levels.
        level = coarse * 3.2 + u * 2.0 + fine * 0.25
        lines = np.abs(level - np.round(level)) < 0.13
        mask = (lines & (inside + fine * 0.25 > 0.10)).view(np.uint8)
        sprite = np.empty((size[1], size[0], 3), np.uint8)
        sprite[:] = np.clip(bark * 1.1, 0, 255)
        cv2.copyTo(sprite, mask, stage.canvas.image[y0:y1, x0:x1])
        # Annotators draw the crown, not its twigs.
        crown = cv2.blur(mask * 255, (max(int(radius_u * 0.12), 3) | 1,) * 2) > 24
        stage.canvas.label[y0:y1, x0:x1][crown & (inside > 0)] = TREE


class Hedge:
    """A clipped or wild hedge along the street from z0 to z1."""

    def __init__(self, stage: Stage, season: Season, s: float, z0: float, z1: float, height: float) -> None:
        self.stage, self.s, self.z0, self.z1, self.height = stage, s, z0, z1, height
        self.color = stage.rng.color(stage.rng.pick(season.greens), 0.2)
        if season.kind == "winter":
            self.color = self.color * 0.5 + np.array([24.0, 30, 36])

    def key(self) -> float:
        return self.stage.depth(self.s, self.z1)

    def cast(self) -> None:
        self.stage.ground_contact(self.s, (self.z0 + self.z1) / 2, 0.5, (self.z1 - self.z0) / 2)

    def paint(self) -> None:
        stage = self.stage
        z = max(self.z0, stage.nearest(self.s))
        while z < self.z1:
            length = min(2.5, self.z1 - z)
            at = self.z1 - (z - max(self.z0, stage.nearest(self.s))) - length / 2  # from far to near
            x, zz = stage.street.point(self.s, at)
            y, depth = self.height * 0.5, stage.camera.depth(x, zz)
            if depth > 4.0:
                middle, back, fore = (stage.camera.spot(x, y, zz + step) for step in (0.0, 1.3, -1.3))
                metre = stage.camera.focal / depth
                across = max(abs(back[0] - fore[0]) / 2 * 1.25, metre * 0.45)
                foliage(
                    stage,
                    middle,
                    across,
                    metre * self.height * 0.56,
                    self.color,
                    depth,
                    1.0,
                    stage.sun_at(self.s, at, self.height),
                    1.0,
                )
            z += length


class Shrub:
    """A bush."""

    def __init__(self, stage: Stage, season: Season, s: float, z: float, radius: float) -> None:
        self.stage, self.s, self.z, self.radius = stage, s, z, radius
        self.color = stage.rng.color(stage.rng.pick(season.greens), 0.25)

    def key(self) -> float:
        return self.stage.depth(self.s, self.z)

    def cast(self) -> None:
        self.stage.ground_contact(self.s, self.z, self.radius * 0.8, self.radius * 0.8)

    def paint(self) -> None:
        stage = self.stage
        x, z = stage.street.point(self.s, self.z)
        depth = stage.camera.depth(x, z)
        if depth > 1.5:
            metre = stage.camera.focal / depth
            foliage(
                stage,
                stage.camera.spot(x, self.radius * 0.8, z),
                metre * self.radius,
                metre * self.radius * 0.85,
                self.color,
                depth,
                0.95,
                stage.sun_at(self.s, self.z, self.radius),
            )
