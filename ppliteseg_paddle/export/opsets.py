"""Bring an ONNX graph to another version of the operator set.

Networks are converted at `DEFAULT_OPSET`. Newer versions are reached by onnx's own converter. It has few ways back, so
older versions are reached here: what an operator could not yet do is written in the older form, or refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export.formats import DEFAULT_OPSET

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def to_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model in another version of the operator set.

    Raises: ConfigError: if an operator of the graph has no form there.
    """
    import onnx
    from onnx import helper, version_converter

    if opset == _opset(model):
        return model
    try:
        changed = version_converter.convert_version(model, opset) if opset > _opset(model) else _older(model, opset)
        changed.ir_version = helper.find_min_ir_version_for(changed.opset_import)
        onnx.checker.check_model(changed, full_check=True)
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[-200:].rstrip(". ")
        raise ConfigError(
            f"--opset {opset:d}: this graph cannot be written in it ({reason}). Leave the flag out "
            f"({DEFAULT_OPSET:d}), or give a number nearer to it."
        ) from error
    return changed


def _opset(model: ModelProto) -> int:
    return next(int(each.version) for each in model.opset_import if each.domain == "")


def _older(model: ModelProto, opset: int) -> ModelProto:
    """Raises: RuntimeError: if an operator has no form there."""
    import onnx

    rewriter = _Rewriter(model, opset)
    nodes = [made for node in model.graph.node for made in rewriter.rewritten(node)]
    del model.graph.node[:], model.opset_import[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


class _Rewriter:
    """Operators of `DEFAULT_OPSET` in an older version."""

    def __init__(self, model: ModelProto, opset: int) -> None:
        self.graph, self.opset, self.newer = model.graph, opset, _opset(model)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def rewritten(self, node: NodeProto) -> list[NodeProto]:
        """The node's form, in place where it stays one."""
        from onnx import defs

        schema = defs.get_schema(node.op_type, self.newer, node.domain)
        if schema.since_version <= self.opset:
            return [node]
        try:
            older = defs.get_schema(node.op_type, self.opset, node.domain)
        except defs.SchemaError:
            raise RuntimeError(f"{node.op_type} came with opset {schema.since_version:d}") from None
        way: Callable[[NodeProto], list[NodeProto]] | None = getattr(self, f"_{node.op_type.lower()}", None)
        nodes = way(node) if way is not None and self.opset < 13 else [node]
        for each in nodes:
            if each.op_type == node.op_type:
                _drop_defaults(each, schema, older)
        return nodes

    # What changed with version 13: inputs were attributes, or not optional; softmax took all that follows the axis.
    def _squeeze(self, node: NodeProto) -> list[NodeProto]:
        return self._as_attribute(node, "axes")

    _unsqueeze = _reducesum = _squeeze

    def _split(self, node: NodeProto) -> list[NodeProto]:
        return self._as_attribute(node, "split")

    def _as_attribute(self, node: NodeProto, name: str) -> list[NodeProto]:
        from onnx import helper, numpy_helper

        if len(node.input) > 1:
            if node.input[1] not in self._constants:
                raise RuntimeError(f"{name} of {node.op_type} is computed")
            values = numpy_helper.to_array(self._constants[node.input[1]])
            del node.input[1:]
            node.attribute.append(helper.make_attribute(name, [int(value) for value in np.ravel(values)]))
        return [node]

    def _resize(self, node: NodeProto) -> list[NodeProto]:
        from onnx import numpy_helper

        for i in (1, 2):
            if node.input[i] == "":
                empty = f"{node.output[0]}_{('', 'roi', 'scales')[i]}"
                self.graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), empty))
                node.input[i] = empty
        return [node]

    def _softmax(self, node: NodeProto) -> list[NodeProto]:
        from onnx import helper

        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
        if axis not in (1, 3, -1):
            raise RuntimeError(f"Softmax along axis {axis:d}")
        if axis != 1:
            return [node]
        x, y = node.input[0], node.output[0]
        return [
            helper.make_node("Transpose", [x], [y + "_last"], name=y + "_last/Transpose", perm=[0, 2, 3, 1]),
            helper.make_node("Softmax", [y + "_last"], [y + "_softmax"], name=y + "_softmax/Softmax", axis=3),
            helper.make_node("Transpose", [y + "_softmax"], [y], name=y + "/Transpose", perm=[0, 3, 1, 2]),
        ]


def _drop_defaults(node: NodeProto, schema: Any, older: Any) -> None:
    """Remove attributes that the older version does not know, where they say what it does anyway.

    Raises: RuntimeError: if one says something else.
    """
    from onnx import helper

    for attribute in [each for each in node.attribute if each.name not in older.attributes]:
        value = helper.get_attribute_value(attribute)
        if value != helper.get_attribute_value(schema.attributes[attribute.name].default_value):
            raise RuntimeError(f"{node.op_type} with {attribute.name} {value!r} came with {schema.since_version:d}")
        node.attribute.remove(attribute)
