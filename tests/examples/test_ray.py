"""Images on Ray: the masks of Predictor, each written once, whatever happens to a worker."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import values_of
from exported import photograph, small_folder

from ppliteseg_paddle import Predictor

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "ray_predict.py"
IMAGES = 16
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: '.[dev]'")


def start(*flags):
    return subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, flags)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers():
    """Ray's processes that hold a Predictor, of whichever run."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::") and b"Worker" in words:
            found[int(entry)] = words
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(IMAGES):
        (folder / f"{index % 2}").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{index % 2}" / f"{index}.jpg"), np.roll(photograph(1500, 2000), 40 * index, 1))
    (folder / "damaged.png").write_bytes(b"no picture")
    return folder


def masks_in(folder):
    """Name -> path."""
    return {str(path.relative_to(folder / "mask"))[:-4]: path for path in (folder / "mask").rglob("*.png")}


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds Ray's workers in /proc")
def test_two_workers_of_which_one_is_killed_write_each_missing_mask_of_predictor_once(photos, tmp_path):
    by_hand = tmp_path / "mask" / "0" / "0.png"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"made by hand")
    before = workers()
    flags = ("--model_dir", small_folder("argmax"), "--image_path", photos, "--save_dir", tmp_path, "--num_workers", 2)
    for _ in range(3):
        process = start(*flags)
        while len(masks_in(tmp_path)) == 1 and process.poll() is None:
            time.sleep(0.005)
        if process.poll() is None or "Ray does not start" not in process.communicate()[1]:
            break  # Ray gives itself 30 s, which a busy machine may not
    started = sorted(workers().keys() - before.keys())
    os.kill(started[0], signal.SIGKILL)
    there = {name: path.stat() for name, path in masks_in(tmp_path).items()}
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and started and 1 < len(there) < IMAGES, output + errors
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        f"error: image {photos / 'damaged.png'} cannot be decoded: it is damaged, no image, or in an unsupported "
        "format. Replace it, or take it off the list."
    ]
    assert "kept, 1 unreadable; masks are in" in output
    assert by_hand.read_bytes() == b"made by hand"
    masks, predictor = masks_in(tmp_path), Predictor(small_folder("argmax"))
    assert len(masks) == IMAGES and masks.pop("0/0") == by_hand
    for name, path in masks.items():
        np.testing.assert_array_equal(values_of(path)[0], predictor.predict(photos / f"{name}.jpg"))
    for name, stat in there.items():
        now = masks_in(tmp_path)[name].stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert not list(tmp_path.rglob(".ppliteseg-*"))


@pytest.fixture
def main():
    spec = importlib.util.spec_from_file_location("ray_predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@needs_ray
@pytest.mark.parametrize(
    "flags, expected",
    [
        ({"--image_path": "none"}, "image_path none does not exist"),
        ({"--model_dir": "none"}, "none"),
        ({"--num_workers": 0}, "argument --num_workers: 0 is not allowed: give an integer of at least 1"),
        ({"--save_dir": __file__}, "cannot write"),
    ],
)
def test_bad_input_is_one_line_before_ray_starts(main, capsys, tmp_path, flags, expected):
    cv2.imwrite(str(tmp_path / "a.png"), photograph(64, 96))
    given = {"--model_dir": small_folder("argmax"), "--image_path": tmp_path, "--save_dir": tmp_path / "o", **flags}
    assert main([str(word) for pair in given.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and expected in error and error.count("\n") == 1


def test_where_ray_is_missing_one_line_says_how_to_install_it(main, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.exceptions", None)
    assert main(["--model_dir", "m", "--image_path", "p"]) == 2
    assert "pip install 'ray[data]<2.64'" in capsys.readouterr().err
