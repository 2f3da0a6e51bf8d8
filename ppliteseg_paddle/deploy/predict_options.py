"""How a `Predictor` is to predict, checked against the artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.masks import Masks
from ppliteseg_paddle.deploy.sliding import Sliding
from ppliteseg_paddle.errors import ArtifactError, ConfigError

LARGE_IMAGES = ("windows", "refuse")


class PredictOptions(NamedTuple):
    """The options of a `Predictor` that do not concern its backends; it says what each means."""

    batch_size: int = 1
    unknown_below: float | None = None
    is_slide: bool | None = None
    crop_size: Sequence[int] | None = None
    stride: Sequence[int] | None = None
    max_pixels: int | None = None
    large_images: str = LARGE_IMAGES[0]
    mask_resize: str | None = None

    def check(self, artifact: Artifact, streams: int) -> None:
        """Raises: ConfigError: for a number that is not possible; ArtifactError: if a graph lacks what one needs."""
        for name, value in (("batch_size", self.batch_size), ("streams", streams)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}; give an integer of at least 1.")
        if artifact.input.size_of("N") not in (-1, self.batch_size):
            raise ConfigError(
                f"batch_size is {self.batch_size:d}, but {artifact.folder} takes {artifact.input.size_of('N'):d} image "
                "at a time; export with --input_shape -1 3 H W, or without --input_shape."
            )
        below = self.unknown_below
        if below is not None:
            if isinstance(below, bool) or not isinstance(below, (int, float)) or not 0 < below <= 1:
                raise ConfigError(f"unknown_below is {below!r}; give a confidence above 0 and up to 1, such as 0.5.")
            if artifact.multilabel:
                raise ConfigError(
                    f"unknown_below is for one class a pixel, and {artifact.folder or 'the model'} decides each class "
                    "by itself (use_multilabel): leave it out; confidence tells the probability of each class."
                )
            need_scores(artifact, "unknown_below")
        if not self.is_slide and (self.crop_size or self.stride):
            raise ConfigError("crop_size and stride are the sliding window's: add is_slide.")
        pixels = self.max_pixels
        if isinstance(pixels, bool) or not (pixels is None or (isinstance(pixels, int) and pixels > 0)):
            raise ConfigError(f"max_pixels is {pixels!r}; give an integer of at least 1, or leave it out.")
        if self.large_images not in LARGE_IMAGES:
            raise ConfigError(f"large_images is {self.large_images!r}; choose from {', '.join(LARGE_IMAGES)}.")

    def sliding(self, artifact: Artifact, backend: Backend, masks: Masks) -> Sliding | None:
        """The sliding window, by the options or by the artifact."""
        window = artifact.views.windows
        if not (self.is_slide or (self.is_slide is None and window is not None)):
            return None
        crop_size, stride = (self.crop_size, self.stride) if self.crop_size or window is None else window
        return Sliding(artifact, backend.graph, masks.scores, crop_size, stride)


def need_scores(artifact: Artifact, what: str) -> None:
    """Raises: ArtifactError: if class ids are all that leaves the graph."""
    if artifact.output.op == "argmax":
        raise ArtifactError(
            f"{what} needs probabilities, but the model in {artifact.folder} returns class ids only; export it with "
            "--output_op softmax."
        )
