"""The benchmark of training samples, with few and small images."""

import json
import os
import sys

import pytest
import yaml

from ppliteseg_paddle.benchmark.studies import samples as data
from ppliteseg_paddle.benchmark.timing import Measurement


def test_ratios_are_of_sums_since_every_sample_costs_something_else():
    measured = {
        data.BASELINE: Measurement({"total": [1.0, 5.0], "cpu": [1.0, 3.0]}, 0, True),
        "ours": Measurement({"total": [2.0, 1.0], "cpu": [0.5, 0.5]}, 0, True),
    }
    rows = data._rows(measured)
    assert rows["ours"]["times_faster"] == {"total": 2.0, "cpu": 4.0}
    assert rows[data.BASELINE]["times_faster"] == {"total": 1.0, "cpu": 1.0}


def test_cases_have_the_recipes_augmentation():
    configs = os.path.join(os.path.dirname(data.__file__), "..", "..", "..", "configs", "_base_")
    for name, file in (("2048x1024", "cityscapes.yml"), ("480x360", "camvid_480x360.yml")):
        with open(os.path.join(configs, file), encoding="utf-8") as stream:
            (augment,) = yaml.safe_load(stream)["train_dataset"]["transforms"]
        case = data.CASES[name]
        assert case.scales == tuple(augment[key] for key in ("min_scale_factor", "max_scale_factor", "scale_step_size"))
        assert list(case.crop_size) == augment["crop_size"]
        assert case.colors == augment["distort"]["brightness_range"]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_baseline_and_ours_are_measured_in_one_run_and_written_with_the_environment(
    tmp_path, monkeypatch, capsys, suffix
):
    monkeypatch.setitem(data.CASES, "tiny", data.Case((96, 64), (48, 32), (0.5, 2.0, 0.25), 0.4, suffix))
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "data",
            "--cases",
            "tiny",
            "--images",
            "1",
            "--warmup",
            "0",
            "--repeats",
            "2",
            "--save_json",
            str(tmp_path / "b.json"),
        ],
    )
    assert data.main() == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "b.json").read_text())
    rows = result["results"]["tiny"]["candidates"]
    assert list(rows) == ["paddleseg", "ours, files", "ours, data_cache: DIR", "ours, data_cache: memory"]
    assert all(name in out for name in rows)
    assert result["machine"]["versions"]["paddleseg"] and result["results"]["tiny"]["image_bytes"] > 100
