"""What shows on a vehicle's sides and ends: doors, windows, wheels, lights, plates."""

from __future__ import annotations

import math
from typing import Callable

import numpy as np

from ppliteseg_paddle.synth.canvas import CAR
from ppliteseg_paddle.synth.vehicle_shape import VehicleShape


def paint_flank(car: VehicleShape, side: int) -> None:
    """One side: body, sill, glasshouse, doors, wheels."""
    canvas, row = car.stage.canvas, car.row
    normal = (0.0, 0.0, float(side))
    belt = row["belt"]
    body = car.tone(car.paint_color, normal, car.gloss)
    lower = [(x, y) for x, y, _ in row["outline"]]

    def at(points):
        return car.flat([(x * car.length, y * car.height, side * car.half_width(x, y)) for x, y in points])

    canvas.fill(at(lower), body, CAR)
    flat = 0.46
    low = row["outline"][0][1]
    canvas.fill(at([(-flat, low), (flat, low), (flat, low + 0.10), (-flat, low + 0.10)]), body * 0.55)
    canvas.fill(at([(-flat, low + 0.10), (flat, low + 0.10), (flat, low + 0.17), (-flat, low + 0.17)]), body * 0.8)
    shine = np.minimum(body * 1.12 + 6, 252)
    if car.body not in ("lorry", "bus", "van"):
        canvas.fill(
            at([(-flat, belt - 0.10), (flat * 0.9, belt - 0.13), (flat * 0.9, belt - 0.10), (-flat, belt - 0.05)]),
            shine,
        )
    _side_glass(car, at, side, body)
    if not car.detail:
        for x in car.wheels():
            car.wheel(
                x, side * car.width / 2, row["wheel"], car.stage.light.far(np.array([22.0, 22, 23]), car.depth_now), CAR
            )
        return
    seam = body * 0.6
    for x in {"van": (0.12, 0.3), "lorry": (0.24,), "bus": (0.38, 0.46)}.get(car.body, (-0.22, 0.02, 0.2)):
        canvas.fill(at([(x, low + 0.08), (x + 0.006, low + 0.08), (x + 0.006, belt), (x, belt)]), seam)
    for x in (-0.06, 0.17):
        if car.body not in ("bus", "lorry"):
            canvas.fill(
                at([(x - 0.035, belt - 0.07), (x, belt - 0.07), (x, belt - 0.05), (x - 0.035, belt - 0.05)]), seam
            )
    _wheels(car, side)
    if car.body not in ("bus", "lorry"):
        mirror = [(0.16, belt), (0.205, belt), (0.205, belt + 0.09), (0.165, belt + 0.08)]
        canvas.fill(
            car.flat([(x * car.length, y * car.height, side * (car.width / 2 + 0.14)) for x, y in mirror]),
            body * 0.7,
            CAR,
        )


def _wheels(car: VehicleShape, side: int) -> None:
    """Wheel arch, tyre, rim, hub and wheel nuts of both wheels of a side."""
    dark = car.stage.light.far(np.array([20.0, 20, 21]), car.depth_now)
    rim = car.tone((150, 150, 150) if car.stage.rng.chance(0.7) else (60, 60, 60), (0.0, 0.0, float(side)))
    nut = max(car.stage.camera.focal / car.depth_now * 0.05, 1)
    for x in car.wheels():
        radius = car.row["wheel"]
        car.wheel(x, side * car.width / 2, radius * 1.17, dark * 0.6, CAR, radius * 0.17)
        car.wheel(x, side * car.width / 2, radius, dark, CAR)
        car.wheel(x, side * (car.width / 2 + 0.01), radius * 0.66, rim)
        car.wheel(x, side * (car.width / 2 + 0.01), radius * 0.2, dark)
        for spoke in range(5):
            turn = spoke * 1.2566 + 0.4
            mid = (x + radius * 0.44 * math.cos(turn), radius + radius * 0.44 * math.sin(turn), side * car.width / 2)
            point = car.flat([mid])[0]
            car.stage.canvas.disc(point, nut, nut, dark)


