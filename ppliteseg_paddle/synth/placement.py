"""What stands and moves on a street, and where."""

from __future__ import annotations

import math

from ppliteseg_paddle.synth.barriers import fence_line
from ppliteseg_paddle.synth.furniture import Bin, Bollard, LampPost, Sign, TrafficLight
from ppliteseg_paddle.synth.people import Bicycle, Pedestrian
from ppliteseg_paddle.synth.plants import Hedge, Season, Shrub, Tree
from ppliteseg_paddle.synth.rng import Rng
from ppliteseg_paddle.synth.stage import Stage
from ppliteseg_paddle.synth.vehicles import Vehicle

FAR = 85.0  # metres: what is further away would be a few pixels


def place_everything(stage: Stage) -> list:
    """All things but houses, in no order."""
    season = Season(stage)
    things: list = []
    for side in (-1, 1):
        things += _greenery(stage, season, side)
        things += _furniture(stage, side)
        things += _people(stage, side)
    things += _parked(stage) + _traffic(stage) + _cyclists(stage)
    return things


def _far(stage: Stage) -> float:
    return min(FAR, stage.street.end - (8 if stage.street.closed else 0))


def _spots(rng: Rng, start: float, stop: float, step: float, jitter: float) -> list[float]:
    out, z = [], start + rng.between(0, step)
    while z < stop:
        out.append(z + rng.between(-jitter, jitter))
        z += step
    return out


def _greenery(stage: Stage, season: Season, side: int) -> list:
    rng, street = stage.rng, stage.street
    plan, traits, far = street.sides[side], street.traits, _far(stage)
    out: list = []
    inner = side * (street.half + plan.pavement)
    if rng.chance(min(traits["trees"], 0.9)) and (plan.pavement > 1.8 or plan.setback > 1.5):  # a row of street trees
        s = side * (street.half + 0.8) if plan.pavement > 1.8 else inner + side * 0.8
        for z in _spots(rng, 2, far, rng.between(7, 14), 1.5):
            if not street.open_at(side, z, z, 2) and rng.chance(0.85):
                out.append(Tree(stage, season, s, z))
    built = [(z0, z1) for z0, z1, _, _ in street.roofs[side]]
    for z in _spots(rng, 0, min(far + 20, 100), 6.0, 3.0):  # trees in gaps, parks and gardens
        free = not any(z0 - 1.5 < z < z1 + 1.5 for z0, z1 in built)
        if street.open_at(side, z, z, 3):
            continue
        if free and rng.chance(0.75):
            out.append(Tree(stage, season, inner + side * rng.between(2, 12), z))
        elif plan.yard in ("garden", "grass") and plan.setback > 2.5 and rng.chance(0.25 * traits["trees"] + 0.08):
            out.append(Tree(stage, season, inner + side * rng.between(0.8, plan.setback - 1), z))
        if plan.setback > 1.5 and plan.yard == "garden" and rng.chance(0.3):
            out.append(Shrub(stage, season, inner + side * rng.between(0.6, plan.setback), z, rng.between(0.4, 1.1)))
    if plan.setback > 1.5:
        for z0, z1 in street.pieces(side, -2, min(far, 60), 2.0):
            kind = rng.weighted(
                {
                    "none": 0.32,
                    "hedge": 0.2,
                    "planks": 0.16,
                    "pickets": 0.1,
                    "railing": 0.12,
                    "wall": 0.18,
                    "mesh": 0.12,
                }
            )
            if kind == "hedge":
                z, high = z0, rng.between(0.8, 1.9)
                while z < z1 - 1:
                    length = min(rng.between(4, 9), z1 - z)
                    if rng.chance(0.85):
                        out.append(Hedge(stage, season, inner + side * 0.4, z, z + length, high))
                    z += length
            elif kind != "none":
                out += fence_line(stage, kind, inner + side * 0.15, z0, z1)
    return out


