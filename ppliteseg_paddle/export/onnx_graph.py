"""What is added around a converted network, in ONNX operators: preprocessing, the output's operator, the way back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import ArtifactError, ConfigError
from ppliteseg_paddle.export.blockwise_argmax import add_blockwise_argmax, last_resize
from ppliteseg_paddle.export.formats import GRAPHS
from ppliteseg_paddle.export.onnx_nodes import Nodes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_LARGE = 256  # values from which on a weight is worth its Cast


@dataclass(frozen=True)
class Style:
    """What a runtime computes faster. The values stay the same.

    Args:
        fast_reductions: maxima and means over channels in other operators (`halve_channel_reductions`).
        blockwise_argmax: masks by `blockwise_argmax`, where it applies.
        channels_last: the last resizing with channels last (`_resize_channels_last`), where it does not.
    """

    fast_reductions: bool = False
    blockwise_argmax: bool = False
    channels_last: bool = False


# format -> style; plain for all others
STYLES = {
    "onnx": Style(fast_reductions=True, blockwise_argmax=True, channels_last=True),
    "openvino": Style(blockwise_argmax=True),
}
IMAGE_INPUT = Tensor("image", "uint8", "NHWC", (-1, -1, -1, 3), color_order="BGR")


def check_preprocess(preprocess: Preprocess) -> None:
    """Raises: ConfigError: if a step has no form inside a graph."""
    for step in preprocess.to_transforms():
        plain = step["type"] == "Normalize" or (
            step["type"] == "Resize"
            and not step.get("keep_ratio")
            and not step.get("size_divisor")
            and step.get("interp", "LINEAR") == "LINEAR"
        )
        if not plain:
            raise ConfigError(
                "--preprocess_in_graph takes Normalize, and Resize to a fixed target_size with interp LINEAR; the "
                f"validation transforms hold {step}. Leave the flag out, or change the transforms."
            )


def finish(model: ModelProto, artifact: Artifact, form: str = "onnx", kind: str = GRAPHS[0]) -> ModelProto:
    """Give a converted network (float NCHW in, logits out) the input and the output that the artifact describes for
    the format `form`.

    Args: kind: "fast" has the format's `Style`, "plain" none.
    Returns: the same model, changed.
    """
    graph, output = model.graph, artifact.output
    style = STYLES.get(form, Style()) if kind == "fast" else Style()
    if style.fast_reductions:
        halve_channel_reductions(model)
    source, source_name = artifact.input_of(form), graph.input[0].name
    before, after = Nodes("pre"), Nodes("post")
    ways_back: list[Sequence[str]] = []
    if form in artifact.in_graph:
        ways_back = _add_preprocess(before, artifact.preprocess, source.name, source_name)
        source_name = source.name
        if ways_back:  # the mask has the image's size
            output = replace(
                output, shape=tuple(-1 if side in "HW" else size for side, size in zip(output.layout, output.shape))
            )
    logits = graph.output[0].name
    outputs = [output]
    if artifact.logits is not None and artifact.has_logits(form):
        last = last_resize(graph, logits)
        after.add("Identity", last.input[0] if last is not None else logits, name=artifact.logits.name)
        outputs.append(artifact.logits)
    resized_ids = output.op == "argmax" and artifact.mask_resize != "bilinear"
    if not resized_ids:  # the logits of a mask of the image's size
        for height, width in reversed(ways_back):
            logits = after.resized(logits, height, width)
    num_classes = artifact.label_set.num_classes
    result = (
        output.op == "argmax" and style.blockwise_argmax and add_blockwise_argmax(model, after, logits, num_classes)
    )
    if not result:
        channels_last = output.op == "argmax" and style.channels_last and _resize_channels_last(graph, after, logits)
        result = _add_output(after, channels_last or logits, str(output.op), num_classes, 3 if channels_last else 1)
    for height, width in reversed(ways_back) if resized_ids else ():
        result = after.nearest(result, height, width)
    if output.dtype == "int16":
        result = after.add("Cast", result, to=5)
    after.add("Identity", result, name=output.name)
    nodes = before.nodes + list(graph.node) + after.nodes
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(before.constants + after.constants)
    graph.input.append(_value(source, source_name))
    graph.output.extend(_value(each, each.name) for each in outputs)
    return model


def fold(model: ModelProto, path: str, aside: str) -> None:
    """Fold constants and batch normalisation and write the result to `path`.

    ONNX Runtime's basic level keeps to operators of the standard, so that other runtimes read the file as well.

    Args: aside: a folder for a file in between.
    Raises: ArtifactError: if the graph is not valid.
    """
    import onnx
    import onnxruntime

    from ppliteseg_paddle.deploy.onnx_runtime import first_line, runtime_errors

    raw, folded = os.path.join(aside, "unfolded.onnx"), os.path.join(aside, "folded.onnx")
    onnx.save(model, raw)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = folded
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        result = onnx.load(folded)
        used = {node.domain for node in result.graph.node}
        kept = [opset for opset in result.opset_import if opset.domain in used]
        del result.opset_import[:]
        result.opset_import.extend(kept)
        result.producer_name = "ppliteseg_paddle"
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) + runtime_errors() as error:
        raise ArtifactError(
            f"the converted ONNX graph is not valid: {first_line(error)}; report this, it is a defect."
        ) from error
    onnx.save(result, path)


def weights_to_fp16(model: ModelProto) -> ModelProto:
    """Keep the large weights in fp16. A runtime widens them when it loads the file: half the size, and the same
    arithmetic and time, as processors compute in 32 bits.

    Returns: the same model, changed.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _LARGE and np.abs(values).max() <= np.finfo(np.float16).max:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_fp16"))
            casts.append(helper.make_node("Cast", [name + "_fp16"], [name], name=name + "/Cast", to=TensorProto.FLOAT))
    nodes = casts + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _add_preprocess(nodes: Nodes, preprocess: Preprocess, image: str, network_input: str) -> list[Sequence[str]]:
    """From uint8 (N, H, W, 3) BGR to the network's input. Returns height and width before each Resize step, in
    order."""
    x = nodes.add("Transpose", image, perm=[0, 3, 1, 2])
    x = nodes.add("Gather", x, nodes.constant([2, 1, 0], np.int64), axis=1)  # whole planes; BGR -> RGB
    x = nodes.add("Cast", x, to=1)
    sizes: list[Sequence[str]] = []
    for kind, arguments in preprocess.steps:
        if kind == "Normalize":
            mean, std = (np.reshape(arguments[key], (1, 3, 1, 1)) for key in ("mean", "std"))
            x = nodes.add("Mul", x, nodes.constant(1.0 / (255.0 * std), np.float32))
            x = nodes.add("Add", x, nodes.constant(-mean / std, np.float32))
        else:
            width, height = arguments["target_size"]
            sizes.append(nodes.sides(nodes.add("Shape", x), 2))
            x = nodes.resized(x, nodes.constant([height], np.int64), nodes.constant([width], np.int64))
    nodes.add("Identity", x, name=network_input)
    return sizes


