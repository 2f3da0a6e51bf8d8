"""Image in, network input out, and the way back for the mask: one implementation for every runtime.

A pipeline is the list of the validation transforms of a configuration, in PaddleSeg's names. It is
executed in their order with PaddleSeg's arithmetic, so that the numbers are the same; what only training
uses is refused by name (`steps`).

Source: PaddleSeg `transforms/transforms.py`, `transforms/functional.py`, `core/infer.py::reverse_transform`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.steps import INTERPOLATIONS, KINDS, MAX_SIDE, Size, checked_step
from ppliteseg_paddle.deploy.upsampling import Undo, upsampled
from ppliteseg_paddle.errors import ConfigError, DataError


class Preprocess:
    """The steps from an image to the network's input.

    Args:
        transforms: PaddleSeg transforms as in a configuration, `[{"type": "Normalize", "mean": [...], ...}, ...]`.
        where: what to call the list in an error.
        channels: of the images.
    Raises: ConfigError: for a transform or an argument that cannot serve at prediction time.
    """

    def __init__(
        self, transforms: Sequence[Mapping[str, Any]], where: str = "val_dataset.transforms", channels: int = 3
    ):
        if not isinstance(transforms, (list, tuple)):
            raise ConfigError(f"{where} must be a list of transforms, but is {transforms!r}.")
        self.channels = channels
        self.steps = [checked_step(step, f"{where}.{i:d}", channels) for i, step in enumerate(transforms)]
        normalised = [i for i, (kind, _) in enumerate(self.steps) if kind == "Normalize"]
        if len(normalised) > 1:
            raise ConfigError(f"{where} has {len(normalised):d} Normalize steps; keep one.")
        # 8-bit values have 256 possible results: computed once, looked up after. Only if nothing comes before it.
        self._table = _normalised_table(self.steps[0][1], channels) if normalised == [0] else None

    def __call__(
        self, image: NDArray[Any], done: Callable[[str], None] = lambda step: None
    ) -> tuple[NDArray[Any], list[Undo]]:
        """Make the network's input of an image.

        Args: done: told after each step what it was: "normalise" (with the conversion to RGB and planes) or "resize".
        Shape: image as `reading.images.read_image` gives it: (H, W, 3) uint8, BGR, or with other channels, or levels in
            float32; returns float32 (1, C, h, w), of color RGB, and what `restore` needs.
        Raises: DataError: if a Padding step is smaller than the image, or a resized side has no pixel.
        """
        undo: list[Undo] = []
        if self._table is not None and image.dtype == np.uint8:
            tensor = _looked_up(image, self._table)
            done("normalise")
            if len(self.steps) == 1:
                return tensor[np.newaxis], undo
            # What may follow are resizing and padding: they take (H, W, C) again.
            pixels, steps = np.ascontiguousarray(tensor.transpose(1, 2, 0)), self.steps[1:]
        else:
            pixels, steps = _in_file_order(image), self.steps
        for kind, arguments in steps:
            if kind == "Normalize":  # plane by plane is several times faster than pixel by pixel
                pixels = _normalise(_planes(pixels), arguments).transpose(1, 2, 0)
            else:
                pixels = _reshape(np.ascontiguousarray(pixels), kind, arguments, undo)
                pixels = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]  # OpenCV drops a single channel
            done("normalise" if kind == "Normalize" else "resize")
        tensor = _planes(pixels)[np.newaxis]
        done("normalise")
        return tensor, undo

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the network's input for an image of (height, width)."""
        size: Size = (width, height)
        for kind, arguments in self.steps:
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
        """`(value / scale - mean) / std` per channel, of color RGB; None if values stay 0 to 255."""
        for kind, arguments in self.steps:
            if kind == "Normalize":
                return {"scale": 255.0, "mean": list(arguments["mean"]), "std": list(arguments["std"])}
        return None

    @property
    def resize_policy(self) -> list[dict[str, Any]]:
        """The steps that change the size, in order; empty if images enter at their own size."""
        return [step for step in self.to_transforms() if step["type"] != "Normalize"]


def _looked_up(image: NDArray[Any], table: NDArray[np.float32]) -> NDArray[np.float32]:
    tensor = np.empty((len(table),) + image.shape[:2], np.float32)
    for channel, plane in zip((2, 1, 0) if len(table) == 3 else range(len(table)), cv2.split(image)):
        cv2.LUT(plane, table[channel], dst=tensor[channel])
    return tensor


