"""Export a model: copy it, convert the copy to each format, compare, describe. Paddle's own format is written here.

The module's name does not hide the package: imports are absolute.
"""
from __future__ import annotations

import copy
import os
import sys
import tempfile
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ppliteseg_paddle.data.catalog import LabelSet
from ppliteseg_paddle.deploy.artifact import OUTPUT_OPS, Artifact, Tensor, writing
from ppliteseg_paddle.deploy.backends import Backend, open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess, generated_image, restore
from ppliteseg_paddle.deploy.shapes import shape_range
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, suggest

import paddle  # after ours: on Paddle 2.6 OpenCV has to be loaded first
import paddle.nn.functional as F

# An export may differ from its model in this share of an image's pixels, and only where two classes are nearly equal:
# by less than this part of the largest score. Float sums in another order do no more; GPUs may round to TF32 (10 bits).
MAX_DIFFERING_PIXELS = {"cpu": 1e-3, "gpu": 5e-3}
NEAR_TIE = {"cpu": 1e-3, "gpu": 1e-2}
_INPUT_NAME = "x"
# Sizes (H, W) that tell whether a pipeline ends at one size, whatever enters.
_PROBES = ((97, 61), (333, 517), (720, 960), (1024, 2048))


class GraphForm(paddle.nn.Layer):
    """What is exported: the model's first logits, then `output_op`. The mask is uint8: an eighth of an int64 one to copy."""

    def __init__(self, model, output_op: str, num_classes: int):
        super().__init__()
        self.model, self.output_op = model, output_op
        self.mask_dtype = "uint8" if num_classes <= 256 else "int32"

    def forward(self, x):
        logits = self.model(x)[0]
        if self.output_op == "argmax":
            return paddle.argmax(logits, axis=1).astype(self.mask_dtype)
        if self.output_op == "softmax":
            return F.softmax(logits, axis=1)
        return logits


