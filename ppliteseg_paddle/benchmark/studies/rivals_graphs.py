"""The graphs of `studies.rivals`: ours, and those that the other packages write in an environment of their own.

Ultralytics' package is under the AGPL: nothing of it is imported here or copied; its command line writes the files,
with random weights, on which the time does not depend. LibreYOLO's is under the MIT licence.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.benchmark.studies import libreyolo_worker
from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import ConfigError, DependencyError, PPLiteSegError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

Size = tuple[int, int]  # height, width
RUNTIMES = ("onnxruntime", "openvino")
# What the same quantisation, beside each side's own, puts into 8 bits: convolutions, and what joins and pools them.
_OPERATORS = ("Conv", "Relu", "Concat", "AveragePool", "MaxPool")
_PIXELS = {"type": "Normalize", "mean": [0.0] * 3, "std": [1.0] * 3}  # to 0..1, as the others take images
_CALIBRATION = 4  # generated scenes
FORMS = {"fp32": "FP32", "int8": "8 bits, own", "int8-same": "8 bits, same"}  # see `rivals`


class Network(NamedTuple):
    """A row of `NETWORKS`: whose package writes it, what that calls it, and its forms."""

    package: str
    name: str
    forms: tuple[str, ...]


_ALL = tuple(FORMS)
NETWORKS = {
    "YOLO26n-sem": Network("ultralytics", "yolo26n-sem", _ALL),
    "YOLO26s-sem": Network("ultralytics", "yolo26s-sem", _ALL),
    "PP-LiteSeg-T": Network("ours", "PP-LiteSeg-T", _ALL),
    "PP-LiteSeg-B": Network("ours", "PP-LiteSeg-B", _ALL),
    "LibreYOLO PP-LiteSeg-T": Network("libreyolo", "t50", ("fp32",)),
    "LibreYOLO PP-LiteSeg-B": Network("libreyolo", "b50", ("fp32",)),
}


class Graphs:
    """Writes the graphs of networks at sizes, and keeps them.

    Args: folder: where they are; what an earlier run left there is used again. env: folder of the other packages'
        environment.
    """

    def __init__(self, folder: str, env: str) -> None:
        self._folder, self._env = os.path.abspath(folder), os.path.abspath(env)
        self._ours: dict[str, Any] = {}
        self._aside = tempfile.TemporaryDirectory()

    def check(self, names: Iterable[str]) -> None:
        """Raises: DependencyError: if the environment lacks what the networks need."""
        needed = {"ultralytics": "yolo", "libreyolo": "libreyolo"}
        for package in sorted({NETWORKS[name].package for name in names} & set(needed)):
            if not all(os.path.exists(self._program(program)) for program in ("python", needed[package])):
                raise DependencyError(
                    f"{self._env} has no {package}; 'bash scripts/bench_rivals.sh' makes the environment, or name "
                    "another with --env DIR, or other networks with --networks."
                )

    def artifact(self, name: str, size: Size, form: str, runtime: str) -> Artifact:
        """A network's graph for a runtime, written where it is not there yet.

        Raises: PPLiteSegError: if a package's command fails.
        """
        network = NETWORKS[name]
        folder = os.path.join(self._folder, f"{network.name}_{size[1]:d}x{size[0]:d}")
        os.makedirs(folder, exist_ok=True)
        if form == "int8-same":
            plain = self.artifact(name, size, "fp32", "onnxruntime")
            path = self._kept(folder, "int8-same.onnx", lambda to: quantise(plain.path_of("onnx", "model"), to, size))
        elif network.package == "ours":
            path = self._kept(folder, f"{form}.onnx", lambda to: self._write_ours(name, size, form, to))
        elif network.package == "libreyolo":
            path = self._kept(folder, f"{form}.onnx", lambda to: self._write_libreyolo(network.name, size, to))
        else:
            path = self._ultralytics(network.name, size, form, runtime, folder)
        transforms = Preprocess([{"type": "Normalize"}] if network.package == "ours" else [_PIXELS])
        return described(path, size, transforms)

    @staticmethod
    def _kept(folder: str, file: str, write: Callable[[str], None]) -> str:
        path = os.path.join(folder, file)
        if not os.path.exists(path):
            part = os.path.join(folder, f"part_{file}")
            write(part)
            os.replace(part, path)
        return path

    def _write_ours(self, name: str, size: Size, form: str, path: str) -> None:
        from ppliteseg_paddle.benchmark.budget.configs import releases
        from ppliteseg_paddle.benchmark.budget.exports import SizedNetwork
        from ppliteseg_paddle.engine.build import load_config

        if name not in self._ours:
            config = str(next(iter(releases()[name].values())).config)
            self._ours[name] = SizedNetwork(load_config(config), os.path.join(self._aside.name, name))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(self._ours[name].artifact(size, form, folder).path_of("onnx", "model"), path)

    def _write_libreyolo(self, name: str, size: Size, path: str) -> None:
        worker = os.path.abspath(libreyolo_worker.__file__)
        with tempfile.TemporaryDirectory() as folder:
            logits = os.path.join(folder, "logits.onnx")
            command = [self._program("python"), worker, "export", name, str(size[1]), str(size[0]), logits]
            self._run(command, folder)
            add_argmax(logits, path)

    def _ultralytics(self, name: str, size: Size, form: str, runtime: str, folder: str) -> str:
        """Its own 8 bits are ONNX Runtime's for ONNX, and NNCF's for OpenVINO."""
        kind = "openvino" if (form, runtime) == ("int8", "openvino") else "onnx"
        suffix = {"fp32": ".onnx", "int8": "_int8.onnx"}[form] if kind == "onnx" else f"_int8_openvino_model/{name}.xml"
        path = os.path.join(folder, name + suffix)
        if not os.path.exists(path):
            command = [self._program("yolo"), "export", f"model={name}.yaml", f"format={kind}"]
            command += [f"imgsz={size[0]:d},{size[1]:d}", "batch=1", "device=cpu"]
            command += ["int8=True", f"data={self._calibration_data()}"] if form == "int8" else []
            self._run(command, folder)
        if not os.path.exists(path):
            raise PPLiteSegError(f"'{' '.join(command)}' wrote no {path}.")
        return path

    def _calibration_data(self) -> str:
        """The generated scenes as Ultralytics takes a data set. Returns: the path of its YAML."""
        import cv2

        root = os.path.join(self._folder, "scenes")
        path = os.path.join(root, "data.yaml")
        if not os.path.exists(path):
            for kind in ("images", "masks"):
                os.makedirs(os.path.join(root, kind, "val"), exist_ok=True)
            for number, (image, label) in enumerate(scenes((512, 1024))):
                cv2.imwrite(os.path.join(root, "images", "val", f"{number:d}.png"), image)
                cv2.imwrite(os.path.join(root, "masks", "val", f"{number:d}.png"), label)
            names = "".join(f"  {number:d}: class_{number:d}\n" for number in range(19))
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"path: {root}\ntrain: images/val\nval: images/val\nmasks_dir: masks\nnames:\n{names}")
        return path

    def _program(self, name: str) -> str:
        return os.path.join(self._env, "Scripts" if os.name == "nt" else "bin", name)

    def _run(self, command: list[str], folder: str) -> None:
        home = {"YOLO_CONFIG_DIR": self._folder, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
        done = subprocess.run(  # noqa: S603 - the programs of that environment, no shell
            command, cwd=folder, env={**os.environ, **home}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            raise PPLiteSegError(f"'{' '.join(command)}' failed (status {done.returncode:d}): {said[:300]}")


def scenes(size: Size) -> list[tuple[np.ndarray, np.ndarray]]:
    """Generated images and labels."""
    from ppliteseg_paddle.synth.scene import render_scene

    return [render_scene(seed, size[::-1]) for seed in range(_CALIBRATION)]


def quantise(source: str, target: str, size: Size) -> None:
    """Write a float ONNX graph in 8 bits: QDQ, ranges by minimum and maximum, weights of 7 bits by channel."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    graph = onnx.load(source).graph
    preprocess = Preprocess([_PIXELS])
    batches = iter([{graph.input[0].name: preprocess(image)[0]} for image, _ in scenes(size)])

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(batches, None)

    quantize_static(
        source,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        # By node: with op_types_to_quantize the attention's softmax has no range, which ONNX Runtime 1.32 takes ill.
        nodes_to_exclude=[node.name for node in graph.node if node.op_type not in _OPERATORS],
    )