def _in_file_order(image: NDArray[Any]) -> NDArray[Any]:
    """(H, W, C) float32, of color RGB; a copy, as steps may write into it."""
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    return (cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.shape[2] == 3 else image).astype(np.float32)


def restore(output: NDArray[Any], undo: Sequence[Undo]) -> NDArray[Any]:
    """Bring a mask or scores back to the image's own size.

    Args: undo: what `Preprocess.__call__` returned beside the input.
    Shape: class ids (h, w) -> (H, W), nearest neighbour; scores (C, h, w) -> (C, H, W), bilinear.
    """
    if output.ndim == 3:
        return upsampled(output, undo) if undo else output
    for kind, (height, width) in reversed(undo):
        if kind == "padding":
            output = output[:height, :width]
        elif output.shape != (height, width):
            output = _nearest(output, height, width)
    return np.ascontiguousarray(output)


def _nearest(mask: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    # Floor of the scaled index in float32, as Paddle's interpolate computes it; OpenCV's nearest differs at some sizes.
    rows, columns = (
        np.minimum((np.arange(to, dtype=np.float32) * np.float32(size / to)).astype(np.int64), size - 1)
        for size, to in zip(mask.shape, (height, width))
    )
    found: NDArray[Any] = mask[rows[:, np.newaxis], columns[np.newaxis, :]]
    return found


def _reshape(pixels: NDArray[Any], kind: str, arguments: dict[str, Any], undo: list[Undo]) -> NDArray[Any]:
    before = (pixels.shape[0], pixels.shape[1])
    size = KINDS[kind].size((before[1], before[0]), **arguments)
    if size is None or size == (before[1], before[0]):
        return pixels
    if min(size) < 1 or max(size) > MAX_SIDE:
        raise DataError(
            f"{kind} makes {size[0]}x{size[1]} pixels of an image of {before[1]}x{before[0]}; sides must be 1 to "
            f"{MAX_SIDE} pixels."
        )
    undo.append(Undo(KINDS[kind].undo, before))
    result: NDArray[Any]
    if KINDS[kind].undo == "resize":
        result = cv2.resize(pixels, size, interpolation=INTERPOLATIONS[arguments.get("interp", "LINEAR")])
    else:
        margins = (0, size[1] - before[0], 0, size[0] - before[1])
        value = float(arguments["im_padding_value"])
        if pixels.shape[2] <= 4:  # OpenCV's values have four channels
            result = cv2.copyMakeBorder(pixels, *margins, cv2.BORDER_CONSTANT, value=(value,) * 4)
        else:
            result = np.pad(pixels, (margins[:2], margins[2:], (0, 0)), constant_values=value)
    return result


def _planes(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W, C) -> (C, H, W), contiguous; the same memory where it lies so already."""
    planes = pixels.transpose(2, 0, 1)
    if planes.flags.c_contiguous:
        return planes
    copy = np.empty(planes.shape, pixels.dtype)
    for channel, plane in enumerate(copy):
        cv2.extractChannel(pixels, channel, plane)
    return copy


def _normalise(planes: NDArray[Any], arguments: dict[str, Any]) -> NDArray[Any]:
    """In place, planes first; each operation rounds to float32 as PaddleSeg's does, mean and std being double."""
    np.divide(planes, np.float32(255), out=planes)
    means, stds = (
        np.broadcast_to(np.asarray(arguments[key], np.float64), len(planes)) for key in ("mean", "std")
    )  # one may be for all
    for plane, mean, std in zip(planes, means, stds):
        for operation, value in ((np.subtract, mean), (np.divide, std)):
            # A number that float32 holds exactly, as 0.5, needs no double: a result that is rounded once more on the
            # way to float32 is the same. Others do, as an array of one value: NumPy 1 takes a plain double for float32.
            exact = np.float32(value) == value
            operation(
                plane, np.float32(value) if exact else np.array([value], np.float64), out=plane, casting="same_kind"
            )
    return planes


def _normalised_table(arguments: dict[str, Any], channels: int) -> NDArray[Any]:
    """(C, 256) float32: the normalised value of each 8-bit value, per channel, of color RGB."""
    return _normalise(np.tile(np.arange(256, dtype=np.float32), (channels, 1)), arguments)
