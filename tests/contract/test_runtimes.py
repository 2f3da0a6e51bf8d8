"""What every row of the table of runtimes owes those who read it, and every installed one the predictor."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, few_ties, photograph, small_model

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.interface import COMPUTED, trial_input
from ppliteseg_paddle.deploy.runtimes import RUNTIMES, backend_names, distributions, formats, install_hint, readers
from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError

every_runtime = pytest.mark.parametrize("name", list(RUNTIMES))
STEPS = ("copy_in", "forward", "copy_out")
CONVERTS = paddle_version() >= (3,) and all(
    importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "openvino", "paddle2onnx")
)
FORMATS = ("paddle", "onnx", "openvino") if CONVERTS else ("paddle",)
on_this_cpu = pytest.mark.parametrize(
    "name",
    [
        name
        for name, spec in RUNTIMES.items()
        if "cpu" in spec.devices and spec.installed and set(spec.graphs) & set(FORMATS)
    ],
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A small model in every format that can be made here."""
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    folder = str(tmp_path_factory.mktemp("runtimes") / "export")
    export_model(small_model(), folder, ExportOptions(LABELS, TRANSFORMS, FORMATS, check_image=photograph(64, 96)))
    return Artifact.read(folder)


@every_runtime
def test_its_row_says_what_the_commands_ask_for(name):
    spec = RUNTIMES[name]
    assert spec.name == name and spec.title and spec.graphs and spec.packages and spec.distributions
    assert spec.install.startswith("pip install ")
    assert set(spec.devices) <= {"cpu", "gpu"} and spec.devices
    assert all(set(precisions) <= set(COMPUTED) and precisions for precisions in spec.precisions.values())
    assert isinstance(spec.installed, bool) and isinstance(spec.may_use_gpu(), bool)
    compile(spec.probe, name, "exec")


@every_runtime
def test_it_is_known_by_every_question_to_the_table(name):
    spec = RUNTIMES[name]
    assert name in backend_names() and set(spec.distributions) <= set(distributions())
    assert all(name in readers(graph) and graph in formats() for graph in spec.graphs)
    assert all(install_hint(package) for package in spec.packages)


@every_runtime
def test_without_its_package_there_is_one_line_with_the_command_that_installs_it(name, artifact, monkeypatch):
    spec = RUNTIMES[name]
    monkeypatch.setattr(type(spec), "reads", lambda self, artifact: True)
    monkeypatch.setattr(type(spec), "installed", False)
    with pytest.raises(DependencyError) as caught:
        open_backend(name, artifact)
    assert str(caught.value).endswith(f"Install it with: {spec.install}") and "\n" not in str(caught.value)


@every_runtime
def test_without_a_graph_for_it_there_is_one_line_with_the_format_to_export(name, artifact):
    with pytest.raises(ArtifactError, match=f"Export it with --format {RUNTIMES[name].graphs[0]}"):
        open_backend(name, dataclasses.replace(artifact, graphs={}))


@every_runtime
def test_a_precision_that_it_does_not_have_is_refused_with_those_it_has(name, artifact):
    has = {precision for each in RUNTIMES[name].precisions.values() for precision in each}
    for precision in set(COMPUTED) - has:
        with pytest.raises(ConfigError, match=f"'{name}' has no {precision}; it has"):
            open_backend(name, artifact, precision=precision)


@on_this_cpu
def test_its_masks_are_the_models(name, artifact):
    from ppliteseg_paddle.export.eager import EagerBackend

    backend = open_backend(name, artifact, "cpu")
    eager = EagerBackend(small_model(), "argmax", LABELS.num_classes)
    for size in ((64, 96), (33, 47)):
        batch = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
        mask = backend.run(batch)
        assert mask.shape == (1, *size)
        assert (mask != eager.run(batch)).mean() <= few_ties(mask.size)


@on_this_cpu
def test_in_steps_it_gives_the_same_mask_and_names_known_steps_in_their_order(name, artifact):
    backend = open_backend(name, artifact, "cpu")
    batch, done = trial_input(artifact, backend.graph), []
    np.testing.assert_array_equal(backend.run_in_steps(batch, done.append), backend.run(batch))
    assert done and done == [step for step in STEPS if step in done] and "forward" in done


@on_this_cpu
def test_it_describes_itself_for_reports(name, artifact):
    backend = open_backend(name, artifact, "cpu", num_threads=1)
    described = backend.describe()
    assert described["name"] == backend.name == name and described["device"] == backend.device == "cpu"
    assert described["runtime"] and described["version"] and backend.graph in RUNTIMES[name].graphs
    assert described["num_threads"] == 1
