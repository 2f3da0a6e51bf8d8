"""Image in, mask out."""
from __future__ import annotations

import os
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import Backend, open_backend
from ppliteseg_paddle.deploy.preprocess import Undo, check_image, read_image, restore
from ppliteseg_paddle.errors import DataError

Image = Union[str, os.PathLike, np.ndarray]


class Predictor:
    """Runs an exported model. It needs the exported folder and one runtime, neither paddleseg nor training code.

        predictor = Predictor("export")
        mask = predictor.predict("street.jpg")      # (H, W) uint8
        predictor.label_set.classes[mask[0, 0]]     # "sky"

    Args:
        model_dir: the folder that `ppliteseg export` wrote.
        backend: a key of `deploy.backends.BACKENDS`, or "auto" for the fastest that works here.
        device: "cpu", "gpu" or "gpu:N"; None takes a GPU where the runtime sees one.
        num_threads: CPU threads; None takes all that the process may use.
    Attributes: `artifact` (what the folder says), `backend` (what runs it), `label_set` (class names and colours).
    Raises: ArtifactError: if the folder or a file in it is missing, damaged, or not readable here.
        ConfigError: for an unknown backend or device. DependencyError: if the backend is not installed.
    """

    def __init__(self, model_dir: Union[str, os.PathLike], backend: str = "auto", device: Optional[str] = None,
                 num_threads: Optional[int] = None):
        artifact = Artifact.read(os.fspath(model_dir))
        self._assemble(artifact, open_backend(backend, artifact, device, num_threads))

    @classmethod
    def of(cls, artifact: Artifact, backend: Backend) -> "Predictor":
        """A predictor on a backend that is open already."""
        predictor = cls.__new__(cls)
        predictor._assemble(artifact, backend)
        return predictor

    def _assemble(self, artifact: Artifact, backend: Backend) -> None:
        self.artifact, self.backend, self.label_set = artifact, backend, artifact.label_set

    def predict(self, image: Image) -> np.ndarray:
        """Segment one image.

        Args: image: a path, or an array of (H, W, 3) uint8 in BGR order, as OpenCV reads it.
        Shape: returns (H, W) uint8 class ids at the image's own size (uint16 above 256 classes).
        Raises: DataError: if the image is missing, unreadable, of another form, or of a size that the model does not take.
        """
        pixels = check_image(image) if not isinstance(image, (str, os.PathLike)) else read_image(image)
        batch, undo = self.preprocess(pixels)
        return self.postprocess(self.forward(batch), undo)

    # The three stages of `predict`, apart: the benchmark times them.
    def preprocess(self, image: np.ndarray) -> Tuple[np.ndarray, List[Undo]]:
        """Image (H, W, 3) uint8 BGR -> the network's input, and how the mask gets back to the image's size.

        A graph that preprocesses by itself takes the image as it is, and its mask needs no way back.
        """
        if self.backend.graph in self.artifact.in_graph:
            return np.ascontiguousarray(image)[np.newaxis], []
        batch, undo = self.artifact.preprocess(image)
        for dimension, found in zip("HW", batch.shape[2:]):
            wanted = self.artifact.input.size_of(dimension)
            if wanted not in (-1, found):
                raise DataError("the model was exported for inputs of %dx%d pixels (width x height), and an image of %dx%d gives "
                                "%dx%d; resize it, or export without --input_shape."
                                % (self.artifact.input.size_of("W"), self.artifact.input.size_of("H"),
                                   image.shape[1], image.shape[0], batch.shape[3], batch.shape[2]))
        return batch, undo

    def forward(self, batch: np.ndarray) -> np.ndarray:
        """The network's input -> its output; returns when that is there."""
        return self.backend.run(batch)

    def postprocess(self, output: np.ndarray, undo: Sequence[Undo]) -> np.ndarray:
        """The output for one image -> class ids at the image's own size."""
        ids = restore(output[0], undo)
        if ids.ndim == 3:
            ids = ids.argmax(axis=0)
        return ids.astype(np.uint8 if self.label_set.num_classes <= 256 else np.uint16, copy=False)
