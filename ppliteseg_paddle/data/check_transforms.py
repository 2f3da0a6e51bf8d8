"""See that a data set's transforms fit its mode and its images before anything is read."""

from __future__ import annotations

from typing import Any

from ppliteseg_paddle.data.copy_paste import CopyPaste
from ppliteseg_paddle.data.rare_classes import RareClassCrop
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.errors import ConfigError

_AT_RANDOM = (FusedAugment, RareClassCrop, CopyPaste)
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
    for place, step in enumerate(dataset.transforms.transforms):
        name = type(step).__name__
        if isinstance(step, _AT_RANDOM):
            _check_random(dataset, step, place)
        if isinstance(step, FusedAugment):
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


def _check_random(dataset: Any, step: Any, place: int) -> None:
    name = type(step).__name__
    if dataset.mode != "train":
        instead = "give Normalize in its place" if isinstance(step, FusedAugment) else "remove it"
        raise ConfigError(f"{name} draws at random and is for mode 'train'; mode is '{dataset.mode}': {instead}.")
    unknown = [number for number in step.rare_classes if number >= dataset.num_classes]
    if unknown:
        raise ConfigError(
            f"{name}: rare_classes names {unknown[0]:d}, but the data set has {dataset.num_classes:d} classes: give "
            f"ids from 0 to {dataset.num_classes - 1:d}."
        )
    if isinstance(step, CopyPaste) and place:
        raise ConfigError("CopyPaste pastes pixels as images hold them: make it the first of train_dataset.transforms.")
