"""ONNX nodes and constants in the making."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


class Nodes:
    """Nodes and constants in the making; every method returns the name of its result."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{self.prefix}_{len(self.nodes):d}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name + "/" + operator, **attributes))
        return name

    def constant(self, values: Any, dtype: Any) -> str:
        from onnx import numpy_helper

        name = f"{self.prefix}_constant_{len(self.constants):d}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def sides(self, shape: str, first: int) -> list[str]:
        """Two dimensions of a shape, as tensors of one element."""
        return [self.add("Gather", shape, self.constant([axis], np.int64)) for axis in (first, first + 1)]

    def resized(self, x: str, height: str, width: str) -> str:
        """(N, C, h, w) bilinearly to (N, C, height, width), as OpenCV and Paddle do it: half-pixel centres."""
        outer = self.add("Slice", self.add("Shape", x), self.constant([0], np.int64), self.constant([2], np.int64))
        sizes = self.add("Concat", outer, height, width, axis=0)
        return self.add("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")

    def nearest(self, mask: str, height: str, width: str) -> str:
        """(N, h, w) to (N, height, width) as `deploy.preprocess.restore` does it: floor of the index scaled in
        float32."""
        shape = self.add("Shape", mask)
        for axis, (size, to) in enumerate(zip(self.sides(shape, 1), (height, width)), start=1):
            scale = self.add("Div", *(self.add("Cast", side, to=1) for side in (size, to)))
            count = self.add("Squeeze", to, self.constant([0], np.int64))
            steps = self.add("Range", self.constant(0, np.int64), count, self.constant(1, np.int64))
            index = self.add("Cast", self.add("Floor", self.add("Mul", self.add("Cast", steps, to=1), scale)), to=7)
            last = self.add("Sub", size, self.constant([1], np.int64))
            mask = self.add("Gather", mask, self.add("Min", index, last), axis=axis)
        return mask
