"""The C++ examples: built by CMake, they give the masks of Predictor.

OpenVINO is in its wheel. ONNX Runtime's headers are the system's (Debian 13: libonnxruntime-dev), or in the folder that
ONNXRUNTIME_ROOT names.
"""

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import openvino
import openvino.utils
import pytest
from exported import export_formats, photograph
from tiny_onnx import tiny_artifact

from ppliteseg_paddle import Predictor

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "cpp"
FORMATS = {"openvino": "openvino", "onnxruntime": "onnx"}
MODELS = {"openvino": "model.xml", "onnxruntime": "model.onnx"}

pytestmark = [
    pytest.mark.slow,  # compiles
    pytest.mark.skipif(
        not (shutil.which("cmake") and any(map(shutil.which, ("c++", "g++", "clang++")))),
        reason="CMake and a C++ compiler are not installed",
    ),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    build = tmp_path_factory.mktemp("build")
    given = [f"-DOpenVINO_DIR={openvino.utils.get_cmake_path()}"]
    given += [f"-DONNXRUNTIME_ROOT={os.environ['ONNXRUNTIME_ROOT']}"] if "ONNXRUNTIME_ROOT" in os.environ else []
    for command in (["cmake", "-S", EXAMPLES, "-B", build, *given], ["cmake", "--build", build]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-3000:]
    assert "warning" not in done.stdout
    return build


@pytest.fixture(params=sorted(MODELS))
def runtime(request, built):
    if not (built / f"segment_{request.param}").exists():
        assert request.param != "openvino" and "ONNXRUNTIME_ROOT" not in os.environ
        pytest.skip("ONNX Runtime's C++ headers are not installed, nor given by ONNXRUNTIME_ROOT")
    return request.param


@pytest.fixture
def program(runtime, built):
    return built / f"segment_{runtime}"


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_its_masks_are_those_of_predictor_in_every_pixel(program, runtime, tmp_path):
    folder = Path(export_formats(preprocess_in_graph=True))
    predictor = Predictor(folder, backend=runtime)
    for name, image in {"a": photograph(), "b": photograph(191, 257)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.ppm"), image)
        done = run(program, folder / MODELS[runtime], tmp_path / f"{name}.ppm", tmp_path / f"{name}.pgm")
        assert (done.returncode, done.stderr) == (0, "")
        mask = cv2.imread(str(tmp_path / f"{name}.pgm"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, predictor.predict(image))
    assert len(np.unique(mask)) > 3


def test_what_it_cannot_use_is_refused_in_one_line(program, runtime, tmp_path):
    model, floats = Path(export_formats(preprocess_in_graph=True)) / MODELS[runtime], tmp_path / MODELS[runtime]
    if runtime == "openvino":
        given = openvino.opset13.parameter([1, 3, -1, -1], np.float32)
        openvino.save_model(openvino.Model([openvino.opset13.relu(given)], [given]), floats)
    else:
        tiny_artifact(tmp_path)
    image, mask = tmp_path / "a.ppm", tmp_path / "a.pgm"
    cv2.imwrite(str(image), photograph(64, 96))
    (tmp_path / "short.ppm").write_bytes(image.read_bytes()[:-1])
    (tmp_path / "huge.ppm").write_bytes(b"P6\n-1 99999999999\n255\n")
    cases = (
        ((), f"usage: segment_{runtime} MODEL{model.suffix} IMAGE.ppm MASK.pgm"),
        ((model, tmp_path / "none.ppm", mask), f"cannot read {tmp_path / 'none.ppm'}"),
        ((model, ROOT / "LICENSE", mask), "LICENSE is no 8-bit color PPM (P6)"),
        ((model, tmp_path / "short.ppm", mask), "short.ppm ends early"),
        ((model, tmp_path / "huge.ppm", mask), "huge.ppm is no 8-bit color PPM (P6)"),
        ((floats, image, mask), f"export it with --format {FORMATS[runtime]} --preprocess_in_graph"),
        ((model, image, tmp_path / "none" / "a.pgm"), "cannot write"),
    )
    for arguments, expected in cases:
        done = run(program, *arguments)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert expected in done.stderr
    assert not mask.exists()


def test_it_stays_short():
    assert max(len(path.read_text().splitlines()) for path in EXAMPLES.iterdir()) < 80
