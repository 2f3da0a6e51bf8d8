"""House fronts drawn flat, in metres, to be put into perspective by `Canvas.warp`."""

from __future__ import annotations

import cv2
import numpy as np

from ppliteseg_paddle.synth.light import Light
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.textures import patterns, tint

# Wall materials: pattern and BGR colors it comes in.
WALLS: dict[str, tuple[str, tuple]] = {
    "red_brick": ("brick", ((62, 78, 138), (72, 92, 150), (58, 66, 112), (80, 98, 132))),
    "yellow_brick": ("brick", ((112, 152, 178), (104, 138, 158), (96, 122, 138))),
    "dark_brick": ("brick_dark", ((62, 68, 82), (58, 60, 66), (54, 62, 92))),
    "plaster": (
        "plaster",
        (
            (196, 208, 214),
            (170, 196, 212),
            (200, 196, 188),
            (150, 178, 206),
            (168, 186, 176),
            (150, 152, 196),
            (188, 170, 150),
            (120, 124, 128),
            (214, 216, 218),
        ),
    ),
    "stone": ("stone", ((134, 150, 162), (112, 124, 132), (150, 170, 182), (92, 98, 104))),
    "concrete": ("panels", ((128, 132, 134), (108, 112, 116), (150, 154, 156), (90, 94, 96))),
    "cladding": (
        "cladding",
        ((148, 144, 138), (98, 86, 70), (72, 96, 72), (60, 62, 120), (176, 176, 172), (66, 64, 62)),
    ),
    "timber": ("planks", ((56, 84, 116), (70, 90, 110), (88, 108, 124), (110, 130, 92))),
}
# Styles: odds of walls, storey height, window width and height, metres between windows, kind of ground floor.
STYLES: dict[str, dict] = {
    "terrace": dict(
        walls={"red_brick": 3, "yellow_brick": 3, "plaster": 3, "dark_brick": 1, "stone": 1.5},
        storey=(2.7, 3.4),
        window=((0.8, 1.4), (1.2, 2.0)),
        pitch=(1.8, 3.2),
        ground={"shop": 0.55, "door": 0.45},
    ),
    "house": dict(
        walls={"red_brick": 3, "yellow_brick": 1.5, "plaster": 3, "timber": 0.6, "stone": 0.6},
        storey=(2.5, 2.9),
        window=((1.0, 2.2), (1.0, 1.5)),
        pitch=(2.6, 4.2),
        ground={"door": 1.0},
    ),
    "block": dict(
        walls={"concrete": 3, "plaster": 1.5, "stone": 1.5, "red_brick": 1.5, "cladding": 1, "dark_brick": 1},
        storey=(3.0, 3.9),
        window=((1.2, 2.6), (1.4, 2.2)),
        pitch=(1.9, 3.4),
        ground={"shop": 0.5, "door": 0.2, "lobby": 0.3},
    ),
    "strip": dict(
        walls={"concrete": 3, "plaster": 1, "cladding": 1.5, "dark_brick": 1},
        storey=(3.2, 3.9),
        window=((1.5, 1.9), (1.5, 2.1)),
        pitch=(1.55, 1.95),
        ground={"lobby": 0.6, "shop": 0.4},
    ),
    "glass": dict(
        walls={"cladding": 1, "concrete": 1},
        storey=(3.4, 4.0),
        window=((1.3, 1.8), (2.7, 3.3)),
        pitch=(1.4, 1.9),
        ground={"lobby": 1.0},
    ),
    "shed": dict(
        walls={"cladding": 4, "red_brick": 1, "concrete": 1},
        storey=(4.5, 6.5),
        window=((1.2, 2.6), (0.8, 1.4)),
        pitch=(4.0, 8.0),
        ground={"gates": 0.6, "lobby": 0.4},
    ),
}
_SIGN_COLORS = (
    (40, 40, 150),
    (120, 60, 20),
    (30, 90, 30),
    (30, 30, 30),
    (60, 160, 210),
    (200, 205, 205),
    (110, 40, 90),
    (30, 100, 190),
    (90, 90, 95),
    (140, 110, 30),
    (50, 50, 90),
)


