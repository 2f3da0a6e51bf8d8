"""`--plugin`: components of the user's own in every command that reads a configuration, if the user says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import write_photo
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.config import plugins

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = """
import paddle
from paddleseg.cvlibs import manager
from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.losses.cross_entropy import CELoss
from ppliteseg_paddle.models.layers import ConvBNReLU


@manager.TRANSFORMS.add_component
class PluginInvert:
    def __call__(self, data):
        data["img"] = 255 - data["img"]
        return data


@manager.LOSSES.add_component
class PluginLoss(CELoss):
    pass


@manager.DATASETS.add_component
class PluginData(StreetScenes):
    pass


@manager.BACKBONES.add_component
class PluginNet(paddle.nn.Layer):
    feat_channels, feat_strides = (4, 4, 8, 8, 8), (2, 4, 8, 16, 32)

    def __init__(self, in_channels=3, pretrained=None):
        super().__init__()
        channels = (in_channels, *self.feat_channels)
        self.convs = paddle.nn.LayerList([ConvBNReLU(a, b, 3, stride=2) for a, b in zip(channels, channels[1:])])

    def forward(self, x):
        features = []
        for conv in self.convs:
            x = conv(x)
            features.append(x)
        return features
"""


def written(folder, **changes):
    """A plugin, and a configuration in which everything is of it."""
    (folder / "whole_parts.py").write_text(PLUGIN)
    content = values(make_data(folder / "data", train=4, val=2), batch_size=1, **changes)
    content["model"] = {**TINY_MODEL, "backbone": {"type": "PluginNet"}}
    content["loss"]["types"] = [{"type": "PluginLoss"}]
    for part in ("train_dataset", "val_dataset"):
        content[part]["type"] = "PluginData"
    content["train_dataset"]["transforms"].insert(0, {"type": "PluginInvert"})
    return str(folder / "whole_parts.py"), write_config(folder / "c.yml", content)


@pytest.mark.slow
def test_every_command_takes_it_and_so_do_ranks_and_workers(tmp_path, capsys):
    plugin, config = written(tmp_path)
    run, photo = tmp_path / "run", write_photo(tmp_path / "photo.png")
    ranks = ["--nproc_per_node", "2", "--num_workers", "1", "--iters", "1", "--device", "cpu"]
    command = ["train", "--config", config, "--plugin", plugin, "--save_dir", str(run), *ranks, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "ppliteseg_paddle", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["iterations"] == 1
    saved, weights = str(run / "config.yml"), str(run / "iter_1" / "model.pdparams")
    common = ["--config", saved, "--plugin", plugin]
    for rest in (
        ["val", *common, "--model_path", weights, "--device", "cpu"],
        ["data", "check", *common],
        ["export", *common, "--model_path", weights, "--save_dir", str(tmp_path / "export"), "--device", "cpu"],
        ["predict", *common, "--model_path", weights, "--image_path", str(photo), "--save_dir", str(tmp_path / "out")],
    ):
        assert main(rest) == 0, rest
    capsys.readouterr()
    plugins._loaded.clear()
    assert main(["info", "--config", saved]) == 2  # the saved configuration says what it needs
    assert f"needs code of {plugin}" in capsys.readouterr().err


def test_a_configuration_alone_runs_no_code(tmp_path, capsys):
    (tmp_path / "evil_parts.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    content = values(make_data(tmp_path / "data", train=2, val=1), plugin=[str(tmp_path / "evil_parts.py")])
    config = write_config(tmp_path / "c.yml", content)
    assert main(["data", "check", "--config", config]) == 2
    error = capsys.readouterr().err
    assert f"{config}: plugin: it needs code of {tmp_path / 'evil_parts.py'}" in error and "add --plugin" in error
    assert not (tmp_path / "ran").exists()
    main(["data", "check", "--config", config, "--plugin", str(tmp_path / "evil_parts.py")])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name, code, expected",
    [
        ("absent_parts.py", None, "absent_parts.py does not exist"),
        ("absent.parts", None, "--plugin absent.parts: there is no such module"),
        ("broken_parts.py", "x = 1\nundefined_name", "NameError: name 'undefined_name' is not defined (line 2)"),
        ("unwritten_parts.py", "def (", "unwritten_parts.py cannot be imported: SyntaxError"),
        ("needy_parts.py", "import no_such_package", "ModuleNotFoundError: No module named 'no_such_package' (line 1)"),
        ("leaving_parts.py", "raise SystemExit(0)", "leaving_parts.py cannot be imported: SystemExit"),
        ("random.py", "", "'random' is the name of another module"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, capsys, name, code, expected):
    monkeypatch.chdir(tmp_path)
    if code is not None:
        (tmp_path / name).write_text(code)
    assert main(["info", "--config", "ppliteseg_t_camvid_480x360", "--plugin", name]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: --plugin ") and expected in error


def test_a_plugin_in_a_folder_where_python_looks_for_modules_is_imported(tmp_path, monkeypatch):
    (tmp_path / "found_parts.py").write_text("value = 5")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    plugins.load_plugins(["found_parts.py"])
    assert sys.modules.pop("found_parts").value == 5


def test_a_plugin_does_not_replace_our_components(tmp_path, monkeypatch, capsys):
    from paddleseg.cvlibs import manager

    monkeypatch.setattr(manager.LOSSES, "_components_dict", dict(manager.LOSSES.components_dict))
    code = "from paddleseg.cvlibs import manager\n@manager.LOSSES.add_component\nclass CELoss:\n    pass\n"
    (tmp_path / "replacing_parts.py").write_text(code)
    assert main(["info", "--config", "x", "--plugin", str(tmp_path / "replacing_parts.py")]) == 2
    assert "already holds another 'CELoss'" in capsys.readouterr().err
