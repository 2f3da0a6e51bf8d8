"""Export a model: copy it, convert the copy to each format, compare, describe. Paddle's own format is written here.

The module's name does not hide the package: imports are absolute.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import paddle  # after ours: on Paddle 2.6 OpenCV has to be loaded first

from ppliteseg_paddle.deploy.artifact import OUTPUT_OPS, PRECISIONS, Artifact, Tensor, writing
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess, generated_image
from ppliteseg_paddle.deploy.shapes import shape_range
from ppliteseg_paddle.errors import ConfigError, DataError, DependencyError, suggest
from ppliteseg_paddle.export.compare import EagerBackend, GraphForm, compare, mask_dtype, require_equal
from ppliteseg_paddle.reading.label_sets import LabelSet

_INPUT_NAME = "x"
# Sizes (H, W) that tell whether a pipeline ends at one size, whatever enters.
_PROBES = ((97, 61), (333, 517), (720, 960), (1024, 2048))


def eager_predictor(
    model, label_set: LabelSet, preprocess: Preprocess, output_op: str = "argmax", **options: Any
) -> Predictor:
    """A `Predictor` that runs the model itself, with options as `Predictor` has them. It is put in evaluation mode."""
    artifact = _describe(model, label_set, preprocess, None, output_op, {})
    return Predictor.of(artifact, EagerBackend(model, output_op, label_set.num_classes), **options)


def export_paddle(model, save_dir: str, **options: Any) -> dict[str, Any]:
    """`export_model` to the format "paddle" alone."""
    return export_model(model, save_dir, formats=("paddle",), **options)


def export_model(
    model,
    save_dir: str,
    *,
    formats: Sequence[str] = ("paddle",),
    label_set: LabelSet,
    transforms: Preprocess | Sequence[Mapping[str, Any]],
    input_shape: Sequence[int] | None = None,
    dynamic_shape: Sequence[Sequence[int]] | None = None,
    precision: str = "fp32",
    calibration=None,
    output_op: str = "argmax",
    preprocess_in_graph: bool = False,
    check_image: np.ndarray | None = None,
    description: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `model` as a folder that `Predictor` runs, and see that it gives the model's masks.

    The model itself is not changed. The graph is made of a copy in evaluation mode without auxiliary
    heads. Nothing is written unless all went well; an earlier export at `save_dir` is then replaced.

    Args:
        model: any layer that returns a list with the logits (N, classes, H, W) first.
        formats: keys of `FORMATS`; they share one folder.
        label_set: its classes and their colors.
        transforms: the configuration's validation transforms.
        input_shape: (N, 3, H, W), -1 where open; None leaves batch, height and width open. With a fixed size,
            images of other sizes are resized to it.
        dynamic_shape: in its place three shapes (N, 3, H, W), the smallest, the usual and the largest input.
        precision: "fp32", "fp16" or "int8". fp16 is what TensorRT shall compute in, and how ONNX and OpenVINO files
            keep their weights; Paddle's graph stays as it is. int8 is for all formats but Paddle's.
        calibration: an `export.quantize.Calibration`, which int8 needs.
        output_op: what leaves the graph: "argmax" (class ids), "softmax" (probabilities) or "none" (logits).
        preprocess_in_graph: whether all graphs but Paddle's take uint8 NHWC BGR images of any size, do the
            transforms themselves, and return masks of the image's size.
        check_image: (H, W, 3) uint8 BGR, on which export and model are compared; None generates one.
        description: what else `deploy.yaml` shall say of the model.
    Returns: the report: folder, files, input, output, resizing, comparison. Plain values.
    Raises: ConfigError: for an argument that cannot serve. DependencyError: if a format needs what is not installed.
        ArtifactError: if the folder cannot be written or the export differs from the model.
    """
    if output_op not in OUTPUT_OPS:
        raise ConfigError(f"unknown output_op '{output_op}'.{suggest(output_op, OUTPUT_OPS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision '{precision}'.{suggest(precision, PRECISIONS)}")
    formats = _checked_formats(formats, preprocess_in_graph)
    _check_int8(precision, formats, calibration)
    shapes = shape_range(dynamic_shape)
    if shapes is not None and input_shape is not None:
        raise ConfigError("input_shape fixes the input's size and dynamic_shape leaves it open; give one of them.")
    input_shape = _checked_shape(input_shape) if shapes is None else shapes.open_shape
    preprocess = transforms if isinstance(transforms, Preprocess) else Preprocess(transforms)
    preprocess = _ending_at(input_shape, preprocess)
    artifact = replace(
        _describe(model, label_set, preprocess, input_shape, output_op, dict(description or {})),
        dynamic_shape=shapes,
        precision=precision,
    )
    if preprocess_in_graph:
        artifact = _taking_images(artifact, [name for name in formats if name != "paddle"])
    usual = shapes.opt[2:] if shapes else [size if size > 0 else 256 for size in artifact.input.shape[2:]]
    image = generated_image(*usual) if check_image is None else check_image
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    try:
        model.eval()
        _check_classes(model, label_set)
        with writing(save_dir) as folder:
            graphs, checks = {}, {}
            with tempfile.TemporaryDirectory(dir=folder) as aside:
                source = _Source(model, aside, calibration)
                for name in formats:
                    graphs[name], checks[name] = _write_format(name, source, artifact, folder, image, save_dir)
                if precision == "int8":
                    _measure_int8(source, replace(artifact, folder=folder, graphs=graphs), output_op)
            worst = max(checks, key=lambda name: (checks[name]["differing_pixels"], checks[name]["max_difference"]))
            check = {**checks[worst], **({"formats": checks} if len(checks) > 1 else {})}
            written = replace(artifact, folder=folder, graphs=graphs, check=check)
            written.write()
            files = {name: os.path.getsize(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    finally:
        for layer, training in modes:  # one by one: a trainer may keep some layers in evaluation mode
            layer.training = training
    return {
        "save_dir": save_dir,
        "formats": list(formats),
        "files": files,
        "input": artifact.input.to_dict(),
        "image_input": artifact.image_input.to_dict() if artifact.image_input else None,
        "output": artifact.output.to_dict(),
        "resize": preprocess.resize_policy,
        "precision": precision,
        "check": check,
        **({"quantisation": calibration.report} if precision == "int8" else {}),
    }


def _write_format(
    name: str, source: _Source, artifact: Artifact, folder: str, image: np.ndarray, save_dir: str
) -> tuple[dict[str, str], dict[str, Any]]:
    """Write one format and compare it. Returns the file of each role, and the comparison.

    A mask tells little of how far the scores are off, so the same graph with logits as its output is compared, too.
    """
    graph = FORMATS[name](source, artifact, folder)
    check = _compare_format(name, graph, artifact, folder, source.model, image)
    if source.calibration is None or source.calibration.sensitivity:
        require_equal(
            check,
            save_dir,
            artifact.precision if name in ("onnx", "openvino") or artifact.precision == "int8" else "fp32",
        )
    if "max_difference" not in check:
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            scores = replace(artifact, output=_output("none", artifact.label_set, artifact.input.shape))
            scored = _compare_format(name, FORMATS[name](source, scores, aside), scores, aside, source.model, image)
            check["max_difference"] = scored["max_difference"]
    if name == "tensorrt":
        _compare_tensorrt(
            graph, replace(artifact, folder=folder, graphs={name: graph}), source.model, image, save_dir, check
        )
    return graph, check


def _compare_format(
    name: str, graph: dict[str, str], artifact: Artifact, folder: str, model, image: np.ndarray
) -> dict[str, Any]:
    runs = name
    if name == "tensorrt":  # it is ONNX, which ONNX Runtime computes on machines without a GPU
        runs = "onnx"
        artifact = replace(artifact, in_graph=("onnx",) if name in artifact.in_graph else ())
    written = replace(artifact, folder=folder, graphs={runs: graph})
    backend = open_backend("auto", written, device=_device() if name == "paddle" else "cpu")
    return compare(Predictor.of(written, backend), model, image)


def _compare_tensorrt(
    graph: dict[str, str], written: Artifact, model, image: np.ndarray, save_dir: str, check: dict[str, Any]
) -> None:
    """Compare the 16-bit graph, and the engine where there is a GPU to build one; adds what was found to `check`."""
    if "half" in graph:
        check["fp16"] = _compare_format("tensorrt", {"model": graph["half"]}, written, written.folder, model, image)
        require_equal(check["fp16"], save_dir, "fp16")
    try:
        backend = open_backend("tensorrt", written)
    except DependencyError:  # no GPU or no TensorRT: the machine that runs it will build it
        return
    check["engine"] = compare(Predictor.of(written, backend), model, image)
    require_equal(check["engine"], save_dir, written.precision)


def _measure_int8(source: _Source, written: Artifact, output_op: str) -> None:
    """State what 8 bits lose on the labelled images, beside a float export that is not kept."""
    names = [name for name in ("onnx", "openvino") if name in written.graphs]
    if not names or output_op != "argmax":
        return
    from ppliteseg_paddle.export.quantize import measure_loss

    def opened(artifact: Artifact, name: str) -> Predictor:
        artifact = replace(artifact, graphs={name: artifact.graphs[name]})
        return Predictor.of(artifact, open_backend("auto", artifact, device="cpu"))

    with tempfile.TemporaryDirectory(dir=written.folder) as aside:
        exact = replace(written, folder=aside, precision="fp32")
        exact = replace(exact, graphs={names[0]: FORMATS[names[0]](source, exact, aside)})
        measure_loss(opened(exact, names[0]), {name: opened(written, name) for name in names}, source.calibration)


# --------------------------------------------------------------------------------------------
# The graph
# --------------------------------------------------------------------------------------------
def _inference_copy(model, artifact: Artifact, adaptive_pooling: bool = True) -> GraphForm:
    inference = copy.deepcopy(model)
    inference.eval()
    height, width = artifact.input.shape[2:]
    if hasattr(inference, "prepare_for_export"):
        inference.prepare_for_export((height, width) if height > 0 and width > 0 else None, adaptive_pooling)
    return GraphForm(inference, artifact.output.op, artifact.label_set.num_classes)


def _save_graph(form: GraphForm, artifact: Artifact, folder: str) -> dict[str, str]:
    """Trace and save. Returns the file of each role."""
    form.eval()
    shape = [None if size == -1 else size for size in artifact.input.shape]
    traced = paddle.jit.to_static(
        form, full_graph=True, input_spec=[paddle.static.InputSpec(shape, "float32", name=_INPUT_NAME)]
    )
    # Saved aside: Paddle 2.6 adds a file that only training needs.
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        paddle.jit.save(traced, os.path.join(aside, "model"))
        names = os.listdir(aside)
        graph = {
            "model": next(name for name in ("model.json", "model.pdmodel") if name in names),
            "params": "model.pdiparams",
        }
        for name in graph.values():
            os.replace(os.path.join(aside, name), os.path.join(folder, name))
    return graph


class _Source:
    """A model on its way into several formats. What more than one of them needs is made once, in the folder `aside`."""

    def __init__(self, model, aside: str, calibration=None):
        self.model, self._aside, self.calibration = model, aside, calibration
        self._onnx: str | None = None
        self._quantized = None

    def onnx_network(self, artifact: Artifact, form: str = "") -> str:
        """Path of the network in ONNX, NCHW in and logits out: in 8 bits, as `form` needs them, where the artifact says
        so."""
        if artifact.precision == "int8" and form:
            if self._quantized is None:
                from ppliteseg_paddle.export.quantize import quantize_network

                self._quantized = quantize_network(self.onnx_network(artifact), artifact, self.calibration, self._aside)
            return self._quantized(form)
        if self._onnx is None:
            from ppliteseg_paddle.export.onnx import convert, fold_network

            logits = replace(artifact, output=_output("none", artifact.label_set, artifact.input.shape))
            graph = _save_graph(_inference_copy(self.model, logits, adaptive_pooling=False), logits, self._aside)
            path = os.path.join(self._aside, "network.onnx")
            convert(os.path.join(self._aside, graph["model"]), os.path.join(self._aside, graph["params"]), path)
            self._onnx = fold_network(path, self._aside)
        return self._onnx


def _save_paddle(source: _Source, artifact: Artifact, folder: str) -> dict[str, str]:
    return _save_graph(_inference_copy(source.model, artifact), artifact, folder)


def _save_onnx(source: _Source, artifact: Artifact, folder: str) -> dict[str, str]:
    from ppliteseg_paddle.export.onnx import save_onnx

    return save_onnx(source.onnx_network(artifact, "onnx"), artifact, "onnx", folder)


def _save_openvino(source: _Source, artifact: Artifact, folder: str) -> dict[str, str]:
    from ppliteseg_paddle.export.onnx import save_onnx, save_openvino

    with tempfile.TemporaryDirectory(dir=folder) as aside:
        graph = save_onnx(source.onnx_network(artifact, "openvino"), artifact, "openvino", aside)
        return save_openvino(os.path.join(aside, graph["model"]), folder, half=artifact.precision == "fp16")


def _save_tensorrt(source: _Source, artifact: Artifact, folder: str) -> dict[str, str]:
    from ppliteseg_paddle.export.tensorrt import save_tensorrt

    return save_tensorrt(source.onnx_network(artifact, "tensorrt"), artifact, folder, half=artifact.precision == "fp16")


# format -> what writes it into a folder and returns the file of each role
FORMATS = {"paddle": _save_paddle, "onnx": _save_onnx, "openvino": _save_openvino, "tensorrt": _save_tensorrt}


def _output(op: str, label_set: LabelSet, input_shape: Sequence[int]) -> Tensor:
    batch, _, height, width = input_shape
    if op == "argmax":
        return Tensor("mask", mask_dtype(label_set.num_classes), "NHW", (batch, height, width), op=op)
    return Tensor("scores", "float32", "NCHW", (batch, label_set.num_classes, height, width), op=op)


def _describe(
    model,
    label_set: LabelSet,
    preprocess: Preprocess,
    input_shape: Sequence[int] | None,
    output_op: str,
    description: dict[str, Any],
) -> Artifact:
    from ppliteseg_paddle import __version__

    input_shape = tuple(input_shape or (-1, 3, -1, -1))
    parameters = sum(int(np.prod(parameter.shape)) for parameter in model.parameters() if not parameter.stop_gradient)
    return Artifact(
        folder="",
        model={
            "type": type(model).__name__,
            "num_classes": label_set.num_classes,
            "parameters": parameters,
            **description,
        },
        label_set=label_set,
        preprocess=preprocess,
        input=Tensor(_INPUT_NAME, "float32", "NCHW", input_shape, color_order="RGB"),
        output=_output(output_op, label_set, input_shape),
        graphs={},
        versions={
            "ppliteseg_paddle": __version__,
            "paddle": paddle.__version__,
            "python": ".".join(map(str, sys.version_info[:3])),
        },
    )


# --------------------------------------------------------------------------------------------
# Checks and sizes
# --------------------------------------------------------------------------------------------
def _checked_formats(formats: Sequence[str], preprocess_in_graph: bool) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(formats))
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"unknown format '{name}'.{suggest(name, FORMATS)}")
    if not formats:
        raise ConfigError(f"no format is given.{suggest('', FORMATS)}")
    if preprocess_in_graph and formats == ("paddle",):
        raise ConfigError(
            "--preprocess_in_graph is for the formats onnx and openvino; add one of them, or leave it out."
        )
    if formats != ("paddle",):
        from ppliteseg_paddle.export.onnx import check_installed

        check_installed("openvino" in formats)
    return formats


