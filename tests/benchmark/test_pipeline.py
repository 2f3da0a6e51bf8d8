"""The benchmark of `predict`'s pipelines, on few and small images."""

import argparse
import json
import os

import pytest
from exported import small_folder

from ppliteseg_paddle.benchmark.studies import pipeline
from ppliteseg_paddle.benchmark.studies.pipeline_stages import STAGES, bound
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pipeline.make_data(str(tmp_path_factory.mktemp("data")), 2, (96, 64))


@pytest.fixture
def result(monkeypatch, tmp_path, data):
    monkeypatch.setattr(pipeline, "make_data", lambda *_: data)
    artifact = Artifact.read(small_folder("argmax"))
    monkeypatch.setattr(pipeline, "build_ours", lambda *_: None)
    monkeypatch.setattr(
        pipeline, "open_candidates", lambda *_: {"paddle fp32": (artifact, open_backend("paddle", artifact, "cpu", 1))}
    )
    monkeypatch.setattr(pipeline.tempfile, "tempdir", str(tmp_path))
    args = argparse.Namespace(
        **{"size": [96, 64], "images": 2, "candidates": [], "sources": list(pipeline.SOURCES), "num_threads": 1},
        **{"warmup": 0, "repeats": 1, "streams": [2]},
    )
    found = json.loads(json.dumps(pipeline.run(args)))
    assert not os.listdir(tmp_path)
    return found


def test_each_source_is_set_against_the_model_alone(result):
    rows = result["results"]["paddle fp32"]["sources"]
    names = [name for source in pipeline.SOURCES for name in (source, f"{source}, 2 streams")]
    assert list(rows) == [pipeline.BARE, *names]
    bare = rows.pop(pipeline.BARE)
    assert bare["share_of_bare"]["wall"] == 1
    for row in rows.values():
        assert row["share_of_bare"]["wall"] == pytest.approx(bare["wall"]["median_ms"] / row["wall"]["median_ms"])
    for source in pipeline.SOURCES:
        stages = rows[source]["stages"]
        assert tuple(stages) == STAGES and all(stages[stage]["wall"] > 0 for stage in STAGES)
    text = pipeline.table(result)
    assert all(name in text for name in rows) and "2 images of 96x64, 1 threads" in text


def test_images_that_get_lost_are_noticed(monkeypatch, tmp_path, data):
    assert len(os.listdir(data.folder)) == 2
    monkeypatch.setitem(pipeline.SOURCES, "folder", pipeline.Source(lambda *_: 1, lambda *_: {}))
    calls = pipeline.calls_of({1: _Predictor()}, None, data, ["folder"], str(tmp_path))
    with pytest.raises(AssertionError, match="folder gave 1 of 2 images"):
        calls["folder"]()


class _Predictor:
    def preprocess(self, image):
        return image, []


def test_the_bound_is_the_networks_share_of_the_processor():
    ms = {stage: {"wall": 1.0, "cpu": cpu} for stage, cpu in zip(STAGES, (5, 2, 80, 1, 4, 8))}
    assert bound(ms) == {"share": 0.8, "next": "write"}
