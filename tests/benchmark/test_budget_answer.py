"""What `benchmark --budget_ms` writes and prints, on times that are made up."""

import shlex

import pytest
import yaml
from commands import run_json, write_photo
from tiny_data import make_data
from tiny_data import values as tiny_values

from ppliteseg_paddle.benchmark.budget import answer, search
from ppliteseg_paddle.benchmark.budget.configs import Configs, smallest_training_scale
from ppliteseg_paddle.benchmark.budget.points import Point
from ppliteseg_paddle.benchmark.budget.search import Found, plan, sizes_of
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.engine.build import build_model, load_config, num_classes_of
from ppliteseg_paddle.export.trained import val_transforms

T, B = "PP-LiteSeg-T", "PP-LiteSeg-B"


@pytest.fixture
def measured(monkeypatch):
    """In place of measurements: T takes 10 ms at full size in FP32, B twice that, INT8 half, OpenVINO a bit more."""
    faster = {T: 1.0, B: 2.0, "fp32": 1.0, "int8": 0.5, "onnxruntime": 1.0, "openvino": 1.1}
    seen = []

    def points_for(options, configs, image):
        return plan(configs.networks, sizes_of(image.shape), [RUNTIMES["onnxruntime"], RUNTIMES["openvino"]])

    def made_up(points, options, configs, image):
        seen.append((options, image.shape))
        found = Found()
        for point in points:
            if point.scale == 0.25:
                found.skipped[point] = "too small"
                continue
            ms = 10 * point.scale**2 * faster[point.network] * faster[point.precision] * faster[point.backend]
            found.rows[point] = {
                **{"name": point.name, "network": point.network, "scale": point.scale, "input_size": list(point.size)},
                **{"latency_ms": ms, "fps": 1000 / ms, "precision": point.precision},
                "backend": {"name": point.backend, "runtime": "Runtime", "version": "1.0"},
                "stages": {"total": {"spread": 0.3 if point.scale == 0.375 else 0.01}},
            }
        return found

    monkeypatch.setattr(answer, "points_for", points_for)
    monkeypatch.setattr(answer, "search", made_up)
    return seen


@pytest.fixture
def own(tmp_path):
    """A configuration of one's own: T for eleven classes, evaluated by a window at a fixed size."""
    transforms = [{"type": "ResizeStepScaling", "min_scale_factor": 0.5}, {"type": "Normalize"}]
    content = tiny_values(make_data(tmp_path / "data"))
    content["train_dataset"]["transforms"] = transforms
    content["val_dataset"]["transforms"] = [{"type": "ResizeByLong", "long_size": 64}, {"type": "Normalize"}]
    content["test_config"] = {"aug_eval": True, "scales": [0.5, 1.0], "auc_roc": True}
    content["model"]["head"]["fusion"] = "channel_mean"
    content["palette"] = [[i, i, i] for i in range(11)]
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def input_of(path, height, width):
    """The size that the validation transforms of a configuration make of an image."""
    return val_transforms(load_config(str(path))).input_size(height, width)


# --------------------------------------------------------------------------------------------
# The configuration
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("network, backbone", [(T, "STDCNet813"), (B, "STDCNet1446")])
@pytest.mark.parametrize(
    "scale, size, origin", [(0.375, (384, 768), "0.5"), (0.75, (768, 1536), "0.75"), (1.0, (32, 64), "1.0")]
)
def test_a_shipped_network_at_any_input_size_is_one_file(network, backbone, scale, size, origin, tmp_path):
    configs = Configs()
    assert configs.networks == [T, B] and f"_scale{origin}_" in configs.base(network, scale)
    path = tmp_path / "c.yml"
    path.write_text(answer.as_yaml(configs.values(network, scale, size)))
    config = load_config(str(path))
    assert "_base_" not in yaml.safe_load(path.read_text()) and config.dic["model"]["backbone"]["type"] == backbone
    assert not config.test_config and input_of(path, 1024, 2048) == input_of(path, 700, 500) == size
    assert num_classes_of(config) == 19


def test_published_figures_are_those_of_the_weights_table():
    figures = Configs().figures
    assert figures == {T: {0.5: 73.1, 0.75: 76.03, 1.0: 77.04}, B: {0.5: 75.25, 0.75: 78.75, 1.0: 79.04}}


def test_ones_own_configuration_keeps_all_but_network_and_size(own, tmp_path):
    before = yaml.safe_load(own.read_text())
    configs = Configs(str(own))
    same = configs.values(T, 0.5, (32, 64))
    assert same["model"] == before["model"], "it is T already: its own layers stay"
    other = configs.values(B, 0.5, (32, 64))
    assert other["model"]["backbone"]["type"] == "STDCNet1446" and other["model"]["num_classes"] == 11
    for values in (same, other):
        assert values["val_dataset"]["transforms"] == [
            {"type": "Resize", "target_size": [64, 32]},
            {"type": "Normalize"},
        ]
        assert values["test_config"] == {"auc_roc": True}
        changed = ("model", "val_dataset", "test_config")
        assert {key: values[key] for key in before if key not in changed} == {
            key: before[key] for key in before if key not in changed
        }
    path = tmp_path / "b.yml"
    path.write_text(answer.as_yaml(other))
    assert len(build_model(load_config(str(path)), pretrained=False).seg_heads) == 3
    assert smallest_training_scale(same) == 0.5 and smallest_training_scale({}) is None


