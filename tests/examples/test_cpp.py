"""The C++ example: built by CMake from OpenVINO's wheel, it gives the masks of Predictor."""

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import openvino
import openvino.utils
import pytest
from exported import export_formats, photograph

from ppliteseg_paddle import Predictor

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "cpp"

pytestmark = [
    pytest.mark.slow,  # compiles
    pytest.mark.skipif(
        not (shutil.which("cmake") and any(map(shutil.which, ("c++", "g++", "clang++")))),
        reason="CMake and a C++ compiler are not installed",
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    build = tmp_path_factory.mktemp("build")
    given = f"-DOpenVINO_DIR={openvino.utils.get_cmake_path()}"
    for command in (["cmake", "-S", EXAMPLES, "-B", build, given], ["cmake", "--build", build]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-3000:]
    assert "warning" not in done.stdout
    return build / "segment_openvino"


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_its_masks_are_those_of_predictor_in_every_pixel(program, tmp_path):
    folder = Path(export_formats(preprocess_in_graph=True))
    predictor = Predictor(folder, backend="openvino")
    for name, image in {"a": photograph(), "b": photograph(191, 257)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.ppm"), image)
        done = run(program, folder / "model.xml", tmp_path / f"{name}.ppm", tmp_path / f"{name}.pgm")
        assert (done.returncode, done.stderr) == (0, "")
        mask = cv2.imread(str(tmp_path / f"{name}.pgm"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, predictor.predict(image))
    assert len(np.unique(mask)) > 3


def test_what_it_cannot_use_is_refused_in_one_line(program, tmp_path):
    folder = Path(export_formats(preprocess_in_graph=True))
    floats = openvino.opset13.parameter([1, 3, -1, -1], np.float32)
    openvino.save_model(openvino.Model([openvino.opset13.relu(floats)], [floats]), tmp_path / "floats.xml")
    image, mask = tmp_path / "a.ppm", tmp_path / "a.pgm"
    cv2.imwrite(str(image), photograph(64, 96))
    (tmp_path / "short.ppm").write_bytes(image.read_bytes()[:-1])
    (tmp_path / "huge.ppm").write_bytes(b"P6\n-1 99999999999\n255\n")
    cases = (
        ((), "usage: segment_openvino MODEL.xml IMAGE.ppm MASK.pgm"),
        ((folder / "model.xml", tmp_path / "none.ppm", mask), f"cannot read {tmp_path / 'none.ppm'}"),
        ((folder / "model.xml", ROOT / "LICENSE", mask), "LICENSE is no 8-bit color PPM (P6)"),
        ((folder / "model.xml", tmp_path / "short.ppm", mask), "short.ppm ends early"),
        ((folder / "model.xml", tmp_path / "huge.ppm", mask), "huge.ppm is no 8-bit color PPM (P6)"),
        ((tmp_path / "floats.xml", image, mask), "export it with --format openvino --preprocess_in_graph"),
        ((folder / "model.xml", image, tmp_path / "none" / "a.pgm"), "cannot write"),
    )
    for arguments, expected in cases:
        done = run(program, *arguments)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert expected in done.stderr
    assert not mask.exists()


def test_it_stays_short():
    assert max(len(path.read_text().splitlines()) for path in EXAMPLES.iterdir()) < 80