class EagerBackend(Backend):
    """The model itself behind the interface of deployment: what an export has to equal."""

    name = "eager"

    def __init__(self, model, output_op: str, num_classes: int):
        self._form = GraphForm(model, output_op, num_classes)
        self._form.eval()
        self.device = paddle.get_device()

    def run(self, batch: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return self._form(paddle.to_tensor(batch)).numpy()

    def describe(self) -> Dict[str, Any]:
        return {"name": self.name, "runtime": "Paddle", "version": paddle.__version__, "device": self.device}


def eager_predictor(model, label_set: LabelSet, preprocess: Preprocess, output_op: str = "argmax", **options: Any) -> Predictor:
    """A `Predictor` that runs the model itself, with options as `Predictor` has them. It is put in evaluation mode."""
    artifact = _describe(model, label_set, preprocess, None, output_op, {})
    return Predictor.of(artifact, EagerBackend(model, output_op, label_set.num_classes), **options)


def export_paddle(model, save_dir: str, **options: Any) -> Dict[str, Any]:
    """`export_model` to the format "paddle" alone."""
    return export_model(model, save_dir, formats=("paddle",), **options)


def export_model(model, save_dir: str, *, formats: Sequence[str] = ("paddle",), label_set: LabelSet,
                 transforms: Union[Preprocess, Sequence[Mapping[str, Any]]], input_shape: Optional[Sequence[int]] = None,
                 dynamic_shape: Optional[Sequence[Sequence[int]]] = None,
                 output_op: str = "argmax", preprocess_in_graph: bool = False, check_image: Optional[np.ndarray] = None,
                 description: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """Write `model` as a folder that `Predictor` runs, and see that it gives the model's masks.

    The model itself is not changed. The graph is made of a copy in evaluation mode without auxiliary
    heads. Nothing is written unless all went well; an earlier export at `save_dir` is then replaced.

    Args:
        model: any layer that returns a list with the logits (N, classes, H, W) first.
        formats: keys of `FORMATS`; they share one folder.
        label_set: its classes and their colours.
        transforms: the configuration's validation transforms.
        input_shape: (N, 3, H, W), -1 where open; None leaves batch, height and width open. With a fixed size,
            images of other sizes are resized to it.
        dynamic_shape: in its place three shapes (N, 3, H, W), the smallest, the usual and the largest input.
        output_op: what leaves the graph: "argmax" (class ids), "softmax" (probabilities) or "none" (logits).
        preprocess_in_graph: whether ONNX and OpenVINO graphs take uint8 NHWC BGR images of any size, do the
            transforms themselves, and return masks of the image's size.
        check_image: (H, W, 3) uint8 BGR, on which export and model are compared; None generates one.
        description: what else `deploy.yaml` shall say of the model.
    Returns: the report: folder, files, input, output, resizing, comparison. Plain values.
    Raises: ConfigError: for an argument that cannot serve. DependencyError: if a format needs what is not installed.
        ArtifactError: if the folder cannot be written or the export differs from the model.
    """
    if output_op not in OUTPUT_OPS:
        raise ConfigError("unknown output_op '%s'.%s" % (output_op, suggest(output_op, OUTPUT_OPS)))
    formats = _checked_formats(formats, preprocess_in_graph)
    shapes = shape_range(dynamic_shape)
    if shapes is not None and input_shape is not None:
        raise ConfigError("input_shape fixes the input's size and dynamic_shape leaves it open; give one of them.")
    input_shape = _checked_shape(input_shape) if shapes is None else shapes.open_shape
    preprocess = transforms if isinstance(transforms, Preprocess) else Preprocess(transforms)
    preprocess = _ending_at(input_shape, preprocess)
    artifact = replace(_describe(model, label_set, preprocess, input_shape, output_op, dict(description or {})), dynamic_shape=shapes)
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
                source = _Source(model, aside)
                for name in formats:
                    graphs[name], checks[name] = _write_format(name, source, artifact, folder, image, save_dir)
            worst = max(checks, key=lambda name: (checks[name]["differing_pixels"], checks[name]["max_difference"]))
            check = {**checks[worst], **({"formats": checks} if len(checks) > 1 else {})}
            written = replace(artifact, folder=folder, graphs=graphs, check=check)
            written.write()
            files = {name: os.path.getsize(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    finally:
        for layer, training in modes:  # one by one: a trainer may keep some layers in evaluation mode
            layer.training = training
    return {"save_dir": save_dir, "formats": list(formats), "files": files, "input": artifact.input.to_dict(),
            "image_input": artifact.image_input.to_dict() if artifact.image_input else None,
            "output": artifact.output.to_dict(), "resize": preprocess.resize_policy, "check": check}


def _write_format(name: str, source: "_Source", artifact: Artifact, folder: str, image: np.ndarray,
                  save_dir: str) -> Tuple[Dict[str, str], Dict[str, Any]]:
    """Write one format and compare it. Returns the file of each role, and the comparison.

    A mask tells little of how far the scores are off, so the same graph with logits as its output is compared, too.
    """
    graph = FORMATS[name](source, artifact, folder)
    check = _compare_format(name, graph, artifact, folder, source.model, image)
    _require_equal(check, save_dir)
    if "max_difference" not in check:
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            scores = replace(artifact, output=_output("none", artifact.label_set, artifact.input.shape))
            scored = _compare_format(name, FORMATS[name](source, scores, aside), scores, aside, source.model, image)
            check["max_difference"] = scored["max_difference"]
    return graph, check


def _compare_format(name: str, graph: Dict[str, str], artifact: Artifact, folder: str, model, image: np.ndarray) -> Dict[str, Any]:
    written = replace(artifact, folder=folder, graphs={name: graph})
    backend = open_backend("auto", written, device=_device() if name == "paddle" else "cpu")
    return compare(Predictor.of(written, backend), model, image)


def compare(exported: Predictor, model, image: np.ndarray) -> Dict[str, Any]:
    """Compare an exported model with the model that it was made of, on one image, at the size of what leaves the graph.

    Returns: `differing_pixels` (share), `largest_margin` (the largest gap between the two best logits among
        differing pixels, as a part of the largest logit; 0 where all agree), `max_difference` of scores if
        scores leave the graph, and what was compared.
    """
    batch, undo = exported.artifact.preprocess(image)
    logits = EagerBackend(model, "none", exported.label_set.num_classes).run(batch)
    given, left = exported.preprocess(image)
    output = exported.forward(given)
    mask = output.ndim == 3
    if undo and not left:  # the graph has brought it back to the image's size; so must we
        logits = np.stack([restore(plane, undo) for plane in logits[0]])[np.newaxis] if mask else restore(logits[0], undo)[np.newaxis]
    found, expected = (output if mask else output.argmax(axis=1)).astype(np.int64), logits.argmax(axis=1)
    result = {"backend": exported.backend.name, "device": exported.backend.device, "input_size": list(batch.shape[2:])}
    if found.shape != expected.shape:
        raise ArtifactError("the exported graph returns masks of %s where the model returns %s; report this, it is a defect."
                            % (list(found.shape), list(expected.shape)))
    if not mask:
        scores = F.softmax(paddle.to_tensor(logits), axis=1).numpy() if exported.artifact.output.op == "softmax" else logits
        result["max_difference"] = float(np.abs(output - scores).max())
    differing = found != expected
    chosen = np.take_along_axis(logits, np.clip(found, 0, logits.shape[1] - 1)[:, np.newaxis], axis=1)[:, 0]
    margins = (logits.max(axis=1) - chosen)[differing]
    result["differing_pixels"] = float(differing.mean())
    result["largest_margin"] = float(margins.max() / max(np.abs(logits).max(), 1e-12)) if margins.size else 0.0
    return result


def _require_equal(check: Mapping[str, Any], save_dir: str) -> None:
    kind = check["device"].split(":")[0]
    if check["differing_pixels"] > MAX_DIFFERING_PIXELS[kind] or check["largest_margin"] > NEAR_TIE[kind]:
        raise ArtifactError("the exported model differs from the trained one in %.3g %% of the check image's pixels (allowed: %g %%, "
                            "and only near-ties) when run by '%s' on %s, so %s was not written. Export with another Paddle version "
                            "(3.2.2 is the best tested)." % (100 * check["differing_pixels"], 100 * MAX_DIFFERING_PIXELS[kind],
                                                              check["backend"], check["device"], save_dir))


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


def _save_graph(form: GraphForm, artifact: Artifact, folder: str) -> Dict[str, str]:
    """Trace and save. Returns the file of each role."""
    form.eval()
    shape = [None if size == -1 else size for size in artifact.input.shape]
    traced = paddle.jit.to_static(form, full_graph=True,
                                 input_spec=[paddle.static.InputSpec(shape, "float32", name=_INPUT_NAME)])
    # Saved aside: Paddle 2.6 adds a file that only training needs.
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        paddle.jit.save(traced, os.path.join(aside, "model"))
        names = os.listdir(aside)
        graph = {"model": next(name for name in ("model.json", "model.pdmodel") if name in names), "params": "model.pdiparams"}
        for name in graph.values():
            os.replace(os.path.join(aside, name), os.path.join(folder, name))
    return graph


class _Source:
    """A model on its way into several formats. What more than one of them needs is made once, in the folder `aside`."""

    def __init__(self, model, aside: str):
        self.model, self._aside = model, aside
        self._onnx: Optional[str] = None

    def onnx_network(self, artifact: Artifact) -> str:
        """Path of the network in ONNX, float NCHW in and logits out."""
        if self._onnx is None:
            from ppliteseg_paddle.export.onnx import convert
            logits = replace(artifact, output=_output("none", artifact.label_set, artifact.input.shape))
            graph = _save_graph(_inference_copy(self.model, logits, adaptive_pooling=False), logits, self._aside)
            path = os.path.join(self._aside, "network.onnx")
            convert(os.path.join(self._aside, graph["model"]), os.path.join(self._aside, graph["params"]), path)
            self._onnx = path
        return self._onnx


def _save_paddle(source: _Source, artifact: Artifact, folder: str) -> Dict[str, str]:
    return _save_graph(_inference_copy(source.model, artifact), artifact, folder)


def _save_onnx(source: _Source, artifact: Artifact, folder: str) -> Dict[str, str]:
    from ppliteseg_paddle.export.onnx import save_onnx
    return save_onnx(source.onnx_network(artifact), artifact, "onnx", folder)


def _save_openvino(source: _Source, artifact: Artifact, folder: str) -> Dict[str, str]:
    from ppliteseg_paddle.export.onnx import save_onnx, save_openvino
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        graph = save_onnx(source.onnx_network(artifact), artifact, "openvino", aside)
        return save_openvino(os.path.join(aside, graph["model"]), folder)


# format -> what writes it into a folder and returns the file of each role
FORMATS = {"paddle": _save_paddle, "onnx": _save_onnx, "openvino": _save_openvino}


def _output(op: str, label_set: LabelSet, input_shape: Sequence[int]) -> Tensor:
    batch, _, height, width = input_shape
    if op == "argmax":
        return Tensor("mask", "uint8" if label_set.num_classes <= 256 else "int32", "NHW", (batch, height, width), op=op)
    return Tensor("scores", "float32", "NCHW", (batch, label_set.num_classes, height, width), op=op)


def _describe(model, label_set: LabelSet, preprocess: Preprocess, input_shape: Optional[Sequence[int]], output_op: str,
              description: Dict[str, Any]) -> Artifact:
    from ppliteseg_paddle import __version__
    input_shape = tuple(input_shape or (-1, 3, -1, -1))
    parameters = sum(int(np.prod(parameter.shape)) for parameter in model.parameters() if not parameter.stop_gradient)
    return Artifact(
        folder="", model={"type": type(model).__name__, "num_classes": label_set.num_classes, "parameters": parameters, **description},
        label_set=label_set, preprocess=preprocess,
        input=Tensor(_INPUT_NAME, "float32", "NCHW", input_shape, color_order="RGB"),
        output=_output(output_op, label_set, input_shape), graphs={},
        versions={"ppliteseg_paddle": __version__, "paddle": paddle.__version__, "python": "%d.%d.%d" % sys.version_info[:3]})


# --------------------------------------------------------------------------------------------
# Checks and sizes
# --------------------------------------------------------------------------------------------
def _checked_formats(formats: Sequence[str], preprocess_in_graph: bool) -> Tuple[str, ...]:
    formats = tuple(dict.fromkeys(formats))
    for name in formats:
        if name not in FORMATS:
            raise ConfigError("unknown format '%s'.%s" % (name, suggest(name, FORMATS)))
    if not formats:
        raise ConfigError("no format is given.%s" % suggest("", FORMATS))
    if preprocess_in_graph and formats == ("paddle",):
        raise ConfigError("--preprocess_in_graph is for the formats onnx and openvino; add one of them, or leave it out.")
    if formats != ("paddle",):
        from ppliteseg_paddle.export.onnx import check_installed
        check_installed("openvino" in formats)
    return formats


def _taking_images(artifact: Artifact, formats: Sequence[str]) -> Artifact:
    from ppliteseg_paddle.export.onnx_graph import IMAGE_INPUT, check_preprocess
    check_preprocess(artifact.preprocess)
    shape = (artifact.input.size_of("N"),) + IMAGE_INPUT.shape[1:]
    return replace(artifact, image_input=replace(IMAGE_INPUT, shape=shape), in_graph=tuple(formats))


def _checked_shape(shape: Optional[Sequence[int]]) -> Optional[Tuple[int, int, int, int]]:
    if shape is None:
        return None
    shape = tuple(-1 if size is None else int(size) for size in shape)
    fixed = len(shape) == 4 and min(shape[2:]) > 0
    if len(shape) != 4 or shape[0] not in (1, -1) or shape[1] != 3 or not (fixed or shape[2:] == (-1, -1)):
        raise ConfigError("input_shape is %s; give N 3 H W with N 1 or -1, and H and W both in pixels or both -1." % (list(shape),))
    return shape


def _ending_at(input_shape: Optional[Sequence[int]], preprocess: Preprocess) -> Preprocess:
    """`preprocess`, with a Resize added where a fixed input size would else depend on the image's."""
    if input_shape is None or input_shape[2] == -1:
        return preprocess
    height, width = input_shape[2:]

    def ends_there(size: Tuple[int, int]) -> bool:
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
    found = outputs[0].shape[1] if isinstance(outputs, (list, tuple)) and outputs and len(outputs[0].shape) == 4 else None
    if found is None:
        raise ConfigError("the model (%s) does not return a list of logits, so it cannot be exported." % type(model).__name__)
    if found != label_set.num_classes:
        raise ConfigError("the model has %d classes, but the label set '%s' names %d; give names and colours for each class."
                          % (found, label_set.name, label_set.num_classes))


def _device() -> str:
    device = paddle.get_device()
    return device if device.startswith("gpu") else "cpu"
