"""Cars, vans, lorries and buses: a side outline, extruded; `vehicle_details` paints what shows on it."""

from __future__ import annotations

import numpy as np

from ppliteseg_paddle.synth.canvas import CAR
from ppliteseg_paddle.synth.vehicle_details import paint_flank, paint_nose, paint_tail
from ppliteseg_paddle.synth.vehicle_shape import VehicleShape


class Vehicle(VehicleShape):
    """A vehicle that casts its shadow and paints itself."""

    def cast(self) -> None:
        """Dark ground below, and a shadow away from the sun."""
        stage, half_l, half_w = self.stage, self.length / 2, self.width / 2
        base = ((-half_l, 0, -half_w), (half_l, 0, -half_w), (half_l, 0, half_w), (-half_l, 0, half_w))
        floor = self.world(base)
        stage.contacts.append(floor)
        if not stage.light.sunny:
            return
        ground = stage.ground
        for i in range(4):
            ground.wall_shadow(floor[i - 1], floor[i], self.height * 0.6)
        ground.roof_shadow(self.world([(x * 0.75, y, w * 0.85) for x, y, w in base]), self.height * 0.95)
        ground.roof_shadow(floor, self.height * 0.6)
        ground.shadow(floor)

    def paint(self) -> None:
        stage = self.stage
        depth = self.key()
        x, z = stage.street.point(self.s, self.z)
        if (
            depth - self.length * 0.5 - 0.3 < 0.8
            and min(
                stage.camera.depth(p[0], p[2])
                for p in self.world(
                    [(sx * self.length / 2, 0, sw * self.width / 2) for sx in (-1, 1) for sw in (-1, 1)]
                )
            )
            < 0.8
        ):
            return
        metre = stage.camera.focal / depth
        middle = stage.camera.spot(x, 0.5, z)[0]
        if (
            metre * self.height < 5
            or abs(middle - stage.canvas.width / 2) > stage.canvas.width / 2 + metre * self.length * 0.8
        ):
            return
        self.lit = stage.sun_at(self.s, self.z, 0.9)
        self.depth_now = depth
        self.detail = stage.camera.focal / depth * self.height > 22
        forward, left = self.axes()
        eye = stage.camera.eye - (x, 0.0, z)
        self.eye_x, self.eye_w = float(eye @ forward), float(eye @ left)
        self._underside()
        faces = self._skin()
        order = sorted(faces, key=lambda face: -face[0])
        for _, corners, color in order:
            stage.canvas.fill(self.flat(corners), color, CAR)
        sides = [side for side in (-1, 1) if self.eye_w * side > self.width / 2]
        for side in sides:
            paint_flank(self, side)
        if self.detail or self.height * stage.camera.focal / depth > 9:
            if self.eye_x < -self.length / 2:
                paint_tail(self)
            if self.eye_x > self.length / 2:
                paint_nose(self)

    def _skin(self) -> list[tuple[float, list, np.ndarray]]:
        """The strips over tail, roof and nose that face the camera: (distance, corners, color)."""
        out = []
        outline = self.row["outline"]
        eye = np.array([self.eye_x, float(self.stage.camera.eye[1])])
        for (x0, y0, what), (x1, y1, _) in zip(outline[:-1], outline[1:]):
            a = np.array([x0 * self.length, y0 * self.height])
            b = np.array([x1 * self.length, y1 * self.height])
            along = b - a
            normal = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
            if float(normal @ (eye - a)) <= 0:
                continue
            wa, wb = self.half_width(x0, y0), self.half_width(x1, y1)
            own = (normal[0], normal[1], 0.0)
            quads = [(a, b, wa, wb, self._surface(what, own))]
            if what == "glass":
                rim, tall = 0.88, 0.10
                inner_a, inner_b = a + along * tall, b - along * tall * 0.6
                middle = (inner_a + inner_b) / 2
                wm = (wa + wb) / 2
                quads = [
                    (a, b, wa, wb, self._surface("body", own)),
                    (inner_a, middle, wa * rim, wm * rim, self.tone((44, 42, 40), own, 0.25)),
                    (middle, inner_b, wm * rim, wb * rim, self.tone((50, 48, 46), own, 0.55)),
                ]
                if along[0] > 0 and along[1] < 0:
                    quads[1], quads[2] = quads[1][:4] + (quads[2][4],), quads[2][:4] + (quads[1][4],)
            distance = float(np.hypot(*((a + b) / 2 - eye)))
            for rank, (p, q, wp, wq, color) in enumerate(quads):
                corners = [(p[0], p[1], -wp), (p[0], p[1], wp), (q[0], q[1], wq), (q[0], q[1], -wq)]
                out.append((distance - rank * 1e-3, corners, color))
        return out

    def _surface(self, what: str, normal) -> np.ndarray:
        if what == "bumper":
            return self.tone(self.paint_color * 0.62, normal, self.gloss * 0.4)
        if what in ("tail", "nose", "doors"):
            return self.tone(self.paint_color * 0.92, normal, self.gloss * 0.6)
        return self.tone(self.paint_color, normal, self.gloss * (2.2 if normal[1] > 0.8 else 1.0))

    def _underside(self) -> None:
        """Wheels of the far side and the dark below the floor."""
        half_l, half_w, low = self.length * 0.45, self.width / 2 * 0.86, self.height * self.row["outline"][0][1] * 1.15
        dark = self.stage.light.far(np.array([14.0, 13, 13]), self.depth_now)
        canvas = self.stage.canvas
        for x in (-1, 1):
            self.panel(x * half_l, -half_w, half_w, 0.16, low, dark)
        for w in (-1, 1):
            canvas.fill(
                self.flat(
                    [
                        (-half_l, 0.16, w * half_w),
                        (half_l, 0.16, w * half_w),
                        (half_l, low, w * half_w),
                        (-half_l, low, w * half_w),
                    ]
                ),
                dark,
                CAR,
            )
        radius = self.row["wheel"]
        for along in self.wheels():
            for w in (-1, 1):
                if self.detail and self.eye_w * w < self.width / 2:
                    self.wheel(along, w * (self.width / 2 * 0.97 - 0.1), radius, dark, CAR)
