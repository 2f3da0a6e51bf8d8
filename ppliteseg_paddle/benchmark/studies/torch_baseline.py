"""PyTorch as a baseline: an ONNX file through onnx2torch, recorded as a CUDA graph."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ppliteseg_paddle.deploy.interface import Backend, split_device
from ppliteseg_paddle.errors import ArtifactError, DependencyError

if TYPE_CHECKING:
    from onnx import ModelProto


def for_onnx2torch(path: str) -> ModelProto:
    """An ONNX file in the form that onnx2torch 1.5 takes: it looks for weights among the initializers, where Paddle's
    converter writes `Constant` nodes, and it does not know `auto_pad` of convolutions without strides, which is half of
    what the kernel reaches.

    Returns: an `onnx.ModelProto` that computes the same.
    """
    import onnx

    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in nodes:
        values = model.graph.initializer.add()
        values.CopyFrom(node.attribute[0].t)
        values.name = node.output[0]
        model.graph.node.remove(node)
    for node in model.graph.node:
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        kernel = values.get("kernel_shape", [])
        reach = [(size - 1) * dilation for size, dilation in zip(kernel, values.get("dilations", [1] * len(kernel)))]
        if (
            str(values.get("auto_pad", b""), "ascii").startswith("SAME")
            and set(values.get("strides", [1])) == {1}
            and not any(n % 2 for n in reach)
        ):
            kept = [attribute for attribute in node.attribute if attribute.name not in ("auto_pad", "pads")]
            del node.attribute[:]
            node.attribute.extend(kept + [onnx.helper.make_attribute("pads", [n // 2 for n in reach] * 2)])
    return model


class TorchBackend(Backend):
    """An ONNX file as PyTorch runs it, recorded as a CUDA graph on a GPU.

    Raises: ArtifactError: if onnx2torch cannot convert it. DependencyError: without the GPU that is asked for.
    """

    name = "torch"
    graph = "onnx"

    def __init__(self, path: str, shape: tuple[int, ...], device: str, threads: int | None, precision: str):
        torch = self._torch = importlib.import_module("torch")
        onnx2torch = importlib.import_module("onnx2torch")
        kind, number = split_device(device)
        self.version, self.device, self.precision = torch.__version__, device, precision
        if kind == "gpu" and not torch.cuda.is_available():
            raise DependencyError(f"PyTorch {torch.__version__} sees no GPU.")
        if threads:
            torch.set_num_threads(threads)
        self._on_gpu = kind == "gpu"
        place = torch.device("cuda", number) if self._on_gpu else torch.device("cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True
        self._type = torch.float16 if precision == "fp16" else torch.float32
        try:
            self._module = onnx2torch.convert(for_onnx2torch(path)).eval().to(place, self._type)
            self._input = torch.zeros(shape, dtype=self._type, device=place)
            with torch.inference_mode():
                for _ in range(3):
                    self._output = self._module(self._input)
            self._graph = self._record() if self._on_gpu else None
        except (RuntimeError, NotImplementedError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"PyTorch {self.version} cannot run {path} through onnx2torch: {' '.join(str(error).split())[:200]}."
            ) from error

    def _record(self) -> Any:
        torch = self._torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(3):
                self._module(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self._output = self._module(self._input)
        return graph

    def launch(self) -> None:
        """Compute once more on what lies on the device, and wait."""
        if self._graph is not None:
            self._graph.replay()
            self._torch.cuda.synchronize()
        else:
            with self._torch.inference_mode():
                self._output = self._module(self._input)

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.run_in_steps(batch, lambda step: None)

    def run_in_steps(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        self._input.copy_(self._torch.from_numpy(np.ascontiguousarray(batch)))
        if self._on_gpu:
            self._torch.cuda.synchronize()
        done("copy_in")
        self.launch()
        done("forward")
        result = self._output.cpu().numpy().copy()
        done("copy_out")
        return result

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runtime": "PyTorch (onnx2torch)",
            "version": self.version,
            "device": self.device,
            "precision": self.precision,
        }