def _check_int8(precision: str, formats: Sequence[str], calibration) -> None:
    if precision != "int8":
        return
    if "paddle" in formats:
        raise ConfigError(
            "--precision int8 is for the formats onnx, openvino and tensorrt; leave paddle out, or export it by itself."
        )
    if calibration is None:
        raise ConfigError("--precision int8 needs --calib_data LIST: a text file with 50 to 200 images, one a line.")


def _taking_images(artifact: Artifact, formats: Sequence[str]) -> Artifact:
    from ppliteseg_paddle.export.onnx_graph import IMAGE_INPUT, check_preprocess

    check_preprocess(artifact.preprocess)
    shape = (artifact.input.size_of("N"),) + IMAGE_INPUT.shape[1:]
    return replace(artifact, image_input=replace(IMAGE_INPUT, shape=shape), in_graph=tuple(formats))


def _checked_shape(shape: Sequence[int] | None) -> tuple[int, int, int, int] | None:
    if shape is None:
        return None
    shape = tuple(-1 if size is None else int(size) for size in shape)
    fixed = len(shape) == 4 and min(shape[2:]) > 0
    if len(shape) != 4 or shape[0] not in (1, -1) or shape[1] != 3 or not (fixed or shape[2:] == (-1, -1)):
        raise ConfigError(
            f"input_shape is {list(shape)}; give N 3 H W with N 1 or -1, and H and W both in pixels or both -1."
        )
    return shape


