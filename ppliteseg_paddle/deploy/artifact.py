"""The exported folder: graph files and `deploy.yaml`, which says everything that is needed to run them.

    deploy.yaml        written last; its `Deploy` section is what PaddleSeg's own deployment scripts read
    inference.json     the graph (Paddle 3), or inference.pdmodel (Paddle 2)
    inference.pdiparams  its weights
    inference.yml      what PaddleX reads
    model.json         the graph with logits as a second output, where masks are made of them
    model.onnx         the graph and its weights for ONNX Runtime, OpenVINO and TensorRT
    model.xml          the graph for OpenVINO
    model.bin          its weights
    tensorrt.onnx      the graph and its weights in the form that TensorRT builds engines of
    triton/            copies of these files as NVIDIA Triton reads them

Several formats may stand side by side: `graphs` maps a format's name to its files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ppliteseg_paddle.deploy.folder import METADATA_FILE, check_files, file_record, read_metadata, write_metadata
from ppliteseg_paddle.deploy.graph_files import check_graph_files
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.shapes import ShapeRange, shape_range
from ppliteseg_paddle.deploy.views import ViewPlan
from ppliteseg_paddle.errors import ArtifactError, ConfigError, suggest
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.label_sets import LabelSet

# 2: with a `test_config`, which a reader that does not know it must not ignore.
FORMAT_VERSIONS = (1, 2)
PRECISIONS = ("fp32", "fp16", "int8")
OUTPUT_OPS = ("argmax", "softmax", "sigmoid", "none")
MASK_RESIZES = ("bilinear", "nearest")


@dataclass(frozen=True)
class Tensor:
    """The graph's input or output. Sizes that the graph leaves open are -1.

    `layout` names the dimensions ("NCHW"); `color_order` is "RGB" or "BGR", `op` is one of `OUTPUT_OPS`.
    """

    name: str
    dtype: str
    layout: str
    shape: tuple[int, ...]
    color_order: str | None = None
    op: str | None = None

    @property
    def dynamic(self) -> bool:
        """Whether height or width may vary."""
        return any(size == -1 for name, size in zip(self.layout, self.shape) if name in "HW")

    def size_of(self, dimension: str) -> int:
        """The size along "N", "C", "H" or "W"; -1 if open."""
        return self.shape[self.layout.index(dimension)]

    def to_dict(self) -> dict[str, Any]:
        values = {
            "name": self.name,
            "dtype": self.dtype,
            "layout": self.layout,
            "shape": list(self.shape),
            "dynamic": self.dynamic,
            "color_order": self.color_order,
            "op": self.op,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Artifact:
    """What `deploy.yaml` says.

    Args:
        folder: where the files are.
        model: the model's description; `type` names its class.
        label_set: class names, colors, ignored value.
        preprocess: the steps from image to input.
        graphs: format -> {role: file name}, as in {"onnx": {"model": "model.onnx"}}.
        versions: of what wrote it.
        check: result of comparing the export with the model that it was made of.
        image_input: the input of the graphs that `in_graph` names: they take images as OpenCV reads them, do the
            steps of `preprocess` themselves, and return masks of the image's size.
        dynamic_shape: the inputs that open sizes were meant for, if that was said.
        precision: what it was exported for, one of `PRECISIONS`.
        image_form: channels of the images, and the range of their values.
        logits: a second output of the graphs, for masks of another size than the input: logits before they are resized
            to it. None without one; graphs that take images have none.
        mask_resize: how a mask gets to the image's size where the input has another: one of `MASK_RESIZES`; None in
            folders of earlier versions, which know class ids only.
        views: how often and how an image is put through the network, and whether a pixel may be of several classes: the
            configuration's `test_config`.
    """

    folder: str
    model: dict[str, Any]
    label_set: LabelSet
    preprocess: Preprocess
    input: Tensor
    output: Tensor
    graphs: dict[str, dict[str, str]]
    versions: dict[str, str]
    check: dict[str, Any] = field(default_factory=dict)
    image_input: Tensor | None = None
    in_graph: tuple[str, ...] = ()
    dynamic_shape: ShapeRange | None = None
    precision: str = "fp32"
    image_form: ImageForm = ImageForm()
    logits: Tensor | None = None
    mask_resize: str | None = None
    views: ViewPlan = ViewPlan()

    @classmethod
    def read(cls, folder: str, verify: bool = True) -> Artifact:
        """Read a folder.

        Args: verify: whether to compare size and hash of every file, as one ought to; 30 MB take 0.1 s.
        Raises: ArtifactError: if the folder is no export, or incomplete, damaged, or of a format not known here.
        """
        folder = os.fspath(folder)
        values = read_metadata(folder)
        path = os.path.join(folder, METADATA_FILE)
        _check_version(values, path)
        artifact = _parse(folder, values, path)
        check_files(folder, artifact._file_names(), _need(values, "files", dict, path), verify)
        check_graph_files(folder, artifact.graphs)
        return artifact

    def path_of(self, graph: str, role: str) -> str:
        """Path of one file of a format."""
        return os.path.join(self.folder, self.graphs[graph][role])

    def input_of(self, graph: str) -> Tensor:
        """What a format's graph takes."""
        return self.image_input if graph in self.in_graph and self.image_input is not None else self.input

    def output_of(self, graph: str) -> Tensor:
        """What a format's graph returns. Paddle Inference cannot hand out 16-bit integers and TensorRT has none: they
        use 32 bits."""
        return (
            replace(self.output, dtype="int32")
            if self.output.dtype == "int16" and graph in ("paddle", "tensorrt")
            else self.output
        )

    @property
    def multilabel(self) -> bool:
        """Whether a pixel may be of several classes, or of none."""
        return self.views.use_multilabel

    def has_logits(self, graph: str) -> bool:
        """Whether a format's graph has the second output."""
        return self.logits is not None and graph not in self.in_graph

    def to_dict(self) -> dict[str, Any]:
        """What `deploy.yaml` holds, but for the hashes."""
        paddle = self.graphs.get("paddle", {})
        image_input = (
            {}
            if self.image_input is None
            else {"image_input": {**self.image_input.to_dict(), "graphs": list(self.in_graph)}}
        )
        dynamic_shape = {} if self.dynamic_shape is None else {"dynamic_shape": self.dynamic_shape.to_dict()}
        value_range = {} if self.image_form.value_range is None else {"img_range": self.image_form.to_plain()}
        return {
            "Deploy": {
                "model": paddle.get("one_output", paddle.get("model")),
                "params": paddle.get("params"),
                "transforms": self.preprocess.to_transforms(),
                "input_shape": list(self.input.shape),
                "output_op": self.output.op,
                "output_dtype": self.output_of("paddle").dtype,
            },
            "format_version": FORMAT_VERSIONS[not self.views.plain],
            "model": self.model,
            "classes": list(self.label_set.classes),
            "palette": [list(color) for color in self.label_set.palette],
            "ignore_index": self.label_set.ignore_index,
            "label_set": self.label_set.name,
            "input": self.input.to_dict(),
            **image_input,
            **dynamic_shape,
            **value_range,
            "precision": self.precision,
            "normalisation": self.preprocess.normalisation,
            "resize": self.preprocess.resize_policy,
            "output": self.output.to_dict(),
            **({} if self.logits is None else {"logits": self.logits.to_dict()}),
            "mask_resize": self.mask_resize,
            **({} if self.views.plain else {"test_config": self.views.to_dict()}),
            "graphs": self.graphs,
            "versions": self.versions,
            "check": self.check,
        }

    def write(self, others: Sequence[str] = ()) -> None:
        """Write `deploy.yaml` beside the files, with their sizes and hashes. Use within `folder.writing`.

        Args: others: further files of the folder, which the graphs do not need.
        """
        files = {name: file_record(os.path.join(self.folder, name)) for name in [*self._file_names(), *others]}
        write_metadata(self.folder, {**self.to_dict(), "files": files})

    def _file_names(self) -> list[str]:
        return [name for graph in self.graphs.values() for name in graph.values()]


