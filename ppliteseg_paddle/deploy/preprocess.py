"""Image in, network input out, and the way back for the mask: one implementation for every runtime.

A pipeline is the list of the validation transforms of a configuration, in PaddleSeg's names. It is
executed in their order with PaddleSeg's arithmetic, so that the numbers are the same; what training
alone uses is refused by name.

Source: PaddleSeg `transforms/transforms.py`, `transforms/functional.py`, `core/infer.py::reverse_transform`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

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


class Undo(NamedTuple):
    """How one step is taken back: `kind` is "resize" or "padding", `size` the (H, W) before it."""

    kind: str
    size: tuple[int, int]


# --------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------
def check_image(image: Any, what: str = "the image") -> np.ndarray:
    """See that an array is an image as `Predictor` takes it: (H, W, 3) uint8, BGR, not empty.

    Raises: DataError: with what it is instead, and how to convert it.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"{what} is a {type(image).__name__}; give a path or a NumPy array of (H, W, 3) uint8, BGR.")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        fix = "it is grey; convert it with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    elif image.ndim == 3 and image.shape[2] == 4:
        fix = "it has 4 channels; drop the fourth with image[:, :, :3]"
    elif image.ndim != 3 or image.shape[2] != 3:
        fix = "expected (H, W, 3)"
    elif image.dtype != np.uint8:
        fix = "expected uint8 with values 0 to 255; convert floats of 0 to 1 with (image * 255).astype('uint8')"
    elif image.size == 0:
        fix = "it holds no pixels"
    else:
        return image
    raise DataError(f"{what} has shape {tuple(image.shape)} and dtype {image.dtype}: {fix}.")


