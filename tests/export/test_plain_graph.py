"""Graphs for importers with few operators, in any version of the operator set, with their metadata."""

import functools
import json
import tempfile

import cv2
import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, few_ties, model, needs_converter, photograph, small_model

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.runtimes import RUNTIMES, readers
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export.formats import OPSETS
from ppliteseg_paddle.export.opsets import to_opset
from ppliteseg_paddle.export.options import ExportOptions

onnx = pytest.importorskip("onnx", reason="comes with the extra 'deploy'")
onnxruntime = pytest.importorskip("onnxruntime", reason="comes with the extra 'deploy'")
SIZE = (250, 330)  # the deepest map, 8x11, divides by no bin size but 1 and 4
FOLDERS = []


def export(save_dir, net=None, **options):
    from ppliteseg_paddle.export.pipeline import export_model

    given = {"formats": ("onnx",), "label_set": LABELS, "transforms": TRANSFORMS, "check_image": photograph(96, 128)}
    return export_model(net or small_model(), str(save_dir), ExportOptions(**{**given, **options}))


@functools.cache
def exported(output_op):
    """A plain export of PP-LiteSeg-T at one size: its folder, its input and its mask by ONNX Runtime."""
    FOLDERS.append(tempfile.TemporaryDirectory())
    folder = FOLDERS[-1].name + "/export"
    options = {"graph": "plain", "input_shape": (1, 3, *SIZE), "output_op": output_op}
    export(folder, model(), formats=("onnx", "openvino"), check_image=photograph(*SIZE), **options)
    predictor = Predictor(folder, "onnxruntime")
    return folder, predictor.preprocess(photograph(*SIZE))[0], predictor.predict(photograph(*SIZE))


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("output_op", ["argmax", "none"])
def test_opencv_runs_a_plain_graph_and_gives_the_same_mask(output_op):
    folder, batch, mask = exported(output_op)
    net = cv2.dnn.readNetFromONNX(folder + "/model.onnx")
    net.setInput(batch)
    found = net.forward()
    found = found[0] if output_op == "argmax" else found[0].argmax(axis=0)
    assert found.shape == SIZE and len(np.unique(mask)) > 5
    assert np.mean(found.astype(int) != mask) <= few_ties(mask.size)


@needs_converter
@pytest.mark.slow
def test_a_plain_graph_has_one_output_common_operators_and_says_what_others_infer():
    graph = onnx.load(exported("argmax")[0] + "/model.onnx").graph
    assert [value.name for value in graph.output] == ["mask"]
    assert {node.op_type for node in graph.node} <= {
        *("Conv", "Relu", "Concat", "AveragePool", "ReduceMean", "ReduceMax", "Resize", "Reshape", "MatMul"),
        *("Add", "Sub", "Mul", "Sigmoid", "ArgMax", "Cast"),
    }
    for node in graph.node:
        names = {attribute.name for attribute in node.attribute}
        assert node.op_type != "Conv" or "kernel_shape" in names
        linear = any(attribute.s == b"linear" for attribute in node.attribute)
        assert node.op_type != "Resize" or not linear or names == {"mode", "coordinate_transformation_mode"}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    assert all(len(node.input) == 3 and node.input[1] == "" for node in resizes)
    modes = [attribute.s for node in resizes for attribute in node.attribute if attribute.name == "mode"]
    assert modes == [b"nearest"] + 5 * [b"linear"]  # the first map has one cell
    scales = [constants[node.input[2]].tolist() for node in resizes]
    expected = [(8, 11), (4, 5.5), (2, 2.75), (2, 21 / 11), (2, 2), (SIZE[0] / 32, SIZE[1] / 42)]
    np.testing.assert_allclose(scales, [[1, 1, *sides] for sides in expected], rtol=2e-7)


@pytest.mark.parametrize("before, after", [(11, 21), (42, 330), (8, 16), (4, 11), (17, 33), (1, 1000), (127, 1013)])
def test_a_scale_gives_the_size_in_either_precision(before, after):
    from ppliteseg_paddle.export.plain_graph import _scale

    scale = _scale(before, after)
    assert scale.dtype == np.float32 and scale == pytest.approx(after / before, rel=3e-7)
    assert int(np.float32(before) * scale) == int(before * float(scale)) == after


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in readers("onnx") if RUNTIMES[name].installed])
def test_a_plain_graph_of_open_size_runs_at_every_size(tmp_path, backend):
    export(tmp_path / "export", model(), graph="plain", output_op="none")
    predictor = Predictor(tmp_path / "export", backend)
    from exported import eager

    for size in ((64, 96), (97, 130)):
        differing = predictor.predict(photograph(*size)) != eager().predict(photograph(*size))
        assert np.mean(differing) <= few_ties(differing.size)


@functools.cache
def small(graph):
    """The ONNX file of a small network."""
    FOLDERS.append(tempfile.TemporaryDirectory())
    folder = FOLDERS[-1].name + "/export"
    export(folder, graph=graph, input_shape=(1, 3, 96, 128), output_op="argmax", mask_resize="nearest")
    return folder + "/model.onnx"


@needs_converter
@pytest.mark.slow
@pytest.mark.parametrize("graph", ["fast", "plain"])
@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_gives_the_same_mask(graph, opset, rng):
    values = rng.standard_normal((1, 3, 96, 128)).astype(np.float32)
    written = to_opset(onnx.load(small(graph)), opset)
    assert [(each.domain, each.version) for each in written.opset_import] == [("", opset)]
    assert written.ir_version == onnx.helper.find_min_ir_version_for(written.opset_import)
    assert ("NonZero" in {node.op_type for node in written.graph.node}) == (graph == "fast")
    mask = run(written, values)
    assert np.array_equal(mask, run(onnx.load(small(graph)), values)) and len(np.unique(mask)) > 1


