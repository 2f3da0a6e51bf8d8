"""A model repository for NVIDIA Triton Inference Server: for each format a model with its `config.pbtxt`.

    triton/ppliteseg_onnx/config.pbtxt      inputs, outputs, batches, and what the graph file says of itself
    triton/ppliteseg_onnx/1/model.onnx      version 1, a copy

Source: Triton's `docs/user_guide/model_repository.md` and `model_configuration.md`; its schema is `ModelConfig` in
`model_config.proto`, which tritonclient carries.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.folder import ENGINE_FILE
from ppliteseg_paddle.deploy.tensorrt import shapes_of
from ppliteseg_paddle.export.formats import FORMATS
from ppliteseg_paddle.export.metadata import metadata_of

FOLDER = "triton"
CONFIG_FILE = "config.pbtxt"
MAX_BATCH = 8  # images that Triton joins, where the batch is open and no --dynamic_shape says how many
_TYPES = {"uint8": "TYPE_UINT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "float32": "TYPE_FP32"}


@dataclass(frozen=True)
class TritonBackend:
    """How a format is served.

    Args:
        name: of Triton's backend.
        joins: whether it joins requests into batches. OpenVINO's takes open batches only as a dimension of the shape.
        lines: of the configuration, besides.
    """

    name: str
    joins: bool = True
    lines: tuple[str, ...] = ()


# by the name that `Format.triton` gives.
BACKENDS = {
    row.name: row
    for row in (
        TritonBackend("onnxruntime"),
        TritonBackend("openvino", joins=False, lines=("instance_group [ { kind: KIND_CPU } ]",)),  # it knows CPUs only
        TritonBackend("tensorrt"),
    )
}


def write_repository(artifact: Artifact) -> list[str]:
    """Write the repository into the artifact's folder, a model for each format that Triton can serve.

    Returns: the files, below the folder.
    """
    files = []
    for form, roles in artifact.graphs.items():
        backend = FORMATS[form].triton
        if backend is None:
            continue
        model = f"ppliteseg_{form}"
        version = f"{FOLDER}/{model}/1"
        os.makedirs(os.path.join(artifact.folder, version))
        for name in _served(roles):
            shutil.copyfile(os.path.join(artifact.folder, name), os.path.join(artifact.folder, version, name))
            files.append(f"{version}/{name}")
        files.append(f"{FOLDER}/{model}/{CONFIG_FILE}")
        with open(os.path.join(artifact.folder, files[-1]), "w", encoding="utf-8") as file:
            file.write(config_of(artifact, form, model, BACKENDS[backend]))
    return files


def engine_command(artifact: Artifact, form: str) -> str:
    """What builds the engine that Triton loads, in the folder of the model's version.

    As `deploy.tensorrt_plan` does it: types by the graph, and no rounding to TF32.
    """
    given, (graph,) = artifact.input_of(form), _served(artifact.graphs[form])
    words = ["trtexec", f"--onnx={graph}", f"--saveEngine={ENGINE_FILE}", "--stronglyTyped", "--noTF32"]
    shapes = shapes_of(artifact, form)
    if shapes is not None:
        words += [
            f"--{bound}Shapes={given.name}:{'x'.join(map(str, shape))}" for bound, shape in shapes.to_dict().items()
        ]
    return " ".join(words)


def config_of(artifact: Artifact, form: str, model: str, backend: TritonBackend) -> str:
    """The text of `config.pbtxt`: protobuf's text format."""
    given, outputs = artifact.input_of(form), [artifact.output_of(form)]
    if artifact.has_logits(form) and artifact.logits is not None:
        outputs.append(artifact.logits)
    batches = max_batch(artifact, form) if backend.joins and given.size_of("N") == -1 else 0
    lines = []
    if backend.name == "tensorrt":
        lines += [
            f"# 1/{ENGINE_FILE} is built on the machine with the GPU, by the TensorRT of Triton's container, in 1/:",
            f"#   {engine_command(artifact, form)}",
        ]
    lines += [f"name: {_quoted(model)}", f"backend: {_quoted(backend.name)}", f"max_batch_size: {batches:d}"]
    lines += ["dynamic_batching { }"] if batches else []
    lines += [_tensor("input", given, bool(batches))]
    lines += [_tensor("output", output, bool(batches)) for output in outputs]
    lines += [*backend.lines, *_parameters(metadata_of(artifact, form))]
    return "\n".join(lines) + "\n"


def max_batch(artifact: Artifact, form: str) -> int:
    """How many images Triton may join: for TensorRT those that the engine is built for."""
    shapes = shapes_of(artifact, form) if form == "tensorrt" else artifact.dynamic_shape
    return MAX_BATCH if shapes is None else shapes.max[0]


def _served(roles: Mapping[str, str]) -> list[str]:
    """The files of a format that Triton loads: of TensorRT's two graphs in fp16 the one that computes in 16 bits."""
    return [roles["fp16"]] if "fp16" in roles else list(roles.values())


def _tensor(kind: str, tensor: Tensor, without_batch: bool) -> str:
    dims = tensor.shape[1:] if without_batch else tensor.shape
    sizes = ", ".join(map(str, dims))
    return (
        f"{kind} [ {{ name: {_quoted(tensor.name)} data_type: {_TYPES[tensor.dtype]} dims: [ {sizes} ] }} ]"
        f"  # {tensor.layout}{'' if tensor.color_order is None else ' ' + tensor.color_order}"
    )


def _parameters(values: Mapping[str, Any]) -> list[str]:
    return [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in values.items()
    ]


def _quoted(text: str) -> str:
    """A string of the text format. What is quoted here has no control characters."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