# --------------------------------------------------------------------------------------------
# The answer
# --------------------------------------------------------------------------------------------
def test_the_best_point_is_written_as_a_configuration_with_its_commands(measured, tmp_path, capsys):
    status, result = run_json(capsys, "benchmark", "--budget_ms", 7, "--save_dir", tmp_path / "a b")
    path = tmp_path / "a b" / "config.yml"
    # B at 0.5 takes 5 ms (75.25 %), T at 0.75 5.6 ms (76.03 %), in INT8 T at 1.0 5 ms (76.04 %) and B at 0.75 5.6 ms.
    assert status == 0 and result["best"] == f"{B} 1536x768 int8 onnxruntime" and result["files"] == [str(path)]
    assert input_of(path, 1024, 2048) == (768, 1536)
    train, export, predict = (shlex.split(command)[1:] for command in result["commands"])
    assert train[:3] == ["train", "--config", str(path)] and "--do_eval" in train
    assert " ".join(export).endswith(
        "--format onnx --input_shape 1 3 768 1536 --precision int8 --calib_data TRAIN_LIST"
    )
    assert predict[predict.index("--backend") + 1] == "onnxruntime"
    assert export[export.index("--save_dir") + 1] == predict[predict.index("--model_dir") + 1]
    assert export[export.index("--model_path") + 1].startswith(train[train.index("--save_dir") + 1])
    assert any("--model_path cityscapes-b-scale0.75" in note for note in result["notes"])
    head = [line[2:] for line in path.read_text().splitlines() if line.startswith("#")]
    assert [line.strip() for line in head[-3:]] == result["commands"] and "5.6 ms an image, int8" in head[2]
    assert measured[0][1] == (1024, 2048, 3)
    rows = {row["name"]: row for row in result["rows"]}
    assert len(rows) == 32 and len(result["skipped"]) == 8 and result["skipped"][0]["reason"] == "too small"
    assert [row["latency_ms"] for row in result["rows"]] == sorted(row["latency_ms"] for row in result["rows"])
    assert rows[f"{T} 1536x768 int8 openvino"]["miou"] == 76.03 and rows[f"{T} 768x384 fp32 openvino"]["miou"] is None
    assert not any(row["on_front"] for name, row in rows.items() if "openvino" in name)
    assert rows[result["best"]]["on_front"]


