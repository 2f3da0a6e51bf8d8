"""The model repository for NVIDIA Triton: its configurations by Triton's schema, beside the graphs that they name."""

import json
import os

import numpy as np
import onnxruntime
import openvino
import pytest
from exported import LABELS, TRANSFORMS, model, photograph, small_model
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError, ConfigError
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.export.pipeline import export_model

NUMPY = {DataType.TYPE_UINT8: "uint8", DataType.TYPE_FP32: "float32"}
RESIZING = [{"type": "Resize", "target_size": [96, 64]}, *TRANSFORMS]


def export(folder, net=None, formats=("onnx",), **options):
    given = {"label_set": LABELS, "transforms": TRANSFORMS, "check_image": photograph(64, 96), **options}
    return export_model(net or small_model(), str(folder), ExportOptions(formats=formats, triton=True, **given))


def configuration(folder, name):
    """A model's configuration, parsed by Triton's schema, which refuses unknown fields and values."""
    return text_format.Parse((folder / "triton" / name / "config.pbtxt").read_text("utf-8"), ModelConfig())


def shape_of(config, tensor):
    return ([-1] if config.max_batch_size else []) + list(tensor.dims)


def as_onnx_runtime_says(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    types = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}

    def described(values):
        return [(v.name, types[v.type], [s if isinstance(s, int) else -1 for s in v.shape]) for v in values]

    return described(session.get_inputs()), described(session.get_outputs()), session


def as_openvino_says(path):
    graph = openvino.Core().read_model(str(path))

    def described(ports):
        types = {openvino.Type.f32: "float32", openvino.Type.u8: "uint8"}
        shapes = [[d.get_length() if d.is_static else -1 for d in port.partial_shape] for port in ports]
        return [(port.any_name, types[port.element_type], shape) for port, shape in zip(ports, shapes)]

    return described(graph.inputs), described(graph.outputs)


def described(config, tensors):
    return [(tensor.name, NUMPY[tensor.data_type], shape_of(config, tensor)) for tensor in tensors]


def same_rank(found, expected):
    """Equal names and types, and sizes wherever both know them: ONNX leaves sizes open that follow from others."""
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (_, _, ours), (_, _, theirs) in zip(found, expected):
        assert len(ours) == len(theirs)
        assert all(a == b or -1 in (a, b) for a, b in zip(ours, theirs)), (ours, theirs)


@pytest.mark.slow
def test_what_is_configured_is_what_the_graphs_take_and_the_served_graph_gives_the_predictors_mask(tmp_path):
    folder = tmp_path / "e"
    report = export(folder, model(), ("onnx", "openvino", "tensorrt"), preprocess_in_graph=True)
    assert report["triton"]["models"] == ["ppliteseg_onnx", "ppliteseg_openvino", "ppliteseg_tensorrt"]

    onnx = configuration(folder, "ppliteseg_onnx")
    inputs, outputs, session = as_onnx_runtime_says(folder / "triton/ppliteseg_onnx/1/model.onnx")
    assert (onnx.backend, onnx.max_batch_size, onnx.HasField("dynamic_batching")) == ("onnxruntime", 8, True)
    assert described(onnx, onnx.input) == inputs == [("image", "uint8", [-1, -1, -1, 3])]
    same_rank(described(onnx, onnx.output), outputs)
    image = photograph(90, 130)
    (mask,) = session.run([onnx.output[0].name], {onnx.input[0].name: image[np.newaxis]})
    np.testing.assert_array_equal(mask[0], Predictor(folder, backend="onnxruntime").predict(image))
    assert json.loads(onnx.parameters["classes"].string_value) == list(LABELS.classes)

    vino = configuration(folder, "ppliteseg_openvino")
    inputs, outputs = as_openvino_says(folder / "triton/ppliteseg_openvino/1/model.xml")
    # No batching: the backend wants batches of exactly max_batch_size. It computes on CPUs only.
    assert (vino.backend, vino.max_batch_size, vino.instance_group[0].kind) == ("openvino", 0, 2)
    assert described(vino, vino.input) == inputs
    same_rank(described(vino, vino.output), outputs)
    assert (folder / "triton/ppliteseg_openvino/1/model.bin").stat().st_size == (folder / "model.bin").stat().st_size

    engine = configuration(folder, "ppliteseg_tensorrt")
    inputs, outputs, _ = as_onnx_runtime_says(folder / "triton/ppliteseg_tensorrt/1/tensorrt.onnx")
    assert (engine.backend, engine.max_batch_size) == ("tensorrt", 1)  # the engine's largest batch
    assert described(engine, engine.input) == inputs
    same_rank(described(engine, engine.output), outputs)
    assert "--maxShapes=image:1x1024x2048x3" in report["triton"]["engine"]


def test_logits_beside_the_mask_are_configured_too(tmp_path):
    export(tmp_path / "e", transforms=RESIZING, input_shape=(1, 3, 64, 96))
    config = configuration(tmp_path / "e", "ppliteseg_onnx")
    inputs, outputs, _ = as_onnx_runtime_says(tmp_path / "e/triton/ppliteseg_onnx/1/model.onnx")
    assert config.max_batch_size == 0 and described(config, config.input) == inputs == [
        ("x", "float32", [1, 3, 64, 96])
    ]
    same_rank(described(config, config.output), outputs)
    assert [output.name for output in config.output] == ["mask", "logits"]


def test_the_largest_batch_is_that_of_dynamic_shape(tmp_path):
    shapes = ((1, 3, 64, 96), (2, 3, 64, 96), (5, 3, 64, 96))
    report = export(tmp_path / "e", formats=("onnx", "tensorrt"), dynamic_shape=shapes)
    assert {configuration(tmp_path / "e", name).max_batch_size for name in report["triton"]["models"]} == {5}
    assert "--minShapes=x:1x3x64x96 --optShapes=x:2x3x64x96 --maxShapes=x:5x3x64x96" in report["triton"]["engine"]


def test_names_of_classes_come_back_whatever_they_hold(tmp_path):
    from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for

    names = ('a "quoted" one', "back\\slash", "道路", "tab\there", "#", *map(str, range(6)))
    export(tmp_path / "e", label_set=LabelSet("odd", names, palette_for(11)))
    config = configuration(tmp_path / "e", "ppliteseg_onnx")
    assert tuple(json.loads(config.parameters["classes"].string_value)) == names


def test_a_later_export_replaces_the_repository_with_its_engine_and_nothing_else_there(tmp_path):
    folder = tmp_path / "e"
    export(folder)
    version = folder / "triton" / "ppliteseg_onnx" / "1"
    (version / "model.plan").write_bytes(b"built here")
    export(folder)
    assert sorted(os.listdir(version)) == ["model.onnx"]
    (folder / "triton" / "theirs").mkdir()
    with pytest.raises(ArtifactError, match="also triton/theirs/, which exporting would delete"):
        export(folder)
    (folder / "triton" / "theirs").rmdir()
    with open(version.parent / "config.pbtxt", "a") as file:
        file.write("version_policy: { all { } }\n")
    with pytest.raises(ArtifactError, match="config.pbtxt was changed after the export"):
        export(folder)


def test_paddles_format_is_not_served_and_refused_alone(tmp_path):
    report = export(tmp_path / "e", formats=("paddle", "onnx"))
    assert report["triton"]["models"] == ["ppliteseg_onnx"] and os.listdir(tmp_path / "e/triton") == ["ppliteseg_onnx"]
    with pytest.raises(ConfigError, match="--triton is for the formats onnx, openvino and tensorrt; add one of them"):
        export(tmp_path / "p", formats=("paddle",))
    assert not (tmp_path / "p").exists()
