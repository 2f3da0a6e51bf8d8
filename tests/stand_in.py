"""A predictor without a runtime: scores follow from each pixel's brightness. For what does not depend on who infers."""

import threading

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for

NORMALIZE = {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}


def labels(num_classes=11, ignore_index=255):
    return LabelSet("test", tuple(f"class_{i:d}" for i in range(num_classes)), palette_for(num_classes), ignore_index)


def logits_of(batch, num_classes):
    """Float input (N, 3, h, w), -1 to 1 -> (N, classes, h, w): the class whose brightness is next wins."""
    brightness = batch.mean(axis=1, keepdims=True)
    centres = np.linspace(-1, 1, num_classes, dtype=np.float32).reshape(1, -1, 1, 1)
    return -8 * np.abs(brightness - centres)


class StandIn(Backend):
    """Attributes: `batches`, the shape of each input."""

    name = "stand-in"

    def __init__(self, op, num_classes, graph="paddle"):
        self._op, self._num_classes, self.graph = op, num_classes, graph
        self._busy, self.batches = threading.Lock(), []

    def run(self, batch):
        assert self._busy.acquire(blocking=False), "a backend must not be used by two threads at once"
        try:
            self.batches.append(batch.shape)
            if self.graph == "onnx":  # takes images as they are
                assert batch.dtype == np.uint8
                batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) / np.float32(127.5) - 1
            assert batch.dtype == np.float32 and batch.flags["C_CONTIGUOUS"]
            logits = logits_of(batch, self._num_classes)
            if self._op == "argmax":
                return logits.argmax(axis=1).astype(np.uint8 if self._num_classes <= 256 else np.int32)
            return logits if self._op == "none" else softmax(logits, 1)
        finally:
            self._busy.release()

    def describe(self):
        return {"name": self.name, "runtime": "none", "version": "0", "device": "cpu"}


def softmax(scores, axis):
    exponentials = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def stand_in(
    op="none",
    num_classes=11,
    shape=(-1, 3, -1, -1),
    transforms=(NORMALIZE,),
    in_graph=False,
    ignore_index=255,
    **options,
):
    """A predictor on a `StandIn`."""
    batch, _, height, width = shape
    output = Tensor("out", "float32", "NCHW", (batch, num_classes, height, width), op=op)
    if op == "argmax":
        output = Tensor("out", "uint8", "NHW", (batch, height, width), op=op)
    artifact = Artifact(
        "export",
        {"type": "StandIn"},
        labels(num_classes, ignore_index),
        Preprocess(list(transforms)),
        Tensor("x", "float32", "NCHW", shape, color_order="RGB"),
        output,
        {},
        {},
        image_input=Tensor("image", "uint8", "NHWC", (-1, -1, -1, 3)),
        in_graph=("onnx",) if in_graph else (),
    )
    return Predictor.of(artifact, StandIn(op, num_classes, "onnx" if in_graph else "paddle"), **options)


def image(height=48, width=64, seed=0):
    """Smooth, of all brightnesses."""
    rows, columns = np.mgrid[:height, :width]
    values = (rows * 3 + columns * 2 + seed * 41) % 256
    return np.ascontiguousarray(np.repeat(values[:, :, np.newaxis], 3, axis=2).astype(np.uint8))
