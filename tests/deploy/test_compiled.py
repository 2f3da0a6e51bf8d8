"""OpenVINO's compiled INT8 models are kept for the next start, and never taken where they do not fit."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import SIZE, tiny_artifact

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy import compiled
from ppliteseg_paddle.deploy import openvino as ours
from ppliteseg_paddle.deploy.compiled import Compiled
from ppliteseg_paddle.deploy.interface import Options

BATCH = np.random.RandomState(1).randn(1, 3, *SIZE).astype(np.float32)


class Watched:
    """OpenVINO's `Core`, and which ways to a compiled model were taken."""

    def __init__(self, core):
        self._core, self.calls = core, []

    def read_model(self, path):
        return self._core.read_model(path)

    def compile_model(self, *arguments):
        self.calls.append("compiled")
        return self._core.compile_model(*arguments)

    def import_model(self, *arguments):
        self.calls.append("taken")
        return self._core.import_model(*arguments)


@pytest.fixture
def opened(monkeypatch):
    """A function: opens an export and returns its mask of BATCH, and the way to the compiled model."""
    import openvino

    core = Watched(ours.shared_core(openvino.Core))
    monkeypatch.setattr(ours, "shared_core", lambda kind: core)

    def open_it(artifact, **options):
        core.calls.clear()
        mask = ours.OpenVinoBackend(artifact, Options(**{"num_threads": 1, **options})).run(BATCH)
        return mask, core.calls[-1]

    return open_it


@pytest.fixture
def artifact(tmp_path):
    """An export that says that it is INT8."""
    return dataclasses.replace(tiny_artifact(tmp_path / "export"), precision="int8")


def kept():
    return sorted(Path(os.environ["PPLITESEG_HOME"], compiled.FOLDER).glob("*"))


def expected(artifact):
    """The mask by plain arithmetic."""
    import onnx
    from onnx import numpy_helper

    weight = numpy_helper.to_array(onnx.load(artifact.path_of("onnx", "model")).graph.initializer[0])
    padded = np.pad(BATCH[0], ((0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", views, weight).argmax(axis=0)[np.newaxis]


def test_the_second_start_takes_what_the_first_one_compiled_and_gives_the_same_mask(artifact, opened, monkeypatch):
    first, how = opened(artifact)
    assert how == "compiled" and len(kept()) == 1 and np.array_equal(first, expected(artifact))
    second, how = opened(artifact)
    assert how == "taken" and np.array_equal(second, first)
    monkeypatch.setenv("PPLITESEG_COMPILED", "0")
    without, how = opened(artifact)
    assert how == "compiled" and np.array_equal(without, first) and len(kept()) == 1


def test_by_a_variable_nothing_is_kept(artifact, opened, monkeypatch):
    monkeypatch.setenv("PPLITESEG_COMPILED", "0")
    assert opened(artifact)[1] == "compiled" and not kept()


def test_float_models_are_not_kept(artifact, opened):
    assert opened(dataclasses.replace(artifact, precision="fp32"))[1] == "compiled" and not kept()


def test_whatever_a_compiled_model_depends_on_has_another_file(artifact, opened, monkeypatch, tmp_path):
    def anew(artifact, **options):
        return [opened(artifact, **options)[1] for _ in range(2)] == ["compiled", "taken"]

    assert anew(artifact) and anew(artifact, num_threads=2)
    # Another graph in the same folder, under the same description.
    Path(artifact.path_of("onnx", "model")).write_bytes(
        Path(tiny_artifact(tmp_path / "other", seed=1).path_of("onnx", "model")).read_bytes()
    )
    assert anew(artifact) and np.array_equal(opened(artifact)[0], expected(artifact))
    for name in ("processor", "instruction_sets"):
        monkeypatch.setattr(environment, name, lambda: "another one")
        assert anew(artifact)
    assert len(kept()) == 5


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _changed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _changed, lambda path: path.write_bytes(b"")], ids=["cut", "bit", "empty"])
def test_a_damaged_file_is_compiled_anew(artifact, opened, damage):
    mask, _ = opened(artifact)
    [path] = kept()
    damage(path)
    again, how = opened(artifact)
    assert how == "compiled" and np.array_equal(again, mask) and kept() == [path]
    assert opened(artifact)[1] == "taken"


def test_another_models_file_under_its_name_is_not_taken(artifact, opened, tmp_path):
    opened(artifact)
    [foreign] = kept()
    other = dataclasses.replace(tiny_artifact(tmp_path / "other", seed=1), precision="int8")
    opened(other)
    [own] = [path for path in kept() if path != foreign]
    own.write_bytes(foreign.read_bytes())
    mask, how = opened(other)
    assert how == "compiled" and np.array_equal(mask, expected(other))


def test_what_openvino_refuses_is_compiled_anew(artifact, opened, monkeypatch):
    monkeypatch.setattr(Compiled, "read", lambda self: b"not of OpenVINO")
    mask, how = opened(artifact)
    assert how == "compiled" and np.array_equal(mask, expected(artifact))


def test_without_a_place_to_keep_it_every_start_compiles(artifact, opened, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "file" / "home"))
    assert [opened(artifact)[1] for _ in range(2)] == ["compiled"] * 2


def test_what_was_used_longest_ago_goes_when_there_is_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_MAX_BYTES", 3000)
    models = [Compiled("openvino", str(number), "int8", [], {}) for number in range(3)]
    for age, model in zip((30, 20), models):
        model.keep(lambda: b"x" * 1200)
        os.utime(model.path, (1e9 - age, 1e9 - age))
    (Path(models[0].path).parent / "notes.txt").write_text("x" * 5000)
    assert models[0].read() == b"x" * 1200  # which makes it the younger one
    models[2].keep(lambda: b"y" * 1200)
    assert [model.read() is not None for model in models] == [True, False, True]
    assert (Path(models[0].path).parent / "notes.txt").exists()


def test_a_graph_of_fixed_size_is_tried_once(artifact, monkeypatch):
    shapes, run = [], ours.OpenVinoBackend.run

    def watched(self, batch):
        shapes.append(batch.shape)
        return run(self, batch)

    monkeypatch.setattr(ours.OpenVinoBackend, "run", watched)
    ours.OpenVinoBackend(artifact, Options(num_threads=1))
    assert shapes == [(1, 3, *SIZE)]
