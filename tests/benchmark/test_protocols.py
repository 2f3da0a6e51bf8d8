import json

import cv2
import numpy as np
import pytest
from exported import photograph, small_folder

from ppliteseg_paddle.benchmark.protocols import (
    PAPER_IMAGE,
    PARTS,
    Candidate,
    latency,
    paper,
    paper_image,
    resizing_to,
    result_of,
)
from ppliteseg_paddle.benchmark.throughput import throughput
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ConfigError


def candidate(name="a", backend="paddle-native", **options):
    return Candidate(name, Artifact.read(small_folder(**{"output_op": "argmax", **options})), backend, "cpu", 1)


def test_latency_times_the_stages_together_and_apart():
    seen = []
    (row,) = latency(
        [candidate()], {"a": photograph(64, 96)}, warmup=1, repeats=4, progress=lambda done, of: seen.append((done, of))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)] and row["repeats"] == 4 and row["warmup"] == 1
    assert list(row["stages"]) == [
        "normalise",
        "copy_in",
        "forward",
        "copy_out",
        "preprocess",
        "inference",
        "postprocess",
        "total",
    ]
    assert list(row["fused"]) == ["argmax"]
    assert row["image_size"] == [96, 64] and row["input_shape"] == [1, 3, 64, 96] and row["precision"] == "fp32"
    means = {stage: values["mean_ms"] for stage, values in row["stages"].items()}
    np.testing.assert_allclose(sum(means[part] for part in PARTS if part in means), means["total"], rtol=1e-6)
    assert row["latency_ms"] == row["stages"]["total"]["median_ms"] > 0 and row["fps"] == 1000 / row["latency_ms"]
    assert row["backend"]["version"] and row["model"]["type"] == "Small"
    result = result_of([row])
    assert json.loads(json.dumps(result)) == result and result["machine"]["processor"] and "compared" not in result


def test_candidates_are_timed_round_robin_and_get_ratios_to_the_first():
    both = [candidate("a"), candidate("b", "paddle")]
    rows = latency(both, {"a": photograph(64, 96), "b": photograph(64, 96)}, warmup=1, repeats=2)
    assert [row["backend"]["name"] for row in rows] == ["paddle-native", "paddle"]
    assert rows[0]["times_faster"] == {"median": 1.0, "p25": 1.0, "p75": 1.0} and rows[1]["times_faster"]["median"] > 0
    result = result_of(rows)
    assert result["name"] == "a" and [row["name"] for row in result["compared"]] == ["b"]


def test_the_papers_protocol_resizes_there_and_back_and_does_not_count_decoding():
    encoded, done = paper_image(photograph(256, 512))
    assert done == "resized from 256x512 beforehand"
    (row,) = paper([candidate()], encoded, (64, 128), warmup=0, repeats=2)
    assert row["image_size"] == [PAPER_IMAGE[1], PAPER_IMAGE[0]] and row["input_shape"] == [1, 3, 64, 128]
    means = {stage: values["mean_ms"] for stage, values in row["stages"].items()}
    assert {"decode", "resize", "normalise", "forward", "resize_back"} <= set(means)
    np.testing.assert_allclose(sum(means[part] for part in PARTS if part in means), means["total"], rtol=1e-6)
    np.testing.assert_allclose(
        means["preprocess"] + means["inference"] + means["postprocess"], means["total"], rtol=1e-6
    )


def test_scores_have_an_argmax_of_their_own():
    (row,) = latency([candidate(output_op="none")], {"a": photograph(64, 96)}, warmup=0, repeats=1)
    assert "argmax" in row["stages"] and row["fused"] == {}


def test_a_fixed_graph_keeps_its_own_resizing():
    artifact = Artifact.read(small_folder("argmax", (1, 3, 64, 96)))
    assert resizing_to(artifact, (32, 32)) is artifact
    assert resizing_to(Artifact.read(small_folder("argmax")), (32, 64)).preprocess.input_size(1024, 2048) == (32, 64)


def test_throughput_finds_a_number_of_streams_and_batch():
    (row,) = throughput([candidate()], {"a": photograph(64, 96)}, windows=2, window=0.0)
    assert row["streams"] >= 1 and row["batch_size"] >= 1 and row["tried"]
    assert row["input_shape"] == [row["batch_size"], 3, 64, 96] and row["fps"] > 0 and row["windows"] == 2
    assert {(each["streams"], each["batch_size"]) for each in row["tried"]} >= {(1, 1), (2, 1)}
    assert json.loads(json.dumps(row)) == row


def test_throughput_takes_given_numbers():
    (row,) = throughput([candidate()], {"a": photograph(64, 96)}, streams=1, batch_size=2, windows=1, window=0.0)
    assert (row["streams"], row["batch_size"], row["input_shape"], row["tried"]) == (1, 2, [2, 3, 64, 96], [])


def test_a_batch_that_the_graph_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="takes one image at a time, not 4"):
        throughput([candidate(input_shape=(1, 3, 64, 96))], {"a": photograph(64, 96)}, batch_size=4, window=0.0)


def test_what_is_timed_gives_the_predictors_mask():
    predictor = candidate().open()
    image = photograph(64, 96)
    batch, undo = predictor.artifact.preprocess(image, lambda step: None)
    steps = []
    mask = predictor.postprocess(predictor.backend.run_in_steps(batch, steps.append), undo)
    assert steps == ["copy_in", "forward", "copy_out"] and np.array_equal(mask, predictor.predict(image))
    assert cv2.imdecode(paper_image(image)[0], cv2.IMREAD_COLOR).shape[:2] == PAPER_IMAGE