def _side_glass(car: VehicleShape, at: Callable[[list], list], side: int, body: np.ndarray) -> None:
    canvas, belt = car.stage.canvas, car.row["belt"]
    glass = car.tone((40, 38, 36), (0.0, 0.15, float(side)), 0.22)
    bright = glass * 0.72 + car.stage.light.sky_low * 0.16
    panes: list[list] = []
    if car.body in ("van", "lorry"):
        panes = (
            [[(0.16, 0.56), (0.345, 0.56), (0.245, 0.90), (0.16, 0.90)]]
            if car.body == "van"
            else [[(0.27, 0.5), (0.42, 0.5), (0.36, 0.76), (0.27, 0.76)]]
        )
    elif car.body == "bus":
        levels = ((0.42, 0.88),) if car.height < 3.5 else ((0.26, 0.46), (0.62, 0.84))
        for y0, y1 in levels:
            panes += [[(x, y0), (x + 0.105, y0), (x + 0.105, y1), (x, y1)] for x in np.arange(-0.47, 0.36, 0.118)]
    else:
        top = [p for p in car.row["outline"] if p[1] > belt + 0.02]
        rear, front = top[0][0], top[-1][0]
        roofs = [p[0] for p in top if p[1] > 0.92]
        back, fore = min(roofs) + 0.03, max(roofs) - 0.015
        rear = min(rear + 0.05, back)
        edge = [(rear, belt + 0.03), (front - 0.035, belt + 0.03), (fore, 0.91), (back, 0.91)]
        split = (-0.20, 0.01) if car.body == "estate" else (0.0,)
        cuts = [-1.0] + list(split) + [1.0]
        for lo, hi in zip(cuts[:-1], cuts[1:]):
            panes.append(_slice(edge, lo + 0.008, hi - 0.008))
    for pane in panes:
        if len(pane) > 2:
            canvas.fill(at(pane), glass)
            x0, x1 = min(p[0] for p in pane), max(p[0] for p in pane)
            upper = [(x, y) for x, y in pane if y > 0.8 * car.row["belt"] + 0.2]
            if len(upper) == 2 and car.detail:
                (xa, ya), (xb, yb) = upper
                mid = (belt + ya) / 2
                canvas.fill(
                    at(
                        [
                            (xa, ya),
                            (xb, yb),
                            (xb * 0.5 + x0 * 0.5 if xb < xa else xb, mid),
                            (xa * 0.5 + x1 * 0.5 if xa > xb else xa, mid),
                        ]
                    ),
                    bright,
                )


def paint_tail(car: VehicleShape) -> None:
    high, half, x = car.height, car.half_width(-0.5, 0.4), -car.length / 2 - 0.01
    red = np.array([30.0, 24, 150]) if not car.braking else np.array([60.0, 60, 252])
    red = car.stage.light.far(red * (1.0 if car.braking else 0.5 + 0.5 * car.stage.light.ambient), car.depth_now)
    tall = car.body in ("hatch", "estate", "van", "suv") and car.width > 1.7
    y0, y1 = (0.42, 0.72) if tall else (0.46, 0.58)
    if car.body in ("bus", "lorry"):
        y0, y1 = 0.2, 0.27
    wide = 0.16 if tall else 0.3
    for side in (-1, 1):
        car.panel(x, side * half * 0.97, side * half * (0.97 - wide), y0 * high, y1 * high, red, None)
        car.panel(
            x,
            side * half * 0.97,
            side * half * (0.97 - wide),
            (y0 + 0.3 * (y1 - y0)) * high,
            (y0 + 0.5 * (y1 - y0)) * high,
            red * 0.5 + 90,
            None,
        )
    plate_y = 0.30 if car.body in ("van", "suv", "bus", "lorry") else 0.44
    car.panel(x, -0.26, 0.26, plate_y * high, plate_y * high + 0.11, car.tone(car.plate, (-1.0, 0, 0)), None)
    if car.body in ("van", "lorry"):
        seam = car.tone(car.paint_color * 0.55, (-1.0, 0, 0))
        car.panel(x, -0.02, 0.02, 0.3 * high, 0.95 * high, seam, None)
        if car.body == "van":
            for side in (-1, 1):
                car.panel(
                    x,
                    side * 0.12,
                    side * half * 0.75,
                    0.58 * high,
                    0.85 * high,
                    car.tone((42, 40, 38), (-1.0, 0.1, 0), 0.3),
                    None,
                )
    car.panel(
        x, -half * 0.9, half * 0.9, 0.21 * high, 0.27 * high, car.tone(car.paint_color * 0.35, (-1.0, 0, 0)), None
    )


def paint_nose(car: VehicleShape) -> None:
    high, half, x = car.height, car.half_width(0.5, 0.4), car.length / 2 + 0.01
    lamp = car.tone((205, 205, 200), (1.0, 0, 0), 0.3)
    if car.stage.rng.chance(0.25 if car.stage.light.weather not in ("dusk", "wet") else 0.8):
        lamp = np.array([225.0, 245, 252])
    y = {"bus": 0.2, "lorry": 0.28, "van": 0.34}.get(car.body, 0.40)
    dark = car.tone((30, 30, 30), (1.0, 0, 0))
    car.panel(x, -half * 0.6, half * 0.6, (y - 0.04) * high, (y + 0.05) * high, dark, None)
    for side in (-1, 1):
        car.panel(x, side * half * 0.96, side * half * 0.62, (y + 0.0) * high, (y + 0.055) * high, lamp, None)
    car.panel(x, -half * 0.8, half * 0.8, 0.19 * high, 0.24 * high, dark, None)
    car.panel(x, -0.26, 0.26, 0.24 * high, 0.24 * high + 0.11, car.tone(car.plate, (1.0, 0, 0)), None)


def _slice(polygon: list[tuple[float, float]], low: float, high: float) -> list[tuple[float, float]]:
    """The part of a polygon with low <= x <= high."""
    for limit, sign in ((low, 1), (high, -1)):
        kept = []
        for i, a in enumerate(polygon):
            b = polygon[(i + 1) % len(polygon)]
            inside_a, inside_b = (a[0] - limit) * sign >= 0, (b[0] - limit) * sign >= 0
            if inside_a:
                kept.append(a)
            if inside_a != inside_b:
                t = (limit - a[0]) / (b[0] - a[0])
                kept.append((limit, a[1] + (b[1] - a[1]) * t))
        polygon = kept
        if not polygon:
            break
    return polygon
