"""What a graph of Paddle says of itself, read without Paddle: its input, and what its first output is.

Source: Paddle's `framework.proto` (`.pdmodel`) and `paddle/fluid/pir/serialize_deserialize` (`.json`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from ppliteseg_paddle.deploy.graph_files import GRAPH_FAULTS, LARGEST_GRAPH, message_fields, message_parts
from ppliteseg_paddle.errors import ArtifactError

# Operators that choose the class or make probabilities, and those that Paddle and PaddleSeg append after them.
_OPS = {"argmax": "argmax", "arg_max": "argmax", "softmax": "softmax"}
_UNCHANGED = ("scale", "scale_", "cast", "assign")
# Paddle's data types by their names in `.json` and their numbers in `.pdmodel`.
_DTYPES = {"t_f32": "float32", "t_i32": "int32", "t_i64": "int64", "t_ui8": "uint8"}
_NUMBERED = {5: "float32", 2: "int32", 3: "int64", 20: "uint8"}


class Value(NamedTuple):
    """A tensor of a graph: -1 stands for an open size; `dtype` is "" for types that no mask or image has."""

    dtype: str
    shape: tuple[int, ...]


class Operator(NamedTuple):
    """`inputs` and `outputs` name values; `name` is that of a graph's input."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    name: str = ""


class Program(NamedTuple):
    """A graph's input, its first output, what that is ("argmax", "softmax", or "none" for logits), and the number of
    classes, -1 if the graph leaves it open."""

    input_name: str
    input: Value
    output: Value
    op: str
    classes: int


def read_program(path: str) -> Program:
    """Read a `.json` or `.pdmodel` file.

    Raises: ArtifactError: if it is damaged, or has another input or output than a segmentation network.
    """
    try:
        if os.path.getsize(path) > LARGEST_GRAPH:
            raise ValueError(f"more than {LARGEST_GRAPH >> 20:d} MiB")
        with open(path, "rb") as file:
            content = file.read()
        operators, values = (_read_json if path.endswith(".json") else _read_protobuf)(content)
        return _described(operators, values)
    except GRAPH_FAULTS as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ArtifactError(f"{path} is no graph of a segmentation network, or damaged ({reason}).") from None


def _described(operators: list[Operator], values: dict[str, Value]) -> Program:
    makers = {name: operator for operator in operators for name in operator.outputs}
    inputs = [operator for operator in operators if operator.kind in ("data", "feed")]
    fetched = [operator.inputs[0] for operator in operators if operator.kind == "fetch"]
    if len(inputs) != 1 or not fetched:
        raise ValueError(f"it has {len(inputs):d} inputs and {len(fetched):d} outputs")
    given, output = values[inputs[0].outputs[0]], values[fetched[0]]
    maker, seen = makers.get(fetched[0]), 0
    while maker is not None and maker.kind in _UNCHANGED and seen < len(operators):
        maker, seen = makers.get(maker.inputs[0]), seen + 1
    op = _OPS.get(maker.kind, "none") if maker is not None else "none"
    scores = values[maker.inputs[0]] if maker is not None and op == "argmax" else output
    if given.dtype != "float32" or len(given.shape) != 4 or given.shape[1] < 1:
        raise ValueError(
            f"its input is {given.dtype or 'of another type'} {list(given.shape)}, not float32 (N, C, H, W)"
        )
    if len(scores.shape) != 4 or len(output.shape) != (3 if op == "argmax" else 4) or not output.dtype:
        raise ValueError(f"its output is {output.dtype or 'of another type'} {list(output.shape)}")
    return Program(inputs[0].name, given, output, op, scores.shape[1])


# --------------------------------------------------------------------------------------------
# Paddle 3: JSON
# --------------------------------------------------------------------------------------------
def _read_json(content: bytes) -> tuple[list[Operator], dict[str, Value]]:
    operators, values = [], {}
    for row in json.loads(content)["program"]["regions"][0]["blocks"][0]["ops"]:
        kind = row["#"].split(".")[-1]
        results = row["O"] if isinstance(row["O"], list) else [row["O"]]
        for result in results:
            found = result.get("TT", {})
            if found.get("#", "").endswith("t_dtensor"):
                dtype, shape = found["D"][:2]
                values[str(result["%"])] = Value(_DTYPES.get(dtype["#"].split(".")[-1], ""), tuple(map(int, shape)))
        name = next((str(a["AT"]["D"]) for a in row["A"] if a["N"] == "name"), "") if kind == "data" else ""
        inputs = [str(each["%"]) for each in row.get("I", ())]
        operators.append(Operator(kind, inputs, [str(result["%"]) for result in results], name))
    return operators, values


# --------------------------------------------------------------------------------------------
# Paddle 2: protobuf
# --------------------------------------------------------------------------------------------
def _read_protobuf(content: bytes) -> tuple[list[Operator], dict[str, Value]]:
    block = next(message_parts(content, 1))
    values = {}
    for variable in message_parts(block, 3):
        for described in message_parts(variable, 2):  # VarType
            for dense in message_parts(described, 3):  # DenseTensorDesc
                for tensor in message_parts(dense, 1):
                    numbers = list(_numbers(tensor))
                    dtype = next(value for field, value in numbers if field == 1)
                    shape = tuple(_signed(value) for field, value in numbers if field == 2)
                    values[_text(variable, 1)] = Value(_NUMBERED.get(dtype, ""), shape)
    operators = []
    for described in message_parts(block, 4):
        inputs, outputs = (_names(described, field) for field in (1, 2))
        kind = _text(described, 3)
        operators.append(Operator(kind, inputs, outputs, outputs[0] if kind == "feed" else ""))
    return operators, values


def _names(operator: bytes, field: int) -> list[str]:
    """The values that an operator takes (1) or makes (2), of all its parameters."""
    return [str(name, "utf-8") for part in message_parts(operator, field) for name in message_parts(part, 2)]


def _numbers(content: bytes) -> Iterator[tuple[int, int]]:
    return ((n, value) for n, value in message_fields(content, 0, len(content)) if isinstance(value, int))


def _text(content: bytes, number: int) -> str:
    return str(next(message_parts(content, number)), "utf-8")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