@needs_converter
@pytest.mark.slow
def test_an_export_is_written_in_the_opset_that_is_asked_for(tmp_path):
    export(tmp_path / "export", opset=13)
    assert [each.version for each in onnx.load(tmp_path / "export" / "model.onnx").opset_import] == [13]
    assert Predictor(tmp_path / "export", "onnxruntime").predict(photograph(61, 83)).shape == (61, 83)


def one_node(operator, inputs=("x",), constants=(), **attributes):
    node = onnx.helper.make_node(operator, list(inputs), ["y"], name="it", **attributes)
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, [2, 3, 4, 1])],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in constants],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def run(graph, values):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0]


@pytest.mark.parametrize(
    "operator, inputs, constants, attributes",
    [
        ("Softmax", ("x",), (), {"axis": 1}),
        ("Softmax", ("x",), (), {"axis": -1}),
        ("Squeeze", ("x", "axes"), (("axes", [3]),), {}),
        ("ReduceSum", ("x", "axes"), (("axes", [1, 2]),), {"keepdims": 0}),
        ("Reshape", ("x", "shape"), (("shape", [6, 4]),), {"allowzero": 0}),
        ("Resize", ("x", "", "", "size"), (("size", [2, 3, 8, 2]),), {"mode": "linear"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_operator_means_the_same_in_the_oldest_opset(operator, inputs, constants, attributes, rng):
    values = rng.standard_normal((2, 3, 4, 1)).astype(np.float32)
    expected = run(one_node(operator, inputs, constants, **attributes), values)
    given = one_node(operator, inputs, constants, **attributes)
    given.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, expected.shape))
    older = to_opset(given, OPSETS[0])
    assert older.opset_import[0].version == OPSETS[0]
    np.testing.assert_allclose(run(older, values), expected, atol=1e-6)


@pytest.mark.parametrize(
    "graph, words",
    [
        (("LayerNormalization", ("x", "s"), (("s", np.ones(1, np.float32)),)), "LayerNormalization came with opset 17"),
        (("Reshape", ("x", "s"), (("s", [6, 4]),), {"allowzero": 1}), "Reshape with allowzero 1 came with"),
    ],
    ids=["operator", "attribute"],
)
def test_what_an_older_opset_cannot_say_is_refused_in_one_line(graph, words):
    attributes = graph[3] if len(graph) > 3 else {}
    with pytest.raises(ConfigError, match=f"--opset 12: this graph cannot be written in it .{words}") as error:
        to_opset(one_node(*graph[:3], **attributes), 12)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"opset": 10}, "--opset is 10; give a number from 11 to 21"),
        ({"opset": 13, "formats": ("openvino",)}, "--opset is for the format onnx; add it"),
        ({"graph": "plain", "formats": ("paddle", "tensorrt")}, "--graph plain is for the format onnx and openvino"),
        ({"graph": "plane"}, "unknown graph 'plane'. Did you mean 'plain'"),
        ({"graph": "plain", "mask_resize": "bilinear"}, "has one output, and --mask_resize bilinear needs logits"),
        ({"graph": "plain", "precision": "fp16"}, "drop --precision fp16"),
        (
            {"graph": "plain", "test_config": {"aug_eval": True, "flip_horizontal": True}},
            "averaged as logits: give --graph plain with --output_op none",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(options, words):
    with pytest.raises(ConfigError, match=words):
        ExportOptions(**{"formats": ("onnx",), "label_set": LABELS, "transforms": TRANSFORMS, **options})


@needs_converter
@pytest.mark.slow
def test_every_graph_says_its_classes_and_how_images_enter(tmp_path):
    from ppliteseg_paddle import __version__

    export(tmp_path / "export", formats=("onnx", "openvino", "tensorrt"), input_shape=(1, 3, 96, 128))
    expected = {
        "classes": list(LABELS.classes),
        "palette": [list(color) for color in LABELS.palette],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "resize": [{"type": "Resize", "target_size": [128, 96], "keep_ratio": False, "interp": "LINEAR"}],
    }
    model_api = {
        "model_type": "Segmentation",
        "labels": " ".join(LABELS.classes),
        "reverse_input_channels": "True",
        "mean_values": "123.675 116.28 103.53",
        "scale_values": "58.395 57.12 57.375",
        "resize_type": "standard",
    }
    for name in ("model.onnx", "tensorrt.onnx"):
        found = {each.key: each.value for each in onnx.load(tmp_path / "export" / name).metadata_props}
        assert {key: json.loads(found[key]) for key in expected} == expected
        assert json.loads(found["versions"])["ppliteseg_paddle"] == __version__
        assert {key: found["model_info " + key] for key in model_api} == model_api
    openvino = pytest.importorskip("openvino", reason="comes with the extra 'deploy'")
    read = openvino.Core().read_model(tmp_path / "export" / "model.xml")
    assert {key: json.loads(read.get_rt_info(["ppliteseg", key]).astype(str)) for key in expected} == expected
    assert {key: read.get_rt_info(["model_info", key]).astype(str) for key in model_api} == model_api


@needs_converter
@pytest.mark.slow
def test_a_graph_that_preprocesses_tells_nobody_to_do_it_again(tmp_path):
    export(tmp_path / "export", preprocess_in_graph=True)
    found = {each.key: each.value for each in onnx.load(tmp_path / "export" / "model.onnx").metadata_props}
    assert found["preprocess_in_graph"] == "true" and json.loads(found["input"])["layout"] == "NHWC"
    assert not any(key.split()[-1] in ("mean_values", "scale_values", "reverse_input_channels") for key in found)
