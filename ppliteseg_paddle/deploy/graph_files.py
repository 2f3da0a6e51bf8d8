"""Graph files of an exported folder before a runtime opens them: each is of its own format and reads no other file.

An ONNX graph may name files of the whole disk as its "external data", and readers have followed "../" and links there
(CVE-2022-25882, CVE-2024-27318, CVE-2026-27489). What `ppliteseg export` writes holds its weights.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping

from ppliteseg_paddle.errors import ArtifactError

# Format -> the extensions of its files, by role; "" stands for any other role. Runtimes go by them.
_EXTENSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"model": (".onnx",)},
    "tensorrt": {"model": (".onnx",), "": (".onnx",)},
    "openvino": {"model": (".xml",), "weights": (".bin",)},
    "paddle": {"model": (".json", ".pdmodel"), "params": (".pdiparams",)},
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


def _check_onnx(path: str) -> None:
    if os.path.getsize(path) == 0:
        raise ArtifactError(f"{path} is empty; export the model again.")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        waiting = [("ModelProto", 0, len(content))]
        try:
            while waiting:
                message, start, end = waiting.pop()
                for number, value in _fields(content, start, end):
                    if message == "TensorProto" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
                        raise ArtifactError(
                            f"{path} keeps weights in other files, whose names may lead anywhere; it was not opened. "
                            "Export the model again, or save it with its weights inside."
                        )
                    if isinstance(value, tuple) and number in MESSAGES[message]:
                        waiting.append((MESSAGES[message][number], *value))
        except ValueError as error:
            raise ArtifactError(f"{path} is no ONNX graph, or damaged ({error}); export the model again.") from None


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
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


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(start, min(start + 10, end)):
        value |= (content[place] & 127) << 7 * (place - start)
        if content[place] < 128:
            return value, place + 1
    raise ValueError(f"a number does not end at byte {start:d}")