def _check_version(values: Mapping[str, Any], path: str) -> None:
    if "format_version" not in values and "Deploy" in values:
        raise ArtifactError(
            f"{path} was written by PaddleSeg's own export, which names neither classes nor colors; Predictor, "
            "'ppliteseg predict' and 'ppliteseg benchmark' open it, this does not."
        )
    version = _need(values, "format_version", int, path)
    if version not in FORMAT_VERSIONS:
        raise ArtifactError(
            f"{path} has format_version {version}; this version of ppliteseg_paddle reads "
            f"{' and '.join(map(str, FORMAT_VERSIONS))}. "
            f"{('Update it with pip.' if version > FORMAT_VERSIONS[-1] else 'Export the model again.')}"
        )


def _parse(folder: str, values: Mapping[str, Any], path: str) -> Artifact:
    deploy = _need(values, "Deploy", dict, path)
    classes, palette = _need(values, "classes", list, path), _need(values, "palette", list, path)
    try:
        label_set = LabelSet(
            str(values.get("label_set", "custom")),
            tuple(map(str, classes)),
            tuple(_color(color, i, path) for i, color in enumerate(palette)),
            _need({"ignore_index": 255, **values}, "ignore_index", int, path),
        )
        given = _tensor(values, "input", path)
        image_form = ImageForm.checked(given.size_of("C"), values.get("img_range"))
        transforms = _need(deploy, "transforms", list, path, "Deploy.")
        preprocess = Preprocess(transforms, "Deploy.transforms", image_form.channels)
        dynamic_shape = shape_range(values.get("dynamic_shape"), image_form.channels)
        views = ViewPlan.of(values.get("test_config") or {})
    except ConfigError as error:
        raise ArtifactError(f"{path}: {error}") from None
    if values.get("normalisation") != preprocess.normalisation or values.get("resize", []) != preprocess.resize_policy:
        raise ArtifactError(
            f"{path} contradicts itself: normalisation or resize differs from Deploy.transforms; export the model "
            "again rather than editing it."
        )
    output = _tensor(values, "output", path)
    if output.op not in OUTPUT_OPS:
        raise ArtifactError(f"{path}: output.op is '{output.op}'.{suggest(output.op, OUTPUT_OPS)}")
    precision = values.get("precision", "fp32")
    if precision not in PRECISIONS:
        raise ArtifactError(f"{path}: precision is {precision!r}.{suggest(precision, PRECISIONS)}")
    mask_resize = values.get("mask_resize")
    if mask_resize is not None and mask_resize not in MASK_RESIZES:
        raise ArtifactError(f"{path}: mask_resize is {mask_resize!r}.{suggest(str(mask_resize), MASK_RESIZES)}")
    graphs = _need(values, "graphs", dict, path)
    for name, roles in graphs.items():
        if not isinstance(roles, dict) or not all(
            isinstance(file, str) and file == os.path.basename(file) and file for file in roles.values()
        ):
            raise ArtifactError(f"{path}: graphs.{name} must name files of this folder, but is {roles!r}.")
    image_input = _tensor(values, "image_input", path) if "image_input" in values else None
    in_graph = tuple(_need(values["image_input"], "graphs", list, path, "image_input.")) if image_input else ()
    return Artifact(
        folder,
        _need(values, "model", dict, path),
        label_set,
        preprocess,
        given,
        output,
        graphs,
        _need(values, "versions", dict, path),
        values.get("check") or {},
        image_input,
        in_graph,
        dynamic_shape,
        precision,
        image_form,
        _tensor(values, "logits", path) if "logits" in values else None,
        mask_resize,
        views,
    )