def test_the_table_marks_what_nothing_beats_and_says_whose_figures_it_shows(measured, tmp_path, capsys):
    assert main(["benchmark", "--budget_ms", "7", "--save_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert [B, "1536x768", "0.75", "int8", "onnxruntime", "5.6", "177.8", "78.75", "*", "best"] in lines
    assert [B, "1536x768", "0.75", "int8", "openvino", "6.2", "161.6", "78.75"] in lines
    assert [T, "768x384", "0.375", "int8", "onnxruntime", "0.7", "1422.2", "-", "*"] in lines
    for words in ("published by PaddleSeg for FP32 on Cityscapes val", "8 points were skipped", "the machine is busy"):
        assert words in out
    assert f"best within 7 ms: {B} 1536x768 int8 onnxruntime: 5.6 ms" in out and "  ppliteseg export --config" in out


def test_nothing_fits_and_nothing_is_written(measured, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["benchmark", "--budget_ms", "0.5", "--save_dir", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"nothing fits into 0.5 ms here. The fastest is {T} 768x384 int8 onnxruntime: 0.7 ms" in out
    assert "next:" not in out and not list(folder.iterdir())


def test_a_place_that_cannot_be_written_is_told_before_the_work(measured, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["benchmark", "--budget_ms", "7", "--save_dir", str(tmp_path / "file" / "x")]) == 2
    assert "cannot write" in capsys.readouterr().err and not measured


def test_with_ones_own_configuration_no_figure_is_claimed(measured, own, tmp_path, capsys):
    argv = ["benchmark", "--budget_ms", "1", "--config", str(own), "--save_dir", str(tmp_path / "o")]
    status, result = run_json(capsys, *argv, "--input_shape", 1, 3, 96, 128)
    assert status == 0 and {row["miou"] for row in result["rows"]} == {None} and result["miou_on"] is None
    assert result["best"] == f"{T} 64x32 int8 onnxruntime" and measured[0][1] == (96, 128, 3)
    assert any("lower min_scale_factor" in note for note in result["notes"])
    assert yaml.safe_load((tmp_path / "o" / "config.yml").read_text())["palette"] == [[i, i, i] for i in range(11)]
    assert main(argv) == 0
    assert "mIoU is not known for" in capsys.readouterr().out


def test_the_image_is_the_given_one_at_the_given_size(measured, tmp_path, capsys):
    photo = str(write_photo(tmp_path / "photo.png", 64, 96))
    for more, size in (((), (64, 96, 3)), (("--input_shape", 1, 3, 128, 160), (128, 160, 3))):
        run_json(capsys, "benchmark", "--budget_ms", 9, "--image_path", photo, "--save_dir", tmp_path / "o", *more)
        assert measured[-1][1] == size


def test_a_changed_configuration_is_not_replaced(measured, tmp_path, capsys):
    argv = ["benchmark", "--budget_ms", "7", "--save_dir", str(tmp_path)]
    assert main(argv) == 0 and main(argv) == 0
    (tmp_path / "config.yml").write_text("mine")
    measured.clear()
    assert main(argv) == 2 and "is not replaced" in capsys.readouterr().err and not measured
    assert main([*argv, "--overwrite"]) == 0 and (tmp_path / "config.yml").read_text() != "mine"


def test_a_lucky_point_is_measured_again_and_the_next_one_takes_its_place():
    configs = Configs()
    (t, b, small) = (
        Point(network, scale, (1, int(scale * 8)), "fp32", "r") for network, scale in ((T, 1.0), (B, 1.0), (T, 0.5))
    )
    found = Found({t: {"latency_ms": 20.0}, b: {"latency_ms": 29.0}, small: {"latency_ms": 10.0}})
    again = []

    def measure(point):
        again.append(point)
        return {"latency_ms": {b: 31.0, t: 19.0}[point]}

    search._confirm(found, configs, 30.0, measure)
    assert again == [b, t] and found.ms == {t: 20.0, b: 31.0, small: 10.0}


# --------------------------------------------------------------------------------------------
# Refusals
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "one of the arguments --model_dir --budget_ms is required"),
        (["--budget_ms", "30", "--model_dir", "x"], "--model_dir: not allowed with argument --budget_ms"),
        (["--budget_ms", "0"], "give a number above 0"),
        (["--budget_ms", "fast"], "'fast' is not a number"),
        (["--budget_ms", "30", "--protocol", "throughput"], "--protocol throughput is for --model_dir"),
        (["--budget_ms", "30", "--compare", "x"], "--compare is for --model_dir"),
        (["--budget_ms", "30", "--streams", "2"], "--streams is for --model_dir"),
        (["--budget_ms", "30", "--batch_size", "2"], "--batch_size is for --model_dir"),
        (["--budget_ms", "30", "--backend", "paddle"], "--budget_ms cannot measure the backend 'paddle'"),
        (["--budget_ms", "30", "--backend", "openvino", "--device", "gpu"], "the backend 'openvino' on a gpu"),
        (["--budget_ms", "30", "--device", "tpu"], "device 'tpu'"),
        (["--budget_ms", "30", "--input_shape", "1", "4", "64", "64"], "must start with 1 3"),
        (["--budget_ms", "30", "--image_path", "nowhere.png"], "nowhere.png does not exist"),
        (["--budget_ms", "30", "--config", "nowhere.yml"], "nowhere.yml does not exist"),
        (["--model_dir", "x", "--config", "c.yml"], "--config is for --budget_ms"),
        (["--model_dir", "x", "--save_dir", "o"], "--save_dir is for --budget_ms"),
    ],
)
def test_what_does_not_fit_is_refused_on_one_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *argv]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda values: values["model"].update(type="PPLiteSeg"), "model.type is PPLiteSeg"),
        (lambda values: values.update(test_config={"use_multilabel": True}), "test_config.use_multilabel"),
        (lambda values: values.pop("val_dataset"), "there is no val_dataset.transforms"),
    ],
)
def test_a_configuration_that_it_is_not_for_is_refused(change, words, own, tmp_path, capsys):
    content = yaml.safe_load(own.read_text())
    change(content)
    if content["model"]["type"] == "PPLiteSeg":
        content["model"] = {"type": "PPLiteSeg", "num_classes": 11, "backbone": {"type": "STDC1"}}
    own.write_text(yaml.safe_dump(content))
    assert main(["benchmark", "--budget_ms", "30", "--config", str(own), "--save_dir", str(tmp_path / "o")]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "o").exists()


def test_without_a_runtime_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ppliteseg_paddle.deploy.runtimes.RuntimeSpec.installed", False)
    for more, words in (
        ([], "none is installed"),
        (["--backend", "openvino"], "needs openvino, which is not installed"),
    ):
        assert main(["benchmark", "--budget_ms", "30", "--save_dir", str(tmp_path / "o"), *more]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert words in error and "pip install" in error
