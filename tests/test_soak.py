"""The soak in short; `bash scripts/soak.sh` takes an hour."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soak
from exported import CONVERTS

NUMBERS = {"images": 6, "frames": 8, "crops": 3}
RUNTIME = "onnxruntime" if CONVERTS else "paddle"


@pytest.mark.slow
def test_a_short_soak_gives_a_row_for_each_part_and_memory_stays_within_the_bound(tmp_path):
    flags = [word for name, number in NUMBERS.items() for word in (f"--{name}", str(number))]
    command = [sys.executable, soak.__file__, *flags, "--runtimes", RUNTIME, "--json", str(tmp_path / "soak.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "soak.json").read_text())
    parts = [(RUNTIME, "images"), (RUNTIME, "frames"), ("training", "crops")]
    rows = content["rows"]
    assert [(row["runtime"], row["what"], row["number"]) for row in rows] == [(*p, NUMBERS[p[1]]) for p in parts]
    for row in rows:
        assert 50 < row["start_mb"] <= row["highest_mb"] <= row["start_mb"] + content["bound_mb"]
        assert min(row["start_rate"], row["end_rate"]) > 0
    assert content["machine"]["processor"] and "paddlepaddle" in content["machine"]["versions"]
    table = done.stdout.splitlines()
    assert table[2].split(" | ")[:3] == ["| Runtime", "What", "Number"]
    assert [line.split(" | ")[0] for line in table[4:]] == [f"| {RUNTIME}", f"| {RUNTIME}", "| training"]


def test_memory_above_the_bound_is_a_failure(monkeypatch, capsys):
    row = soak.Row("paddle", "images", 9, 500, 510, 500 + soak.BOUND, 1.0, 1.0)
    for highest, status in ((row.highest_mb, 0), (row.highest_mb + 1, 1)):
        found = dataclasses.replace(row, highest_mb=highest)
        monkeypatch.setattr(soak, "all_rows", lambda *arguments, found=found: [found])
        monkeypatch.setattr(sys, "argv", ["soak.sh"])
        assert soak.main() == status
        assert ("memory rises by more than 300 MB: paddle images" in capsys.readouterr().out) == bool(status)
