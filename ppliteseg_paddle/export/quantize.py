"""INT8: post-training quantisation of a converted network from a list of images.

ONNX Runtime's own tools measure the ranges and put the QuantizeLinear / DequantizeLinear pairs ("QDQ") into the graph,
which
ONNX Runtime and OpenVINO both compute in 8 bits. Which layers get them is measured: every layer is quantised alone and
the network's scores are compared with the float ones; where the whole network loses too much, those that hurt most
are put back into float.

Weights take 7 of their 8 bits, one scale a channel: processors without VNNI (AVX2) add two products in 16 bits, which
8-bit weights overflow, silently.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, suggest
from ppliteseg_paddle.export import blockwise_argmax as onnx_tail

METHODS = ("minmax", "entropy", "percentile")
# What is quantised; all else (attention, resizing, argmax) is a few percent of the time and most of the harm.
OPERATORS = ("Conv", "Relu", "Concat", "AveragePool")
# There, ranges without a sign for what ReLU leaves would need a zero point.
_NOT_IN_TENSORRT = ("Relu",)
# Convolutions with fewer outputs (the attention's) are not worth the conversions around them.
MIN_CHANNELS = 8
# By default ONNX Runtime counts into as many bins as there are steps, where "entropy" can cut nothing off.
_HISTOGRAMS = {
    "entropy": {"num_bins": 512, "num_quantized_bins": 128},
    "percentile": {"num_bins": 2048, "percentile": 99.99},
}
# Bounds of the sensitivity pass: images it looks at, layers it measures alone, sets of layers it tries in float.
SENSITIVITY_IMAGES, MAX_LAYERS, MAX_TRIALS = 6, 100, 6
# A trial is good if it loses no more than this, on the images that it looks at: points of mIoU where there are labels
# (half of what the export may lose in the end), else a share of pixels that change their class.
TRIAL_POINTS, TRIAL_PIXELS = 0.5, 0.03
MAX_LOST_POINTS = 1.0
_MAX_CALIBRATION_IMAGES = 300


@dataclass
class Calibration:
    """What INT8 is measured on.

    Args:
        images: paths of (image, label or None); the ranges come from the images.
        method: of turning a tensor's values into a range, one of `METHODS`.
        validation: pairs of (image, label) on which the loss of mIoU is stated; default: the labelled ones of `images`.
        sensitivity: whether to measure layers and keep in float those that hurt; else all are quantised and no loss is
            too large, as for a benchmark of random weights.
        progress: whether to show progress bars on stderr.

    Attributes: `report`, which `quantize_network` and `measure_loss` fill: plain values.
    """

    images: Sequence[tuple[str, str | None]]
    method: str = "minmax"
    validation: Sequence[tuple[str, str]] = ()
    sensitivity: bool = True
    progress: bool = True
    report: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.method not in METHODS:
            raise ConfigError(f"unknown calib_method '{self.method}'.{suggest(self.method, METHODS)}")
        if not self.images:
            raise DataError(
                "there are no calibration images; INT8 needs some, 50 to 200 of the kind that the model will see."
            )


def quantize_network(path: str, artifact: Artifact, calibration: Calibration, aside: str) -> Callable[[str], str]:
    """Quantise a folded network.

    Args: path: the ONNX file, float NCHW in, logits out; artifact: how images enter; aside: a folder for files in
        between.
    Returns: what writes the quantised network in the form of a format ("onnx", "openvino", "tensorrt") and returns its
        path, in
        `aside`. `calibration.report` then says what was measured and chosen.
    Raises: ArtifactError: if it loses too much with every number of float layers that was tried. DataError: for an
        image or
        label that cannot be read.
    """
    network = _Network(path, artifact, calibration, aside)
    layers = network.layers()
    ranges = network.ranges()
    if not calibration.sensitivity:
        calibration.report.update(
            {
                "method": calibration.method,
                "images": len(network.calibrated),
                "sensitivity_images": 0,
                "labels": False,
                "layers": [],
                "float_layers": [],
                "trials": [],
                "always_float": network.left_out,
            }
        )
        return lambda form: network.quantized(ranges, form=form)
    chosen = _spread(calibration.images, SENSITIVITY_IMAGES)
    batches = [network.batch(image) for image, _ in chosen]
    labels = [network.small_label(label, size) for (_, label), size in zip(chosen, network.reference(batches))]
    rows = []
    with _bar(calibration, len(layers), "sensitivity", "layer") as bar:
        for layer in layers:
            rows.append(
                {
                    "layer": layer,
                    "form": network.form_of(layer),
                    **network.measure(network.quantized(ranges, only=layer), batches, labels),
                }
            )
            bar.update()
    rows.sort(key=lambda row: row["noise"], reverse=True)
    floats, trials = _choose(network, ranges, rows, batches, labels)
    for row in rows:
        row["float"] = row["layer"] in floats
    calibration.report.update(
        {
            "method": calibration.method,
            "images": len(network.calibrated),
            "sensitivity_images": len(chosen),
            "labels": any(label is not None for label in labels),
            "layers": rows,
            "float_layers": sorted(floats),
            "trials": trials,
            "always_float": network.left_out,
        }
    )
    return lambda form: network.quantized(ranges, keep=sorted(floats), form=form)


def _choose(network, ranges, rows, batches, labels) -> tuple[set[str], list[dict[str, Any]]]:
    """Put layers back into float, those that hurt most first and more each time, until the loss is small enough."""
    trials: list[dict[str, Any]] = []
    counts = [0, 1, 2, 4, 8, 16][:MAX_TRIALS]
    for count in dict.fromkeys(min(count, len(rows)) for count in counts):
        floats = {row["layer"] for row in rows[:count]}
        found = network.measure(network.quantized(ranges, keep=sorted(floats)), batches, labels)
        trials.append({"float_layers": count, **found})
        if found["lost_points"] is not None and found["lost_points"] <= TRIAL_POINTS:
            return floats, trials
        if found["lost_points"] is None and found["differing_pixels"] <= TRIAL_PIXELS:
            return floats, trials
    lost = (
        f"{found['lost_points']:.2f} points of mIoU"
        if found["lost_points"] is not None
        else f"{(100 * found['differing_pixels']):.2f} % of the pixels"
    )
    raise ArtifactError(
        f"INT8 loses {lost} on {len(batches):d} calibration images even with {count:d} layers in float. Give more "
        "images with --calib_data, "
        f"try another --calib_method ({', '.join(METHODS)}), or export with --precision fp16."
    )


class _Network:
    """A float network in ONNX, its truncated form whose output is the small map of logits, and what is measured on
    it."""

    def __init__(self, path: str, artifact: Artifact, calibration: Calibration, aside: str):
        import onnx

        self.path, self.artifact, self.calibration, self.aside = path, artifact, calibration, aside
        self._bytes = onnx.load(path).SerializeToString()
        model = self._model()
        self._input = model.graph.input[0].name
        self._scores = onnx_tail.last_resize(model.graph, model.graph.output[0].name)
        self.calibrated: list[str] = []
        self.left_out = self._left_out(model)
        self._floats: list[tuple[np.ndarray, np.ndarray]] = []

    def _model(self):
        import onnx

        return onnx.load_from_string(self._bytes)

    def _left_out(self, model) -> list[str]:
        """Convolutions that always stay in float: the smallest, and the one that makes the scores, which 256 steps are
        too few for."""
        self._weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
        self._nodes = convs = [node for node in model.graph.node if node.op_type == "Conv"]
        small = [node.name for node in convs if self._weights.get(node.input[1], [0])[0] < MIN_CHANNELS]
        return list(dict.fromkeys(small + [node.name for node in convs[-1:]]))

    def layers(self) -> list[str]:
        """The convolutions to quantise, in order.

        Raises: ConfigError: if there is none.
        """
        found = [
            node.name for node in self._model().graph.node if node.op_type == "Conv" and node.name not in self.left_out
        ]
        if not found:
            raise ConfigError("the network holds no convolution that INT8 could serve.")
        return found[:MAX_LAYERS]

    def form_of(self, layer: str) -> str:
        """What a convolution is, as in "3x3, 128 -> 64"."""
        outputs, inputs, height, width = self._weights[
            next(node.input[1] for node in self._nodes if node.name == layer)
        ]
        return f"{height:d}x{width:d}, {(f'{outputs:d} apart' if inputs == 1 else f'{inputs:d} -> {outputs:d}')}"

    def batch(self, image: str) -> np.ndarray:
        from ppliteseg_paddle.deploy.preprocess import read_image

        return self.artifact.preprocess(read_image(image))[0]

    def ranges(self):
        """Every tensor's range over the calibration images, read one at a time."""
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        methods = {
            "minmax": CalibrationMethod.MinMax,
            "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile,
        }
        calibrator = create_calibrator(
            self.path,
            list(OPERATORS),
            os.path.join(self.aside, "calibrated.onnx"),
            methods[self.calibration.method],
            extra_options=_HISTOGRAMS.get(self.calibration.method, {}),
        )
        images = _spread(self.calibration.images, _MAX_CALIBRATION_IMAGES)
        with _bar(self.calibration, len(images), "calibrating", "image") as bar:
            for image, _ in images:
                with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
                    calibrator.collect_data(_Once({self._input: self.batch(image)}))
                self.calibrated.append(image)
                bar.update()
        with contextlib.redirect_stdout(io.StringIO()):
            return calibrator.compute_data()

    def quantized(self, ranges, only: str | None = None, keep: Sequence[str] = (), form: str = "onnx") -> str:
        """Write the network with 8 bits in `only` this layer, or in all but those to `keep`. Returns its path."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        nodes = None if only is None else [only]
        # Between 8-bit convolutions joining and pooling stay in 8 bits, too; alone they would only add noise of their
        # own.
        operators = list(OPERATORS) if only is None else ["Conv"]
        # TensorRT knows neither zero points nor whole-number biases, and its processors do not saturate.
        tensorrt = form == "tensorrt"
        options = {"ActivationSymmetric": True, "QuantizeBias": False} if tensorrt else {}
        quantizer = QDQQuantizer(
            self._model(),
            True,
            not tensorrt,
            QuantType.QInt8,
            QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            ranges,
            nodes,
            [*self.left_out, *keep],
            [name for name in operators if name not in _NOT_IN_TENSORRT] if tensorrt else operators,
            options,
        )
        with _quiet():
            quantizer.quantize_model()
        path = os.path.join(self.aside, "quantized.onnx")
        quantizer.model.save_model_to_file(path)
        return path

    def _run(self, path: str, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The small map of logits of each batch."""
        import onnx
        import onnxruntime

        from ppliteseg_paddle.deploy.interface import default_threads

        model = onnx.load(path)
        if self._scores is not None:
            name = self._scores.input[0]
            resize = next(
                node
                for node in model.graph.node
                if node.op_type == "Resize" and list(node.output) == list(self._scores.output)
            )
            name = resize.input[0]
            del model.graph.output[:]
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = default_threads()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for batch in batches:
            yield session.run(None, {self._input: batch})[0]

    def reference(self, batches: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        """Compute and keep the float scores; returns the size of each map."""
        self._floats = [(scores, scores.argmax(axis=1)) for scores in self._run(self.path, batches)]
        return [scores.shape[2:] for scores, _ in self._floats]

    def small_label(self, path: str | None, size: tuple[int, int]) -> np.ndarray | None:
        """A label at the size of the small map, (1, h, w)."""
        if path is None:
            return None
        label = _read_label(path)
        rows, columns = (((np.arange(side) + 0.5) * whole / side).astype(int) for side, whole in zip(size, label.shape))
        return label[np.ix_(rows, columns)][np.newaxis]

    def measure(self, path: str, batches, labels) -> dict[str, Any]:
        """How far a network is from the float one: `noise` (of the scores, as a part of their own spread),
        `differing_pixels`
        (share), `lost_points` (of mIoU; None without labels)."""
        error = spread = differing = count = 0.0
        matrices = [0, 0]
        for found, (expected, mask), label in zip(self._run(path, batches), self._floats, labels):
            error += float(np.square(found - expected).sum())
            spread += float(np.square(expected - expected.mean(axis=1, keepdims=True)).sum())
            winners = found.argmax(axis=1)
            differing += float((winners != mask).sum())
            count += mask.size
            if label is not None:
                for i, ids in enumerate((mask, winners)):
                    matrices[i] = matrices[i] + self._matrix(ids, label)
        lost = None if isinstance(matrices[0], int) else 100 * (_miou(matrices[0]) - _miou(matrices[1]))
        return {
            "noise": float(np.sqrt(error / max(spread, 1e-12))),
            "differing_pixels": differing / max(count, 1),
            "lost_points": lost,
        }

    def _matrix(self, ids: np.ndarray, label: np.ndarray):
        from ppliteseg_paddle.engine.metrics import confusion_matrix

        label_set = self.artifact.label_set
        return confusion_matrix(ids, label, label_set.num_classes, label_set.ignore_index)


def measure_loss(exact, quantized: Mapping[str, Any], calibration: Calibration) -> dict[str, Any]:
    """mIoU of a float export and of the 8-bit ones on the validation pairs, at the labels' own size.

    Args: exact: a `Predictor`; quantized: one for each format.
    Returns: what is added to `calibration.report["accuracy"]`: the format that loses most, and all of them under
        "formats"; {} where
        there are no labels.
    Raises: ArtifactError: if more than `MAX_LOST_POINTS` are lost.
    """
    from ppliteseg_paddle.engine.metrics import confusion_matrix

    pairs = list(calibration.validation) or [(image, label) for image, label in calibration.images if label is not None]
    if not pairs:
        return {}
    predictors, label_set = {"": exact, **quantized}, exact.label_set
    matrices, differing = dict.fromkeys(predictors, 0), dict.fromkeys(quantized, 0.0)
    with _bar(calibration, len(pairs), "validating", "image") as bar:
        for image, path in pairs:
            label = _read_label(path)
            masks = {name: np.asarray(predictor.predict(image)) for name, predictor in predictors.items()}
            if masks[""].shape != label.shape:
                raise DataError(
                    f"{image} is {masks[''].shape} in size, but its label {path} is {label.shape}; sizes of image and "
                    "label must be equal."
                )
            for name, mask in masks.items():
                matrices[name] = matrices[name] + confusion_matrix(
                    mask, label, label_set.num_classes, label_set.ignore_index
                )
            for name in differing:
                differing[name] += float(np.mean(masks[name] != masks[""])) / len(pairs)
            bar.update()
    float_miou = _miou(matrices[""])
    formats = {
        name: {
            "int8_mIoU": _miou(matrices[name]),
            "lost_points": 100 * (float_miou - _miou(matrices[name])),
            "differing_pixels": differing[name],
            "backend": quantized[name].backend.name,
        }
        for name in quantized
    }
    worst = max(formats.values(), key=lambda values: values["lost_points"])
    found = {
        "images": len(pairs),
        "on": "validation" if calibration.validation else "calibration",
        "fp32_mIoU": float_miou,
        **worst,
        "formats": formats,
    }
    calibration.report["accuracy"] = found
    if found["lost_points"] > MAX_LOST_POINTS:
        raise ArtifactError(
            f"INT8 loses {found['lost_points']:.2f} points of mIoU on {found['images']:d} {found['on']} images "
            f"(allowed: {MAX_LOST_POINTS:g}), so nothing was written. Give more images with "
            "--calib_data, try another --calib_method, or export with --precision fp16."
        )
    return found


def read_list(path: str) -> list[tuple[str, str | None]]:
    """A list of images: a line holds an image and, if there is one, its label, relative to the list's folder.

    Raises: DataError: if it cannot be read, is empty, or names a file that does not exist.
    """
    folder, pairs = os.path.dirname(os.path.abspath(path)), []
    try:
        with open(path, encoding="utf-8") as file:
            lines = [(number, line.split()) for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"calib_data {path} cannot be read: {getattr(error, 'strerror', None) or error}; give a text file with one "
            "image a line, its label after it if there is one."
        ) from None
    for number, names in lines:
        files = [os.path.join(folder, name) for name in names[:2]]
        for name in files:
            if not os.path.isfile(name):
                raise DataError(
                    f"{path}, line {number:d}: {name} does not exist; paths are relative to the list's folder."
                )
        pairs.append((files[0], files[1] if len(files) > 1 else None))
    if not pairs:
        raise DataError(f"calib_data {path} is empty; give 50 to 200 images of the kind that the model will see.")
    return pairs


class _Once:
    """A calibration reader of one batch."""

    def __init__(self, inputs: dict[str, np.ndarray]):
        self._inputs: dict[str, np.ndarray] | None = inputs

    def get_next(self):
        inputs, self._inputs = self._inputs, None
        return inputs


def _miou(matrix) -> float:
    from ppliteseg_paddle.engine.metrics import scores

    return scores(matrix)["mIoU"]


def _read_label(path: str) -> np.ndarray:
    import cv2

    label = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if label is None or label.ndim != 2:
        raise DataError(f"the label {path} cannot be read as an image with one channel of class ids.")
    return label


def _spread(items: Sequence, count: int) -> list:
    """`count` of the items, evenly over the list."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in places]


def _bar(calibration: Calibration, total: int, what: str, unit: str):
    from tqdm import tqdm

    return tqdm(
        total=total, desc=what, unit=unit, file=sys.stderr, leave=False, disable=None if calibration.progress else True
    )


@contextlib.contextmanager
def _quiet():
    """ONNX Runtime's tools give advice at every call that does not concern a graph folded already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
