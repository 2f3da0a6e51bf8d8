"""Color jitter in 8-bit arithmetic: PaddleSeg's `RandomDistort` without the way through Pillow.

Images are BGR, uint8. Brightness and contrast equal Pillow's in every value, given the same mean; saturation and
sharpness to one level; hue to twelve, and 0.7 on average even on noise, because Pillow cuts hue and saturation down to
whole 255ths where OpenCV rounds (the shift of one 255th that comes of this is in ours, too).

Source: PaddleSeg `transforms/functional.py`, Pillow's ImageEnhance.
"""

from __future__ import annotations

from typing import Callable

import cv2
import numpy as np

from ppliteseg_paddle.errors import ConfigError

Operation = tuple[str, float]  # name and factor; of hue the shift in 255ths of the circle

_GRAY_OF_BGR = np.array([0.114, 0.587, 0.299])
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
_LEVELS = np.arange(256, dtype=np.float32)
# What turns OpenCV's rounding of a weighted sum into Pillow's cutting off, with a little left for sums that are whole.
_CUT = -0.499


class ColorJitter:
    """Brightness, contrast, saturation, hue and sharpness, each with its probability, in random order.

    Args: those of PaddleSeg's `RandomDistort`, with its defaults. A range r draws the factor from 1 - r to 1 + r, of
        hue the shift from -r to r.
    Raises: ConfigError: for a value out of range.
    """

    def __init__(
        self,
        brightness_range=0.5,
        brightness_prob=0.5,
        contrast_range=0.5,
        contrast_prob=0.5,
        saturation_range=0.5,
        saturation_prob=0.5,
        hue_range=18,
        hue_prob=0.5,
        sharpness_range=0.5,
        sharpness_prob=0,
    ):
        self.ranges = {
            "brightness": brightness_range,
            "contrast": contrast_range,
            "saturation": saturation_range,
            "sharpness": sharpness_range,
            "hue": hue_range,
        }
        self.probs = {
            "brightness": brightness_prob,
            "contrast": contrast_prob,
            "saturation": saturation_prob,
            "sharpness": sharpness_prob,
            "hue": hue_prob,
        }
        for name, value in self.ranges.items():
            limit = 127 if name == "hue" else 1
            if not 0 <= value <= limit:
                raise ConfigError(f"{name}_range is {value!r}: allowed are numbers from 0 to {limit:d}.")
        for name, value in self.probs.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}_prob is {value!r}: allowed are numbers from 0 to 1.")

    def draw(self, generator: np.random.Generator, channels: int = 3) -> list[Operation]:
        """What happens to one image, in order. Only color has a hue; only color and gray, which it leaves unchanged, a
        saturation."""
        without = () if channels == 3 else ("hue",) if channels == 1 else ("hue", "saturation")
        names = [name for name in self.ranges if name not in without]
        order = generator.permutation(len(names))
        chances, factors = generator.random(len(names)), generator.uniform(-1, 1, len(names))
        return [
            (names[i], self.ranges[names[i]] * factors[i] + (names[i] != "hue"))
            for i in order
            if chances[i] < self.probs[names[i]]
        ]


def apply(
    image: np.ndarray, operations: list[Operation], padding: np.ndarray, padded: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Carry out `operations` on an image and on the color of the padding around it.

    Args:
        padding: (1, 1, C) or (1, 1) like `image`; padded: pixels of that color outside `image`. They count in the mean
            that contrast is taken against, as in PaddleSeg, where the jitter follows the crop.
    Shape: image (H, W, C), of three channels BGR, or (H, W), uint8 or levels in float32; returns image and padding.
        `image` itself stays as it is.
    """
    if image.dtype != np.uint8:
        return _apply_to_levels(image, operations, padding, padded)
    for name, factor in operations:
        if name == "contrast":
            table = contrast_table(factor, _gray_mean(image, padding, padded))
            image, padding = cv2.LUT(image, table), cv2.LUT(padding, table)
        else:
            image, padding = OPERATIONS[name](image, factor), OPERATIONS[name](padding, factor)
        if padding.ndim < image.ndim:
            padding = padding.reshape(1, 1, -1)
    return image, padding


def _apply_to_levels(
    image: np.ndarray, operations: list[Operation], padding: np.ndarray, padded: int
) -> tuple[np.ndarray, np.ndarray]:
    """`apply` for levels in floating point: the same operations, without rounding to 256 of them."""
    area = image.shape[0] * image.shape[1]
    for name, factor in operations:
        mean = _mean_of(image, padding, padded, area) if name == "contrast" else 0.0
        image, padding = (_on_levels(name, factor, mean, pixels) for pixels in (image, padding))
    return image, padding


def _on_levels(name: str, factor: float, mean: float, image: np.ndarray) -> np.ndarray:
    if name == "hue":
        hsv = cv2.cvtColor(image / np.float32(255), cv2.COLOR_BGR2HSV)  # hue in degrees
        hsv[..., 0] = (hsv[..., 0] + np.float32(factor * 360 / 255)) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR) * np.float32(255)
    other: np.ndarray | np.float32 = np.float32(mean)  # what the factor is taken against
    if name == "saturation":
        if image.ndim == 2:
            return image
        other = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    elif name == "sharpness":
        other = _smooth(image)
    return np.clip(other + np.float32(factor) * (image - other), 0, 255)


def contrast_table(factor: float, mean: int) -> np.ndarray:
    """Values of all 256 levels after the contrast to `mean` has been multiplied by `factor`."""
    return _table(mean + np.float32(factor) * (_LEVELS - mean))


def _table(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)  # cut off, as Pillow does


def _gray_mean(image: np.ndarray, padding: np.ndarray, padded: int) -> int:
    """The mean brightness, rounded. Taken from the channels' means; Pillow rounds each pixel's, which is nothing on
    average."""
    area = image.shape[0] * image.shape[1]
    return int(_mean_of(image, padding, padded, area) + 0.5)


def _mean_of(image: np.ndarray, padding: np.ndarray, padded: int, area: int) -> float:
    channels = 1 if image.ndim == 2 else image.shape[2]
    means = np.array(cv2.mean(image)[:channels]) if channels <= 4 else image.reshape(-1, channels).mean(axis=0)
    means = (means * area + padding.reshape(-1).astype(float) * padded) / (area + padded)
    return float(means @ _GRAY_OF_BGR if channels == 3 else means.mean())


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.LUT(image, _table(np.float32(factor) * _LEVELS))


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    if image.ndim == 2:
        return image
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, factor, gray, 1 - factor, _CUT)


def _hue(image: np.ndarray, shift: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    table = np.empty((1, 256, 3), np.uint8)
    # OpenCV's circle has 256 steps on the way there and 255 on the way back. Pillow cuts off twice: half a step each.
    table[0, :, 0] = np.floor(_LEVELS * (255 / 256) + shift - 0.5) % 255
    table[0, :, 1:] = _LEVELS[:, None]
    return cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2BGR_FULL)


def _sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.addWeighted(image, factor, _smooth(image), 1 - factor, _CUT)


def _smooth(image: np.ndarray) -> np.ndarray:
    smooth = image.copy()
    if min(image.shape[:2]) > 2:  # Pillow leaves the outermost pixels alone
        smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, _SMOOTH)[1:-1, 1:-1]
    return smooth


OPERATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": _brightness,
    "saturation": _saturation,
    "hue": _hue,
    "sharpness": _sharpness,
}
