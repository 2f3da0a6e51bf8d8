import json
import os

import numpy as np
import pytest
from PIL import Image

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.outputs import Outputs

pytestmark = pytest.mark.slow  # trains, exports and predicts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("demo"))
    arguments = ["demo", "--save_dir", out, "--iters", "2", "--train", "8", "--val", "3", "--size", "96", "72"]
    assert main(arguments) == 0
    return out


def test_the_demo_leaves_metrics_with_timings(made):
    with open(os.path.join(made, "metrics.json")) as file:
        metrics = json.load(file)
    assert metrics["images"] == 3 and len(metrics["class_iou"]) == len(metrics["class_names"]) == 11
    assert metrics["mIoU"] == pytest.approx(np.mean(metrics["class_iou"]))
    assert list(metrics["timings"]["seconds"]) == ["data", "before", "train", "val", "export", "predict", "benchmark"]
    assert metrics["timings"]["training_iterations"] == 2


def test_the_demo_leaves_a_picture_an_export_and_predictions(made):
    assert Image.open(os.path.join(made, "grid.png")).size[0] > 1000
    assert Image.open(os.path.join(made, "before.png")).size == Image.open(os.path.join(made, "grid.png")).size
    assert {"deploy.yaml", "inference.pdiparams"} <= set(os.listdir(os.path.join(made, "export")))
    with open(os.path.join(made, "benchmark.json")) as file:
        assert json.load(file)["input_shape"] == [1, 3, 72, 96]
    masks = [name for _, _, names in os.walk(os.path.join(made, "predictions", "mask")) for name in names]
    assert sorted(masks) == [f"val_0000{i:d}.png" for i in range(3)]


def test_the_saved_configuration_serves_val_without_any_variable(made, capsys):
    train = os.path.join(made, "train")
    weights = os.path.join(train, "iter_2", "model.pdparams")
    assert main(["val", "--config", os.path.join(train, "config.yml"), "--model_path", weights, "--json"]) == 0
    with open(os.path.join(made, "metrics.json")) as file:
        expected = json.load(file)
    assert json.loads(capsys.readouterr().out)["mIoU"] == expected["mIoU"]


@pytest.mark.parametrize("name", ["metrics.json", "grid.png", "before.png"])
def test_the_demo_replaces_no_file_of_the_users_and_says_so_before_the_work(made, tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b"mine")
    assert main(["demo", "--save_dir", str(tmp_path)]) == 2
    assert f"{name} exists and " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"mine"
    with open(os.path.join(made, "metrics.json")) as file:
        assert json.load(file)["written_by"].startswith("ppliteseg ")
    assert Outputs(made).wrote(os.path.join(made, "grid.png"))


def test_an_earlier_training_is_kept_unless_asked_and_what_else_is_beside_it_always(tmp_path, capsys, monkeypatch):
    from ppliteseg_paddle.cli import demo

    earlier = {"iter_2": "model.pdparams", "best_model": "best.json", "mine": "photo.png"}
    for folder, name in earlier.items():
        (tmp_path / "train" / folder).mkdir(parents=True)
        (tmp_path / "train" / folder / name).write_text("{}")
    command = ["demo", "--save_dir", str(tmp_path)]
    steps = []

    def run(self, command, *action, **flags):
        steps.append((command, sorted(os.listdir(tmp_path / "train"))))
        if command == "train":
            raise KeyboardInterrupt
        return {"mIoU": 0.0}

    monkeypatch.setattr(demo._Steps, "run", run)
    for name in ("_trained", "_write_grid"):
        monkeypatch.setattr(demo, name, lambda *_: None)
    assert main(command) == 2 and steps == []
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'train'} holds a run already (iter_2, best_model), so it is not replaced; give another "
        "--save_dir, or add --overwrite to train anew.\n"
    )
    assert main([*command, "--overwrite"]) == 130
    assert steps == [("data", sorted(earlier)), ("val", sorted(earlier)), ("train", ["mine"])]
