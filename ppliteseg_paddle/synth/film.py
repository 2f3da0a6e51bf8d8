"""A film of a generated scene: the camera pans, rolls, zooms and shakes, cars and people cross, labels are exact.

A scene is drawn once, half as large again as the film; each frame is what the camera sees of it, with noise and a
compression of its own. So the picture of the street moves by a known similarity, without parallax.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.synth.canvas import BICYCLIST, CAR, PEDESTRIAN
from ppliteseg_paddle.synth.scene import render_scene

_LARGER = 1.5  # the drawn scene, to the film
_MIN_AREA, _MAX_AREA = 0.004, 0.1  # area of what crosses, to the scene's
_NOISE, _QUALITY = 4.0, 75  # standard deviation in levels; JPEG, in place of a camera's video codec
_TRIES = 12  # scenes that are searched for something that crosses


class Frame(NamedTuple):
    """`image` (H, W, 3) uint8 BGR, `label` (H, W) uint8; `before`, of every frame but the first: (2, 3), from a place
    (x, y, 1) in this frame to that of the same piece of street in the frame before."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    before: NDArray[np.float64] | None


class _Crosser(NamedTuple):
    """Something cut out of another scene. `inside` (h, w) bool; `left`, `top`: where it starts; `speed`: to the right,
    pixels a frame."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    left: int
    top: int
    speed: float


def film(seed: int, size: tuple[int, int], frames: int, speed: float, crossing: int = 2) -> Iterator[Frame]:
    """Draw a film. The same arguments give the same frames.

    Args: size: (width, height); speed: of the camera, about so many pixels a frame, 0 for one that stands still;
        crossing: how many cars, people and bicyclists move through the picture, by 1.5 times as many, and 1.5 at least.
    """
    drawn = round(size[0] * _LARGER), round(size[1] * _LARGER)
    rng = np.random.default_rng((seed, 0))
    image, label = render_scene(np.random.default_rng((seed, 1)), drawn)
    crossers = list(itertools.islice(_crossers(seed, drawn, max(1.5 * speed, 1.5)), crossing))
    phases = rng.uniform(0, 2 * np.pi, 4)
    last: NDArray[np.float64] | None = None
    for time in range(frames):
        picture, ids = image.copy(), label.copy()
        for each in crossers:
            _paint(each, time, picture, ids)
        view = _view(time, size, drawn, speed, phases, rng)
        sees = dict(dsize=size, borderMode=cv2.BORDER_REPLICATE)
        picture = cv2.warpAffine(picture, view[:2], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **sees)
        ids = cv2.warpAffine(ids, view[:2], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, **sees)
        yield Frame(_recorded(picture, rng), ids, None if last is None else (np.linalg.inv(last) @ view)[:2])
        last = view


def _view(
    time: int,
    size: tuple[int, int],
    drawn: tuple[int, int],
    speed: float,
    phases: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Where in the drawn scene the places of a frame are. Shape: (3, 3)."""
    reach = 0.15 * size[0]
    angle = speed / reach * time
    x = drawn[0] / 2 + reach * np.sin(angle + phases[0])
    y = drawn[1] / 2 + 0.3 * reach * np.sin(1.7 * angle + phases[1])
    if speed:  # a car shakes
        x, y = x + rng.normal(0, 0.3), y + rng.normal(0, 0.3)
    zoom, roll = 1 / (1.05 + 0.1 * np.sin(angle + phases[2])), 0.02 * np.sin(angle + phases[3])
    c, s = np.cos(roll) * zoom, np.sin(roll) * zoom
    half = size[0] / 2, size[1] / 2
    return np.array([[c, -s, x - c * half[0] + s * half[1]], [s, c, y - s * half[0] - c * half[1]], [0, 0, 1]])


def _recorded(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    noisy = np.clip(picture + rng.normal(0, _NOISE, picture.shape), 0, 255).round().astype(np.uint8)
    coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    found: NDArray[np.uint8] = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return found


def _crossers(seed: int, drawn: tuple[int, int], speed: float) -> Iterator[_Crosser]:
    """What other scenes have of cars, people and bicyclists in one piece, every other one to the left."""
    direction = itertools.cycle((1, -1))
    for number in range(_TRIES):
        image, label = render_scene(np.random.default_rng((seed, 2 + number)), drawn)
        movable = np.isin(label, (CAR, PEDESTRIAN, BICYCLIST)).astype(np.uint8)
        count, regions, boxes, _ = cv2.connectedComponentsWithStats(movable)
        for region in range(1, count):
            x, y, width, height, area = (int(value) for value in boxes[region])
            if _MIN_AREA < area / movable.size < _MAX_AREA and x > 0 and x + width < drawn[0]:
                part = slice(y, y + height), slice(x, x + width)
                inside = regions[part] == region
                yield _Crosser(image[part], label[part], inside, x, y, next(direction) * speed)
                break


def _paint(crosser: _Crosser, time: int, picture: NDArray[np.uint8], ids: NDArray[np.uint8]) -> None:
    """Paint it where it is at that time, as far as it is in the scene."""
    height, width = crosser.inside.shape
    left = round(crosser.left + crosser.speed * time)
    start, stop = max(0, left), min(ids.shape[1], left + width)
    if start >= stop:
        return
    there, own = (slice(crosser.top, crosser.top + height), slice(start, stop)), slice(start - left, stop - left)
    inside = crosser.inside[:, own]
    picture[there][inside] = crosser.image[:, own][inside]
    ids[there][inside] = crosser.label[:, own][inside]