def generated_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image with large shapes and fine grain, the same each time, for trials without a photograph. Shape: (H, W, 3)
    uint8."""
    random = np.random.RandomState(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 80), (16, 40), (64, 20)):
        noise = random.randn(cells, cells, 3).astype(np.float32)
        image += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 128, 0, 255).astype(np.uint8)


# --------------------------------------------------------------------------------------------
# Sizes: (w, h) of the image and the transform's arguments -> (w, h) of the result, None where it stays
# --------------------------------------------------------------------------------------------
Size = tuple[int, int]


def _resize_size(size: Size, target_size, keep_ratio, size_divisor, interp) -> Size:
    if keep_ratio:
        scale = min(max(target_size) / max(size), min(target_size) / min(size))
        target_size = [round(side * scale) for side in size]
    if size_divisor:
        target_size = [math.ceil(side / size_divisor) * size_divisor for side in target_size]
    return tuple(int(side) for side in target_size)


def _scaled(size: Size, scale: float) -> Size:
    return int(round(size[0] * scale)), int(round(size[1] * scale))


def _by_long_size(size: Size, long_size) -> Size:
    return _scaled(size, float(long_size) / float(max(size)))


def _by_short_size(size: Size, short_size, max_size) -> Size:
    if short_size / min(size) * max(size) > max_size:
        # PaddleSeg stores this smaller size in the transform, where it then rules all later images; here it rules this
        # one.
        short_size = int((max_size / max(size)) * min(size))
    return _scaled(size, float(short_size) / float(min(size)))


def _limit_long_size(size: Size, max_long, min_long) -> Size | None:
    if max_long is not None and max(size) > max_long:
        return _by_long_size(size, max_long)
    if min_long is not None and max(size) < min_long:
        return _by_long_size(size, min_long)
    return None


def _padding_size(size: Size, target_size, im_padding_value, label_padding_value) -> Size:
    width, height = (target_size, target_size) if isinstance(target_size, int) else target_size
    if size[0] > width or size[1] > height:
        raise DataError(
            f"an image of {size[0]}x{size[1]} pixels (after the resizing steps) is larger than the {width}x{height} "
            "that the model's Padding step fills; shrink it, or export with a Resize step."
        )
    return int(width), int(height)


def _aspect_size(size: Size, aspect_ratio, im_padding_value, label_padding_value) -> Size | None:
    width, height = size
    if width / height == aspect_ratio:
        return None
    if width / height > aspect_ratio:
        return width, int(width / aspect_ratio)
    return int(height * aspect_ratio), height


class _Kind(NamedTuple):
    """A transform that may stand in a validation pipeline: its arguments with their defaults, and what it does."""

    arguments: dict[str, Any]
    undo: str | None = None  # "resize", "padding", or None for Normalize
    size: Callable | None = None  # one of the functions above


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
# The pipeline
# --------------------------------------------------------------------------------------------
class Preprocess:
    """The steps from an image to the network's input.

    Args:
        transforms: PaddleSeg transforms as in a configuration, `[{"type": "Normalize", "mean": [...], ...}, ...]`.
        where: what to call the list in an error.
    Raises: ConfigError: for a transform or an argument that cannot serve at prediction time.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], where: str = "val_dataset.transforms"):
        if not isinstance(transforms, (list, tuple)):
            raise ConfigError(f"{where} must be a list of transforms, but is {transforms!r}.")
        self.steps = [_checked_step(step, f"{where}.{i:d}") for i, step in enumerate(transforms)]
        normalised = [i for i, (kind, _) in enumerate(self.steps) if kind == "Normalize"]
        if len(normalised) > 1:
            raise ConfigError(f"{where} has {len(normalised):d} Normalize steps; keep one.")
        # 8-bit values have 256 possible results: computed once, looked up after. Only if nothing comes before it.
        self._table = _normalised_table(self.steps[0][1]) if normalised == [0] else None

    def __call__(
        self, image: np.ndarray, done: Callable[[str], None] = lambda step: None
    ) -> tuple[np.ndarray, list[Undo]]:
        """Make the network's input of an image.

        Args: done: told after each step what it was: "normalise" (with the conversion to RGB and planes) or "resize".
        Shape: image (H, W, 3) uint8, BGR; returns float32 (1, 3, h, w), RGB, and what `restore` needs.
        Raises: DataError: if a Padding step is smaller than the image, or a resized side has no pixel.
        """
        undo: list[Undo] = []
        if self._table is not None:
            tensor = self._looked_up(image)
            done("normalise")
            if len(self.steps) == 1:
                return tensor[np.newaxis], undo
            # What may follow are resizing and padding: they take (H, W, C) again.
            pixels, steps = np.ascontiguousarray(tensor.transpose(1, 2, 0)), self.steps[1:]
        else:
            pixels, steps = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32), self.steps
        for kind, arguments in steps:
            if kind == "Normalize":  # plane by plane is several times faster than pixel by pixel
                pixels = _normalise(_planes(pixels), arguments).transpose(1, 2, 0)
            else:
                pixels = _reshape(np.ascontiguousarray(pixels), kind, arguments, undo)
            done("normalise" if kind == "Normalize" else "resize")
        tensor = _planes(pixels)[np.newaxis]
        done("normalise")
        return tensor, undo

    def _looked_up(self, image: np.ndarray) -> np.ndarray:
        tensor = np.empty((3,) + image.shape[:2], np.float32)
        for channel, plane in zip((2, 1, 0), cv2.split(image)):
            cv2.LUT(plane, self._table[channel], dst=tensor[channel])
        return tensor

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the network's input for an image of (height, width)."""
        size: Size = (width, height)
        for kind, arguments in self.steps:
            if kind != "Normalize":
                size = KINDS[kind].size(size, **arguments) or size
        return size[1], size[0]

    def to_transforms(self) -> list[dict[str, Any]]:
        """The steps as PaddleSeg's `Deploy.transforms` holds them, defaults written out."""
        return [
            {
                "type": kind,
                **{
                    key: list(value) if isinstance(value, tuple) else value
                    for key, value in arguments.items()
                    if value is not None
                },
            }
            for kind, arguments in self.steps
        ]

    @property
    def normalisation(self) -> dict[str, Any] | None:
        """`(value / scale - mean) / std` per RGB channel; None if values stay 0 to 255."""
        for kind, arguments in self.steps:
            if kind == "Normalize":
                return {"scale": 255.0, "mean": list(arguments["mean"]), "std": list(arguments["std"])}
        return None

    @property
    def resize_policy(self) -> list[dict[str, Any]]:
        """The steps that change the size, in order; empty if images enter at their own size."""
        return [step for step in self.to_transforms() if step["type"] != "Normalize"]


def restore(output: np.ndarray, undo: Sequence[Undo]) -> np.ndarray:
    """Bring a mask or scores back to the image's own size.

    Args: undo: what `Preprocess.__call__` returned beside the input.
    Shape: class ids (h, w) -> (H, W), nearest neighbour; scores (C, h, w) -> (C, H, W), bilinear.
    """
    for kind, (height, width) in reversed(undo):
        if output.shape[-2:] == (height, width):
            continue
        if kind == "padding":
            output = output[..., :height, :width]
        elif output.ndim == 2:
            output = _nearest(output, height, width)
        else:
            output = np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in output])
    return np.ascontiguousarray(output)


