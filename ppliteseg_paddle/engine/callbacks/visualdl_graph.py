"""The model's graph in the form that VisualDL's page shows: operators inside their layers, with shapes.

VisualDL draws a graph from Paddle 2's program description, which Paddle 3 neither saves (it writes `model.json`) nor
traces for every operator. So on Paddle 3 the model is traced to the new representation, and that is written down as a
program description.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

# Operators that only hold a weight or a number of the code: as nodes they would bury the network.
WEIGHTS, CONSTANTS = ("builtin.parameter",), ("pd_op.full", "pd_op.full_int_array", "builtin.constant")
INPUT = "pd_op.data"
_COPY = re.compile(r"_deepcopy_\d+$")  # what Paddle adds to the names of a copied layer's weights
LISTS = ("builtin.combine",)  # several tensors as one operand


def model_graph(model, shape: Sequence[int]) -> dict[str, Any]:
    """What VisualDL's graph page reads, for an input of `shape`. The model itself is left as it is.

    Raises: whatever the model's tracing raises, as not every model can be traced.
    Source: VisualDL `component/graph/graph_component.py`, for the form.
    """
    import paddle

    with paddle.utils.unique_name.guard():  # names that an optimizer's state is found by stay as they are
        return _graph_of(copy.deepcopy(model), shape)


def _graph_of(traced, shape: Sequence[int]) -> dict[str, Any]:
    import paddle

    from ppliteseg_paddle.environment import paddle_version

    traced.eval()
    spec = [paddle.static.InputSpec(list(shape), "float32", name="image")]
    if (paddle_version() or (3,)) < (3,):
        from visualdl.component.graph.exporter import translate_graph

        return json.loads(translate_graph(traced, spec, verbose=False))
    from visualdl.component.graph.graph_component import analyse_model

    spans = _note_layers(traced)
    program = paddle.jit.to_static(traced, input_spec=spec, full_graph=True).forward.concrete_program.main_program
    return analyse_model(_describe(program.global_block().ops, spans, f"/{type(traced).__name__}[model]/"))


def _note_layers(model) -> list[tuple[str, int, int]]:
    """Let each layer note, while it is traced, which operators it has added; returns the list that they fill: name,
    first, end."""
    import paddle

    spans, begun = [], []

    def count() -> int:
        return len(paddle.static.default_main_program().global_block().ops)

    def install(layer, path: str) -> None:
        layer.register_forward_pre_hook(lambda *_: begun.append(count()))
        layer.register_forward_post_hook(lambda *_: spans.append((path, begun.pop(), count())))
        for name, part in layer.named_children():
            install(part, f"{path}/{type(part).__name__}[{name}]")

    install(model, f"/{type(model).__name__}[model]")
    return spans


def _describe(operators, spans, whole: str) -> bytes:
    """A program description of the traced operators, each in the scope of the innermost layer that added it."""
    from paddle.framework import core

    scopes = [whole] * len(operators)
    for path, first, end in reversed(spans):  # outer layers end after their parts
        scopes[first:end] = [path + "/"] * (end - first)
    description = core.ProgramDesc()
    block = description.block(0)
    names: dict[int, list[str]] = {}  # value -> its variables; none for a constant
    for index, (operator, scope) in enumerate(zip(operators, scopes)):
        kind, results = operator.name(), operator.results()
        if kind in CONSTANTS:
            names.update((value.id, []) for value in results)
            continue
        inputs = [
            name for value in operator.operands_source() if value.initialized() for name in names.get(value.id, [])
        ]
        if kind in LISTS:
            names[results[0].id] = inputs
            continue
        outputs = []
        for place, value in enumerate(results):
            if value.initialized() and value.is_dense_tensor_type():  # not the running mean's, in evaluation
                name = f"{kind.split('.')[-1]}_{index:d}_{place:d}"
                if kind in WEIGHTS:
                    name = _COPY.sub("", operator.attrs().get("parameter_name") or name)
                names[value.id] = [_variable(block, name, value, kind in WEIGHTS)]
                outputs += names[value.id]
        if kind in WEIGHTS:
            continue
        node = block.append_op()
        node.set_type(kind.split(".")[-1].rstrip("_"))  # the underscore is that of an operator in place
        node.set_input("X", inputs)
        node.set_output("Out", outputs)
        node._set_attr("op_namescope", "/" if kind == INPUT else scope)
    return description.serialize_to_string()


def _variable(block, name: str, value, weight: bool) -> str:
    """Describe a value; returns `name`."""
    from paddle.framework import core

    variable = block.var(name.encode())
    variable.set_type(
        core.VarDesc.VarType.DENSE_TENSOR
        if hasattr(core.VarDesc.VarType, "DENSE_TENSOR")
        else core.VarDesc.VarType.LOD_TENSOR
    )
    variable.set_dtype(core.VarDesc.VarType.FP32)
    variable.set_shape(list(value.shape))
    variable.set_persistable(weight)
    return name
