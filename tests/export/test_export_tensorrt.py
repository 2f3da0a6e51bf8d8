import importlib.util
import os

import numpy as np
import pytest
import yaml
from exported import LABELS, TRANSFORMS, few_ties, model, needs_converter, photograph, small_model

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import ConfigError, DependencyError

pytestmark = pytest.mark.slow  # exports the whole model

RESIZED = [{"type": "Resize", "target_size": [128, 96]}, *TRANSFORMS]
RANGE = [(1, 3, 64, 64), (1, 3, 96, 128), (2, 3, 192, 256)]


def export(save_dir, net=None, **options):
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    return export_model(
        net or small_model(),
        str(save_dir),
        ExportOptions(
            **{
                "formats": ("tensorrt",),
                "label_set": LABELS,
                "transforms": TRANSFORMS,
                "check_image": photograph(96, 128),
                **options,
            }
        ),
    )


def on_onnxruntime(folder, batch, name="tensorrt.onnx"):
    import onnxruntime

    session = onnxruntime.InferenceSession(os.path.join(folder, name), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def casts(path):
    """(from, to) of every Cast, by element type."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    return {(types[node.input[0]], node.attribute[0].i) for node in graph.node if node.op_type == "Cast"}


@needs_converter
def test_bytes_are_cast_from_and_to_floats_only(tmp_path):
    from onnx import TensorProto

    export(tmp_path / "export", preprocess_in_graph=True, transforms=RESIZED)
    eight, real = TensorProto.UINT8, TensorProto.FLOAT
    of_bytes = {pair for pair in casts(tmp_path / "export" / "tensorrt.onnx") if eight in pair}
    assert of_bytes == {(eight, real), (real, eight)}


@needs_converter
def test_the_graph_and_its_16_bit_form_give_the_models_masks(tmp_path):
    from ppliteseg_paddle.export.eager import eager_predictor

    report = export(tmp_path / "export", model(), precision="fp16", dynamic_shape=RANGE)
    assert set(report["files"]) == {"deploy.yaml", "tensorrt.onnx", "tensorrt_fp16.onnx"}
    assert report["files"]["tensorrt_fp16.onnx"] < 0.55 * report["files"]["tensorrt.onnx"]
    assert report["check"]["backend"] == "onnxruntime" and report["check"]["differing_pixels"] <= few_ties(96 * 128)
    assert report["check"]["fp16"]["differing_pixels"] <= 0.02
    values = yaml.safe_load((tmp_path / "export" / "deploy.yaml").read_text())
    assert values["precision"] == "fp16" and values["dynamic_shape"]["max"] == [2, 3, 192, 256]
    eager = eager_predictor(model(), LABELS, Preprocess(TRANSFORMS))
    for size in ((64, 64), (97, 211)):  # sizes that no power of two divides
        batch, _ = eager.preprocess(photograph(*size))
        expected = eager.forward(batch)
        assert np.mean(on_onnxruntime(tmp_path / "export", batch) != expected) <= few_ties(expected.size)
        half = on_onnxruntime(tmp_path / "export", batch, "tensorrt_fp16.onnx")
        assert half.dtype == np.uint8 and np.mean(half != expected) <= 0.03


@needs_converter
def test_the_16_bit_form_keeps_sizes_and_the_images_values_in_32_bits(tmp_path):
    import onnx
    from onnx import TensorProto

    export(tmp_path / "export", model(), precision="fp16")
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "export" / "tensorrt_fp16.onnx")).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    types.update(weights)
    half, real = TensorProto.FLOAT16, TensorProto.FLOAT
    for node in graph.node:
        if node.op_type == "Conv":
            assert {types[name] for name in node.input} == {half}
        if node.op_type in (
            "Floor",
            "Div",
            "Range",
            "Less",
        ):  # arithmetic on sizes: 16 bits hold no odd number above 2048
            assert half not in {types[name] for name in node.input}
        if node.op_type == "Resize" and len(node.input) > 2 and node.input[2]:
            assert types[node.input[2]] == real
    assert (
        graph.input[0].type.tensor_type.elem_type == real
        and graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8
    )


@needs_converter
@pytest.mark.parametrize("output_op", ["softmax", "none"])
def test_scores_leave_the_16_bit_form_in_32_bits(tmp_path, output_op):
    export(tmp_path / "export", output_op=output_op, precision="fp16")
    batch = np.random.default_rng(0).normal(size=(2, 3, 40, 56)).astype(np.float32)
    found = [on_onnxruntime(tmp_path / "export", batch, name) for name in ("tensorrt.onnx", "tensorrt_fp16.onnx")]
    assert found[1].dtype == np.float32 and found[1].shape == (2, 11, 40, 56)
    np.testing.assert_allclose(*found, atol=0.01)


@needs_converter
def test_a_graph_that_preprocesses_returns_masks_of_the_images_size(tmp_path):
    export(tmp_path / "export", preprocess_in_graph=True, transforms=RESIZED)
    mask = on_onnxruntime(tmp_path / "export", photograph(150, 201)[np.newaxis])
    assert mask.shape == (1, 150, 201) and mask.dtype == np.uint8 and len(np.unique(mask)) > 1


@needs_converter
def test_without_a_gpu_the_folder_is_written_and_says_what_is_missing_when_it_is_run(tmp_path):
    export(tmp_path / "export")
    try:
        predictor = Predictor(tmp_path / "export", "tensorrt")
    except DependencyError as error:
        assert "\n" not in str(error) and (
            "not installed" in str(error) or "GPU" in str(error) or "does not load" in str(error)
        )
    else:  # there is a GPU: then it has to give the model's mask
        assert predictor.predict(photograph(96, 128)).shape == (96, 128)


@needs_converter
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT for RTX, which builds engines without a GPU, is not installed",
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "options",
    [{"dynamic_shape": RANGE}, {"input_shape": (1, 3, 97, 211)}, {"preprocess_in_graph": True, "transforms": RESIZED}],
    ids=["open", "fixed", "images"],
)
def test_a_real_builder_makes_an_engine_of_it(tmp_path, options, precision):
    import dataclasses

    import tensorrt_rtx as trt

    from ppliteseg_paddle.deploy.artifact import Artifact
    from ppliteseg_paddle.deploy.tensorrt import shapes_of
    from ppliteseg_paddle.deploy.tensorrt_plan import build_engine, make_logger, make_plan

    export(tmp_path / "export", model(), precision=precision, **options)
    artifact = Artifact.read(tmp_path / "export")
    plan = make_plan(
        trt.__version__, True, precision, list(artifact.graphs["tensorrt"]), shapes_of(artifact, "tensorrt")
    )
    with open(artifact.path_of("tensorrt", plan.role), "rb") as file:
        engine, _ = build_engine(trt, dataclasses.replace(plan, target="SM86"), file.read(), b"", make_logger(trt))
    assert len(engine) > 1_000_000


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown precision 'fp61'. Did you mean 'fp16'"):
        export(tmp_path / "export", precision="fp61")


@needs_converter
def test_integer_biases_become_floats_again():
    from onnx import TensorProto, checker, helper, numpy_helper

    from ppliteseg_paddle.export.tensorrt import float_biases

    arrays = {
        "integers": np.array([3, -40], np.int32),
        "scale": np.array([0.5, 0.25], np.float32),
        "zero": np.zeros(2, np.int32),
        "weight": np.ones((2, 3, 1, 1), np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["bias"], axis=0),
            helper.make_node("Conv", ["x", "weight", "bias"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 2, 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = float_biases(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(found) == {"weight", "bias"} and np.array_equal(found["bias"], np.float32([1.5, -10]))
