"""Statistics of a data set."""

import math

import cv2
import numpy as np
import pytest
from tiny_data import make_data

from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.data.stats import class_weights, dataset_stats
from ppliteseg_paddle.errors import DataError


@pytest.fixture
def data(tmp_path):
    return StreetScenes(transforms=[], dataset_root=str(make_data(tmp_path / "data")))


@pytest.mark.parametrize("workers", [0, 2])
def test_means_and_shares_are_those_of_all_pixels_in_rgb(data, workers):
    result = dataset_stats(data, data.label_set.classes, workers, progress=False)
    pairs = [data.read(i) for i in range(len(data))]
    pixels = np.concatenate([image.reshape(-1, 3)[:, ::-1] for image, _ in pairs]) / 255
    np.testing.assert_allclose(result["mean"], pixels.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(result["std"], pixels.std(axis=0), atol=1e-9)
    labels = np.concatenate([label.ravel() for _, label in pairs])
    assert result["ignored_share"] == pytest.approx((labels == 255).mean())
    for row in result["classes"]:
        assert row["pixels"] == (labels == row["id"]).sum()
        assert row["share"] == pytest.approx((labels == row["id"]).sum() / (labels != 255).sum())
    assert [row["images"] for row in result["classes"]][:4] == [8, 0, 0, 8]
    assert result["classes"][1]["enet"] is None and result["classes"][1]["median_frequency"] is None


def test_weights_follow_their_papers():
    pixels, area_of = np.array([600, 300, 0, 100]), np.array([1000, 1000, 0, 200])
    median, enet = class_weights(pixels, area_of)
    # frequencies 0.6, 0.3 and 0.5: their median is 0.5
    assert median == [pytest.approx(0.5 / 0.6), pytest.approx(0.5 / 0.3), None, pytest.approx(1.0)]
    assert enet[0] == pytest.approx(1 / math.log(1.02 + 0.6)) and enet[2] is None


def test_a_set_without_labelled_pixels_is_refused(data):
    for _, path in data.file_list:
        cv2.imwrite(path, np.full((48, 64), 255, np.uint8))
    with pytest.raises(DataError, match="no pixel of the data set is labelled"):
        dataset_stats(data, data.label_set.classes, 0, progress=False)
