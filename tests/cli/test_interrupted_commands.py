"""Signals to commands at work: what is finished stays whole, what is half done goes, the command can be repeated."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data.cache_files import jobs_of, read_entry
from ppliteseg_paddle.data.dataset import StreetScenes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal"),
]


def interrupted(arguments, number, begun):
    """Starts a command, and sends the signal once `begun()`. Returns: exit status, stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ppliteseg_paddle", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        deadline = time.monotonic() + 120
        while not begun():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(number)
        text = process.communicate(timeout=60)[1]
        with pytest.raises(ProcessLookupError):  # nobody of its session is left
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    finally:
        process.kill()
    return process.returncode, [line for line in text.replace("\r", "\n").splitlines() if line.strip()]


def said(lines, number):
    """The one line about the signal."""
    found = [line for line in lines if f"interrupted by {number.name}" in line]
    assert len(found) == 1 and "Traceback" not in "".join(lines), lines
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_export_leaves_nothing_and_says_so(tmp_path, number):
    config = write_config(tmp_path / "c.yml", values(make_data(tmp_path / "data")))
    weights = tmp_path / "w.pdparams"
    import paddle

    from ppliteseg_paddle.engine.build import build_model, load_config

    paddle.save(build_model(load_config(config)).state_dict(), str(weights))
    place = tmp_path / "out"
    place.mkdir()
    command = ["export", "--config", config, "--model_path", weights, "--save_dir", place / "export"]
    status, lines = interrupted(command, number, lambda: any(place.iterdir()))
    assert status == 128 + number and "nothing was written" in said(lines, number)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_cache_holds_whole_pairs_and_is_continued(tmp_path, capsys, number):
    root = make_data(tmp_path / "data", train=400, val=4)
    config, out = write_config(tmp_path / "c.yml", values(root)), tmp_path / "cache"
    command = ["data", "cache", "--config", config, "--out", str(out), "--num_workers", "2"]
    status, lines = interrupted(command, number, lambda: out.is_dir() and len(list(out.glob("*.pair"))) > 3)
    assert status == 128 + number
    said(lines, number)
    names = sorted(path.name for path in out.iterdir())
    assert 3 < len(names) < 404 and all(name.endswith(".pair") for name in names)
    dataset = StreetScenes([{"type": "Normalize"}], str(root), mode="train")
    kept = [job for job in jobs_of(dataset) if job.name in names]
    assert kept and not any(read_entry(str(out), job).error for job in kept)
    assert main(command) == 0
    assert f"{404 - len(names)}" in capsys.readouterr().out and len(list(out.glob("*.pair"))) == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_scenes_are_whole_and_the_set_is_continued(tmp_path, number):
    out = tmp_path / "scenes"
    command = ["data", "synth", "--out", str(out), "--train", "90", "--val", "2", "--size", "320", "240"]
    command += ["--num_workers", "2"]
    status, lines = interrupted(command, number, lambda: len(list(out.glob("labels/*.png"))) > 2)
    assert status == 128 + number
    said(lines, number)
    images = sorted((out / "images").iterdir())
    assert 0 < len(images) < 92 and all(cv2.imread(str(path)) is not None for path in images)
    assert not list(out.glob("*.txt")) and not list(out.rglob("*.tmp"))
    first = images[0].read_bytes()
    assert main(command) == 0
    assert len((out / "train.txt").read_text().splitlines()) == 90 and images[0].read_bytes() == first


def test_a_worker_that_draws_scenes_finishes_the_file_that_it_writes(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    program = """
import os, pathlib, signal
write = pathlib.Path.write_bytes
def told_meanwhile(path, content):
    os.kill(os.getpid(), signal.SIGTERM)  # as its parent does
    return write(path, content)
pathlib.Path.write_bytes = told_meanwhile
from ppliteseg_paddle.synth.worker import main
main()
"""
    jobs = json.dumps([(str(tmp_path), "train", index, 0, (96, 64)) for index in range(2)])
    command = [sys.executable, "-c", program, str(os.getpid())]
    done = subprocess.run(command, input=jobs, text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")
    assert [path.name for path in tmp_path.rglob("*.*")] == ["train_00000.jpg"]
    assert cv2.imread(str(tmp_path / "images" / "train_00000.jpg")).shape == (64, 96, 3)


def test_a_signal_while_a_library_is_loaded_is_no_broken_installation(tmp_path):
    plugin = tmp_path / "loading.py"
    plugin.write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except KeyboardInterrupt as interrupt:  # what pybind11 makes of it\n"
        "    raise ImportError('initialization failed') from interrupt\n"
    )
    config = write_config(tmp_path / "c.yml", values(tmp_path))
    command = [sys.executable, "-m", "ppliteseg_paddle", "info", "--config", config, "--plugin", str(plugin)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 143
    said(done.stderr.splitlines(), signal.SIGTERM)
