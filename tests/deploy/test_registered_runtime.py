"""A runtime of another package joins the table, and every command knows it. tests/contract has the rows' contract."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from exported import small_folder

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy import runtimes
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.runtimes import RUNTIMES, RuntimeSpec
from ppliteseg_paddle.errors import ConfigError, DependencyError

# A runtime that lies outside of our package: every pixel is class 7.
PACKAGE = """
import numpy as np
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.runtimes import RuntimeSpec

__version__ = "4.2"


class SevenBackend(Backend):
    name, graph = "seven", "paddle"

    def __init__(self, artifact, options):
        self.device = options.device or "cpu"

    def run(self, batch):
        return np.full((len(batch), *batch.shape[2:]), 7, np.uint8)

    def describe(self):
        return {"name": self.name, "runtime": "Seven", "version": __version__, "device": self.device}


SPEC = RuntimeSpec(
    name="seven",
    title="Seven",
    graphs=("paddle", "sevens"),
    packages=("seven_runtime",),
    install="pip install seven-runtime",
    open=SevenBackend,
)
"""


@pytest.fixture
def table(monkeypatch):
    """The table, which is itself again after the test."""
    before = dict(RUNTIMES)
    yield RUNTIMES
    RUNTIMES.clear()
    RUNTIMES.update(before)


@pytest.fixture
def seven(tmp_path, monkeypatch, table):
    """The runtime of a package that is installed for this test alone, as its user registers it."""
    (tmp_path / "seven_runtime.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for processes that are started from here
    import seven_runtime

    runtimes.register(seven_runtime.SPEC)
    return seven_runtime.SPEC


def run_json(capsys, *argv):
    status = main([*map(str, argv), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_registered_runtime_predicts(seven):
    mask = Predictor(small_folder("argmax"), "seven").predict(np.zeros((32, 48, 3), np.uint8))
    assert mask.shape == (32, 48) and (mask == 7).all()


@pytest.mark.parametrize("command", ["predict", "benchmark"])
def test_the_help_of_backend_names_every_runtime_and_a_registered_one(seven, capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = "".join(capsys.readouterr().out.split())  # argparse breaks lines at hyphens, too
    assert "auto,auto:measure,auto:table,tensorrt,onnxruntime,openvino,paddle-trt,paddle,paddle-native,seven" in text


def test_predict_runs_on_a_registered_runtime(seven, tmp_path, capsys):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((32, 48, 3), np.uint8))
    flags = [
        "--model_dir",
        small_folder("argmax"),
        "--image_path",
        tmp_path / "photo.png",
        "--save_dir",
        tmp_path / "out",
    ]
    status, result = run_json(capsys, "predict", *flags, "--backend", "seven", "--outputs", "mask")
    assert status == 0 and result["backend"]["runtime"] == "Seven"
    assert (cv2.imread(str(tmp_path / "out" / "mask" / "photo.png"), cv2.IMREAD_UNCHANGED)[..., 0] >= 0).all()


def test_benchmark_measures_a_registered_runtime(seven, capsys):
    flags = ["--model_dir", small_folder("argmax"), "--backend", "seven", "--input_shape", 1, 3, 32, 48]
    status, result = run_json(capsys, "benchmark", *flags, "--repeats", 2, "--warmup", 0)
    assert status == 0 and result["backend"]["name"] == "seven" and result["stages"]["forward"]["median_ms"] >= 0


def test_doctor_tries_a_registered_runtime_in_a_process_of_its_own(seven, monkeypatch):
    from ppliteseg_paddle.diagnosis import probes

    assert probes.run_probe(seven.probe) == (True, "4.2", "")
    tried = []
    monkeypatch.setattr(probes, "run_probe", lambda code: tried.append(code) or probes.Outcome(True, "fine"))
    assert "seven" in probes.try_all()[1] and seven.probe in tried
    assert "seven_runtime" in probes.versions()


def test_export_and_the_error_of_a_missing_package_know_a_registered_runtime(seven):
    assert runtimes.readers("paddle")[-1] == "seven" and runtimes.readers("sevens") == ("seven",)
    assert "sevens" in runtimes.formats()
    assert runtimes.install_hint("seven_runtime") == "pip install seven-runtime"


def test_the_help_of_export_says_which_runtimes_run_a_format(seven, capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "paddle:paddle-trt,paddle,paddle-native,seven;" in "".join(capsys.readouterr().out.split())


def test_auto_takes_a_registered_runtime_in_its_place(seven, table):
    artifact = Artifact.read(small_folder("argmax"))
    assert open_backend("auto", artifact, "cpu").name != "seven"  # the last row
    del table["seven"]
    runtimes.register(seven, before="paddle")
    assert open_backend("auto", artifact, "cpu").name == "seven"
    assert list(table).index("seven") + 1 == list(table).index("paddle")


def test_a_runtime_that_is_not_installed_is_one_line_with_its_install_command(table):
    runtimes.register(
        RuntimeSpec("absent", "Absent", ("paddle",), ("a_package_of_no_name",), "pip install absent", open=None)
    )
    with pytest.raises(
        DependencyError, match="'absent' needs a_package_of_no_name.*Install it with: pip install absent"
    ):
        open_backend("absent", Artifact.read(small_folder("argmax")))


@pytest.mark.parametrize("name", ["paddle", "auto"])
def test_a_name_that_is_taken_is_refused(name, table):
    with pytest.raises(ConfigError, match=f"a runtime '{name}' exists already"):
        runtimes.register(dataclasses.replace(RUNTIMES["paddle"], name=name))


def test_a_place_before_an_unknown_runtime_is_refused(table):
    with pytest.raises(ConfigError, match="before is 'padle'"):
        runtimes.register(dataclasses.replace(RUNTIMES["paddle"], name="new"), before="padle")


def test_the_paddle_that_is_hinted_at_is_the_one_that_setup_installs():
    setup = pathlib.Path(runtimes.__file__).parents[2] / "setup.py"
    [version] = re.findall(r'"cpu": TRAIN \+ CONVERTER \+ \["paddlepaddle==([\d.]+)"\]', setup.read_text("utf-8"))
    assert RUNTIMES["paddle"].install == f"pip install paddlepaddle=={version}"


def test_the_table_loads_neither_a_runtime_nor_numpy():
    import subprocess
    import sys

    code = (
        "import sys; from ppliteseg_paddle.deploy import runtimes; "
        "print(sorted({'numpy', 'cv2', 'paddle', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
