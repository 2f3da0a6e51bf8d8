"""What stands along a street: lamp posts, signs, traffic lights, bollards, bins."""

from __future__ import annotations

import math

import numpy as np

from ppliteseg_paddle.synth.canvas import POLE, SIGN, VOID
from ppliteseg_paddle.synth.stage import Stage

METAL = ((112, 112, 112), (84, 86, 86), (48, 50, 50), (150, 150, 148), (70, 84, 64), (56, 66, 76))
_RED, _WHITE, _BLUE, _YELLOW, _BLACK, _GREEN = (
    (44, 36, 190),
    (222, 224, 224),
    (170, 92, 30),
    (40, 190, 225),
    (30, 30, 30),
    (80, 110, 30),
)


class _Upright:
    """Something at (s, z) that is flat or thin and faces along the street."""

    tall: float

    def __init__(self, stage: Stage, s: float, z: float) -> None:
        self.stage, self.s, self.z = stage, s, z

    def key(self) -> float:
        return self.stage.depth(self.s, self.z)

    def _ready(self) -> bool:
        x, z = self.stage.street.point(self.s, self.z)
        if not self.stage.camera.sees(x, z, 0.4):
            return False
        self.distance = self.key()
        self.metre = self.stage.camera.focal / self.distance
        self.lit = self.stage.sun_at(self.s, self.z, 2.0)
        light = self.stage.light
        facing = max(0.0, -float(light.towards_sun[2])) if self.lit else 0.0
        self.tone = light.ambient * 0.9 + light.sun * (0.25 * self.lit + 0.75 * facing)
        return True

    def _at(self, ds: float, y: float) -> np.ndarray:
        """Canvas point at `ds` metres to the right of the thing and `y` above the ground."""
        x, z = self.stage.street.point(self.s, self.z)
        return np.array(self.stage.camera.spot(x + ds, y, z))

    def _color(self, color, factor: float = 1.0) -> np.ndarray:
        return self.stage.light.far(np.minimum(np.asarray(color) * self.tone * factor, 250), self.distance)

    def _post(self, ds: float, low: float, high: float, wide: float, color, label=POLE) -> None:
        a, b = self._at(ds, low), self._at(ds, high)
        pixels = max(wide * self.metre, 1.6)
        self.stage.canvas.line(a, b, pixels, self._color(color), label)
        if pixels > 3:
            self.stage.canvas.line(
                a + (pixels * 0.28, 0), b + (pixels * 0.28, 0), pixels * 0.4, self._color(color, 0.68)
            )

    def cast(self) -> None:
        stage, light = self.stage, self.stage.light
        stage.ground_contact(self.s, self.z, 0.12, 0.1)
        if light.sunny:
            x, z = stage.street.point(self.s, self.z)
            stage.ground.bar_shadow(x, z, self.tall, 0.07)


class LampPost(_Upright):
    """A street lamp, its arm over the road. `inward` is the side that the road is on (-1, 1)."""

    def __init__(self, stage: Stage, s: float, z: float, inward: int) -> None:
        super().__init__(stage, s, z)
        rng = stage.rng
        self.tall, self.inward = rng.between(5.0, 9.5), inward
        self.color = rng.color(rng.pick(METAL), 0.25)
        self.style = rng.weighted({"arm": 0.5, "curved": 0.2, "top": 0.2, "wire": 0.1})
        self.reach = rng.between(0.8, 2.2)
        self.flag = rng.chance(0.08)

    def paint(self) -> None:
        if not self._ready():
            return
        self._post(0, 0, 1.2, 0.20, self.color)
        self._post(0, 1.0, self.tall, 0.125, self.color)
        canvas, thick = self.stage.canvas, max(0.08 * self.metre, 1.4)
        if self.style == "top":
            canvas.disc(
                self._at(0, self.tall),
                max(0.22 * self.metre, 1.5),
                max(0.2 * self.metre, 1.5),
                self._color(_WHITE if self.stage.rng.chance(0.5) else self.color),
                POLE,
            )
        elif self.style in ("arm", "curved"):
            rise = 0.5 if self.style == "arm" else 0.9
            points = [
                (self.reach * t * self.inward, self.tall - 0.05 + rise * math.sin(t * math.pi / 2))
                for t in (0, 0.3, 0.6, 1.0)
            ]
            flat = [self._at(*p) for p in points]
            for a, b in zip(flat[:-1], flat[1:]):
                canvas.line(a, b, thick, self._color(self.color), POLE)
            end = self._at(self.reach * self.inward + 0.5 * self.inward, points[-1][1] - 0.02)
            canvas.taper(
                flat[-1],
                end,
                max(0.16 * self.metre, 1.6),
                max(0.12 * self.metre, 1.4),
                self._color((150, 152, 150)),
                POLE,
            )
        else:
            canvas.line(
                self._at(-0.9, self.tall - 0.6),
                self._at(0.9, self.tall - 0.6),
                thick * 1.2,
                self._color(self.color),
                POLE,
            )
            canvas.line(
                self._at(-0.7, self.tall - 1.1),
                self._at(0.7, self.tall - 1.1),
                thick * 1.2,
                self._color(self.color),
                POLE,
            )
        if self.flag:
            a, b = self._at(0.1, self.tall * 0.7), self._at(0.75, self.tall * 0.5)
            canvas.box(a, b, self._color(self.stage.rng.pick([_BLUE, _RED, _WHITE, _GREEN])), SIGN)