def add_argmax(source: str, target: str) -> None:
    """Let an ONNX graph of logits (1, C, H, W) return class ids (1, H, W)."""
    import onnx

    model = onnx.load(source)
    logits = model.graph.output[0]
    node = onnx.helper.make_node("ArgMax", [logits.name], ["class_ids"], axis=1, keepdims=0)
    dimensions = [side.dim_value for side in logits.type.tensor_type.shape.dim]
    model.graph.node.append(node)
    del model.graph.output[:]
    shape = [dimensions[0], *dimensions[2:]]
    model.graph.output.append(onnx.helper.make_tensor_value_info("class_ids", onnx.TensorProto.INT64, shape))
    onnx.save(model, target)


def described(path: str, size: Size, transforms: Preprocess) -> Artifact:
    """A graph from an image to class ids of its size, as our backends take it.

    Raises: ConfigError: if it is no such graph.
    """
    core = importlib.import_module("openvino").Core()
    model = core.read_model(path)
    found, ids = model.inputs[0].get_partial_shape(), model.outputs[0]
    if len(model.inputs) != 1 or str(found) != f"[1,3,{size[0]:d},{size[1]:d}]" or len(ids.get_partial_shape()) != 3:
        raise ConfigError(f"{path} does not go from one image of {size[1]:d}x{size[0]:d} to class ids.")
    file = os.path.basename(path)
    graphs: dict[str, dict[str, str]] = {"onnx": {"model": file}}
    if file.endswith(".xml"):
        graphs = {"openvino": {"model": file, "weights": file[:-4] + ".bin"}}
    return Artifact(
        os.path.dirname(path),
        {"type": "graph"},
        LABEL_SETS["cityscapes"],
        transforms,
        Tensor("image", "float32", "NCHW", (1, 3, *size), color_order="RGB"),
        Tensor("class_ids", np.dtype(ids.get_element_type().to_dtype()).name, "NHW", (1, *size), op="argmax"),
        graphs,
        {},
    )
