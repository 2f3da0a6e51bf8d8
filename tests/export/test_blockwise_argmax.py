"""Masks by blocks equal those of upsampling and argmax, and the graph falls back where blocks do not fit."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="comes with the extra 'deploy'")
onnxruntime = pytest.importorskip("onnxruntime", reason="comes with the extra 'deploy'")


def upsampling(factor=8, height=6, width=9, classes=5, batch=1, mode="linear"):
    from onnx import TensorProto, helper, numpy_helper

    scales = numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), "scales")
    resize = helper.make_node(
        "Resize", ["small", "", "scales"], ["logits"], mode=mode, coordinate_transformation_mode="half_pixel"
    )
    size = [batch, classes, int(height * factor), int(width * factor)]
    graph = helper.make_graph(
        [resize],
        "g",
        [helper.make_tensor_value_info("small", TensorProto.FLOAT, [batch, classes, height, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, size)],
        [scales],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def with_mask(model, num_classes=5):
    """The model with a mask as its output; None if it is not made by blocks."""
    from onnx import TensorProto, helper

    from ppliteseg_paddle.export.blockwise_argmax import add_blockwise_argmax
    from ppliteseg_paddle.export.onnx_nodes import Nodes

    nodes = Nodes("post")
    mask = add_blockwise_argmax(model, nodes, "logits", num_classes)
    if not mask:
        return None
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants)
    del model.graph.output[:]
    kind = TensorProto.UINT8 if num_classes <= 256 else TensorProto.INT32
    model.graph.output.append(helper.make_tensor_value_info(mask, kind, None))
    return model


def run(model, scores):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"small": scores})[0]


def scores_of(kind, classes=5, height=6, width=9):
    random = np.random.RandomState(3)
    if kind == "noise":
        return random.randn(1, classes, height, width).astype(np.float32)
    scores = np.zeros((1, classes, height, width), np.float32)
    scores[:, 1] = 1
    if kind == "two halves":
        scores[:, 3, :, 4:] = 2
    return scores + 1e-3 * random.rand(*scores.shape).astype(np.float32)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("kind", ["noise", "two halves", "one class"])
def test_a_mask_by_blocks_equals_upsampling_and_argmax_in_every_pixel(factor, kind):
    scores = scores_of(kind)
    expected = run(upsampling(factor), scores).argmax(axis=1)
    mask = run(with_mask(upsampling(factor)), scores)
    assert mask.dtype == np.uint8 and mask.shape == (1, 6 * factor, 9 * factor)
    assert np.array_equal(mask, expected)
    assert len(np.unique(mask)) == {"noise": 5, "two halves": 2, "one class": 1}[kind]


def test_more_than_256_classes_leave_in_32_bits():
    scores = scores_of("noise", classes=300)
    mask = run(with_mask(upsampling(classes=300), 300), scores)
    assert (
        mask.dtype == np.int32
        and np.array_equal(mask, run(upsampling(classes=300), scores).argmax(axis=1))
        and mask.max() > 255
    )


@pytest.mark.parametrize("options", [{"factor": 3}, {"factor": 1.5}, {"batch": 2}, {"mode": "nearest"}], ids=str)
def test_where_blocks_do_not_fit_the_graph_stays_as_it_was(options):
    model = upsampling(**options)
    before = model.SerializeToString()
    assert with_mask(model) is None and model.SerializeToString() == before


@pytest.mark.parametrize("scores", ["noise", "one class"])
def test_openvino_gives_the_same_mask(scores):
    openvino = pytest.importorskip("openvino", reason="comes with the extra 'deploy'")
    scores = scores_of(scores)
    expected = run(upsampling(), scores).argmax(axis=1)
    core = openvino.Core()
    # As `deploy.openvino` asks, too: by default it computes in bfloat16 where the processor can.
    compiled = core.compile_model(
        core.read_model(with_mask(upsampling()).SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert np.array_equal(compiled([scores])[0], expected)
