"""Graph files of an exported folder before a runtime opens them: each is of its own format, reads no other file, and
has what its runtime takes for granted.

An ONNX graph may name files of the whole disk as its "external data", and readers have followed "../" and links there
(CVE-2022-25882, CVE-2024-27318, CVE-2026-27489). What `ppliteseg export` writes holds its weights.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from ppliteseg_paddle.errors import ArtifactError

# Format -> the extensions of its files, by role; "" stands for any other role. Runtimes go by them.
_EXTENSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"model": (".onnx",)},
    "tensorrt": {"model": (".onnx",), "": (".onnx",)},
    "openvino": {"model": (".xml",), "weights": (".bin",)},
    "paddle": {"model": (".json", ".pdmodel"), "params": (".pdiparams",), "": (".json", ".pdmodel", ".yml")},
}
# Message -> the fields that lead to tensors, and the messages in them. Source: onnx.proto of ONNX.
MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **dict.fromkeys((5, 10), "TensorProto"),
        **dict.fromkeys((6, 11), "GraphProto"),
        **dict.fromkeys((22, 23), "SparseTensorProto"),
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of TensorProto


def check_graph_files(folder: str, graphs: Mapping[str, Mapping[str, str]]) -> None:
    """Check the files of the formats that are known here.

    Raises: ArtifactError: if one has another extension or content than its format has, or names other files.
    """
    for name, roles in graphs.items():
        known = _EXTENSIONS.get(name, {})
        missing = [role for role in known if role and role not in roles]
        if missing:
            raise ArtifactError(f"{folder}: the graph '{name}' has no file '{missing[0]}'; export the model again.")
        for role, file_name in roles.items() if known else ():
            path, extensions = os.path.join(folder, file_name), known.get(role, known.get("", ()))
            if not path.endswith(extensions):
                raise ArtifactError(
                    f"{path} is no {role} of a graph '{name}': its name must end in {' or '.join(extensions)}."
                )
            if path.endswith(".onnx"):
                _check_onnx(path)
            elif path.endswith(".xml"):
                with open(path, "rb") as file:
                    if not file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
                        raise ArtifactError(f"{path} is no XML; export the model again.")


# Operator -> the attributes that Paddle 3 uses without looking whether they are there; it dies if they are not.
_NEEDED = {"data": {"name"}, "feed": {"name", "col"}, "fetch": {"name", "col"}}
LARGEST_GRAPH = 64 << 20  # bytes; PP-LiteSeg's graph has 0.3 MB
# What reading a damaged graph raises.
GRAPH_FAULTS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    StopIteration,
    RecursionError,
    OverflowError,
)
# Operators that read and write files, call Python, listen to the network, or run a program that they contain. No
# network needs them to make a mask.
_FORBIDDEN = {
    *("save", "save_combine", "load", "load_combine", "read_file", "py_func", "py_layer", "run_program"),
    *("listen_and_serv", "fl_listen_and_serv", "heter_listen_and_serv", "send", "recv"),
    *("tensorrt_engine", "lite_engine", "dlnne_engine", "openvino_engine", "cinn_launch"),
}
_PARAMETER_PARTS = {"A": 4, "OA": 3}  # lists of an operator "p" and their least lengths


def check_paddle_graph(model: str, params: str) -> None:
    """Check the two files of a graph of Paddle for what ends the process, or goes unnoticed, in place of being refused.

    Raises: ValueError: saying which and why.
    """
    try:
        if os.path.getsize(model) > LARGEST_GRAPH:
            raise ValueError(f"more than {LARGEST_GRAPH >> 20:d} MiB")
        with open(model, "rb") as file:
            content = file.read()
        if model.endswith(".json"):
            _check_regions(json.loads(content)["program"]["regions"])
        else:
            _check_blocks(content)
    except GRAPH_FAULTS as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{os.path.basename(model)} is no graph, or damaged ({reason})") from None
    _check_parameters(params)


def _check_kind(kind: str) -> None:
    if kind.rstrip("_") in _FORBIDDEN:
        raise ValueError(f"an operator '{kind}' does more than compute")


def _check_blocks(content: bytes) -> None:
    """Of a graph of Paddle 2."""
    for block in message_parts(content, 1):
        for operator in message_parts(block, 4):
            _check_kind(str(next(message_parts(operator, 3)), "utf-8"))


def _check_regions(regions: Any) -> None:
    for operator in (operator for region in regions for block in region["blocks"] for operator in block["ops"]):
        kind = operator["#"].split(".")[-1]
        _check_kind(kind)
        if kind == "p":
            for part, length in _PARAMETER_PARTS.items():
                if not isinstance(operator[part], list) or len(operator[part]) < length:
                    raise ValueError(f"'{part}' of a parameter is {operator[part]!r}")
        else:
            missing = _NEEDED.get(kind, set()) - {attribute["N"] for attribute in operator["A"]}
            if missing:
                raise ValueError(f"an operator '{kind}' has no {' and no '.join(sorted(missing))}")
        _check_regions(operator.get("regions", ()))


# Of Paddle's data types: the bytes of a value. Source: framework.proto of Paddle, VarType.
_SIZES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16, 32: 1, 33: 1}


def _check_parameters(path: str) -> None:
    """Check that a `.pdiparams` file ends where its last tensor does: Paddle takes whatever is in memory for what is
    missing. A tensor is: version, levels of detail, version, a description (type and sides), values."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        try:
            while file.tell() < size:
                _, levels = struct.unpack("<IQ", file.read(12))
                _, length = struct.unpack("<Ii", file.read(8))
                if levels or not 0 < length < 1024:
                    raise ValueError(f"no tensor at byte {file.tell() - 20:d}")
                description = file.read(length)
                fields = list(message_fields(description, 0, len(description)))
                kind = next(value for number, value in fields if number == 1)
                count = math.prod(value for number, value in fields if number == 2 and isinstance(value, int))
                end = file.tell() + count * _SIZES[kind]  # type: ignore[index]  # KeyError
                if end > size:
                    raise ValueError(f"it ends {end - size:d} bytes too early")
                file.seek(end)
        except (ValueError, struct.error, StopIteration, KeyError) as error:
            raise ValueError(f"{os.path.basename(path)} is damaged ({error or 'no tensor'})") from None