class Facade:
    """One house's looks, kept for all of its walls.

    Args:
        style: a key of `STYLES`.
    """

    def __init__(self, rng: Rng, style: str, height: float) -> None:
        row = STYLES[style]
        self.rng, self.style, self.height = rng, style, height
        pattern, colors = WALLS[rng.weighted(row["walls"])]
        self.pattern, self.color = patterns()[pattern], rng.color(rng.pick(colors), 0.22)
        self.dirt = rng.between(0.1, 0.7)
        self.storeys = max(1, int(round(height / rng.between(*row["storey"]))))
        self.storey = height / self.storeys
        (low_w, high_w), (low_h, high_h) = row["window"]
        self.window = (rng.between(low_w, high_w), min(rng.between(low_h, high_h), self.storey * 0.86))
        self.pitch = max(rng.between(*row["pitch"]), self.window[0] + 0.08)
        self.ground = rng.weighted(row["ground"])
        self.frame = rng.color(
            rng.pick([(222, 224, 224), (222, 224, 224), (60, 62, 66), (52, 70, 92), (40, 40, 40)]), 0.1
        )
        self.trim = rng.color(
            rng.pick([(190, 200, 206), (140, 150, 156), (96, 100, 104), tuple(self.color * 0.8)]), 0.12
        )
        self.has_trim = rng.chance(0.6)
        self.sill = rng.chance(0.65) and style not in ("glass", "strip")
        self.bars = (
            rng.pick([(1, 1), (2, 1), (2, 2), (1, 2), (3, 2), (2, 3)])
            if style in ("terrace", "house")
            else rng.pick([(1, 1), (2, 1), (1, 2)])
        )
        self.arched = style == "terrace" and rng.chance(0.15)
        self.glass = rng.between(0.15, 0.75) if style in ("glass", "strip", "block") else rng.between(0.08, 0.4)

    def draw(
        self, length: float, normal: np.ndarray, light: Light, scale: float, shade_below: float, front: bool = True
    ) -> np.ndarray:
        """The wall as an image (rows, columns, 3).

        Args:
            length: metres of wall.
            scale: pixels per metre.
            shade_below: height in metres up to which another house's shadow reaches.
            front: whether it faces the street; side walls have few windows and no shop.
        """
        rng = self.rng
        columns, rows = max(int(length * scale), 4), max(int(self.height * scale), 4)
        grime = patterns()["grime"].patch(rng, columns, rows, scale)
        gray = cv2.addWeighted(self.pattern.patch(rng, columns, rows, scale), 1.0, grime, self.dirt, -128 * self.dirt)
        wall = tint(gray, self.color)
        self._light(wall, normal, light, scale, shade_below)
        lit = light.factor(normal, 1.0 if shade_below < self.height * 0.5 else 0.0)
        pen = _Pen(wall, scale, lit)
        trim = self.trim
        if self.has_trim and front:
            pen.box(0, self.height - 0.35, length, self.height, trim)
            pen.box(0, self.height - 0.45, length, self.height - 0.35, trim * 0.55)
            if self.storeys > 1:
                pen.box(0, self.storey - 0.1, length, self.storey + 0.12, trim * 0.95)
        first = 0
        if front and (self.ground != "door" or self.storeys == 1):
            first = 1
            self._ground_floor(pen, length, light)
        elif front:
            self._door(pen, rng.between(0.4, max(length - 1.6, 0.5)), light)
        if front or rng.chance(0.4):
            self._windows(pen, length, light, first, 1.0 if front else rng.between(0.2, 0.6))
        if front and rng.chance(0.5):  # a downpipe
            at = rng.pick([0.15, length - 0.25])
            pen.box(at, 0, at + 0.1, self.height - 0.3, self.frame * 0.5)
        return wall

    def _light(self, wall: np.ndarray, normal, light: Light, scale: float, shade_below: float) -> None:
        """Multiply the light in, darker below `shade_below` and towards the ground."""
        rows = wall.shape[0]
        y = self.height - (np.arange(rows) + 0.5) / scale
        lit = 1.0 / (1.0 + np.exp(-np.clip((y - shade_below) * 6.0, -30, 30)))
        factor = (
            light.factor(normal, 0.0)[None]
            + lit[:, None] * (light.factor(normal, 1.0) - light.factor(normal, 0.0))[None]
        )
        factor = factor * (0.80 + 0.20 * np.clip(y / 4.0, 0, 1))[:, None]
        ramp = np.clip(factor * 128, 0, 255).astype(np.uint8)[:, None]
        cv2.multiply(wall, cv2.resize(ramp, (wall.shape[1], rows), interpolation=cv2.INTER_NEAREST), wall, 1 / 128)

    def _pane(self, light: Light, dark: float) -> tuple[np.ndarray, np.ndarray]:
        """Colors of the glass at its top and bottom: the room behind it, and what it mirrors."""
        rng = self.rng
        room = rng.color((34, 32, 31), 0.4) * light.ambient
        if rng.chance(0.14):
            room = rng.color((150, 165, 172), 0.25) * light.ambient  # curtains
        elif rng.chance(0.15 if light.weather == "dusk" else 0.012):
            room = np.array([120.0, 190.0, 225.0])  # a lamp is on
        mirror = self.glass * dark * rng.between(0.5, 1.2)
        sky = light.sky_low * 0.9
        top = room * (1 - mirror) + sky * mirror
        return top, room * (1 - mirror * 0.5) + sky * mirror * 0.35

    def _window_tile(self, width: int, height: int, light: Light, lit: np.ndarray, variant: int) -> np.ndarray:
        """One window with its frame."""
        top, low = self._pane(light, 1.0)
        blend = ((np.arange(height) + 0.5) / height)[:, None]
        column = np.clip(top * (1 - blend) + low * blend, 0, 255).astype(np.uint8)
        tile = np.empty((height, width, 3), np.uint8)
        tile[:] = column[:, None]
        if variant == 1:  # the houses opposite, mirrored
            cut = int(height * self.rng.between(0.3, 0.7))
            tile[cut:] = (tile[cut:] * 0.6).astype(np.uint8)
        frame = np.minimum(self.frame * lit, 250)
        thick = max(1, int(round(min(width, height) * 0.06)))
        across, down = self.bars
        for i in range(1, across):
            tile[:, width * i // across : width * i // across + thick] = frame
        for i in range(1, down):
            tile[height * i // down : height * i // down + thick] = frame
        tile[:thick], tile[-thick:], tile[:, :thick], tile[:, -thick:] = frame, frame, frame, frame
        tile[thick : thick * 2, thick:-thick] = (tile[thick : thick * 2, thick:-thick] * 0.55).astype(np.uint8)
        return tile

    def _windows(self, pen: _Pen, length: float, light: Light, first: int, share: float) -> None:
        rng = self.rng
        width, height = self.window
        count = int((length - 0.3) / self.pitch)
        if count < 1 or pen.scale * width < 2.5:
            return
        w, h = max(int(width * pen.scale), 2), max(int(height * pen.scale), 2)
        tiles = [self._window_tile(w, h, light, pen.lit, i % 3) for i in range(4 if h > 16 else 2)]
        margin = (length - count * self.pitch + self.pitch - width) / 2
        rise = (self.storey - height) * (0.5 if self.style == "glass" else 0.55)
        sill = np.minimum(self.trim * pen.lit, 250)
        rows = pen.image.shape[0]
        for storey in range(first, self.storeys):
            y = int(rows - (storey * self.storey + rise + height) * pen.scale)
            for column in range(count):
                if rng.unit() > share:
                    continue
                x = int((margin + column * self.pitch) * pen.scale)
                target = pen.image[max(y, 0) : y + h, x : x + w]
                if y < 0 or target.shape[:2] != (h, w):
                    continue
                target[:] = tiles[rng.integer(0, len(tiles) - 1)]
                if self.sill:
                    thick = max(1, int(0.1 * pen.scale))
                    pen.image[y + h : y + h + thick, max(x - thick, 0) : x + w + thick] = sill
                    pen.image[max(y - thick * 2, 0) : y, max(x - thick, 0) : x + w + thick] = sill * (
                        1.0 if self.has_trim else 0.75
                    )

    def _door(self, pen: _Pen, at: float, light: Light) -> None:
        color = self.rng.color(
            self.rng.pick([(60, 50, 40), (40, 40, 120), (70, 100, 40), (200, 204, 204), (44, 62, 92)]), 0.25
        )
        pen.box(at - 0.12, 0, at + 1.1, 2.35, self.trim)
        pen.box(at, 0, at + 0.98, 2.05, color)
        pen.box(at + 0.1, 1.2, at + 0.88, 1.9, color * 0.7)
        pen.box(at, 2.08, at + 0.98, 2.28, self._pane(light, 0.6)[0], lit=False)

    def _ground_floor(self, pen: _Pen, length: float, light: Light) -> None:
        """Shops, lobbies or gates, unit after unit."""
        rng, top = self.rng, self.storey
        at = 0.0
        while at < length - 0.5:
            unit = min(rng.between(3.5, 8.0), length - at)
            if self.ground == "gates":
                if rng.chance(0.5) and unit > 3:
                    color = rng.color(rng.pick([(150, 150, 146), (110, 80, 60), (60, 70, 80)]), 0.2)
                    pen.box(at + 0.4, 0, at + unit - 0.4, min(top, 3.6), color)
                    for y in np.arange(0.4, min(top, 3.6), 0.4):
                        pen.box(at + 0.4, y, at + unit - 0.4, y + 0.05, color * 0.75)
            else:
                self._shop(pen, at, unit, top, light)
            at += unit
        if self.ground == "gates" and rng.chance(0.6):
            self._lettering(pen, length * 0.2, top * 0.75, length * rng.between(0.3, 0.6), rng.between(0.7, 1.3))

    def _shop(self, pen: _Pen, at: float, unit: float, top: float, light: Light) -> None:
        rng = self.rng
        board = rng.color(rng.pick(_SIGN_COLORS), 0.3)
        surround = board * 0.7 if rng.chance(0.5) else self.trim
        pen.box(at + 0.05, 0, at + unit - 0.05, top - 0.1, surround)
        high = top - (1.0 if self.ground == "shop" else 0.4)
        panes = max(1, int(unit / rng.between(1.2, 2.6)))
        step = (unit - 0.4) / panes
        door = rng.integer(0, panes - 1)
        for i in range(panes):
            x = at + 0.2 + i * step
            upper, lower = self._pane(light, 0.9)
            low = 0.05 if i == door else 0.5
            pen.box(x, low, x + step - 0.1, high, lower, lit=False)
            pen.box(x, high - (high - low) * rng.between(0.2, 0.5), x + step - 0.1, high, upper, lit=False)
            for _ in range(rng.integer(0, 3)):  # goods and posters
                px, py = x + rng.between(0, max(step - 0.8, 0.05)), rng.between(low, max(high - 0.8, low + 0.1))
                pen.box(
                    px,
                    py,
                    px + rng.between(0.2, 0.6),
                    py + rng.between(0.2, 0.8),
                    rng.color(rng.pick(_SIGN_COLORS), 0.4) * 0.8,
                    lit=False,
                )
        if self.ground == "shop":
            pen.box(at + 0.05, high + 0.1, at + unit - 0.05, top - 0.15, board)
            self._lettering(pen, at + unit * 0.2, high + 0.25, unit * rng.between(0.3, 0.6), 0.4)
            if rng.chance(0.2):
                color = rng.color(rng.pick(_SIGN_COLORS), 0.3)
                stripes = max(2, int(unit / 0.5))
                for i in range(stripes):
                    x = at + 0.1 + i * (unit - 0.2) / stripes
                    pen.box(
                        x, high - 0.6, x + (unit - 0.2) / stripes, high + 0.2, color if i % 2 else color * 0.4 + 140
                    )

    def _lettering(self, pen: _Pen, x: float, y: float, length: float, height: float) -> None:
        """Strokes that look like letters from afar."""
        rng = self.rng
        ink = rng.color(rng.pick([(230, 232, 232), (30, 30, 30), (60, 190, 230), (40, 40, 180)]), 0.15)
        end = x + length
        while x < end:
            width = rng.between(0.3, 0.8) * height
            pen.box(x, y, x + width * 0.35, y + height, ink)
            if rng.chance(0.7):
                bar = y + rng.between(0, 0.8) * height
                pen.box(x, bar, x + width, bar + height * 0.2, ink)
            x += width + height * 0.2


class _Pen:
    """Boxes in metres on a wall's image; y runs up from the ground."""

    def __init__(self, image: np.ndarray, scale: float, lit: np.ndarray) -> None:
        self.image, self.scale, self.lit = image, scale, lit

    def box(self, x0: float, y0: float, x1: float, y1: float, color, lit: bool = True) -> None:
        rows = self.image.shape[0]
        left, right = max(int(x0 * self.scale), 0), max(int(round(x1 * self.scale)), 0)
        low, high = rows - max(int(y0 * self.scale), 0), max(rows - int(round(y1 * self.scale)), 0)
        if right > left and low > high:
            tone = color * self.lit if lit else color
            self.image[high:low, left:right] = np.minimum(tone, 252)
