"""docs/python.md, run from top to bottom."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_data import make_data, values, write_config

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


@pytest.mark.slow
def test_the_examples_of_the_page_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "config.yml", values(make_data(tmp_path / "data")))
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    names = {"__name__": "example"}

    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)

    assert list(names["logits"].shape) == [1, 11, 96, 128]
    assert names["report"]["files"] and (tmp_path / "exported" / "deploy.yaml").exists()
    assert names["mask"].shape == (60, 80)
    assert "nowhere.jpg" in capsys.readouterr().out