def _resize_channels_last(graph: GraphProto, nodes: Nodes, logits: str) -> str:
    """Take the last resizing off the graph and do it with the channels last: each pixel's scores then lie side by side,
    which more than halves what resizing and argmax cost in ONNX Runtime. The arithmetic per score is the same.

    OpenVINO prefers planes. Returns: the name of the scores (N, H, W, classes), "" if the graph does not end with a
    resizing.
    """
    last = last_resize(graph, logits)
    if last is None:
        return ""
    graph.node.remove(last)
    order = nodes.constant([0, 2, 3, 1], np.int64)
    x, _, scales, sizes = (list(last.input) + [""])[:4]
    if sizes:  # `scales` is then without a value
        scales, sizes = "", nodes.add("Gather", sizes, order, axis=0)
    else:
        scales = nodes.add("Gather", scales, order, axis=0)
    resized = nodes.add(
        "Resize", *[nodes.add("Transpose", x, perm=[0, 2, 3, 1]), "", scales, sizes][: 4 if sizes else 3]
    )
    nodes.nodes[-1].attribute.extend(last.attribute)
    return resized


def halve_channel_reductions(model: ModelProto) -> None:
    """Replace reductions over channels by forms that ONNX Runtime computes a few times faster; the values stay.

    A maximum becomes maxima of halves, as long as the number of channels is even; a mean becomes a 1x1 convolution.
    """
    import onnx

    channels = _channels(onnx.shape_inference.infer_shapes(model).graph)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for i, node in enumerate(nodes):
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        count = channels.get(node.input[0], 0) if node.input else 0
        over_channels = (
            node.op_type in ("ReduceMax", "ReduceMean")
            and list(attributes.get("axes", ())) == [1]
            and attributes.get("keepdims", 1)
            and count > 0
            and count % 2 == 0
        )
        made = Nodes(f"reduce_{i:d}")
        if not over_channels:
            made.nodes.append(node)
        elif node.op_type == "ReduceMean":
            made.add(
                "Conv",
                node.input[0],
                made.constant(np.full((1, count, 1, 1), 1.0 / count), np.float32),
                name=node.output[0],
                kernel_shape=[1, 1],  # OpenCV 4 does not infer it
            )
        else:
            _add_maxima_of_halves(made, node, count)
        model.graph.node.extend(made.nodes)
        model.graph.initializer.extend(made.constants)


def _add_maxima_of_halves(nodes: Nodes, node: NodeProto, count: int) -> None:
    x = node.input[0]
    while count % 2 == 0:
        count //= 2
        first = nodes.add("Split", x, axis=1)
        nodes.nodes[-1].output.append(first + "_second")
        x = nodes.add("Max", first, first + "_second", name=node.output[0] if count == 1 else "")
    if count > 1:
        nodes.add("ReduceMax", x, name=node.output[0], axes=[1], keepdims=1)


def _channels(graph: GraphProto) -> dict[str, int]:
    """The second dimension of each 4-dimensional tensor whose shape is known."""
    found = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) == 4 and dimensions[1].dim_value > 0:
            found[value.name] = dimensions[1].dim_value
    return found


def _add_output(nodes: Nodes, logits: str, op: str, num_classes: int, axis: int) -> str:
    if op == "argmax":
        return nodes.add("Cast", nodes.add("ArgMax", logits, axis=axis, keepdims=0), to=2 if num_classes <= 256 else 6)
    if op == "sigmoid":
        return nodes.add("Sigmoid", logits)
    return nodes.add("Softmax", logits, axis=axis) if op == "softmax" else logits


def _value(tensor: Tensor, name: str) -> ValueInfoProto:
    from onnx import TensorProto, helper

    kinds = {
        "float32": TensorProto.FLOAT,
        "uint8": TensorProto.UINT8,
        "int16": TensorProto.INT16,
        "int32": TensorProto.INT32,
    }
    # Open sizes by name: equal names say that sizes are equal.
    names = {"N": "batch", "H": "height", "W": "width"}
    return helper.make_tensor_value_info(
        name,
        kinds[tensor.dtype],
        [names[side] if size == -1 else size for side, size in zip(tensor.layout, tensor.shape)],
    )
