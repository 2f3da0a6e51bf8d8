"""`ppliteseg benchmark` on an exported model."""

import json

import cv2
import numpy as np
import pytest
from commands import run_json, write_photo
from exported import small_folder

from ppliteseg_paddle.cli.main import main


def test_benchmark_writes_its_figures_with_the_machine(tmp_path, capsys):
    status = main(
        [
            "benchmark",
            "--model_dir",
            small_folder("argmax"),
            "--input_shape",
            "1",
            "3",
            "64",
            "96",
            "--warmup",
            "1",
            "--repeats",
            "3",
            "--num_threads",
            "1",
            "--backend",
            "paddle-native",
            "--device",
            "cpu",
            "--save_json",
            str(tmp_path / "b.json"),
        ]
    )
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "b.json").read_text())
    assert status == 0 and "images a second" in out and "forward" in out
    assert result["backend"]["name"] == "paddle-native" and result["backend"]["num_threads"] == 1
    assert result["image_size"] == [96, 64] and result["repeats"] == 3
    assert {"latency_ms", "fps", "stages", "machine", "model", "steady", "protocol"} <= set(result)


def test_benchmark_takes_an_image_and_its_size(tmp_path, capsys):
    photo = write_photo(tmp_path / "photo.png")
    status, result = run_json(
        capsys, "benchmark", "--model_dir", small_folder("argmax"), "--image_path", photo, "--warmup", 1, "--repeats", 1
    )
    assert status == 0 and result["image_size"] == [96, 64]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--input_shape", "8", "3", "64", "64"], "must start with 1 3"),
        (["--backend", "onnx"], "unknown backend 'onnx'"),
        (["--image_path", "nowhere.png"], "nowhere.png does not exist"),
        (["--repeats", "0"], "--repeats"),
    ],
)
def test_benchmark_refuses_bad_input_on_one_line(argv, words, capsys):
    assert main(["benchmark", "--model_dir", small_folder("argmax"), *argv]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    target = str(tmp_path / "file" / "result")
    for arguments in (
        ["benchmark", "--model_dir", str(tmp_path), "--save_json", target],
        ["predict", "--model_dir", str(tmp_path), "--image_path", _photo(tmp_path), "--grid", target],
    ):
        assert main(arguments) == 2
        assert target in capsys.readouterr().err


def _photo(folder):
    path = str(folder / "photo.png")
    cv2.imwrite(path, np.zeros((8, 8, 3), np.uint8))
    return path