def _furniture(stage: Stage, side: int) -> list:
    rng, street = stage.rng, stage.street
    plan, traits, far = street.sides[side], street.traits, _far(stage)
    kerb = street.kerb(side) + side * 0.5
    out: list = []
    if rng.chance(0.85):
        for z in _spots(rng, 3, far, rng.between(14, 26) / traits["poles"], 3):
            if not street.open_at(side, z, z, 0.5):
                out.append(
                    LampPost(stage, kerb if rng.chance(0.7) else side * (street.half + plan.pavement - 0.3), z, -side)
                )
    for z in _spots(rng, 4, min(far, 60), rng.between(9, 17) / traits["signs"], 4):
        if not street.open_at(side, z, z) and rng.chance(0.8):
            out.append(Sign(stage, kerb + side * rng.between(0, 0.5), z))
    for crossing in street.crossings:
        if rng.chance(0.5):
            out.append(TrafficLight(stage, kerb, crossing.z0 - 0.6, -side))
            if rng.chance(0.6):
                out.append(TrafficLight(stage, kerb, crossing.z1 + 0.6, -side))
    if rng.chance(0.18):
        for z in (rng.between(8, 25),) * 1:
            out += [TrafficLight(stage, kerb, z, -side)]
    if rng.chance(traits["rails"]):  # guard rail at the kerb
        start = rng.between(-2, 20)
        kind = rng.weighted({"railing": 0.75, "guard": 0.25})
        for z0, z1 in street.pieces(side, start, min(start + rng.between(8, 40), far), 0.5):
            out += fence_line(stage, kind, street.kerb(side) + side * 0.35, z0, z1)
    elif rng.chance(0.22):
        wide, color = (rng.between(0.1, 0.22), rng.color(rng.pick([(40, 42, 42), (120, 122, 122), (60, 84, 104)]), 0.2))
        start = rng.between(2, 15)
        for z in _spots(rng, start, start + rng.between(6, 20), rng.between(1.3, 2.2), 0.02):
            out.append(Bollard(stage, street.kerb(side) + side * 0.45, z, wide, color))
    for _ in range(rng.integer(0, 2)):
        z = rng.between(4, 40)
        if not street.open_at(side, z, z, 1):
            out.append(Bin(stage, side * (street.half + rng.between(0.5, plan.pavement)), z))
    return out


def _people(stage: Stage, side: int) -> list:
    rng, street = stage.rng, stage.street
    plan = street.sides[side]
    out: list[Pedestrian | Bicycle] = []
    groups = int(rng.between(0, 5.5) * street.traits["people"] * 0.8 + 0.3)
    for _ in range(groups):
        z = 4 + 46 * rng.unit() ** 1.2
        s = side * (street.half + rng.between(0.4, max(plan.pavement - 0.3, 0.6)))
        along = 0.0 if rng.chance(0.5) else math.pi
        for _ in range(rng.weighted({1: 0.55, 2: 0.3, 3: 0.15})):
            out.append(Pedestrian(stage, s + rng.bell(0, 0.3), z + rng.bell(0, 0.35), along + rng.bell(0, 0.3)))
    if rng.chance(0.22 * min(street.traits["people"], 1.5)):  # someone crosses
        z = rng.between(6, 28)
        for _ in range(rng.integer(1, 3)):
            out.append(
                Pedestrian(
                    stage,
                    rng.between(-1, 1) * street.half,
                    z + rng.bell(0, 0.8),
                    rng.side() * math.pi / 2 + rng.bell(0, 0.2),
                )
            )
    if rng.chance(0.16):  # bicycles leaning about
        z = rng.between(5, 25)
        for _ in range(rng.integer(1, 6)):
            out.append(
                Bicycle(
                    stage,
                    side * (street.half + plan.pavement * 0.7),
                    z,
                    rng.pick([0, math.pi / 2]) + rng.bell(0, 0.2),
                    rider=False,
                )
            )
            z += 0.6
    return out