def _ending_at(input_shape: Sequence[int] | None, preprocess: Preprocess) -> Preprocess:
    """`preprocess`, with a Resize added where a fixed input size would else depend on the image's."""
    if input_shape is None or input_shape[2] == -1:
        return preprocess
    height, width = input_shape[2:]

    def ends_there(size: tuple[int, int]) -> bool:
        try:
            return preprocess.input_size(*size) == (height, width)
        except DataError:  # a Padding step that the image does not fit in: refused when it is predicted, too
            return True

    if all(ends_there(size) for size in _PROBES):
        return preprocess
    steps = preprocess.to_transforms()
    before = len(steps) - 1 if steps and steps[-1]["type"] == "Normalize" else len(steps)
    return Preprocess(steps[:before] + [{"type": "Resize", "target_size": [width, height]}] + steps[before:])


def _check_classes(model, label_set: LabelSet) -> None:
    with paddle.no_grad():
        outputs = model(paddle.zeros([1, 3, 64, 64]))
    found = (
        outputs[0].shape[1] if isinstance(outputs, (list, tuple)) and outputs and len(outputs[0].shape) == 4 else None
    )
    if found is None:
        raise ConfigError(
            f"the model ({type(model).__name__}) does not return a list of logits, so it cannot be exported."
        )
    if found != label_set.num_classes:
        raise ConfigError(
            f"the model has {found:d} classes, but the label set '{label_set.name}' names {label_set.num_classes:d}; "
            "give names and colors for each class."
        )


def _device() -> str:
    device = paddle.get_device()
    return device if device.startswith("gpu") else "cpu"
