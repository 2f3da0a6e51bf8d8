"""Which layers stay in float: every layer is quantised alone and the network's scores are compared with the float ones.
Where the whole network loses too much, those that hurt most are put back into float."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.export.blockwise_argmax import last_resize
from ppliteseg_paddle.export.int8.accuracy import miou
from ppliteseg_paddle.export.int8.calibration import METHODS, Calibration, progress_bar, spread

if TYPE_CHECKING:
    from ppliteseg_paddle.export.int8.network import Network

# Images that are looked at, and numbers of float layers that are tried.
SENSITIVITY_IMAGES, TRIALS = 6, (0, 1, 2, 4, 8, 16)
# A trial is good if it loses no more than this, on the images that it looks at: points of mIoU where there are labels
# (half of what the export may lose in the end), else a share of pixels that change their class.
TRIAL_POINTS, TRIAL_PIXELS = 0.5, 0.03


def choose_float_layers(network: Network, calibration: Calibration) -> dict[str, Any]:
    """Measure every layer, and put those that hurt back into float until the loss is small enough.

    Returns: for the report: `layers` with what each one costs, `float_layers`, `trials`, and on what it was measured.
    Raises: ArtifactError: if the loss stays too large. DataError: for an image or label that cannot be read.
    """
    chosen = spread(calibration.images, SENSITIVITY_IMAGES)
    probe = Probe(network, chosen)
    rows: list[dict[str, Any]] = []
    layers = network.layers()
    with progress_bar(calibration, len(layers), "sensitivity", "layer") as bar:
        for layer in layers:
            measured = probe.measure(network.quantized(only=layer))
            rows.append({"layer": layer, "form": network.form_of(layer), **measured})
            bar.update()
    rows.sort(key=lambda row: row["noise"], reverse=True)
    floats, trials = _try_float_layers(network, probe, [row["layer"] for row in rows])
    return {
        "sensitivity_images": len(chosen),
        "labels": probe.has_labels,
        "layers": [{**row, "float": row["layer"] in floats} for row in rows],
        "float_layers": sorted(floats),
        "trials": trials,
    }


def _try_float_layers(network: Network, probe: Probe, layers: Sequence[str]) -> tuple[set[str], list[dict[str, Any]]]:
    """Put layers back into float, those that hurt most first and more each time, until the loss is small enough."""
    trials: list[dict[str, Any]] = []
    for count in dict.fromkeys(min(count, len(layers)) for count in TRIALS):
        floats = set(layers[:count])
        found = probe.measure(network.quantized(keep=sorted(floats)))
        trials.append({"float_layers": count, **found})
        points = found["lost_points"]
        if points <= TRIAL_POINTS if points is not None else found["differing_pixels"] <= TRIAL_PIXELS:
            return floats, trials
    lost = (
        f"{points:.2f} points of mIoU"
        if points is not None
        else f"{(100 * found['differing_pixels']):.2f} % of the pixels"
    )
    raise ArtifactError(
        f"INT8 loses {lost} on {probe.images:d} calibration images even with {count:d} layers in float. Give more "
        f"images with --calib_data, try another --calib_method ({', '.join(METHODS)}), or export with --precision fp16."
    )


class Probe:
    """A few images with the float network's scores on them, which a quantised one is measured against.

    Scores are compared at the network's own small size, before it is upsampled.
    """

    def __init__(self, network: Network, chosen: Sequence[tuple[str, str | None]]) -> None:
        self._network, self.images = network, len(chosen)
        graph = network.model().graph
        resize = last_resize(graph, graph.output[0].name)
        self._resize_outputs = None if resize is None else list(resize.output)
        self._batches = [network.batch(image) for image, _ in chosen]
        self._floats = [(scores, scores.argmax(axis=1)) for scores in self._run(network.path)]
        self._labels = [
            None if label is None else _small_label(label, scores.shape[2:])
            for (_, label), (scores, _) in zip(chosen, self._floats)
        ]

    @property
    def has_labels(self) -> bool:
        return any(label is not None for label in self._labels)

    def measure(self, path: str) -> dict[str, Any]:
        """How far a network is from the float one.

        Returns: `noise` (of the scores, as a part of their own spread), `differing_pixels` (share), `lost_points` (of
            mIoU; None without labels).
        """
        error = total = differing = count = 0.0
        exact = rounded = None
        for found, (expected, mask), label in zip(self._run(path), self._floats, self._labels):
            error += float(np.square(found - expected).sum())
            total += float(np.square(expected - expected.mean(axis=1, keepdims=True)).sum())
            winners = found.argmax(axis=1)
            differing += float((winners != mask).sum())
            count += mask.size
            if label is not None:
                exact = _sum(exact, self._confusion(mask, label))
                rounded = _sum(rounded, self._confusion(winners, label))
        return {
            "noise": float(np.sqrt(error / max(total, 1e-12))),
            "differing_pixels": differing / max(count, 1),
            "lost_points": None if exact is None or rounded is None else 100 * (miou(exact) - miou(rounded)),
        }

    def _confusion(self, ids: NDArray[Any], label: NDArray[Any]) -> NDArray[Any]:
        from ppliteseg_paddle.engine.metrics import confusion_matrix

        label_set = self._network.artifact.label_set
        return confusion_matrix(ids, label, label_set.num_classes, label_set.ignore_index)

    def _run(self, path: str) -> Iterator[NDArray[Any]]:
        """The small map of logits of each batch."""
        import onnx
        import onnxruntime

        from ppliteseg_paddle.deploy.interface import default_threads

        model = onnx.load(path)
        if self._resize_outputs is not None:
            resize = next(
                node
                for node in model.graph.node
                if node.op_type == "Resize" and list(node.output) == self._resize_outputs
            )
            del model.graph.output[:]
            model.graph.output.append(onnx.helper.make_tensor_value_info(resize.input[0], onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = default_threads()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for batch in self._batches:
            yield session.run(None, {self._network.input_name: batch})[0]


def _small_label(path: str, size: Sequence[int]) -> NDArray[Any]:
    """A label at the size of the small map, (1, h, w)."""
    from ppliteseg_paddle.reading.labels import read_label

    label = read_label(path)
    rows, columns = (((np.arange(side) + 0.5) * full / side).astype(int) for side, full in zip(size, label.shape))
    return np.asarray(label[np.ix_(rows, columns)][np.newaxis])


def _sum(total: NDArray[Any] | None, matrix: NDArray[Any]) -> NDArray[Any]:
    return matrix if total is None else np.add(total, matrix)