def _tensor(values: Mapping[str, Any], key: str, path: str) -> Tensor:
    block = _need(values, key, dict, path)
    prefix = key + "."
    layout, shape = _need(block, "layout", str, path, prefix), _need(block, "shape", list, path, prefix)
    if len(layout) != len(shape) or not all(isinstance(size, int) for size in shape):
        raise ArtifactError(f"{path}: {key}.shape {shape} does not fit the layout {layout}.")
    return Tensor(
        _need(block, "name", str, path, prefix),
        _need(block, "dtype", str, path, prefix),
        layout,
        tuple(shape),
        block.get("color_order"),
        block.get("op"),
    )


def _color(color: Any, index: int, path: str) -> tuple[int, int, int]:
    if not (isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)):
        raise ArtifactError(f"{path}: palette.{index:d} is {color!r}; a color is [red, green, blue], each 0 to 255.")
    return tuple(color)


def _need(values: Mapping[str, Any], key: str, kind: type, path: str, prefix: str = "") -> Any:
    """`values[key]`, which must be there and of that type."""
    if key not in values:
        raise ArtifactError(f"{path} lacks '{prefix}{key}'; export the model again.")
    value = values[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {dict: "a mapping", list: "a list", int: "an integer", str: "text"}
        raise ArtifactError(f"{path}: '{prefix}{key}' must be {names[kind]}, but is {value!r}; export the model again.")
    return value