def _check_onnx(path: str) -> None:
    if os.path.getsize(path) == 0:
        raise ArtifactError(f"{path} is empty; export the model again.")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        waiting = [("ModelProto", 0, len(content))]
        try:
            while waiting:
                message, start, end = waiting.pop()
                for number, value in message_fields(content, start, end):
                    if message == "TensorProto" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
                        raise ArtifactError(
                            f"{path} keeps weights in other files, whose names may lead anywhere; it was not opened. "
                            "Export the model again, or save it with its weights inside."
                        )
                    if isinstance(value, tuple) and number in MESSAGES[message]:
                        waiting.append((MESSAGES[message][number], *value))
        except ValueError as error:
            raise ArtifactError(f"{path} is no ONNX graph, or damaged ({error}); export the model again.") from None


def message_parts(content: bytes, number: int) -> Iterator[bytes]:
    """The messages or texts in a field of a message."""
    for found, value in message_fields(content, 0, len(content)):
        if found == number and isinstance(value, tuple):
            yield content[slice(*value)]


def message_fields(content: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """(number, value) of a message's fields: an integer, or where its bytes begin and end."""
    while start < end:
        tag, start = _varint(content, start, end)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, start = _varint(content, start, end)
            yield number, value
            continue
        if wire == 2:
            length, start = _varint(content, start, end)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire:d} at byte {start:d}")
        if start + length > end:
            raise ValueError(f"a field ends beyond its message at byte {start:d}")
        yield number, (start, start + length)
        start += length


def _varint(content: mmap.mmap | bytes, start: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(start, min(start + 10, end)):
        value |= (content[place] & 127) << 7 * (place - start)
        if content[place] < 128:
            return value, place + 1
    raise ValueError(f"a number does not end at byte {start:d}")
