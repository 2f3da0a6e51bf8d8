"""The commands and the program that docs/serve.md prints, against a running server."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
from exported import LABELS, photograph, small_folder
from served import serving

from ppliteseg_paddle import Predictor

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
PRINTED = "http://127.0.0.1:8000"


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", photograph(64, 96))
    with serving(Predictor(small_folder())) as running:
        yield running


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_printed_curl_commands_get_what_they_ask_for(client, tmp_path):
    lines = re.findall(r"^curl .*$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line.replace(PRINTED, f"http://127.0.0.1:{client.port}"))
        subprocess.run([*words, "--silent", "--show-error", "--fail"], check=True, capture_output=True, timeout=60)
    assert cv2.imread("mask.png").shape == (64, 96, 3)
    assert cv2.imread("overlay.png").shape[1] >= 96


def test_the_printed_program_lists_the_classes(client, capsys):
    [program] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(program.replace(PRINTED, f"http://127.0.0.1:{client.port}"), {})  # what readers copy
    lines = capsys.readouterr().out.splitlines()
    assert lines and {line.split()[0] for line in lines} <= set(LABELS.classes)
    assert sum(float(line.split()[-1].rstrip("%")) for line in lines) == pytest.approx(100, abs=0.1 * len(lines))


def test_the_tables_name_every_format_and_every_metric(client):
    from ppliteseg_paddle.serve.answers import FORMS

    for name in FORMS:
        assert f"| `{name}`" in PAGE
    for name in re.findall(r"# TYPE (\w+)", client.get("/metrics").body.decode()):
        assert f"`{name}`" in PAGE
