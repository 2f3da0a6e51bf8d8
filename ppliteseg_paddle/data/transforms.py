"""All of the training augmentation in one transform, which computes nothing that the crop throws away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ppliteseg_paddle.data import jitter
from ppliteseg_paddle.data.arguments import class_ids, later_sizes, pair, scales, share
from ppliteseg_paddle.data.randomness import generator_of_globals
from ppliteseg_paddle.data.rare_classes import rare_offset
from ppliteseg_paddle.data.resample import resize_label_window, resize_window
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.image_form import ImageForm


class Choices(NamedTuple):
    """What is drawn for one sample."""

    size: tuple[int, int]  # of the scaled whole image: width, height
    offset: tuple[int, int]  # of the crop's corner in it: x, y
    flip: bool
    operations: list[jitter.Operation]


class FusedAugment:
    """Random scale, crop, flip, color jitter, normalisation and layout in one transform.

    In place of PaddleSeg's `ResizeStepScaling`, `RandomPaddingCrop`, `RandomHorizontalFlip`, `RandomDistort` and
    `Normalize`, in this order, whose distribution it has: everything is drawn first, then only the source pixels of the
    crop are scaled, jittered in 8 bits, and written once, normalised, into the array that the network gets. It is to be
    the only transform, but for a `CopyPaste` before it. Given the same draws the result equals PaddleSeg's up to
    rounding: a scaled pixel is rounded here, where `RandomDistort` cuts off what float scaling leaves (up to one level,
    half of one on average); hue differs as `jitter` says.

    Args:
        crop_size: [width, height]; later_crop_sizes: [[share, [width, height]], ...], the crops from those shares of
            the run on, such as [[0.75, [480, 360]]]: small ones first learn more in the same time. The training engine
            tells the share at the start of each epoch (`set_progress`).
        im_padding_value, label_padding_value: what fills a crop larger than the scaled image, at the right and below
            (before the flip). With jitter the first is cut to an integer, as `RandomDistort` does.
        min_scale_factor, max_scale_factor, scale_step_size: step 0 draws any number between them.
        flip_prob: of a horizontal flip.
        distort: arguments of `RandomDistort`; {} takes its defaults, None leaves colors alone.
        mean, std: of `Normalize`, one number or one per channel (RGB).
        rare_class_crops: share of the samples whose crop is laid around a pixel of one of `rare_classes` (drawn among
            those that the label holds, then among its pixels; where the pixel comes to lie in the crop is random). 0 as
            in PaddleSeg.
        rare_classes: class ids.
    Shape: image (H, W, C) or (H, W), uint8 or levels in float32 (`reading.image_form`), label (H, W), or planes
        (H, W, classes); gives float32 (C, h, w), and (h, w) or (h, w, classes) of the label's type.
    Raises: ConfigError: for a value out of range.
    Source: PaddleSeg `transforms/transforms.py`.
    """

    def __init__(
        self,
        crop_size,
        min_scale_factor=0.75,
        max_scale_factor=1.25,
        scale_step_size=0.25,
        flip_prob=0.5,
        distort: Mapping[str, Any] | None = None,
        mean: float | Sequence[float] = (0.5,),
        std: float | Sequence[float] = (0.5,),
        im_padding_value=127.5,
        label_padding_value=255,
        rare_class_crops=0.0,
        rare_classes: Sequence[int] = (),
        later_crop_sizes: Sequence[Sequence[Any]] = (),
    ):
        self.crop_size = pair(crop_size)
        self.crop_sizes = [(0.0, self.crop_size)] + later_sizes(later_crop_sizes)
        self.scales = scales(min_scale_factor, max_scale_factor, scale_step_size)
        self.flip_prob = share("flip_prob", flip_prob)
        self.rare_class_crops = share("rare_class_crops", rare_class_crops)
        self.rare_classes = class_ids(rare_classes)
        if self.rare_class_crops and not self.rare_classes:
            raise ConfigError(
                f"rare_class_crops is {self.rare_class_crops:g}, but rare_classes names no class: give their ids."
            )
        try:
            self.jitter = None if distort is None else jitter.ColorJitter(**distort)
        except TypeError:
            import inspect

            from ppliteseg_paddle.errors import suggest

            known = set(inspect.signature(jitter.ColorJitter).parameters)
            wrong = [key for key in distort if key not in known] if isinstance(distort, Mapping) else []
            raise ConfigError(
                f"distort takes no argument '{wrong[0]}'.{suggest(wrong[0], known)}"
                if wrong
                else f"distort is {distort!r}: give the arguments of RandomDistort as a block with numbers."
            ) from None
        # RandomDistort makes all pixels integers, whatever it draws.
        self.im_padding_value = float(im_padding_value) if self.jitter is None else float(int(im_padding_value))
        self.label_padding_value = label_padding_value
        self.mean, self.std = (np.atleast_1d(np.asarray(values, np.float64)) for values in (mean, std))
        if not self.std.all():
            raise ConfigError(f"std is {std!r}: no channel can have 0.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.ndim != 1 or not values.size:
                raise ConfigError(f"{name} is {values.tolist()!r}: give one number, or one for each channel.")

    def check_form(self, form: ImageForm) -> None:
        """Raises: ConfigError: if `mean` or `std` do not fit images of this form."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.size not in (1, form.channels):
                raise ConfigError(
                    f"FusedAugment: {name} has {values.size:d} numbers, and img_channels is {form.channels:d}: give "
                    "one, or one for each channel."
                )

    def set_progress(self, share: float) -> None:
        """Take the crop size that belongs to this share of the run, 0 to 1."""
        self.crop_size = [size for begin, size in self.crop_sizes if begin <= share][-1]

    # --- drawing ----------------------------------------------------------------------------
    def draw(
        self, shape: tuple[int, int], generator: np.random.Generator, label: np.ndarray | None = None, channels: int = 3
    ) -> Choices:
        """Draw everything that is random about one sample.

        Args: shape: of the image, (H, W); label: where `rare_class_crops` looks for its classes.
        """
        height, width = shape
        low, high, steps = self.scales
        scale = generator.uniform(low, high) if steps is None else float(steps[generator.integers(len(steps))])
        size = max(int(round(scale * width)), 1), max(int(round(scale * height)), 1)
        margins = [max(have - want, 0) for have, want in zip(size, self.crop_size)]
        offset = int(generator.integers(margins[0] + 1)), int(generator.integers(margins[1] + 1))
        if self.rare_class_crops and label is not None and generator.random() < self.rare_class_crops:
            offset = rare_offset(label, self.rare_classes, size, self.crop_size, generator) or offset
        flip = bool(generator.random() < self.flip_prob)
        return Choices(size, offset, flip, self.jitter.draw(generator, channels) if self.jitter else [])

    # --- carrying out -----------------------------------------------------------------------
    def apply(
        self, image: np.ndarray, label: np.ndarray | None, choices: Choices
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Make the sample that `choices` describes.

        Args: image: as `reading.images.read_image` gives it; neither it nor `label` is changed.
        """
        (width, height), (x, y) = self.crop_size, choices.offset
        window = (x, y, min(x + width, choices.size[0]), min(y + height, choices.size[1]))
        pixels = resize_window(image, choices.size, window)
        if choices.flip:
            pixels = cv2.flip(pixels, 1)
        padding = np.full((1, 1) + pixels.shape[2:], self.im_padding_value).astype(pixels.dtype)
        padded = width * height - pixels.shape[0] * pixels.shape[1]
        pixels, padding = jitter.apply(pixels, choices.operations, padding, padded)
        left = width - pixels.shape[1] if choices.flip else 0
        where = (slice(0, pixels.shape[0]), slice(left, left + pixels.shape[1]))
        sample = self._normalised(pixels, padding if choices.operations else None, where, padded > 0)
        return sample, None if label is None else self._label(label, choices, window, where, padded > 0)

    def _normalised(self, pixels, padding, where, padded: bool) -> np.ndarray:
        """Planes, of color RGB, normalised: each 8-bit value looked up, each plane written once."""
        planes = cv2.split(pixels)
        order = range(len(planes))[::-1] if len(planes) == 3 else range(len(planes))
        sample = np.empty((len(planes), self.crop_size[1], self.crop_size[0]), np.float32)
        tables = self._tables(len(planes)) if pixels.dtype == np.uint8 else None
        for channel, place in enumerate(order):
            if padded:
                value = self.im_padding_value if padding is None else padding.ravel()[place]
                sample[channel] = self._normalise([value], channel)
            target = sample[channel][where] if padded else sample[channel]
            if tables is None:
                target[...] = self._normalise(planes[place], channel)
            elif padded:
                target[...] = cv2.LUT(planes[place], tables[channel])
            else:
                cv2.LUT(planes[place], tables[channel], target)
        return sample

    def _tables(self, channels: int) -> list[np.ndarray]:
        return [self._normalise(np.arange(256), channel) for channel in range(channels)]

    def _normalise(self, values, channel: int):
        """PaddleSeg's `Normalize`, in the same steps and precision, so that the result is the same to the last bit."""
        values = np.asarray(values, np.float32) / 255.0
        # Arrays of one number, not numbers: NumPy then computes in float64, as it does for PaddleSeg.
        values -= self.mean[channel : channel + 1] if len(self.mean) > 1 else self.mean
        values /= self.std[channel : channel + 1] if len(self.std) > 1 else self.std
        return values

    def _label(self, label, choices: Choices, window, where, padded: bool) -> np.ndarray:
        ids = resize_label_window(label, choices.size, window)
        if choices.flip:
            ids = cv2.flip(ids, 1) if ids.dtype == np.uint8 and ids.ndim == 2 else ids[:, ::-1]
        if not padded:
            return ids.copy()
        result = np.full(self.crop_size[::-1] + ids.shape[2:], self.label_padding_value, ids.dtype)
        result[where] = ids
        return result

    def sample(self, image: np.ndarray, label: np.ndarray | None, generator: np.random.Generator):
        """Draw and apply."""
        choices = self.draw((image.shape[0], image.shape[1]), generator, label, _channels(image))
        return self.apply(image, label, choices)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """As PaddleSeg's `Compose` calls it, with an RGB or gray image of integers. Our data sets call
        `sample`."""
        image = np.asarray(data["img"])
        whole = image.dtype.kind in "ui" or bool((image == np.rint(image)).all())
        color = image.ndim == 3 and image.shape[2] == 3
        image = np.ascontiguousarray(image[..., ::-1] if color else image, np.uint8 if whole else np.float32)
        generator = generator_of_globals()
        fields = [key for key in data.get("gt_fields", []) if key != "label"]
        if fields:
            raise ConfigError(f"FusedAugment takes a label beside the image, and nothing else ({', '.join(fields)}).")
        label = data.get("label") if "label" in data.get("gt_fields", []) else None
        sample, label = self.sample(image, label, generator)
        data["img"] = sample.transpose(1, 2, 0)
        if label is not None:
            data["label"] = label
        return data


def _channels(image: np.ndarray) -> int:
    return 1 if image.ndim == 2 else image.shape[2]
