"""Programs of others give the masks of Predictor, each in an environment of its own (scripts/clients.sh makes them).

A client is a program that reads `model.onnx` or whatever its command makes of that, the network's input `batch.npy` or
the photograph `photo.png`, and writes class ids or logits as `found.npy`.
"""

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, model, photograph

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.export.options import ExportOptions

pytestmark = pytest.mark.slow  # exports the whole model
CLIENTS = os.environ.get("PPLITESEG_CLIENTS", "")
SIZE = (256, 320)
_KEEP = []

OPENCV = """
net = cv2.dnn.readNetFromONNX("model.onnx")
net.setInput(np.load("batch.npy"))
found = net.forward()[0]
"""
NCNN = """
import ncnn
net = ncnn.Net()
net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
net.load_param("model.ncnn.param"), net.load_model("model.ncnn.bin")
extractor = net.create_extractor()
batch = np.load("batch.npy")[0]  # ncnn does not keep it alive
extractor.input("in0", ncnn.Mat(batch).clone())
found = np.array(extractor.extract("out0")[1])
"""
MNN = """
import MNN.nn, MNN.numpy
module = MNN.nn.load_module_from_file("model.mnn", [], [])
batch = MNN.expr.const(np.load("batch.npy"), [1, 3, 256, 320], MNN.expr.NCHW)
found = np.array(MNN.expr.convert(module.forward([batch])[0], MNN.expr.NCHW).read())[0]
"""
MODEL_API = """
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import SegmentationModel
adapter = OpenvinoAdapter(create_core(), "model.xml", device="CPU", plugin_config={"INFERENCE_PRECISION_HINT": "f32"})
client = SegmentationModel.create_model(adapter, preload=True)
found = client(cv2.imread("photo.png")).resultImage
"""
PADDLEX = """
from paddlex import create_model
client = create_model("PP-LiteSeg-T", model_dir=".", device="cpu")
found = next(iter(client.predict("photo.png")))["pred"]
"""
PADDLEX_PIPELINE = """
import base64, json, pathlib, socket, subprocess, time, urllib.request, yaml
part = {"module_name": "semantic_segmentation", "model_name": "PP-LiteSeg-T", "model_dir": ".", "target_size": None}
values = {"pipeline_name": "semantic_segmentation", "SubModules": {"SemanticSegmentation": part}}
pathlib.Path("pipeline.yaml").write_text(yaml.safe_dump(values))
command = ["paddlex", "--pipeline", "pipeline.yaml", "--device", "cpu"]
"""
PADDLEX_COMMAND = """
subprocess.run([*command, "--input", "photo.png", "--save_path", "."], check=True)
found = json.loads(pathlib.Path("photo_res.json").read_text())["pred"]
"""
PADDLEX_SERVER = """
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = subprocess.Popen([*command, "--serve", "--host", "127.0.0.1", "--port", str(port)])
body = json.dumps({"image": base64.b64encode(pathlib.Path("photo.png").read_bytes()).decode()}).encode()
address, kind = f"http://127.0.0.1:{port}/semantic-segmentation", {"Content-Type": "application/json"}
try:
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, kind)) as answer:
                result = json.load(answer)["result"]
            break
        except urllib.error.URLError:  # not there yet
            assert server.poll() is None
            time.sleep(0.5)
finally:
    server.terminate()
    server.wait()
found = np.reshape(result["labelMap"], result["size"])
"""


@dataclass(frozen=True)
class Client:
    """Args: env: folder of its environment; program: Python, where `found` is what it found; outputs: of `--output_op`;
    command: run before it; differing: pixels of 81,920 that may differ: ties of two classes, turned by sums in another
    order."""

    env: str
    program: str
    outputs: tuple[str, ...] = ("argmax", "none")
    command: tuple[str, ...] = ()
    differing: int = 8


ROWS = {
    "OpenCV 4": Client("opencv", OPENCV),
    "OpenCV 5": Client("opencv5", OPENCV),
    "ncnn": Client("ncnn", NCNN, ("none",), ("pnnx", "model.onnx", "fp16=0")),
    "MNN": Client(
        "mnn",
        MNN,
        command=("mnnconvert", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "model.mnn"),
        differing=40,
    ),
    "OpenVINO Model API": Client("modelapi", MODEL_API, ("none",)),
    "PaddleX": Client("paddlex", PADDLEX, ("argmax",)),
    "PaddleX, command line": Client("paddlex", PADDLEX_PIPELINE + PADDLEX_COMMAND, ("argmax",)),
    "PaddleX, HTTP": Client("paddlex", PADDLEX_PIPELINE + PADDLEX_SERVER, ("argmax",)),
}


@functools.cache
def exported(output_op, formats):
    """A folder with the export of PP-LiteSeg-T and what clients read, and its mask by Predictor."""
    from ppliteseg_paddle.export.pipeline import export_model

    _KEEP.append(tempfile.TemporaryDirectory())
    folder, image = Path(_KEEP[-1].name, "export"), photograph(*SIZE)
    graph = "fast" if formats == ("paddle",) else "plain"
    options = ExportOptions(
        formats=formats,
        graph=graph,
        output_op=output_op,
        input_shape=(1, 3, *SIZE),
        label_set=LABELS,
        transforms=TRANSFORMS,
        check_image=image,
    )
    export_model(model(), str(folder), options)
    predictor = Predictor(folder, {"paddle": "paddle"}.get(formats[0], "onnxruntime"))
    np.save(folder / "batch.npy", predictor.preprocess(image)[0])
    cv2.imwrite(str(folder / "photo.png"), image)
    return folder, predictor.predict(image)


@pytest.mark.parametrize(
    "name, output_op", [(name, output_op) for name, client in ROWS.items() for output_op in client.outputs]
)
def test_a_client_gives_the_mask_of_predictor(name, output_op, tmp_path):
    client = ROWS[name]
    python = Path(CLIENTS, client.env, "bin", "python")
    if not CLIENTS or not python.exists():
        pytest.skip(f"no environment for {name}: bash scripts/clients.sh, or PPLITESEG_CLIENTS=FOLDER")
    source, mask = exported(output_op, ("paddle",) if client.env == "paddlex" else ("onnx", "openvino"))
    folder = tmp_path / "export"
    shutil.copytree(source, folder)
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    environment = {key: value for key, value in environment.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    program = "import cv2\n" if "cv2." in client.program else ""
    program += f"import numpy as np\n{client.program}np.save('found.npy', np.asarray(found))"
    for command in (client.command, (str(python), "-c", program)):
        done = subprocess.run(
            [shutil.which(command[0], path=environment["PATH"]), *command[1:]] if command else ["true"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:]
    found = np.load(folder / "found.npy").squeeze()
    found = found.argmax(axis=0) if found.ndim == 3 else found
    assert found.shape == mask.shape and len(np.unique(mask)) > 5
    differing = int(np.sum(found.astype(int) != mask))
    print(f"{name}, {output_op}: {differing:d} of {mask.size:d} pixels differ")
    assert differing <= client.differing
