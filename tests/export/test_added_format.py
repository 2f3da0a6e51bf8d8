"""A format and a runtime of another package: a row each in the tables, and no other file is touched."""

import importlib
import os

import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, eager, model, photograph, small_model

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError

# The format holds Paddle's graph under other names; the runtime reads it back.
PACKAGE = """
import os
from dataclasses import replace

from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.paddle_inference import PaddleBackend
from ppliteseg_paddle.export import paddle


def write(source, artifact, folder):
    roles = {}
    for role, name in paddle.write(source, artifact, folder).items():
        roles[role] = "scratch_" + name
        os.rename(os.path.join(folder, name), os.path.join(folder, roles[role]))
    return roles


class ScratchBackend(Backend):
    name = graph = "scratch"

    def __init__(self, artifact, options):
        self.device = "cpu"
        paddle_graph = replace(artifact, graphs={"paddle": artifact.graphs["scratch"]})
        self._backend = PaddleBackend(paddle_graph, replace(options, device="cpu"))

    def run(self, batch):
        return self._backend.run(batch)

    def describe(self):
        return {**self._backend.describe(), "name": "scratch", "runtime": "Scratch"}
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The package, on the path and in both tables."""
    from ppliteseg_paddle.deploy import runtimes
    from ppliteseg_paddle.export.formats import FORMATS, Format

    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "scratch_format.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    row = runtimes.RuntimeSpec(
        name="scratch",
        title="Scratch",
        graphs=("scratch",),
        packages=("scratch_format",),
        install="pip install scratch-format",
        open=lambda artifact, options: importlib.import_module("scratch_format").ScratchBackend(artifact, options),
    )
    monkeypatch.setitem(runtimes.RUNTIMES, "scratch", row)
    monkeypatch.setitem(FORMATS, "scratch", Format("scratch_format:write", ("scratch_format",)))
    return importlib.import_module("scratch_format")


def export(save_dir, net, **options):
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    options = ExportOptions(LABELS, TRANSFORMS, formats=("scratch",), check_image=photograph(96, 128), **options)
    return export_model(net, str(save_dir), options)


@pytest.mark.slow
def test_a_format_that_was_added_is_written_compared_and_predicted_with(scratch, tmp_path):
    report = export(tmp_path / "export", model())
    assert report["formats"] == ["scratch"] and "scratch_inference.pdiparams" in report["files"]
    assert report["check"]["backend"] == "scratch" and report["check"]["differing_pixels"] <= 1e-3
    predictor = Predictor(tmp_path / "export")
    assert predictor.backend.name == "scratch"
    image = photograph(96, 128)
    assert np.mean(predictor.predict(image) != eager().predict(image)) <= 1e-3


def test_a_format_that_was_added_is_held_to_the_bounds_of_all(scratch, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.ScratchBackend, "run", lambda self, batch: 10 - self._backend.run(batch))
    with pytest.raises(ArtifactError, match="differs from the trained one in .* was not written"):
        export(tmp_path / "export", small_model())
    assert not os.path.exists(tmp_path / "export")


def test_the_command_line_takes_a_format_that_was_added(scratch):
    from ppliteseg_paddle.cli.main import build_parser

    args = build_parser("export").parse_args(["--config", "c.yml", "--model_path", "w", "--format", "scratch"])
    assert args.formats == ["scratch"]
