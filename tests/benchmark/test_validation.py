"""The benchmark of evaluation: what its candidates count, and what it makes of their times."""

import argparse
import json

import numpy as np
import paddle  # after ours
import pytest
from exported import small_folder
from tiny_data import make_data

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.benchmark.studies import baseline, validation
from ppliteseg_paddle.benchmark.studies import validation_candidate as candidates
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.lists import read_list
from ppliteseg_paddle.registry import register

CLASSES = 11


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Two images and random weights; the candidates leave this process as it is."""
    register()
    from paddleseg.utils import metrics

    monkeypatch.setattr(metrics, "calculate_area", metrics.calculate_area)
    for name in ("use_all_cores", "keep_freed_memory"):
        monkeypatch.setattr(candidates.environment, name, lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = make_data(tmp_path / "data", train=1, val=2)
    paddle.seed(3)
    weights = str(tmp_path / "model.pdparams")
    paddle.save(baseline.build_ours("T", CLASSES).state_dict(), weights)
    return candidates.Options("T", CLASSES, weights, str(root), str(small_folder("argmax")), "paddle")


def counted(options, mask_of):
    """Pixels of each class that agree, are predicted, are labelled, one class at a time."""
    total = np.zeros((3, CLASSES), np.int64)
    for pair in read_list(f"{options.root}/val.txt", options.root):
        mask, label = mask_of(read_image(pair.image)), read_label(pair.label)
        known = label != 255
        for number in range(CLASSES):
            predicted, labelled = (mask == number) & known, label == number
            total[:, number] += [(predicted & labelled).sum(), predicted.sum(), labelled.sum()]
    return total


def test_both_evaluations_count_the_same_pixels_of_the_same_weights(options):
    network = options.network()
    network.eval()

    def mask_of(image):
        pixels = (image[:, :, ::-1] / np.float32(255) - 0.5) / 0.5
        with paddle.no_grad():
            logits = network(paddle.to_tensor(pixels.transpose(2, 0, 1)[np.newaxis].astype("float32")))[0]
        return logits.numpy()[0].argmax(axis=0)

    expected = counted(options, mask_of)
    ties = max(2, expected[2].sum() // 1000)  # of random weights, in another order of sums
    for kind in (candidates.PaddleSegs, candidates.Ours):
        found = kind(options).areas()
        assert np.array_equal(found[2], expected[2])
        assert np.abs(found - expected).max() <= ties


def test_the_exported_model_is_counted_by_its_own_masks(options):
    predictor = Predictor(options.exported, "paddle")
    bare = candidates.Exported(options)
    bare.evaluate()
    assert np.array_equal(bare.areas(), counted(options, predictor.predict))


class Stopwatch:
    """In place of a candidate's process."""

    def __init__(self, seconds, areas):
        self.seconds, self.areas = seconds, areas

    def ask(self, work):
        return {"areas": self.areas} if work == "count" else {"total": self.seconds, "cpu": 2 * self.seconds}

    def close(self):
        pass


def test_rates_are_of_images_and_ratios_of_rounds(tmp_path, monkeypatch):
    root = make_data(tmp_path, train=1, val=4)
    areas = [[5, 6], [8, 8], [8, 8]]
    others = [[5, 7], [8, 8], [8, 8]]
    made = {
        "paddleseg": Stopwatch(8.0, areas),
        validation.OURS: Stopwatch(2.0, areas),
        "exported": Stopwatch(1.0, others),
    }
    monkeypatch.setattr(validation, "_exported", lambda *_: None)
    monkeypatch.setattr(validation, "_start", lambda name, *_: made[name])
    args = argparse.Namespace(
        **{"root": str(root), "model": "T", "num_classes": 2, "model_path": None, "backend": "onnxruntime"},
        **{"num_threads": 1, "warmup": 0, "repeats": 2},
    )
    result = json.loads(json.dumps(validation.run(args)))
    rows = result["results"]
    assert result["images"] == 4 and list(rows) == ["paddleseg", validation.OURS, "exported"]
    assert [rows[name]["wall"]["fps"] for name in rows] == pytest.approx([0.5, 2.0, 4.0])
    assert rows[validation.OURS]["cpu"]["median_ms"] == pytest.approx(1000)
    assert rows[validation.OURS]["times_faster"] == {"wall": 4.0, "cpu": 4.0}
    assert [rows[name]["share_of_exported"] for name in rows] == [0.125, 0.5, 1.0]
    assert [rows[name]["largest_difference"] for name in rows] == [0, 0, 1]
    assert rows[validation.OURS]["mIoU"] == pytest.approx((5 / 11 + 6 / 10) / 2)
    assert "ppliteseg val" in validation.table(result) and "of 16: PaddleSeg's evaluation 0" in validation.table(result)
