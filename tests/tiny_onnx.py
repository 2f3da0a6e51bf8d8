"""A network of one convolution as an exported folder, without Paddle: for what looks at runtimes only."""

import os

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

SIZE = (16, 24)
STEPS = [{"type": "Resize", "target_size": [SIZE[1], SIZE[0]]}, {"type": "Normalize", "mean": [0.5], "std": [0.5]}]


def tiny_artifact(folder, batch=1, network="T1", seed=0):
    """19 classes, a 3x3 convolution and argmax. `seed` makes its weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.RandomState(seed).randn(19, 3, 3, 3).astype(np.float32)
    sides = ["n" if batch == -1 else batch, *SIZE]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["scores"], pads=[1, 1, 1, 1]),
            helper.make_node("ArgMax", ["scores"], ["ids"], axis=1, keepdims=0),
            helper.make_node("Cast", ["ids"], ["mask"], to=TensorProto.UINT8),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [sides[0], 3, *SIZE])],
        [helper.make_tensor_value_info("mask", TensorProto.UINT8, sides)],
        [numpy_helper.from_array(weight, "w")],
    )
    os.makedirs(folder, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        os.path.join(folder, "model.onnx"),
    )
    artifact = Artifact(
        str(folder),
        {"type": "Tiny", "network": network, "weights": "random"},
        LABEL_SETS["cityscapes"],
        Preprocess(STEPS),
        Tensor("x", "float32", "NCHW", (batch, 3, *SIZE), color_order="RGB"),
        Tensor("mask", "uint8", "NHW", (batch, *SIZE), op="argmax"),
        {name: {"model": "model.onnx"} for name in ("onnx", "tensorrt")},
        {},
    )
    artifact.write()
    return Artifact.read(str(folder))