def _parked(stage: Stage) -> list:
    rng, street = stage.rng, stage.street
    far, out = _far(stage), []
    if street.kind == "car_park":
        for side in (-1, 1):
            for z in _spots(rng, 3.5, street.end - 8, 2.6, 0.1):
                if rng.chance(0.72):
                    s = street.kerb(side) - side * 2.6
                    car = Vehicle(stage, s, z, rng.side() * math.pi / 2 + rng.bell(0, 0.03))
                    if car.length < 5.5:
                        out.append(car)
        return out
    for side in (-1, 1):
        if not rng.chance(min(0.75 * street.traits["parked"], 0.9)):
            continue
        density = rng.between(0.25, 0.95)
        facing = 0.0 if side == street.keep else math.pi
        z = rng.between(2, 16)
        while z < far:
            car = Vehicle(stage, 0.0, z, (facing if rng.chance(0.85) else facing + math.pi) + rng.bell(0, 0.015))
            z += car.length / 2
            car.z, car.s = z, street.kerb(side) - side * (car.width / 2 + rng.between(0.05, 0.35))
            clear = not street.open_at(side, z - car.length / 2, z + car.length / 2, 2.5)
            if clear and rng.chance(density) and car.body not in ("bus", "lorry"):
                out.append(car)
            z += car.length / 2 + rng.between(0.6, 1.8)
    return out


def _traffic(stage: Stage) -> list:
    rng, street = stage.rng, stage.street
    traits, far, out = street.traits, _far(stage), []
    lanes_each = max(1, street.lanes // 2)
    for direction in (0, 1):
        for lane in range(lanes_each):
            side = street.keep if direction == 0 else -street.keep
            s = side * street.half * (lane + 0.5) / lanes_each
            if lanes_each == 1:
                s = side * min(street.half * 0.45, 2.0)
            z = rng.between(7, 30)
            while z < far:
                if rng.chance(min(0.42 * traits["traffic"], 0.85)):
                    facing = 0.0 if direction == 0 else math.pi
                    out.append(
                        Vehicle(stage, s + rng.bell(0, 0.15), z, facing + rng.bell(0, 0.03), braking=rng.chance(0.3))
                    )
                z += rng.between(8, 22)
    for crossing in street.crossings:  # someone comes out of a side street or crosses ahead
        if rng.chance(0.45):
            z = (crossing.z0 + crossing.z1) / 2 + rng.bell(0, 1.0)
            reach = street.half + 8
            s = rng.between(-reach, reach)
            if crossing.sides == (-1,) or crossing.sides == (1,):
                s = crossing.sides[0] * rng.between(street.half * 0.8, reach + 4)
            if z > 7:
                out.append(Vehicle(stage, s, z, rng.side() * math.pi / 2 + rng.bell(0, 0.1)))
    return _without_collisions(out, stage)


def _without_collisions(cars: list[Vehicle], stage: Stage) -> list[Vehicle]:
    kept: list[Vehicle] = []
    for car in cars:
        clear = all(
            abs(car.z - k.z) > (car.length + k.length) / 2 + 0.8 or abs(car.s - k.s) > (car.length + k.length) / 2
            if abs(math.sin(car.heading)) > 0.5 or abs(math.sin(k.heading)) > 0.5
            else abs(car.z - k.z) > (car.length + k.length) / 2 + 0.8 or abs(car.s - k.s) > 2.2
            for k in kept
        )
        own_lane = abs(car.s - float(stage.camera.eye[0])) < 1.8 and car.z < 7 + car.length / 2
        if clear and not own_lane:
            kept.append(car)
    return kept


def _cyclists(stage: Stage) -> list:
    rng, street, out = stage.rng, stage.street, []
    count = rng.weighted({0: 0.5, 1: 0.28, 2: 0.15, 3: 0.07})
    for _ in range(count):
        side = rng.side()
        facing = 0.0 if side == street.keep else math.pi
        z = 5 + 30 * rng.unit() ** 1.3
        out.append(Bicycle(stage, side * (street.half - rng.between(0.6, 2.4)), z, facing + rng.bell(0, 0.08)))
    if rng.chance(0.08):
        out.append(Bicycle(stage, rng.between(-1, 1) * street.half, rng.between(7, 20), rng.side() * math.pi / 2))
    return out
