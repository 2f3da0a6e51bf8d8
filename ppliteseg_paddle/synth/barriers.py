"""Fences, railings, guard rails and garden walls along a street."""

from __future__ import annotations

import numpy as np

from ppliteseg_paddle.synth.canvas import BUILDING, FENCE
from ppliteseg_paddle.synth.facades import WALLS
from ppliteseg_paddle.synth.furniture import METAL
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.textures import patterns, tint


class Barrier:
    """A fence, railing, guard rail or wall along the street, from z0 to z1.

    Railings and mesh are labelled whole, with what is seen through them, as annotators do. A masonry wall
    counts as building, as in CamVid.
    """

    def __init__(self, stage: Stage, kind: str, s: float, z0: float, z1: float, look: FenceLook) -> None:
        self.stage, self.kind, self.s, self.z0, self.z1, self.look = stage, kind, s, z0, z1, look

    def key(self) -> float:
        return self.stage.depth(self.s, self.z1)

    def cast(self) -> None:
        half = (self.z1 - self.z0) / 2
        self.stage.ground_contact(self.s, self.z0 + half, 0.08, half)
        light = self.stage.light
        if light.sunny and self.kind in ("planks", "wall"):
            where = self.stage.street.where
            self.stage.ground.wall_shadow(where(self.s, self.z0), where(self.s, self.z1), self.look.height)

    def paint(self) -> None:
        stage, look = self.stage, self.look
        z0 = max(self.z0, stage.nearest(self.s))
        if z0 >= self.z1 - 0.1:
            return
        y = look.height
        corners = stage.street.at([self.s] * 4, [z0, self.z1, self.z1, z0], [y, y, 0.0, 0.0])
        quad, depth = stage.camera.project(corners)
        if depth.min() < 0.9 or quad[:, 0].max() < 0 or quad[:, 0].min() > stage.canvas.width:
            return
        length = self.z1 - z0
        scale = min(stage.camera.focal / float(depth.min()) * 0.8, 320.0 / max(length, y), 90.0)
        columns, rows = max(int(length * scale), 4), max(int(y * scale), 3)
        side = 1 if self.s > float(stage.camera.eye[0]) else -1
        factor = stage.light.factor(np.array([-side, 0.0, 0.0]), stage.sun_at(self.s, (z0 + self.z1) / 2, y))
        image, mask = look.draw(self.kind, stage, columns, rows, scale, factor)
        stage.canvas.warp(
            stage.veiled(image, float(depth.mean())), quad, BUILDING if self.kind == "wall" else FENCE, mask
        )


class FenceLook:
    """Color and pattern shared by the panels of one fence."""

    def __init__(self, stage: Stage, kind: str) -> None:
        rng = stage.rng
        self.height = {
            "planks": rng.between(1.2, 2.0),
            "wall": rng.between(0.5, 2.0),
            "railing": rng.between(0.95, 1.25),
            "mesh": rng.between(1.2, 2.4),
            "guard": rng.between(0.7, 0.85),
            "pickets": rng.between(0.8, 1.2),
        }[kind]
        if kind == "wall":
            name, colors = WALLS[rng.pick(["red_brick", "yellow_brick", "stone", "plaster", "concrete"])]
            self.pattern, self.color = patterns()[name], rng.color(rng.pick(colors), 0.25)
        else:
            self.pattern = patterns()["planks"]
            self.color = rng.color(
                {
                    "planks": rng.pick([(60, 88, 120), (84, 100, 112), (50, 62, 74), (110, 126, 134)]),
                    "pickets": rng.pick([(214, 216, 216), (70, 96, 124)]),
                    "guard": (150, 152, 152),
                }.get(kind, rng.pick(METAL)),
                0.2,
            )
        self.spacing = rng.between(0.11, 0.2)

    def draw(
        self, kind: str, stage: Stage, columns: int, rows: int, scale: float, factor
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """One panel (rows, columns, 3) and where it is solid, or None."""
        rng, color = stage.rng, self.color * factor
        if kind in ("planks", "wall"):
            image = tint(self.pattern.patch(rng, columns, rows, scale), color)
            cap = max(1, int(0.08 * scale))
            image[:cap] = np.clip(color * 1.15, 0, 250)
            return image, None
        image = np.empty((rows, columns, 3), np.uint8)
        image[:] = np.clip(color, 0, 250)
        mask = np.zeros((rows, columns), np.uint8)
        bar = max(1, int(round(0.05 * scale)))
        if kind == "guard":
            mask[: int(rows * 0.5)] = 255
            image[int(rows * 0.2) : int(rows * 0.3)] = np.clip(color * 0.6, 0, 250)
            step = max(2, int(2.0 * scale))
            mask[:, ::step] = 255
            for i in range(bar * 2):
                mask[:, min(i, columns - 1) :: step] = 255
            return image, mask
        pitch = self.spacing * scale * (0.7 if kind == "pickets" else 1.0)
        thin = bar if kind != "mesh" else 1
        if pitch < 2.0:
            mask[::2, ::2] = mask[1::2, 1::2] = 255  # too fine to resolve
        else:
            thin = max(1, int(round(pitch * (0.6 if kind == "pickets" else 0.25))))
            for left in np.arange(0, columns, pitch):
                mask[:, int(left) : int(left) + thin] = 255
            if kind == "mesh":
                for y in np.arange(0, rows, pitch):
                    mask[int(y) : int(y) + 1] = 255
        mask[: bar + 1] = 255
        low = int(rows * 0.86)
        mask[low : low + bar] = 255
        post = max(2, int(2.0 * scale))
        for i in range(bar * 2):
            mask[:, min(i, columns - 1) :: post] = 255
        return image, mask


def fence_line(stage: Stage, kind: str, s: float, z0: float, z1: float) -> list[Barrier]:
    """A barrier from z0 to z1 in panels, with gaps here and there."""
    look = FenceLook(stage, kind)
    out, z = [], z0
    while z < z1 - 0.8:
        length = min(stage.rng.between(3, 5), z1 - z)
        if not stage.rng.chance(0.1):
            out.append(Barrier(stage, kind, s, z, z + length, look))
        z += length
    return out