class Bollard(_Upright):
    """A bollard or a short post."""

    def __init__(self, stage: Stage, s: float, z: float, wide: float, color) -> None:
        super().__init__(stage, s, z)
        self.tall, self.wide, self.color = 1.0, wide, color

    def paint(self) -> None:
        if self._ready():
            self._post(0, 0, self.tall, self.wide, self.color)
            if self.wide * self.metre > 3:
                self._post(0, self.tall * 0.78, self.tall * 0.88, self.wide, (215, 218, 218))


class Sign(_Upright):
    """A traffic sign on a post: disc, triangle, octagon, plate or board."""

    def __init__(self, stage: Stage, s: float, z: float) -> None:
        super().__init__(stage, s, z)
        rng = stage.rng
        self.dim = rng.between(0.7, 1.0)  # paint ages, and faces rarely look into the sun
        self.kind = rng.weighted(
            {"disc": 0.26, "triangle": 0.16, "plate": 0.28, "board": 0.09, "octagon": 0.04, "back": 0.07, "pair": 0.05}
        )
        self.post = rng.color(rng.pick(METAL), 0.2)
        self.tall = rng.between(2.1, 3.2)
        self.size = rng.between(0.28, 0.42)
        self.face = rng.color(rng.pick([_BLUE, _GREEN, _WHITE, _YELLOW, _BLUE, _RED]), 0.15)

    def paint(self) -> None:
        if not self._ready():
            return
        if self.kind == "board":
            self._board()
            return
        self._post(0, 0, self.tall + self.size, 0.085, self.post)
        self._plate(self.kind if self.kind != "pair" else "disc", self.tall)
        if self.kind == "pair":
            self._plate("plate", self.tall - self.size * 1.8)

    def _shape(self, corners: int, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
        x, z = self.stage.street.point(self.s, self.z)
        angles = [turn + i * 2 * math.pi / corners for i in range(corners)]
        return [self.stage.camera.spot(x + radius * math.cos(t), y + radius * math.sin(t), z) for t in angles]

    def _plate(self, kind: str, y: float) -> None:
        canvas, rng, r = self.stage.canvas, self.stage.rng, self.size
        corners, turn = {
            "disc": (20, 0.0),
            "triangle": (3, math.pi / 2 if rng.chance(0.75) else -math.pi / 2),
            "octagon": (8, math.pi / 8),
            "plate": (4, math.pi / 4),
            "back": (16, 0.0),
        }[kind]
        outer = self.face if kind == "plate" else (120, 122, 122) if kind == "back" else _RED
        if kind == "disc" and rng.chance(0.35):
            outer = _BLUE
        canvas.fill(
            self._shape(corners, y, r * (1.2 if corners <= 4 else 1.0), turn), self._color(outer, self.dim), SIGN
        )
        if kind in ("back", "octagon"):
            if kind == "octagon":
                self._bar(y, r * 0.75, r * 0.16, _WHITE)
            return
        inner = _WHITE if outer is _RED else None
        if inner is not None and not (kind == "disc" and rng.chance(0.25)):
            canvas.fill(
                self._shape(corners, y, r * (0.78 if corners > 4 else 0.72), turn), self._color(inner, self.dim)
            )
            self._bar(y, r * 0.3, r * 0.25, _BLACK)
        elif kind == "plate":
            self._bar(y + r * 0.3, r * 0.5, r * 0.1, _WHITE if self.face.mean() < 160 else _BLACK)
            self._bar(y - r * 0.25, r * 0.3, r * 0.2, _WHITE if self.face.mean() < 160 else _BLACK)
        else:
            self._bar(y, r * 0.62, r * 0.16, _WHITE)

    def _bar(self, y: float, half: float, thick: float, color) -> None:
        a, b = self._at(-half, y + thick), self._at(half, y - thick)
        if b[0] - a[0] > 1.2:
            self.stage.canvas.box(a, b, self._color(color))

    def _board(self) -> None:
        """A direction sign or a poster on two posts."""
        rng = self.stage.rng
        half, high = self.size * rng.between(1.6, 3.2), self.size * rng.between(1.6, 3.0)
        low = rng.between(0.6, 2.2)
        for ds in (-half * 0.7, half * 0.7):
            self._post(ds, 0, low + 0.2, 0.09, self.post)
        a, b = self._at(-half, low + high), self._at(half, low)
        self.stage.canvas.box(a, b, self._color(self.face, self.dim * 0.9), SIGN)
        ink = _WHITE if self.face.mean() < 160 else _BLACK
        rim = self.size * 0.1
        for y in np.linspace(low + high * 0.85, low + high * 0.2, rng.integer(2, 4)):
            x0 = rng.between(-0.8, -0.3) * half
            for _ in range(rng.integer(1, 4)):
                x1 = min(x0 + rng.between(0.1, 0.35) * half, half - rim)
                p, q = self._at(x0, y), self._at(x1, y - high * 0.09)
                if q[0] - p[0] > 1:
                    self.stage.canvas.box(p, q, self._color(ink))
                x0 = x1 + half * 0.08


class TrafficLight(_Upright):
    """Lights on a post, sometimes a second set above the road."""

    def __init__(self, stage: Stage, s: float, z: float, inward: int) -> None:
        super().__init__(stage, s, z)
        rng = stage.rng
        self.tall, self.inward = rng.between(2.9, 3.6), inward
        self.state = rng.pick([0, 2, 2, 0, 1])
        self.arm = rng.chance(0.2)
        self.away = rng.chance(0.25)
        self.post = rng.color(rng.pick([(60, 62, 62), (110, 112, 112), (40, 42, 42)]), 0.2)

    def paint(self) -> None:
        if not self._ready():
            return
        top = self.tall + (2.2 if self.arm else 0.0)
        self._post(0, 0, top, 0.12, self.post)
        self._head(0.0, self.tall - 0.9)
        if self.arm:
            a, b = self._at(0, top), self._at(self.inward * 3.2, top + 0.2)
            self.stage.canvas.line(a, b, max(0.1 * self.metre, 1.4), self._color(self.post), POLE)
            self._head(self.inward * 3.0, top - 0.75)

    def _head(self, ds: float, low: float) -> None:
        canvas = self.stage.canvas
        a, b = self._at(ds - 0.24, low + 1.02), self._at(ds + 0.24, low - 0.08)
        canvas.box(a, b, self._color((34, 36, 36)), SIGN)
        if self.away:
            return
        for i, color in enumerate(((60, 60, 250), (60, 190, 250), (150, 235, 80))):
            on = i == self.state
            at = self._at(ds, low + 0.8 - i * 0.31)
            r = 0.11 * self.metre
            if r > 0.8 or on:
                canvas.disc(at, max(r, 1), max(r, 1), color if on else self._color(np.array(color) * 0.22))


class Bin(_Upright):
    """A litter bin, letter box or switch cabinet: street things outside the eleven classes, hence void."""

    def __init__(self, stage: Stage, s: float, z: float) -> None:
        super().__init__(stage, s, z)
        rng = stage.rng
        self.tall, self.wide = rng.between(0.9, 1.6), rng.between(0.45, 0.8)
        self.color = rng.color(rng.pick([_BLACK, _RED, (70, 90, 60), (110, 112, 108)]), 0.25)

    def paint(self) -> None:
        if self._ready():
            self._post(0, 0, self.tall, self.wide, self.color, VOID)
            self._post(0, self.tall * 0.72, self.tall * 0.84, self.wide * 0.7, self.color * 0.4, VOID)
