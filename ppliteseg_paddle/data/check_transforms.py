"""See that a data set's transforms fit its mode and its images before anything is read."""

from __future__ import annotations

from typing import Any

from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.errors import ConfigError

# PaddleSeg's transforms that work on 8-bit color alone: Pillow's operations, and conversions of colors.
_COLOR_ONLY = ("RandomDistort",)
# Those that fill in pixels, for which OpenCV takes a value of four channels at most.
FILLING = (
    "Padding",
    "PaddingByAspectRatio",
    "RandomPaddingCrop",
    "RandomRotation",
    "RandomAffine",
    "RandomScaleAspect",
)


def check_transforms(dataset: Any) -> None:
    """Raises: ConfigError: for a random crop of images to be judged, or a transform that cannot take these images."""
    form = dataset.form
    for step in dataset.transforms.transforms:
        name = type(step).__name__
        if isinstance(step, FusedAugment):
            if dataset.mode != "train":
                raise ConfigError(
                    f"FusedAugment draws at random and is for mode 'train'; mode is '{dataset.mode}': give Normalize "
                    "in its place."
                )
            step.check_form(form)
        elif name in _COLOR_ONLY and (form.channels != 3 or form.value_range):
            raise ConfigError(
                f"{name} takes color images of 8 bits alone: use FusedAugment, whose distort takes these images, or "
                "leave it out."
            )
        elif name in FILLING and form.channels > 4:
            raise ConfigError(
                f"PaddleSeg's {name} takes images of 4 channels at most, and img_channels is {form.channels:d}: use "
                "FusedAugment for training, Resize for evaluation."
            )
        elif form.channels > 4 and getattr(step, "interp", None) in ("AREA", "RANDOM"):
            raise ConfigError(
                f"{name} with interp {step.interp} takes images of 4 channels at most, as OpenCV's averaging does, and "
                f"img_channels is {form.channels:d}: give LINEAR."
            )
        elif name == "Normalize":
            for key in ("mean", "std"):
                count = len(getattr(step, key, ()))
                if count not in (0, 1, form.channels):
                    raise ConfigError(
                        f"Normalize: {key} has {count:d} numbers, and img_channels is {form.channels:d}: give one, or "
                        "one for each channel."
                    )
