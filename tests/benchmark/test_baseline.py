"""The baseline computes what our network computes, so that times and masks compare."""

import os

import numpy as np
import paddle
import pytest

from ppliteseg_paddle.benchmark.studies import baseline
from ppliteseg_paddle.benchmark.studies.baseline import VARIANTS


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_baseline_and_ours_have_the_same_weights_and_the_same_scores(variant):
    ours = baseline.build_ours(variant, num_classes=7)
    theirs = baseline.build(variant, num_classes=7, like=ours)
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32))
    ours.eval()
    theirs.eval()
    with paddle.no_grad():
        expected, found = ours(images)[0].numpy(), theirs(images)[0].numpy()
    assert found.shape == (1, 7, 64, 96)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_models_that_differ_are_not_compared():
    with pytest.raises(AssertionError, match="the models differ in"):
        baseline.copy_weights(baseline.build_ours("T", 7), baseline.build("B", 7))


@pytest.mark.slow
def test_the_baselines_own_export_gives_class_ids_in_32_bits(tmp_path):
    files = baseline.export(baseline.build("T", 7), (1, 3, 64, 96), str(tmp_path))
    assert set(files) == {"model", "params"} and set(files.values()) == set(os.listdir(tmp_path))
    from exported import LABELS

    from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
    from ppliteseg_paddle.deploy.backends import open_backend
    from ppliteseg_paddle.deploy.preprocess import Preprocess

    artifact = Artifact(
        str(tmp_path),
        {"type": "PPLiteSeg"},
        LABELS,
        Preprocess([]),
        Tensor("x", "float32", "NCHW", (1, 3, 64, 96), color_order="RGB"),
        Tensor("mask", "int32", "NHW", (1, 64, 96), op="argmax"),
        {"paddle": files},
        {},
    )
    mask = open_backend("paddle", artifact, "cpu", 1).run(np.zeros((1, 3, 64, 96), np.float32))
    assert mask.shape == (1, 64, 96) and mask.dtype == np.int32


def test_its_configuration_is_in_the_repository_and_trains_its_own_model():
    import yaml

    root = os.path.join(os.path.dirname(__file__), "..", "..")
    with open(os.path.join(root, baseline.CONFIG), encoding="utf-8") as file:
        config = yaml.safe_load(file)
    assert config["model"]["type"] == "PPLiteSeg" and config["model"]["backbone"]["type"] == VARIANTS["T"].backbone
    assert {key: config["model"][key] for key in VARIANTS["T"].arguments} == VARIANTS["T"].arguments
    (loss,) = config["loss"]["types"]
    assert {key: loss[key] for key in baseline.OHEM} == baseline.OHEM
