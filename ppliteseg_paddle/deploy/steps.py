"""The transforms that can be part of an exported model: their arguments, checked, and the size that each makes.

Source: PaddleSeg `transforms/transforms.py`, `transforms/functional.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

import cv2

from ppliteseg_paddle.errors import ConfigError, DataError, suggest

INTERPOLATIONS = {
    "NEAREST": cv2.INTER_NEAREST,
    "LINEAR": cv2.INTER_LINEAR,
    "CUBIC": cv2.INTER_CUBIC,
    "AREA": cv2.INTER_AREA,
    "LANCZOS4": cv2.INTER_LANCZOS4,
}
# OpenCV's own limit on an image's side; a larger size is a slip in a file.
MAX_SIDE = 32767

# --------------------------------------------------------------------------------------------
# Sizes: (w, h) of the image and the transform's arguments -> (w, h) of the result, None where it stays
# --------------------------------------------------------------------------------------------
Size = tuple[int, int]


def _resize_size(size: Size, target_size: Size, keep_ratio: bool, size_divisor: int | None, interp: str) -> Size:
    width, height = target_size
    if keep_ratio:
        scale = min(max(target_size) / max(size), min(target_size) / min(size))
        width, height = (round(side * scale) for side in size)
    if size_divisor:
        width, height = (math.ceil(side / size_divisor) * size_divisor for side in (width, height))
    return int(width), int(height)


def _scaled(size: Size, scale: float) -> Size:
    return int(round(size[0] * scale)), int(round(size[1] * scale))


def _by_long_size(size: Size, long_size: int) -> Size:
    return _scaled(size, float(long_size) / float(max(size)))


def _by_short_size(size: Size, short_size: int, max_size: float) -> Size:
    if short_size / min(size) * max(size) > max_size:
        # PaddleSeg stores this smaller size in the transform, where it then applies to all later images, too.
        short_size = int((max_size / max(size)) * min(size))
    return _scaled(size, float(short_size) / float(min(size)))


def _limit_long_size(size: Size, max_long: int | None, min_long: int | None) -> Size | None:
    if max_long is not None and max(size) > max_long:
        return _by_long_size(size, max_long)
    if min_long is not None and max(size) < min_long:
        return _by_long_size(size, min_long)
    return None


def _padding_size(size: Size, target_size: int | Size, im_padding_value: float, label_padding_value: float) -> Size:
    width, height = (target_size, target_size) if isinstance(target_size, int) else target_size
    if size[0] > width or size[1] > height:
        raise DataError(
            f"an image of {size[0]}x{size[1]} pixels (after the resizing steps) is larger than the {width}x{height} "
            "that the model's Padding step fills; shrink it, or export with a Resize step."
        )
    return int(width), int(height)


def _aspect_size(size: Size, aspect_ratio: float, im_padding_value: float, label_padding_value: float) -> Size | None:
    width, height = size
    if width / height == aspect_ratio:
        return None
    if width / height > aspect_ratio:
        return width, int(width / aspect_ratio)
    return int(height * aspect_ratio), height


class _Kind(NamedTuple):
    """A transform that can be part of a validation pipeline: its arguments with their defaults, and what it does."""

    arguments: dict[str, Any]
    undo: str = ""  # "resize" or "padding"; Normalize has no way back
    size: Callable[..., Size | None] = lambda size, **arguments: None


_REQUIRED = object()
_PADDING_VALUES = {"im_padding_value": 127.5, "label_padding_value": 255}

KINDS = {
    "Normalize": _Kind({"mean": (0.5,), "std": (0.5,)}),
    "Resize": _Kind(
        {"target_size": (512, 512), "keep_ratio": False, "size_divisor": None, "interp": "LINEAR"},
        "resize",
        _resize_size,
    ),
    "ResizeByLong": _Kind({"long_size": _REQUIRED}, "resize", _by_long_size),
    "ResizeByShort": _Kind({"short_size": _REQUIRED, "max_size": 1e10}, "resize", _by_short_size),
    "LimitLong": _Kind({"max_long": None, "min_long": None}, "resize", _limit_long_size),
    "Padding": _Kind({"target_size": _REQUIRED, **_PADDING_VALUES}, "padding", _padding_size),
    "PaddingByAspectRatio": _Kind({"aspect_ratio": 1, **_PADDING_VALUES}, "padding", _aspect_size),
}


# --------------------------------------------------------------------------------------------
# Checking
# --------------------------------------------------------------------------------------------
def checked_step(step: Mapping[str, Any], where: str, channels: int = 3) -> tuple[str, dict[str, Any]]:
    if not isinstance(step, Mapping) or not isinstance(step.get("type"), str):
        raise ConfigError(f"{where} must be a transform with a 'type', but is {step!r}.")
    kind = step["type"]
    if kind not in KINDS:
        raise ConfigError(
            "{}: the transform '{}' cannot be part of an exported model or a prediction.{}".format(
                where, kind, f" It may use: {', '.join(KINDS)}."
            )
        )
    arguments = dict(KINDS[kind].arguments)
    for key, value in step.items():
        if key == "type":
            continue
        if key not in arguments:
            raise ConfigError(f"{where}: {kind} has no argument '{key}'.{suggest(key, arguments)}")
        arguments[key] = tuple(value) if isinstance(value, list) else value
    missing = [key for key, value in arguments.items() if value is _REQUIRED]
    if missing:
        raise ConfigError(f"{where}: {kind} needs '{missing[0]}'.")
    _check_values(kind, arguments, where, channels)
    return kind, arguments


def _check_values(kind: str, arguments: dict[str, Any], where: str, channels: int) -> None:
    def need(ok: bool, key: str, expected: str) -> None:
        if not ok:
            raise ConfigError(f"{where}: {kind}'s {key} is {arguments[key]!r}; it must be {expected}.")

    if kind == "Normalize":
        for key in ("mean", "std"):
            value = arguments[key]
            need(
                isinstance(value, tuple) and len(value) in (1, channels) and all(map(_is_number, value)),
                key,
                "one or three numbers" if channels == 3 else f"one number, or {channels:d}, one for each channel",
            )
            arguments[key] = tuple(float(number) for number in value) * (channels // len(value))
        need(0.0 not in arguments["std"], "std", "without zeros")
    if "interp" in arguments:
        need(arguments["interp"] in INTERPOLATIONS, "interp", f"one of {', '.join(INTERPOLATIONS)}")
        need(
            channels <= 4 or arguments["interp"] != "AREA",
            "interp",
            f"LINEAR: OpenCV averages areas of 4 channels at most, and img_channels is {channels:d}",
        )
    if "target_size" in arguments:
        value = arguments["target_size"]
        need(
            isinstance(value, tuple) and len(value) == 2 and all(_is_side(side) for side in value),
            "target_size",
            "[width, height] in pixels",
        )
    for key in ("long_size", "short_size", "max_long", "min_long", "size_divisor"):
        if arguments.get(key) is not None:
            need(_is_side(arguments[key]), key, "an integer number of pixels")
    for key in ("max_size", "aspect_ratio"):
        if key in arguments:
            need(_is_number(arguments[key]) and arguments[key] > 0, key, "a number above 0")
    if "im_padding_value" in arguments:
        need(_is_number(arguments["im_padding_value"]), "im_padding_value", "a number")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE
