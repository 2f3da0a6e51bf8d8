"""From what leaves a graph to a mask of the image's size: as an evaluation decides, or faster (`mask_resize`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy import scores as scoring
from ppliteseg_paddle.deploy.artifact import MASK_RESIZES, Artifact
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.preprocess import restore
from ppliteseg_paddle.deploy.smoothing import Smoother
from ppliteseg_paddle.deploy.upsampling import Piece, Undo, classes, piece, strips
from ppliteseg_paddle.errors import ArtifactError, ConfigError, suggest

log = logging.getLogger("ppliteseg_paddle")

Mask = tuple[NDArray[Any], "NDArray[Any] | None"]  # and each pixel's confidence, where that is wanted


class Masks:
    """How the outputs of one graph become masks.

    Args: backend: what runs the graph; mask_resize: None takes the artifact's own; unknown_below: see `Predictor`.
    Attributes: `resize`: "bilinear" (the logits are resized, then the best class is taken) or "nearest" (the class ids
        are resized); `logits`: whether the backend's `run_logits` can be called; `scores`: whether scores of any kind
        can be had.
    Raises: ConfigError: for an unknown way. ArtifactError: if the graph cannot serve for it.
    """

    def __init__(
        self, artifact: Artifact, backend: Backend, mask_resize: str | None = None, unknown_below: float | None = None
    ):
        self._op, self._num_classes = artifact.output.op, artifact.label_set.num_classes
        self._multilabel = artifact.multilabel
        self._unknown_below, self._unknown_id = unknown_below, scoring.unknown_id(artifact.label_set)
        self.logits = artifact.has_logits(backend.graph) and backend.gives_logits
        self.scores = self.logits or self._op != "argmax"
        if mask_resize is not None and mask_resize not in MASK_RESIZES:
            raise ConfigError(f"unknown mask_resize '{mask_resize}'.{suggest(mask_resize, MASK_RESIZES)}")
        inside = backend.graph in artifact.in_graph
        kept = artifact.mask_resize or "nearest"
        able = self.scores or not artifact.preprocess.resize_policy
        self.resize = kept if inside else (mask_resize or artifact.mask_resize or "bilinear") if able else "nearest"
        if mask_resize not in (None, self.resize):
            raise ArtifactError(
                f"the {backend.graph} graph in {artifact.folder} can only resize masks in the way '{self.resize}'; "
                f"export it with --mask_resize {mask_resize}."
            )
        if artifact.views.single is None and not self.scores:
            raise ArtifactError(
                f"the test_config of {artifact.folder} averages scores, and the backend '{backend.name}' gives class "
                "ids only; take another backend."
            )
        if not able and (artifact.mask_resize is None or artifact.has_logits(backend.graph)):
            log.warning(
                "%s on '%s' returns class ids only (%s): they are resized to the image's size (nearest), which moves "
                "borders by up to a pixel against `val`.",
                artifact.folder,
                backend.name,
                "exported by an earlier version" if artifact.mask_resize is None else "the backend lacks run_logits",
            )

    def needs_logits(self, undo: Sequence[Undo]) -> bool:
        """Whether the backend is to be asked for `run_logits`: where something is to be resized by it."""
        return self.logits and self.resize == "bilinear" and _resizes(undo)

    def smoothed(
        self, output: NDArray[Any], undo: Sequence[Undo], gray: NDArray[Any], smoother: Smoother
    ) -> NDArray[Any]:
        """One image's output blended with those of the frames before. Args: as `finish` and `Smoother` have them."""
        if output.ndim == 2:
            return smoother.ids(output.astype(scoring.id_dtype(self._num_classes), copy=False), gray)
        if self.needs_logits(undo) or self._op == "none":
            return smoother.scores(output, gray, "sigmoid" if self._multilabel else "softmax")
        return smoother.scores(output, gray, "none")

    def finish(self, output: NDArray[Any], undo: Sequence[Undo], with_confidence: bool) -> Mask:
        """One image's output, the logits where `needs_logits` says so, to its mask.

        Args: undo: from the image to the graph's input, as `Predictor.preprocess` returns it.
        """
        if self.resize == "bilinear" and _resizes(undo) and (self.logits or self._op == "none"):
            return self.of_logits([piece(output, undo)], with_confidence)
        if self.resize == "nearest" and output.ndim == 3:
            mask, confidence = self.decide(output, with_confidence)
            return _nearest(mask, undo), None if confidence is None else _nearest(confidence, undo)
        return self.decide(restore(output, undo), with_confidence)

    def of_logits(self, pieces: Sequence[Piece], with_confidence: bool) -> Mask:
        """The mean of logits, each with its way back, to a mask."""
        if len(pieces) == 1 and not self._multilabel and not self._wants_confidence(with_confidence):
            return classes(pieces[0], scoring.id_dtype(self._num_classes)), None
        return self.joined(self.decide(strip, with_confidence, logits=True) for strip in strips(pieces))

    def joined(self, parts: Iterable[Mask]) -> Mask:
        """Strips of a mask, from top to bottom, as one."""
        masks, confidences = zip(*parts)
        return np.concatenate(masks), None if confidences[0] is None else np.concatenate(confidences)

    def decide(self, output: NDArray[Any], with_confidence: bool, logits: bool = False) -> Mask:
        """Class ids (H, W), or scores (C, H, W), at the image's size -> mask and confidence, (H, W), or where a pixel
        may be of several classes (H, W, C).

        Args: logits: whether scores are logits, whatever the graph's own output is.
        """
        if output.ndim == 2:
            return output.astype(scoring.id_dtype(self._num_classes), copy=False), None
        if self._multilabel:
            return scoring.planes(output, logits or self._op == "none", with_confidence)
        ids, best = scoring.best_class(output)
        if not self._wants_confidence(with_confidence):
            return ids, None
        if logits or self._op == "none":
            best = scoring.softmax_of_best(output, best)
        if self._unknown_below is not None:
            ids = scoring.mark_unknown(ids, best, self._unknown_below, self._unknown_id)
        return ids, best if with_confidence else None

    def _wants_confidence(self, with_confidence: bool) -> bool:
        return with_confidence or self._unknown_below is not None


def _nearest(values: NDArray[Any], undo: Sequence[Undo]) -> NDArray[Any]:
    """Shape: (h, w) or planes (h, w, C)."""
    if values.ndim == 2:
        return restore(values, undo)
    return np.stack([restore(values[..., plane], undo) for plane in range(values.shape[2])], axis=-1)


def _resizes(undo: Sequence[Undo]) -> bool:
    return any(step.kind == "resize" for step in undo)
