"""What everything is painted on: an image and its labels, in step, supersampled.

Painting is hard-edged on a canvas that is larger than the image by `SUPERSAMPLING`; shrinking it gives
smooth edges in the image, while the labels stay whole.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from ppliteseg_paddle.reading.label_sets import LABEL_SETS

_SHIFT = 3  # fractional bits of polygon corners
_ONE = float(1 << _SHIFT)

VOID = LABEL_SETS["camvid"].ignore_index
(SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST) = range(11)


def fixed(points) -> np.ndarray:
    """Canvas points (N, 2), array or list, as OpenCV's fixed point numbers. Pixel (0, 0) covers [0, 1) x [0, 1)."""
    return (np.array(points) * _ONE - _ONE / 2).astype(np.int32)


class Canvas:
    """A BGR image and its class ids.

    Args:
        width, height: size of the final image.
        supersampling: canvas pixels per image pixel, 1 or 2.
    """

    def __init__(self, width: int, height: int, supersampling: int = 2) -> None:
        self.supersampling = supersampling
        self.width, self.height = width * supersampling, height * supersampling
        self.image = np.zeros((self.height, self.width, 3), np.uint8)
        self.label = np.zeros((self.height, self.width), np.uint8)

    def fill(self, points, color, label: int | None = None) -> None:
        """Fill a polygon, array (N, 2) or list; without a label the labels stay (a detail of what is there)."""
        self.fill_fixed(fixed(points), color, label)

    def fill_fixed(self, polygon: np.ndarray, color, label: int | None = None) -> None:
        """Fill a polygon made by `fixed`."""
        cv2.fillPoly(self.image, [polygon], (float(color[0]), float(color[1]), float(color[2])), cv2.LINE_8, _SHIFT)
        if label is not None:
            cv2.fillPoly(self.label, [polygon], label, cv2.LINE_8, _SHIFT)

    def line(self, a, b, width: float, color, label: int | None = None) -> None:
        """A bar from `a` to `b`, `width` pixels wide, at least one."""
        self._bar(a, b, max(width, 1.0) - 0.99, max(width, 1.0) - 0.99, color, label)

    def _bar(self, a, b, width_a: float, width_b: float, color, label: int | None) -> None:
        ax, ay, bx, by = float(a[0]), float(a[1]), float(b[0]), float(b[1])
        if max(width_a, width_b) < 2.6:  # too thin to show a shape: OpenCV's own lines cost a third
            start, end = (int(ax * _ONE), int(ay * _ONE)), (int(bx * _ONE), int(by * _ONE))
            thick = max(int((width_a + width_b) / 2 + 0.8), 1)
            cv2.line(
                self.image, start, end, (float(color[0]), float(color[1]), float(color[2])), thick, cv2.LINE_8, _SHIFT
            )
            if label is not None:
                cv2.line(self.label, start, end, label, thick, cv2.LINE_8, _SHIFT)
            return
        length = math.hypot(bx - ax, by - ay)
        if length < 1e-6:
            return
        nu, nv = (ay - by) / length / 2, (bx - ax) / length / 2
        self.fill(
            [
                (ax + nu * width_a, ay + nv * width_a),
                (bx + nu * width_b, by + nv * width_b),
                (bx - nu * width_b, by - nv * width_b),
                (ax - nu * width_a, ay - nv * width_a),
            ],
            color,
            label,
        )

    def taper(self, a, b, width_a: float, width_b: float, color, label: int | None = None) -> None:
        """A limb: a bar with round ends whose width changes from `width_a` to `width_b`."""
        self._bar(a, b, width_a - 0.5, width_b - 0.5, color, label)
        for centre, width in ((a, width_a), (b, width_b)):
            if width > 3.5:
                self.disc(centre, width / 2, width / 2, color, label)

    def box(self, a, b, color, label: int | None = None) -> None:
        """A rectangle from corner to corner."""
        self.fill([(a[0], a[1]), (b[0], a[1]), (b[0], b[1]), (a[0], b[1])], color, label)

    def disc(
        self, centre, radius_u: float, radius_v: float, color, label: int | None = None, angle: float = 0.0
    ) -> None:
        """A filled ellipse."""
        middle = (int(centre[0] * _ONE - _ONE / 2), int(centre[1] * _ONE - _ONE / 2))
        axes = (max(int(radius_u * _ONE), 1), max(int(radius_v * _ONE), 1))
        paint = (float(color[0]), float(color[1]), float(color[2]))
        cv2.ellipse(self.image, middle, axes, angle, 0, 360, paint, -1, cv2.LINE_8, _SHIFT)
        if label is not None:
            cv2.ellipse(self.label, middle, axes, angle, 0, 360, label, -1, cv2.LINE_8, _SHIFT)

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int] | None:
        """The canvas pixels (x0, y0, x1, y1) that a box touches, or None."""
        x0, y0 = max(int(left), 0), max(int(top), 0)
        x1, y1 = min(int(right) + 1, self.width), min(int(bottom) + 1, self.height)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def warp(
        self, texture: np.ndarray, quad: np.ndarray, label: int | None = None, mask: np.ndarray | None = None
    ) -> None:
        """Paint a texture (h, w, 3) onto the quadrilateral that its corners go to.

        Args:
            quad: canvas points (4, 2) of the texture's top left, top right, bottom right, bottom left.
            mask: (h, w) uint8, 255 where the texture is solid; `label` covers the whole quad all the same,
                as annotators do with railings.
        """
        low, high = quad.min(0), quad.max(0)
        box = self.window(low[0], low[1], high[0], high[1])
        if box is None:
            return
        x0, y0, x1, y1 = box
        rows, columns = texture.shape[:2]
        source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32) - 0.5
        matrix = cv2.getPerspectiveTransform(source, (quad - (x0 + 0.5, y0 + 0.5)).astype(np.float32))
        roi = self.image[y0:y1, x0:x1]
        size = (x1 - x0, y1 - y0)
        if mask is None:
            shape = np.zeros((size[1], size[0]), np.uint8)
            cv2.fillPoly(shape, [fixed(quad - (x0, y0))], 255, cv2.LINE_8, _SHIFT)
            painted = cv2.warpPerspective(
                texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        else:
            shape = cv2.warpPerspective(mask, matrix, size, flags=cv2.INTER_LINEAR)
            shape = cv2.threshold(shape, 110, 255, cv2.THRESH_BINARY)[1]
            painted = cv2.warpPerspective(
                texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        cv2.copyTo(painted, shape, roi)
        if label is not None:
            cv2.fillPoly(self.label, [fixed(quad)], label, cv2.LINE_8, _SHIFT)

    def stamp(
        self, sprite: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int], label: int | None = None
    ) -> None:
        """Paint `sprite` (h, w, 3) where `mask` (h, w) is not 0, into the pixels of `box` (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = box
        cv2.copyTo(sprite, mask, self.image[y0:y1, x0:x1])
        if label is not None:
            self.label[y0:y1, x0:x1][mask > 0] = label

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The image and its labels at the image's size."""
        if self.supersampling == 1:
            return self.image, self.label
        image = cv2.resize(self.image, (self.width // 2, self.height // 2), interpolation=cv2.INTER_AREA)
        a, b, c, d = (np.ascontiguousarray(self.label[v::2, u::2]) for v in (0, 1) for u in (0, 1))
        # The class that at least two of the four canvas pixels have; the first pixel's if it is one of them.
        label = a.copy()
        lonely = cv2.bitwise_not(
            cv2.max(
                cv2.max(cv2.compare(a, b, cv2.CMP_EQ), cv2.compare(a, c, cv2.CMP_EQ)), cv2.compare(a, d, cv2.CMP_EQ)
            )
        )
        cv2.copyTo(c, cv2.min(lonely, cv2.compare(c, d, cv2.CMP_EQ)), label)
        same = cv2.max(cv2.compare(b, c, cv2.CMP_EQ), cv2.compare(b, d, cv2.CMP_EQ))
        cv2.copyTo(b, cv2.min(lonely, same), label)
        return image, label
