"""A small trained-looking model and its export, made once for all tests that need one."""

import functools
import importlib.util
import tempfile

import cv2
import numpy as np
import paddle  # after ours
import paddle.nn.functional as F
import pytest

from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

CONVERTS = paddle_version() >= (3,) and importlib.util.find_spec("paddle2onnx") is not None
needs_converter = pytest.mark.skipif(
    not CONVERTS, reason="Paddle2ONNX needs Paddle 3 or later and has no build for Python 3.13"
)
LABELS = LABEL_SETS["camvid"]
TRANSFORMS = [{"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}]
_KEEP = []  # temporary folders, removed with the process


@functools.cache
def photograph(height=427, width=640):
    """A real photograph, BGR."""
    from sklearn.datasets import load_sample_image

    image = np.ascontiguousarray(load_sample_image("china.jpg")[:, :, ::-1])
    return (
        image
        if image.shape[:2] == (height, width)
        else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    )


def few_ties(pixels):
    """The largest share of pixels in which two right masks may differ: those where float sums in another order turn a
    tie of two classes. One in ten thousand, but one in any mask, of which a smaller share would mean none at all."""
    return max(1e-4, 1 / pixels)


@functools.cache
def model():
    """PP-LiteSeg-T with random weights and batch statistics as training leaves them, so that masks show many
    classes."""
    from ppliteseg_paddle import pp_liteseg_t

    paddle.seed(7)
    net = pp_liteseg_t(num_classes=LABELS.num_classes)
    batch = paddle.to_tensor(
        np.stack([photograph(192, 256), photograph(192, 256)[:, ::-1]]).transpose(0, 3, 1, 2) / 128.0 - 1.0,
        dtype="float32",
    )
    net.train()
    with paddle.no_grad():
        for _ in range(12):
            logits = net(batch)[0]
        # Equal means over the image for all classes: else one would win everywhere.
        head = net.seg_heads[0].classifier
        head.weight.set_value(head.weight - head.weight.mean(axis=1, keepdim=True))
    net.eval()
    assert logits.shape[1] == LABELS.num_classes
    return net


class Small(paddle.nn.Layer):
    """A network of two layers, for what does not depend on PP-LiteSeg."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem, self.classifier = paddle.nn.Conv2D(3, 8, 3, stride=2, padding=1), paddle.nn.Conv2D(8, num_classes, 1)

    def forward(self, x):
        logits = self.classifier(F.relu(self.stem(x)))
        return [F.interpolate(logits, paddle.shape(x)[2:], mode="bilinear")]


class Pooled(Small):
    """One that pools adaptively, which ONNX cannot express at an open size."""

    def forward(self, x):
        feature = F.relu(self.stem(x))
        feature = feature + F.adaptive_avg_pool2d(feature, 2).mean([2, 3], keepdim=True)
        return [F.interpolate(self.classifier(feature), paddle.shape(x)[2:], mode="bilinear")]


def small_model(num_classes=11):
    paddle.seed(7)
    return Small(num_classes)


@functools.cache
def export_folder(input_shape=None, output_op="argmax"):
    """Folder of an export of `model()`."""
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    folder = tempfile.TemporaryDirectory()
    _KEEP.append(folder)
    path = folder.name + "/export"
    export_model(
        model(),
        path,
        ExportOptions(
            label_set=LABELS,
            transforms=TRANSFORMS,
            input_shape=input_shape,
            output_op=output_op,
            check_image=photograph(),
        ),
    )
    return path


@functools.cache
def export_formats(input_shape=None, preprocess_in_graph=False):
    """Folder of an export of `model()` as ONNX and OpenVINO."""
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    folder = tempfile.TemporaryDirectory()
    _KEEP.append(folder)
    path = folder.name + "/export"
    export_model(
        model(),
        path,
        ExportOptions(
            formats=("onnx", "openvino"),
            label_set=LABELS,
            transforms=TRANSFORMS,
            input_shape=input_shape,
            preprocess_in_graph=preprocess_in_graph,
            check_image=photograph(192, 256),
        ),
    )
    return path


@functools.cache
def exported_predictor(input_shape=None, output_op="argmax"):
    from ppliteseg_paddle import Predictor

    return Predictor(export_folder(input_shape, output_op))


@functools.cache
def eager():
    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.export.eager import eager_predictor

    return eager_predictor(model(), LABELS, Preprocess(TRANSFORMS))


@functools.cache
def small_folder(output_op="softmax", input_shape=None, num_classes=11):
    """Folder of an export of `small_model()`, in a second."""
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model
    from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for

    folder = tempfile.TemporaryDirectory()
    _KEEP.append(folder)
    path = folder.name + "/export"
    labels = (
        LABELS
        if num_classes == LABELS.num_classes
        else LabelSet("many", tuple(map(str, range(num_classes))), palette_for(num_classes))
    )
    export_model(
        small_model(num_classes),
        path,
        ExportOptions(
            label_set=labels,
            transforms=TRANSFORMS,
            input_shape=input_shape,
            output_op=output_op,
            check_image=photograph(64, 96),
        ),
    )
    return path
