"""`ppliteseg_paddle.train`, `.val` and `.export` as functions."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from tiny_data import make_data, values, write_config

import ppliteseg_paddle
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.errors import ConfigError


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / "config.yml", values(make_data(tmp_path / "data")))


@pytest.mark.slow
def test_train_val_and_export_take_a_file_and_lead_to_a_predictor(config, tmp_path):
    run = ppliteseg_paddle.train(config, ["loss.coef=[1, 1, 1]"], iters=2, batch_size=2, save_dir=str(tmp_path / "run"))
    assert run["iterations"] == 2
    resolved = load_config(str(tmp_path / "run" / "config.yml"))
    assert resolved.dic["batch_size"] == 2 and resolved.dic["loss"]["coef"] == [1, 1, 1]

    scores = ppliteseg_paddle.val(str(tmp_path / "run" / "config.yml"), run["model_path"], save_dir=str(tmp_path / "v"))
    assert scores["images"] == 4 and len(scores["class_iou"]) == 11
    assert (tmp_path / "v" / "confusion_matrix.json").exists()

    report = ppliteseg_paddle.export(
        resolved, run["model_path"], str(tmp_path / "exported"), input_shape=(1, 3, 48, 64), overwrite=True
    )
    assert report["input"]["shape"] == [1, 3, 48, 64] and "deploy.yaml" in report["files"]
    predictor = ppliteseg_paddle.Predictor(tmp_path / "exported")
    assert predictor.predict(np.zeros((48, 64, 3), np.uint8)).shape == (48, 64)


def test_export_is_both_a_package_and_a_function_whatever_is_imported_first():
    program = (
        "import ppliteseg_paddle.export.options as options\n"
        "from ppliteseg_paddle import export\n"
        "import ppliteseg_paddle.export.run\n"
        "assert export is ppliteseg_paddle.export and export.options is options and callable(export)\n"
        "import inspect; print(list(inspect.signature(export).parameters)[:3])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['config', 'model_path', 'save_dir']", done.stderr
    assert list(inspect.signature(ppliteseg_paddle.val).parameters) == ["config", "model_path", "opts", "options"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda path: ppliteseg_paddle.train(path, saev_dir="x"),
            "train has no option 'saev_dir'. Did you mean 'save_dir'?",
        ),
        (
            lambda path: ppliteseg_paddle.val(path, "w", batchsize=2),
            "val has no option 'batchsize'. Did you mean 'batch_size'?",
        ),
        (
            lambda path: ppliteseg_paddle.export(path, "w", format="onnx"),
            "export has no option 'format'. Did you mean 'formats'?",
        ),
        (
            lambda path: ppliteseg_paddle.train({"iters": 2}),
            "config is a dict: give a YAML file, the name of a shipped configuration, or what engine.build.load_config "
            "returns.",
        ),
        (
            lambda path: ppliteseg_paddle.train(load_config(path), iters=3),
            "config is loaded already: give its changes to engine.build.load_config.",
        ),
        (
            lambda path: ppliteseg_paddle.val(load_config(path), "w", ["iters=3"]),
            "config is loaded already: give its changes to engine.build.load_config.",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message, config):
    with pytest.raises(ConfigError) as found:
        call(config)
    assert str(found.value) == message


def test_a_configuration_is_found_by_its_name_and_near_names_are_suggested():
    with pytest.raises(ConfigError, match="ppliteseg_t_camvid_480x360"):
        ppliteseg_paddle.train("ppliteseg_t_camvid_480x36")
