"""What a training step costs as things grow: the prediction and the exponents on made-up costs, and two tiny points."""

import json

import cv2
import numpy as np
import pytest

from ppliteseg_paddle import pp_liteseg_t
from ppliteseg_paddle.benchmark.studies import cost, cost_candidate, cost_report
from ppliteseg_paddle.benchmark.studies.cost_model import TERMS, Point, exponent, fit, growth, work

COUNTED = {"macs": 10**8, "outputs": 10**6}  # of an image of 128x128
FACTORS = {"seconds": (0.1, 1e-11, 1e-8), "mib": (100.0, 2.0, 1.1)}


def test_factors_are_found_again_and_none_is_negative():
    random = np.random.RandomState(0)
    parts = np.column_stack([np.ones(9), random.rand(9) * 1e12, random.rand(9) * 1e8])
    assert fit(parts, parts @ (0.2, 3e-12, 5e-9)) == pytest.approx([0.2, 3e-12, 5e-9])
    # 10 - x: the best factors that are not below 0 are those of the constant alone
    x = np.arange(1.0, 6.0)
    constant, slope = fit(np.column_stack([np.ones(5), x]), 10 - x)
    assert slope == 0
    costs = 1 / (10 - x)
    assert constant == pytest.approx(costs.sum() / (costs**2).sum())


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power):
    xs = [1, 2, 5, 40]
    assert exponent(xs, [7 * x**power for x in xs]) == pytest.approx(power)
    found = growth(xs, [1000 + 7 * x**power for x in xs])  # at the end, the constant part matters least
    assert found["overall"] < found["last"] < power


def test_the_work_of_a_step_follows_from_its_point():
    found = work(Point((128, 128), batch=4, classes=10, levels=3), COUNTED, threads=2)
    assert found["macs"] == 3 * 4 * 10**8
    assert found["loss_values"] == 4 * 128 * 128 * 10 * 3
    assert found["map_mib"] == pytest.approx(4 * 4 * 10**6 / 2**20)
    gradients = 128 * (128 // 8 + 128 // 16 + 128 // 32)
    logits = sum((128 // stride) ** 2 for stride in (8, 16, 32))
    values = 2 * 128 * 128 + 4 * (gradients + 2 * logits)
    assert found["loss_mib"] == pytest.approx(4 * 10 * values / 2**20)


def made_up(axes, scale=None):
    """Rows as measured, with exactly the costs of FACTORS, but for points in `scale`."""
    rows = {}
    for point in {point for points in axes.values() for point in points}:
        parts = work(point, COUNTED, threads=2)
        costs = {name: np.dot([parts[term] for term in TERMS[name]], FACTORS[name]) for name in TERMS}
        factor = (scale or {}).get(point, 1)
        rows[point] = {"work": parts, **{name: factor * float(value) for name, value in costs.items()}}
    return rows


def test_the_largest_points_are_predicted_from_the_others():
    found = cost.summary(cost.AXES, made_up(cost.AXES))
    for name, factors in FACTORS.items():
        assert [found["factors"][name][term] for term in TERMS[name]] == pytest.approx(factors)
    for axis in found["axes"].values():
        assert axis["x"] == sorted(axis["x"]) and axis["growth"]["seconds"]["last"] < 1
        for point in axis["points"]:
            assert point["predicted_seconds"] == pytest.approx(point["seconds"])
            assert point["predicted_mib"] == pytest.approx(point["mib"])


def test_what_grows_faster_than_linearly_is_seen_and_not_predicted():
    slow = cost.AXES["classes"][-1]
    exact, found = (cost.summary(cost.AXES, made_up(cost.AXES, scale)) for scale in (None, {slow: 4}))
    assert found["factors"] == exact["factors"]
    last = found["axes"]["classes"]["points"][-1]
    assert last["seconds"] == pytest.approx(4 * last["predicted_seconds"])
    assert found["axes"]["classes"]["growth"]["seconds"]["last"] > 1.5
    assert found["axes"]["batch"] == exact["axes"]["batch"]


def test_three_levels_are_those_of_the_preset():
    def shapes(model):
        return {name: tensor.shape for name, tensor in model.state_dict().items()}

    assert shapes(cost_candidate.network(11, 3)) == shapes(pp_liteseg_t(num_classes=11))


@pytest.mark.slow
def test_two_points_are_measured_and_written(tmp_path, monkeypatch, capsys):
    points = [Point((32, 32), 2, 3, levels) for levels in (1, 2)]
    monkeypatch.setattr(cost, "AXES", {"levels": points})
    folder, again = tmp_path / "cost", tmp_path / "again"
    options = ["--num_threads", "1", "--warmup", "1", "--repeats", "2", "--axes", "levels"]
    assert cost.main([*options, "--save_dir", str(folder)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((folder / "cost.json").read_text())
    axis = result["axes"]["levels"]
    assert axis["x"] == [1, 2] and [point["levels"] for point in axis["points"]] == [1, 2]
    for point in axis["points"]:
        assert 0 < point["seconds_least"] <= point["seconds"]
        assert point["mib"] > 4 * 4e6 / 2**20  # some four million weights, their gradients and their momentum
    assert axis["points"][0]["predicted_mib"] == pytest.approx(axis["points"][0]["mib"])  # what was fitted
    assert "| levels | 1 |" in (folder / "cost.md").read_text()
    assert cv2.imread(str(folder / "cost.png")).shape[1] > 300
    # the same from the file
    assert cost.main(["--report", str(folder / "cost.json"), "--save_dir", str(again)]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == printed.splitlines()[:-1]
    assert (again / "cost.md").read_text() == (folder / "cost.md").read_text()


def test_a_file_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"rows": []}')
    assert cost.main(["--report", str(tmp_path / "other.json"), "--save_dir", str(tmp_path / "new")]) == 2
    assert "other.json is no result of this command; give its cost.json." in capsys.readouterr().err
    assert not list(tmp_path.rglob("cost.*"))


def test_memory_that_is_unknown_is_omitted():
    rows = {point: {**row, "mib": None} for point, row in made_up(cost.AXES).items()}
    how = {"num_threads": 2, "clock": "cpu"}
    machine = {"processor": "Tested", "cpus": 2, "cpus_usable": 2, "versions": {"paddlepaddle": "3.2.2"}}
    text = cost_report.table({**cost.summary(cost.AXES, rows), **how, "machine": machine})
    assert "in processor time" in text and "MiB" not in text and "memory" not in text.lower()
