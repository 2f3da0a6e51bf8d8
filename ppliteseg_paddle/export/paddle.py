"""Export to Paddle Inference. The module's name does not hide the package: imports are absolute."""
from __future__ import annotations

import copy
import os
import sys
import tempfile
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ppliteseg_paddle.data.catalog import LabelSet
from ppliteseg_paddle.deploy.artifact import OUTPUT_OPS, Artifact, Tensor, writing
from ppliteseg_paddle.deploy.backends import Backend, open_backend
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess, generated_image
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


def eager_predictor(model, label_set: LabelSet, preprocess: Preprocess) -> Predictor:
    """A `Predictor` that runs the model itself. It is put in evaluation mode."""
    artifact = _describe(model, label_set, preprocess, None, "argmax", {})
    return Predictor.of(artifact, EagerBackend(model, "argmax", label_set.num_classes))


def export_paddle(model, save_dir: str, *, label_set: LabelSet, transforms: Union[Preprocess, Sequence[Mapping[str, Any]]],
                  input_shape: Optional[Sequence[int]] = None, output_op: str = "argmax", check_image: Optional[np.ndarray] = None,
                  description: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """Write `model` as a folder that `Predictor` runs, and see that it gives the model's masks.

    The model itself is not changed. The graph is made of a copy in evaluation mode without auxiliary
    heads. Nothing is written unless all went well; an earlier export at `save_dir` is then replaced.

    Args:
        model: any layer that returns a list with the logits (N, classes, H, W) first.
        label_set: its classes and their colours.
        transforms: the configuration's validation transforms.
        input_shape: (N, 3, H, W), -1 where open; None leaves batch, height and width open. With a fixed size,
            images of other sizes are resized to it.
        output_op: what leaves the graph: "argmax" (class ids), "softmax" (probabilities) or "none" (logits).
        check_image: (H, W, 3) uint8 BGR, on which export and model are compared; None generates one.
        description: what else `deploy.yaml` shall say of the model.
    Returns: the report: folder, files, input, output, resizing, comparison. Plain values.
    Raises: ConfigError: for an argument that cannot serve. ArtifactError: if the folder cannot be written or the
        export differs from the model.
    """
    if output_op not in OUTPUT_OPS:
        raise ConfigError("unknown output_op '%s'.%s" % (output_op, suggest(output_op, OUTPUT_OPS)))
    input_shape = _checked_shape(input_shape)
    preprocess = transforms if isinstance(transforms, Preprocess) else Preprocess(transforms)
    preprocess = _ending_at(input_shape, preprocess)
    artifact = _describe(model, label_set, preprocess, input_shape, output_op, dict(description or {}))
    image = generated_image(*(size if size > 0 else 256 for size in artifact.input.shape[2:])) if check_image is None else check_image
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    try:
        model.eval()
        _check_classes(model, label_set)
        with writing(save_dir) as folder:
            graph = _save_graph(_inference_copy(model, artifact), artifact, folder)
            written = _in_folder(artifact, folder, {"paddle": graph})
            backend = open_backend("auto", written, device=_device())
            check = compare(Predictor.of(written, backend), model, image)
            _require_equal(check, save_dir)
            written = _in_folder(artifact, folder, written.graphs, check)
            written.write()
            files = {name: os.path.getsize(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    finally:
        for layer, training in modes:  # one by one: a trainer may keep some layers in evaluation mode
            layer.training = training
    return {"save_dir": save_dir, "format": "paddle", "files": files, "input": artifact.input.to_dict(),
            "output": artifact.output.to_dict(), "resize": preprocess.resize_policy, "check": check}


def compare(exported: Predictor, model, image: np.ndarray) -> Dict[str, Any]:
    """Compare an exported model with the model that it was made of, on one image, at the network's size.

    Returns: `differing_pixels` (share), `largest_margin` (the largest gap between the two best logits among
        differing pixels, as a part of the largest logit; 0 where all agree), `max_difference` of scores if
        scores leave the graph, and what was compared.
    """
    batch, _ = exported.preprocess(image)
    logits = EagerBackend(model, "none", exported.label_set.num_classes).run(batch)
    output = exported.forward(batch)
    found, expected = (output if output.ndim == 3 else output.argmax(axis=1)).astype(np.int64), logits.argmax(axis=1)
    result = {"backend": exported.backend.name, "device": exported.backend.device, "input_size": list(batch.shape[2:])}
    if found.shape != expected.shape:
        raise ArtifactError("the exported graph returns masks of %s where the model returns %s; report this, it is a defect."
                            % (list(found.shape), list(expected.shape)))
    if output.ndim == 4:
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
def _inference_copy(model, artifact: Artifact) -> GraphForm:
    inference = copy.deepcopy(model)
    inference.eval()
    height, width = artifact.input.shape[2:]
    if hasattr(inference, "prepare_for_export"):
        inference.prepare_for_export(input_size=(height, width) if height > 0 and width > 0 else None)
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


def _in_folder(artifact: Artifact, folder: str, graphs: Dict[str, Dict[str, str]], check: Optional[Dict[str, Any]] = None) -> Artifact:
    return Artifact(folder, artifact.model, artifact.label_set, artifact.preprocess, artifact.input, artifact.output, graphs,
                    artifact.versions, check or {})


def _describe(model, label_set: LabelSet, preprocess: Preprocess, input_shape: Optional[Sequence[int]], output_op: str,
              description: Dict[str, Any]) -> Artifact:
    from ppliteseg_paddle import __version__
    batch, channels, height, width = input_shape or (-1, 3, -1, -1)
    mask = output_op == "argmax"
    output = Tensor("mask" if mask else "scores", ("uint8" if label_set.num_classes <= 256 else "int32") if mask else "float32",
                    "NHW" if mask else "NCHW", (batch, height, width) if mask else (batch, label_set.num_classes, height, width),
                    op=output_op)
    parameters = sum(int(np.prod(parameter.shape)) for parameter in model.parameters() if not parameter.stop_gradient)
    return Artifact(
        folder="", model={"type": type(model).__name__, "num_classes": label_set.num_classes, "parameters": parameters, **description},
        label_set=label_set, preprocess=preprocess,
        input=Tensor(_INPUT_NAME, "float32", "NCHW", (batch, channels, height, width), color_order="RGB"), output=output, graphs={},
        versions={"ppliteseg_paddle": __version__, "paddle": paddle.__version__, "python": "%d.%d.%d" % sys.version_info[:3]})


# --------------------------------------------------------------------------------------------
# Checks and sizes
# --------------------------------------------------------------------------------------------
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