def _nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    # Floor of the scaled index in float32, as Paddle's interpolate computes it; OpenCV's nearest differs at some sizes.
    rows, columns = (
        np.minimum((np.arange(to, dtype=np.float32) * np.float32(size / to)).astype(np.int64), size - 1)
        for size, to in zip(mask.shape, (height, width))
    )
    return mask[rows[:, np.newaxis], columns[np.newaxis, :]]


def _reshape(pixels: np.ndarray, kind: str, arguments: dict[str, Any], undo: list[Undo]) -> np.ndarray:
    before = pixels.shape[:2]
    size = KINDS[kind].size((before[1], before[0]), **arguments)
    if size is None or size == (before[1], before[0]):
        return pixels
    if min(size) < 1 or max(size) > MAX_SIDE:
        raise DataError(
            f"{kind} makes {size[0]}x{size[1]} pixels of an image of {before[1]}x{before[0]}; sides must be 1 to "
            f"{MAX_SIDE} pixels."
        )
    undo.append(Undo(KINDS[kind].undo, before))
    if KINDS[kind].undo == "resize":
        return cv2.resize(pixels, size, interpolation=INTERPOLATIONS[arguments.get("interp", "LINEAR")])
    value = (float(arguments["im_padding_value"]),) * 3
    return cv2.copyMakeBorder(pixels, 0, size[1] - before[0], 0, size[0] - before[1], cv2.BORDER_CONSTANT, value=value)


def _planes(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (C, H, W), contiguous; the same memory where it lies so already."""
    planes = pixels.transpose(2, 0, 1)
    if planes.flags.c_contiguous:
        return planes
    copy = np.empty(planes.shape, pixels.dtype)
    for channel, plane in enumerate(copy):
        cv2.extractChannel(pixels, channel, plane)
    return copy


def _normalise(planes: np.ndarray, arguments: dict[str, Any]) -> np.ndarray:
    """In place, planes first; each operation rounds to float32 as PaddleSeg's does, mean and std being double."""
    np.divide(planes, np.float32(255), out=planes)
    means, stds = (
        np.broadcast_to(np.asarray(arguments[key], np.float64), len(planes)) for key in ("mean", "std")
    )  # one may be for all
    for plane, mean, std in zip(planes, means, stds):
        for operation, value in ((np.subtract, mean), (np.divide, std)):
            # A number that float32 holds exactly, as 0.5, needs no double: a result that is rounded once more on the
            # way to float32
            # is the same. Others do, and an array of one value, as NumPy 1 takes a double number for a float32 one.
            exact = np.float32(value) == value
            operation(
                plane, np.float32(value) if exact else np.array([value], np.float64), out=plane, casting="same_kind"
            )
    return planes


def _normalised_table(arguments: dict[str, Any]) -> np.ndarray:
    """(3, 256) float32: the normalised value of each 8-bit value, per RGB channel."""
    return _normalise(np.tile(np.arange(256, dtype=np.float32), (3, 1)), arguments)


# --------------------------------------------------------------------------------------------
# Checking
# --------------------------------------------------------------------------------------------
def _checked_step(step: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
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
    _check_values(kind, arguments, where)
    return kind, arguments


def _check_values(kind: str, arguments: dict[str, Any], where: str) -> None:
    def need(ok: bool, key: str, expected: str) -> None:
        if not ok:
            raise ConfigError(f"{where}: {kind}'s {key} is {arguments[key]!r}; it must be {expected}.")

    if kind == "Normalize":
        for key in ("mean", "std"):
            value = arguments[key]
            need(
                isinstance(value, tuple) and len(value) in (1, 3) and all(map(_is_number, value)),
                key,
                "one or three numbers",
            )
            arguments[key] = tuple(float(number) for number in value) * (3 // len(value))
        need(0.0 not in arguments["std"], "std", "without zeros")
    if "interp" in arguments:
        need(arguments["interp"] in INTERPOLATIONS, "interp", f"one of {', '.join(INTERPOLATIONS)}")
    if "target_size" in arguments:
        value = arguments["target_size"]
        need(
            isinstance(value, tuple) and len(value) == 2 and all(_is_side(side) for side in value),
            "target_size",
            "[width, height] in pixels",
        )
    for key in ("long_size", "short_size", "max_long", "min_long", "size_divisor"):
        if arguments.get(key) is not None:
            need(_is_side(arguments[key]), key, "a whole number of pixels")
    for key in ("max_size", "aspect_ratio"):
        if key in arguments:
            need(_is_number(arguments[key]) and arguments[key] > 0, key, "a number above 0")
    if "im_padding_value" in arguments:
        need(_is_number(arguments["im_padding_value"]), "im_padding_value", "a number")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE
