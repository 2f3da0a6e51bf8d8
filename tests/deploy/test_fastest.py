"""`auto` by time: measured once for an export on a machine, kept, and measured anew when something changes."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from exported import export_formats, small_folder

from ppliteseg_paddle import Predictor, environment
from ppliteseg_paddle.deploy import fastest, runtimes
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.deploy.runtimes import RuntimeSpec
from ppliteseg_paddle.errors import ArtifactError, ConfigError


class Timed(Backend):
    """A runtime whose runs take as many seconds as it says, on a clock that stands still otherwise."""

    graph = "paddle"

    def __init__(self, name, seconds, clock):
        self.name, self.seconds, self.clock, self.shapes = name, seconds, clock, []

    def run(self, batch):
        self.clock.now += self.seconds
        self.shapes.append(batch.shape)
        return np.zeros((batch.shape[0], *batch.shape[2:]), np.uint8)


class Clock:
    """Stands in for the module `time`."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def artifact():
    return Artifact.read(small_folder("argmax"))


@pytest.fixture
def rivals(artifact, monkeypatch):
    """Three runtimes, as their table has them; `opened` tells which were opened, in order."""
    monkeypatch.delenv("PPLITESEG_AUTO")
    clock, seconds, opened = Clock(), {"one": 0.020, "two": 0.010, "three": 0.001}, []
    monkeypatch.setattr(fastest, "time", clock)

    def opening(name):
        def open_it(artifact, options):
            opened.append(name)
            if seconds[name] is None:
                raise ArtifactError(f"{name} cannot")
            return Timed(name, seconds[name], clock)

        return open_it

    table = {
        name: RuntimeSpec(name, name, ("paddle",), ("numpy",), "", opening(name), timed=name != "three")
        for name in seconds
    }
    for module in ("backends", "runtimes"):
        monkeypatch.setattr(f"ppliteseg_paddle.deploy.{module}.RUNTIMES", table)
    return seconds, opened


def test_the_fastest_is_taken_and_times_are_kept(rivals, artifact):
    seconds, opened = rivals
    assert open_backend("auto", artifact).name == "two"  # "three" is not timed: the table says that it is slower
    assert opened == ["one", "two", "two"]
    opened.clear()
    seconds.update(one=0.001)  # nobody looks again
    assert open_backend("auto", artifact).name == "two" and opened == ["two"]
    assert open_backend("auto:measure", artifact).name == "one" and opened == ["two", "one", "two", "one"]
    assert open_backend("auto", artifact).name == "one"
    kept = json.loads(Path(os.environ["PPLITESEG_HOME"], fastest.FILE).read_text())
    assert [pytest.approx(times) for times in kept.values()] == [{"one": 0.001, "two": 0.010}]


def test_what_times_depend_on_is_measured_anew(rivals, artifact, monkeypatch, tmp_path):
    _, opened = rivals

    def measured(**options):
        opened.clear()
        open_backend("auto", artifact, **options)
        return len(opened) == 3

    assert measured() and not measured()
    assert measured(num_threads=1) and not measured(num_threads=1)
    assert measured(device="cpu")
    monkeypatch.setattr(environment, "processor", lambda: "another one")
    assert measured() and not measured()
    monkeypatch.setattr(fastest.metadata, "version", lambda name: "9.9")
    assert measured() and not measured()
    folder = tmp_path / "other"
    folder.mkdir()
    for path in Path(artifact.folder).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "deploy.yaml").write_text((folder / "deploy.yaml").read_text() + "\n# another export\n")
    artifact = dataclasses.replace(artifact, folder=str(folder))
    assert measured() and not measured()


def test_one_that_cannot_run_it_is_last_and_one_that_is_hardly_faster_does_not_win(rivals, artifact):
    seconds, _ = rivals
    seconds["two"] = 0.0198
    assert open_backend("auto", artifact).name == "one"
    seconds["one"] = None
    assert open_backend("auto:measure", artifact).name == "two"


@pytest.mark.parametrize("content", ["", "[]", '{"KEY": {"one": -1.0, "two": 1.0}}', '{"KEY": {"one": 0.5}}'])
def test_a_damaged_file_is_measured_anew(rivals, artifact, content, monkeypatch):
    _, opened = rivals
    monkeypatch.setattr(fastest, "_key", lambda *args: "KEY")
    path = Path(os.environ["PPLITESEG_HOME"], fastest.FILE)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert open_backend("auto", artifact).name == "two" and len(opened) == 3
    assert json.loads(path.read_text())["KEY"] == pytest.approx({"one": 0.020, "two": 0.010})


def test_without_a_place_to_keep_times_it_measures_each_time(rivals, artifact, tmp_path, monkeypatch):
    _, opened = rivals
    (tmp_path / "file").touch()
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "file" / "home"))
    for _ in range(2):
        assert open_backend("auto", artifact).name == "two"
    assert opened == ["one", "two", "two"] * 2


@pytest.mark.parametrize("name, variable", [("auto:table", None), ("auto", "table")])
def test_nothing_is_timed_where_the_table_shall_decide(rivals, artifact, monkeypatch, name, variable):
    if variable:
        monkeypatch.setenv("PPLITESEG_AUTO", variable)
    assert open_backend(name, artifact).name == "one" and rivals[1] == ["one"]


def test_an_unknown_word_in_the_variable_is_refused(artifact, monkeypatch):
    monkeypatch.setenv("PPLITESEG_AUTO", "tabel")
    with pytest.raises(ConfigError, match="PPLITESEG_AUTO is 'tabel'; give measure or table, or unset it."):
        open_backend("auto", artifact)


def test_the_table_knows_what_leads_in_a_precision(artifact):
    order = {
        precision: [spec.name for spec in fastest.by_table(list(runtimes.RUNTIMES.values()), artifact_of(precision))]
        for precision in ("fp32", "int8")
    }
    assert order["fp32"] == list(runtimes.RUNTIMES) and order["int8"][0] == "openvino"
    assert [name for name in order["int8"] if name != "openvino"] == [
        name for name in order["fp32"] if name != "openvino"
    ]
    of_any_size = dataclasses.replace(artifact_of("int8"), input=artifact.input)
    assert artifact.input.dynamic
    assert fastest.by_table(list(runtimes.RUNTIMES.values()), of_any_size) == list(runtimes.RUNTIMES.values())


def artifact_of(precision):
    artifact = Artifact.read(small_folder("argmax"))
    fixed = dataclasses.replace(artifact.input, shape=(1, 3, 64, 96))
    return dataclasses.replace(artifact, precision=precision, input=fixed)


def test_runs_are_of_the_size_that_the_export_was_made_for(rivals, artifact, monkeypatch):
    made = []
    monkeypatch.setattr(fastest, "_SECONDS", 0.0)
    backend = Timed("one", 0.01, fastest.time)
    shape = artifact.input.shape
    expected = tuple(size if size > 0 else other for size, other in zip(shape, (1, 3, 384, 384)))
    fastest._seconds_of(backend, artifact)
    made.append(set(backend.shapes))
    usual = (2, 3, 64, 96)
    ranges = type("Range", (), {"opt": usual})
    backend.shapes.clear()
    fastest._seconds_of(backend, dataclasses.replace(artifact, dynamic_shape=ranges))
    assert [*made, set(backend.shapes)] == [{expected}, {usual}]
    assert len(backend.shapes) == 5  # two to warm up, three at least


@pytest.mark.slow
def test_real_runtimes_are_timed_and_the_faster_one_opens(monkeypatch):
    monkeypatch.delenv("PPLITESEG_AUTO")
    predictor = Predictor(export_formats())
    [times] = json.loads(Path(os.environ["PPLITESEG_HOME"], fastest.FILE).read_text()).values()
    assert set(times) == {"onnxruntime", "openvino"} and all(seconds > 0 for seconds in times.values())
    faster = "openvino" if times["openvino"] * (1 + fastest._MARGIN) < times["onnxruntime"] else "onnxruntime"
    assert predictor.backend.name == faster
    assert Predictor(export_formats()).backend.name == faster
