"""A separate package adds a backbone, a fusion, a loss and a runtime; no other file is touched.

`PACKAGE` is all that it takes. test_contributing.py shows that the contract tests pick such parts up, too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exported import photograph
from tiny_data import make_data, values, write_config

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
PACKAGE = '''
from ppliteseg_paddle import registry
from ppliteseg_paddle.deploy import runtimes
from ppliteseg_paddle.deploy.paddle_inference import PaddleBackend
from ppliteseg_paddle.losses.cross_entropy import PixelLoss
from ppliteseg_paddle.models.layers import ConvBNReLU
from ppliteseg_paddle.models.uafm import FUSIONS, AddFusion
from paddle import nn

__version__ = "4.2"


class ScratchNet(nn.Layer):
    """A backbone: `feat_channels` and `feat_strides` say what `forward` returns."""

    def __init__(self, in_channels=3, pretrained=None):
        super().__init__()
        self.feat_channels, self.feat_strides = [8, 8, 16, 16, 24], [2, 4, 8, 16, 32]
        widths = [in_channels] + self.feat_channels
        self.stages = nn.LayerList([ConvBNReLU(a, b, 3, stride=2) for a, b in zip(widths, widths[1:])])
        if pretrained is not None:
            from ppliteseg_paddle import load_weights

            load_weights(self, pretrained)

    def forward(self, x):
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class ScratchFusion(AddFusion):
    """A fusion: `fuse` gets two features of one shape."""

    def fuse(self, skip, deep):
        return 0.25 * skip + 0.75 * deep


class ScratchLoss(PixelLoss):
    """A loss: `factors` says how much each pixel counts."""

    def factors(self, losses, label, counted, array):
        return 2.0 * counted.astype("float32")


class ScratchBackend(PaddleBackend):
    """A runtime: `run` turns an input into a mask."""

    name = "scratch"


registry.add("BACKBONES", "scratch_package:ScratchNet")
registry.add("LOSSES", "scratch_package:ScratchLoss")
FUSIONS["scratch"] = (ScratchFusion, {})
runtimes.register(
    runtimes.RuntimeSpec(
        name="scratch",
        title="Scratch",
        graphs=("paddle",),
        packages=("scratch_package",),
        install="pip install scratch-package",
        open=ScratchBackend,
    )
)
'''
MODEL = {
    "type": "PPLiteSegNet",
    "num_classes": 11,
    "backbone": {"type": "ScratchNet"},
    "neck": {"type": "SPPM", "in_channels": 24, "out_channels": 16, "bin_sizes": [1, 2, 4]},
    "head": {
        "type": "FLDHead",
        "in_channels": [16, 16, 24],
        "neck_channels": 16,
        "out_channels": [8, 8, 8],
        "fusion": "scratch",
    },
    "seg_head_channels": [8, 8, 8],
}


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The environment in which the package can be imported."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "scratch_package.py").write_text(PACKAGE)
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture(scope="module")
def command(plugin):
    """Our command line in a process that imports the package first; gives what `--json` prints."""

    def run(*arguments):
        code = "import sys, scratch_package; from ppliteseg_paddle.cli.main import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments), "--json"], env=plugin, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    loss = {"types": [{"type": "ScratchLoss"}], "coef": [1, 1, 1]}
    return write_config(folder / "scratch.yml", values(make_data(folder / "data"), model=MODEL, loss=loss))


@pytest.fixture(scope="module")
def export(command, config, tmp_path_factory):
    """An export of the package's backbone and fusion after a step with its loss."""
    folder = tmp_path_factory.mktemp("run")
    command("train", "--config", config, "--save_dir", folder / "run", "--iters", 1, "--device", "cpu")
    weights = folder / "run" / "iter_1" / "model.pdparams"
    command("export", "--config", config, "--model_path", weights, "--save_dir", folder / "export")
    return folder / "export"


def test_info_describes_the_backbone_and_the_fusion(command, config):
    result = command("info", "--config", config)
    assert [row["shape"][1] for row in result["features"]][:5] == [8, 8, 16, 16, 24]


def test_the_export_holds_its_model_and_predict_runs_it_on_its_runtime(command, export, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), photograph(64, 96))
    flags = ["--image_path", tmp_path / "photo.png", "--save_dir", tmp_path / "out", "--backend", "scratch"]
    assert command("predict", "--model_dir", export, *flags)["backend"]["name"] == "scratch"
    assert (tmp_path / "out" / "mask" / "photo.png").is_file()


def test_benchmark_measures_its_runtime(command, export):
    flags = ["--input_shape", 1, 3, 48, 64, "--repeats", 2, "--warmup", 0]
    result = command("benchmark", "--model_dir", export, "--backend", "scratch", *flags)
    assert result["backend"]["name"] == "scratch" and result["latency_ms"] > 0


def test_doctor_tries_its_runtime(command):
    (row,) = [row for row in command("doctor")["backends"] if row["name"] == "scratch"]
    assert row["ok"] and row["detail"] == "4.2"
