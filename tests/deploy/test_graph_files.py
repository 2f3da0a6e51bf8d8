"""Graphs from strangers: no runtime opens one that names other files, that is of another format than it says, or at
which it would die."""

import json
import os
import shutil

import pytest
import yaml
from tiny_onnx import tiny_artifact

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.folder import file_record
from ppliteseg_paddle.deploy.graph_files import DATA_LOCATION, EXTERNAL_DATA, MESSAGES
from ppliteseg_paddle.errors import ArtifactError


def test_the_fields_that_lead_to_tensors_are_those_of_onnx():
    import onnx

    waiting, found = [onnx.ModelProto.DESCRIPTOR], {}
    while waiting:
        message = waiting.pop()
        inner = {field.number: field.message_type for field in message.fields if field.message_type}
        found[message.name] = {number: kind.name for number, kind in inner.items()}
        waiting += [kind for kind in inner.values() if kind.name not in found]
    leads = {"TensorProto"}
    while True:
        more = {name for name, fields in found.items() if leads & set(fields.values())} - leads
        if not more:
            break
        leads |= more
    # Types describe values and hold none.
    wanted = {name: {n: kind for n, kind in found[name].items() if kind in leads} for name in leads}
    assert wanted == MESSAGES
    tensor = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert (tensor["external_data"].number, tensor["data_location"].number) == (EXTERNAL_DATA, DATA_LOCATION)


def outside(model):
    """An initializer that lies in a file outside of the folder."""
    import onnx

    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="a/../../secret.bin")


def outside_in_a_branch(model):
    """A constant in a graph within a node."""
    import numpy as np
    from onnx import helper, numpy_helper

    branch = helper.make_graph([], "branch", [], [], [numpy_helper.from_array(np.zeros(4, np.float32), "c")])
    branch.initializer[0].external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize("change", [outside, outside_in_a_branch])
def test_a_graph_that_keeps_weights_in_other_files_is_refused(change, tmp_path):
    import onnx

    artifact = tiny_artifact(tmp_path / "export")
    path = artifact.path_of("onnx", "model")
    model = onnx.load(path)
    change(model)
    with open(path, "wb") as file:
        file.write(model.SerializeToString())
    artifact.write()
    with pytest.raises(ArtifactError, match="keeps weights in other files"):
        Artifact.read(tmp_path / "export")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"\x3a\xff\x01", "beyond its message"),
        (b"\x0b", "wire type 3"),
        (b"\xff" * 12, "does not end"),
    ],
)
def test_a_damaged_graph_is_refused_in_one_line(content, words, tmp_path):
    artifact = tiny_artifact(tmp_path / "export")
    with open(artifact.path_of("onnx", "model"), "wb") as file:
        file.write(content)
    artifact.write()
    with pytest.raises(ArtifactError, match=words):
        Artifact.read(tmp_path / "export")


def test_a_graph_of_another_format_than_it_says_is_refused(tmp_path):
    artifact = tiny_artifact(tmp_path / "export")
    for name in ("model.ort", "model.xml"):
        shutil.copy(artifact.path_of("onnx", "model"), os.path.join(artifact.folder, name))
    for graphs, words in (
        ({"onnx": {"model": "model.ort"}}, r"model.ort is no model of a graph 'onnx': its name must end in .onnx"),
        ({"openvino": {"model": "model.xml", "weights": "model.xml"}}, "model.xml is no XML"),
        ({"openvino": {"model": "model.xml"}}, "the graph 'openvino' has no file 'weights'"),
        ({"tensorrt": {"model": "model.onnx", "fp16": "model.ort"}}, "model.ort is no fp16 of a graph"),
        ({"onnx": {}}, "the graph 'onnx' has no file 'model'"),
    ):
        artifact.graphs.clear()
        artifact.graphs.update(graphs)
        artifact.write()
        with pytest.raises(ArtifactError, match=words):
            Artifact.read(artifact.folder)


