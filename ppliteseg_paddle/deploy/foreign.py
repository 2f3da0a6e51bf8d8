"""Folders that run: ours, also by the names of shipped ones, and those that PaddleSeg's and PaddleX's exports wrote.

Theirs hold a graph of Paddle and a YAML file with the transforms. They name no classes and have no hashes; what they
promise is read from the graph. As in PaddleSeg's `deploy/python/infer.py`, the first output counts.

Source: PaddleSeg `tools/export.py` and `core/export.py`; PaddleX 3.7 `inference/models/semantic_segmentation`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.folder import METADATA_FILE, read_metadata
from ppliteseg_paddle.deploy.graph_files import check_graph_files
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.deploy.program import Program, read_program
from ppliteseg_paddle.errors import ArtifactError, ConfigError
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.label_sets import LabelSet, numbered
from ppliteseg_paddle.reading.label_sets import label_set as known_labels
from ppliteseg_paddle.weights.zoo import export_of

# What PaddleX's exports, and PaddleSeg's with --for_fd, call the YAML file.
PADDLEX_FILE = "inference.yml"
_OUTPUT_OPS = (None, "argmax", "softmax", "none")


def open_folder(folder: str | os.PathLike[str], label_set: LabelSet | str | None = None) -> Artifact:
    """Read an exported folder, whoever wrote it.

    Args: folder: its path, or the name of shipped weights ("camvid-t"), which have an export; label_set: the classes of
        a folder that does not name them, or the name of a known set; None numbers them.
    Raises: ArtifactError: if the folder is no export, or damaged, or one that cannot be run here. ConfigError: if
        `label_set` is given for a folder that names its classes, or has another number of classes than its graph.
        WeightsError: for the name of published weights that have no export.
    """
    folder = export_of(folder) or os.fspath(folder)
    label_set = known_labels(label_set) if isinstance(label_set, str) else label_set
    name = METADATA_FILE
    if not os.path.exists(os.path.join(folder, name)) and os.path.exists(os.path.join(folder, PADDLEX_FILE)):
        name = PADDLEX_FILE
    values = read_metadata(folder, name)
    if "format_version" not in values and "Deploy" in values:
        return _read_foreign(folder, values, os.path.join(folder, name), label_set)
    if label_set is not None:
        raise ConfigError(
            f"{folder} names its classes itself: leave label_set and classes out (a palette changes its colors)."
        )
    return Artifact.read(folder)


def _read_foreign(folder: str, values: Mapping[str, Any], path: str, label_set: LabelSet | None) -> Artifact:
    deploy = values["Deploy"]
    if not isinstance(deploy, dict):
        raise ArtifactError(f"{path}: 'Deploy' must be a mapping, but is {deploy!r}.")
    files = {"model": _graph_file(folder, deploy, path), "params": _file(folder, deploy, "params", path)}
    check_graph_files(folder, {"paddle": files})
    graph = read_program(os.path.join(folder, files["model"]))
    declared = deploy.get("output_op")
    if declared not in _OUTPUT_OPS:
        raise ArtifactError(
            f"{path}: Deploy.output_op is {declared!r}; PaddleSeg's are {', '.join(filter(None, _OUTPUT_OPS))}."
        )
    op = "softmax" if graph.op == "none" and declared == "softmax" else graph.op
    try:
        transforms: Any = deploy.get("transforms")
        preprocess = Preprocess(transforms, "Deploy.transforms", graph.input.shape[1])
        image_form = ImageForm.checked(graph.input.shape[1])
    except ConfigError as error:
        raise ArtifactError(f"{path}: {error}") from None
    return Artifact(
        folder,
        {"type": _model_name(values)},
        _labels(folder, values, graph, label_set),
        preprocess,
        Tensor(graph.input_name, "float32", "NCHW", graph.input.shape, "RGB"),
        Tensor("output", graph.output.dtype, "NHW" if op == "argmax" else "NCHW", graph.output.shape, op=op),
        {"paddle": files},
        {},
        image_form=image_form,
        mask_resize="nearest" if op == "argmax" else "bilinear",
    )


def _graph_file(folder: str, deploy: Mapping[str, Any], path: str) -> str:
    """The graph's file: PaddleSeg says `.pdmodel` of `.json` files, too."""
    name = _name(deploy, "model", path)
    stem = os.path.splitext(name)[0]
    for candidate in (name, stem + ".json", stem + ".pdmodel"):
        if os.path.isfile(os.path.join(folder, candidate)):
            return candidate
    raise ArtifactError(f"{os.path.join(folder, name)} is missing, and so is {stem}.json; copy the whole folder.")


def _file(folder: str, deploy: Mapping[str, Any], key: str, path: str) -> str:
    name = _name(deploy, key, path)
    if not os.path.isfile(os.path.join(folder, name)):
        raise ArtifactError(f"{os.path.join(folder, name)} is missing; copy the whole folder.")
    return name


def _name(deploy: Mapping[str, Any], key: str, path: str) -> str:
    name = deploy.get(key)
    if not isinstance(name, str) or not name or name != os.path.basename(name):
        raise ArtifactError(f"{path}: Deploy.{key} must name a file of this folder, but is {name!r}.")
    return name


def _model_name(values: Mapping[str, Any]) -> str:
    block = values.get("Global")
    return str(block.get("model_name", "unknown")) if isinstance(block, dict) else "unknown"


def _labels(folder: str, values: Mapping[str, Any], graph: Program, given: LabelSet | None) -> LabelSet:
    """The classes: as given, else as PaddleX's `label_list` names them, else numbered."""
    if given is not None:
        if graph.classes not in (-1, given.num_classes):
            raise ConfigError(
                f"the graph in {folder} has {graph.classes:d} classes, but '{given.name}' names "
                f"{given.num_classes:d}: give the classes that it was trained for, in their order."
            )
        return given
    if graph.classes < 1:
        raise ArtifactError(f"the graph in {folder} does not tell how many classes it has: name them (label_set).")
    block = values.get("PostProcess")
    listed = block.get("label_list") if isinstance(block, dict) else None
    known = numbered(graph.classes)
    if not isinstance(listed, list) or len(set(map(str, listed))) != graph.classes or len(listed) != graph.classes:
        return known
    return LabelSet("label_list", tuple(map(str, listed)), known.palette)
