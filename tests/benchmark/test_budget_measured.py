"""`benchmark --budget_ms` measures: networks with random weights at tiny sizes, and the commands that it prints run."""

import importlib.util
import json
import shlex

import numpy as np
import paddle  # after ours
import pytest
from commands import write_photo
from exported import few_ties, photograph

from ppliteseg_paddle import Predictor, pp_liteseg_t
from ppliteseg_paddle.benchmark import random_weights
from ppliteseg_paddle.benchmark.budget.configs import Configs, as_yaml
from ppliteseg_paddle.benchmark.budget.exports import SizedNetwork
from ppliteseg_paddle.benchmark.budget.points import Ranking
from ppliteseg_paddle.benchmark.budget.search import plan, sizes_of
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.engine.build import build_model, load_config
from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.export.pipeline import export_model

T, B = "PP-LiteSeg-T", "PP-LiteSeg-B"
NEEDS_ONNX = pytest.mark.skipif(
    paddle_version() < (3,) or not all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "paddle2onnx"))),
    reason="ONNX is written with Paddle 3 and the extra 'deploy'",
)


def test_masks_of_random_weights_get_the_borders_of_a_street_scene():
    paddle.seed(3)
    model, batch = pp_liteseg_t(num_classes=19), photograph(128, 256).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
    random_weights.calibrate(model, np.concatenate([batch, batch[..., ::-1]]), [model.seg_heads[0].classifier])
    masks = []
    for change in (lambda: None, lambda: random_weights.draw_borders(model, batch, model.seg_heads[0].classifier)):
        change()
        with paddle.no_grad():
            masks.append(model.small_logits(paddle.to_tensor(batch))[0].numpy()[0].argmax(axis=0))
    before, after = map(random_weights.crossed_windows, masks)
    assert before > 0.5 and 0.2 < after < 0.3 and len(np.unique(masks[1])) > 3
    assert random_weights.crossed_windows(np.zeros((9, 9))) == 0.0


@NEEDS_ONNX
@pytest.mark.slow
def test_a_size_that_is_filled_in_gives_the_masks_of_an_export_at_that_size(tmp_path):
    configs, size = Configs(), (96, 160)
    path = tmp_path / "c.yml"
    path.write_text(as_yaml(configs.values(T, 1.0, size)))
    network = SizedNetwork(load_config(str(path)), str(tmp_path / "aside"))
    (tmp_path / "filled").mkdir()
    filled = network.artifact(size, "fp32", str(tmp_path / "filled"))
    options = ExportOptions(
        label_set=filled.label_set, transforms=network._preprocess, formats=("onnx",), input_shape=(1, 3, *size)
    )
    export_model(network._model, str(tmp_path / "export"), options)
    artifacts = (filled, Artifact.read(str(tmp_path / "export")))
    assert artifacts[0].input == artifacts[1].input and artifacts[0].logits == artifacts[1].logits
    for image in (photograph(96, 160), photograph(200, 300)):  # as it is, and resized
        masks = [Predictor.of(each, open_backend("onnxruntime", each, "cpu", 1)).predict(image) for each in artifacts]
        assert masks[0].shape == image.shape[:2] and np.mean(masks[0] != masks[1]) <= few_ties(masks[0].size)
        assert len(np.unique(masks[0])) > 3


@NEEDS_ONNX
@pytest.mark.slow
def test_points_are_measured_and_the_printed_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["--warmup", "0", "--repeats", "1", "--num_threads", "1", "--save_json", "b.json"]
    size = ["--input_shape", "1", "3", "96", "128"]
    assert main(["benchmark", "--budget_ms", "100000", *size, "--backend", "onnxruntime", *quick]) == 0
    result = json.loads((tmp_path / "b.json").read_text())
    configs = Configs()
    points = plan(configs.networks, sizes_of((96, 128)), [RUNTIMES["onnxruntime"]])
    assert sorted(row["name"] for row in result["rows"]) == sorted(point.name for point in points)
    assert result["skipped"] == [] and all(row["latency_ms"] > 0 for row in result["rows"])
    by_name = {row["name"]: row for row in result["rows"]}
    for point in points:
        row = by_name[point.name]
        assert row["input_shape"] == [1, 3, *point.size] and row["image_size"] == [128, 96] and row["repeats"] == 1
        assert row["precision"] == point.precision and row["model"]["type"] == "PPLiteSegNet"
    ranking = Ranking({point: by_name[point.name]["latency_ms"] for point in points}, configs.figures, configs.networks)
    assert {row["name"] for row in result["rows"] if row["on_front"]} == {point.name for point in ranking.front()}
    assert result["best"] == f"{B} 128x96 fp32 onnxruntime" and result["files"] == ["output/budget/config.yml"]

    assert main(["report", "--results", "b.json", "--save_dir", "report"]) == 0
    assert f"| {B} 128x96 fp32 onnxruntime | 1x3x96x128 |" in (tmp_path / "report" / "report.md").read_text()
    assert main(["info", "--config", "output/budget/config.yml", "--input_shape", "1", "3", "96", "128"]) == 0
    assert "19 classes, input 1x3x96x128" in capsys.readouterr().out
    _, export, predict = (shlex.split(command)[1:] for command in result["commands"])
    weights = tmp_path / export[export.index("--model_path") + 1]
    weights.parent.mkdir(parents=True)
    paddle.save(build_model(load_config("output/budget/config.yml"), pretrained=False).state_dict(), str(weights))
    assert main(export) == 0
    artifact = Artifact.read("output/budget/export")
    assert artifact.input.shape == (1, 3, 96, 128) and artifact.preprocess.input_size(700, 900) == (96, 128)
    write_photo(tmp_path / "PHOTOS" / "a.png")
    assert main([*predict, "--save_dir", "masks"]) == 0 and (tmp_path / "masks" / "mask" / "a.png").exists()