@pytest.mark.parametrize("fault", ["no output", "two inputs"])
def test_a_graph_with_other_inputs_or_outputs_than_promised_is_refused(fault, tmp_path):
    onnx = pytest.importorskip("onnx", reason="comes with the extra 'deploy'")
    pytest.importorskip("onnxruntime", reason="comes with the extra 'deploy'")
    artifact = tiny_artifact(tmp_path / "a")
    path = tmp_path / "a" / "model.onnx"
    model = onnx.load(path)
    if fault == "no output":
        del model.graph.output[:]
    else:
        model.graph.input.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1]))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="model.onnx has . inputs and . outputs, but deploy.yaml promises 1 and 1"):
        open_backend("onnxruntime", artifact, "cpu")


def _paddle_export(folder, change):
    """An export whose `inference.json` is changed, its hash right again."""
    from exported import small_folder

    shutil.copytree(small_folder("argmax"), folder)
    with open(folder / "inference.json") as file:
        graph = json.load(file)
    change(graph["program"]["regions"][0]["blocks"][0]["ops"])
    (folder / "inference.json").write_text(json.dumps(graph))
    _rehash(folder, "inference.json")
    return folder


def _rehash(folder, name):
    values = yaml.safe_load((folder / "deploy.yaml").read_text())
    values["files"][name] = file_record(str(folder / name))
    (folder / "deploy.yaml").write_text(yaml.safe_dump(values))


def _attributes(operators, kind):
    return next(operator for operator in operators if operator["#"] == kind)["A"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda ops: _attributes(ops, "1.data").pop(0), "an operator 'data' has no name"),
        (lambda ops: _attributes(ops, "1.fetch")[0].update(N="nome"), "an operator 'fetch' has no name"),
        (lambda ops: _attributes(ops, "1.fetch").pop(1), "an operator 'fetch' has no col"),
        (lambda ops: ops[0].pop("OA"), "'OA' is missing"),
        (lambda ops: ops[0].update(A=[]), "'A' of a parameter is"),
        (lambda ops: ops[0].pop("#"), "'#' is missing"),
        (lambda ops: ops[0].update({"#": 5}), "has no attribute 'split'"),
    ],
)
def test_a_paddle_graph_at_which_paddle_would_die_is_refused(change, words, tmp_path):
    with pytest.raises(ArtifactError, match=f"inference.json is no graph, or damaged .*{words}"):
        open_backend("paddle", Artifact.read(_paddle_export(tmp_path / "export", change)), "cpu")


def test_a_paddle_graph_with_other_inputs_or_outputs_than_promised_is_refused(tmp_path):
    folder = _paddle_export(tmp_path / "export", lambda ops: ops.pop())  # what gives the logits
    with pytest.raises(ArtifactError, match="json has 1 inputs and 0 outputs, but deploy.yaml promises 1 and 1"):
        open_backend("paddle", Artifact.read(folder), "cpu")


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda content: content[:-1], "ends 1 bytes too early"),
        (lambda content: content[: len(content) // 2], "bytes too early"),
        (lambda content: content[:9], "requires a buffer"),
        (lambda content: b"\xff" * len(content), "no tensor at byte 0"),
        (lambda content: content + b"more", "requires a buffer"),
    ],
)
def test_damaged_weights_of_a_paddle_graph_are_refused_in_one_line(damage, words, tmp_path):
    folder = _paddle_export(tmp_path / "export", lambda ops: None)
    path = folder / "inference.pdiparams"
    assert open_backend("paddle", Artifact.read(folder), "cpu").name == "paddle"
    path.write_bytes(damage(path.read_bytes()))
    _rehash(folder, path.name)
    with pytest.raises(ArtifactError, match=f"wrote: inference.pdiparams is damaged .*{words}"):
        open_backend("paddle", Artifact.read(folder), "cpu")


def test_weights_of_another_graph_are_refused_in_one_line(tmp_path):
    folder = _paddle_export(tmp_path / "export", lambda ops: None)
    (folder / "inference.pdiparams").write_bytes(b"")
    _rehash(folder, "inference.pdiparams")
    with pytest.raises(ArtifactError, match="^Paddle .* cannot run .*json, which Paddle .* wrote: .+") as error:
        open_backend("paddle", Artifact.read(folder), "cpu")
    assert "\n" not in str(error.value)
