"""How far confidence is from accuracy, against scikit-learn's and by hand."""

import json

import numpy as np
import paddle
import pytest
from sklearn.calibration import calibration_curve
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.reliability import BINS, confidences_on_device, reliability
from ppliteseg_paddle.engine.val import val


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def expected(confidence, right):
    """(curve of scikit-learn, mean distance from the diagonal) of flat arrays."""
    accuracies, confidences = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    places = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    shares = np.bincount(places, minlength=BINS) / len(places)
    return accuracies, confidences, (shares[shares > 0] * np.abs(accuracies - confidences)).sum()


def check(stored, confidence, right):
    accuracies, confidences, ece = expected(confidence, right)
    rows = [row for row in stored["bins"] if row["pixels"]]
    np.testing.assert_allclose([row["accuracy"] for row in rows], accuracies, atol=1e-5)
    np.testing.assert_allclose([row["confidence"] for row in rows], confidences, atol=1e-5)
    assert stored["ece"] == pytest.approx(ece, abs=1e-6) and ece > 0.01
    assert sum(row["pixels"] for row in rows) == len(right)
    assert stored["accuracy"] == pytest.approx(right.mean()) and stored["confidence"] == pytest.approx(
        confidence.mean(), abs=1e-6
    )


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_bins_and_their_error_are_those_of_scikit_learn(rng, dtype):
    logits = rng.normal(0, 2, (2, 5, 30, 40)).astype(np.float32)
    label = rng.integers(0, 5, (2, 1, 30, 40))
    label[:, :, :4] = 255
    pred = logits.argmax(axis=1)
    known = label[:, 0] != 255
    tensors = paddle.to_tensor(logits), paddle.to_tensor(pred[:, None]), paddle.to_tensor(label.astype(dtype))
    stored = reliability(confidences_on_device(*tensors).numpy())
    check(stored, softmax(logits).max(axis=1)[known], (pred == label[:, 0])[known])


def test_certain_pixels_are_in_the_last_bin_and_ignored_ones_in_none():
    logits = paddle.to_tensor([[200.0, 200.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).reshape([1, 2, 1, 4])
    label = paddle.to_tensor([[0, 1, 1, 0]]).reshape([1, 1, 1, 4])
    counted = confidences_on_device(logits, logits.argmax(axis=1, keepdim=True), label, ignore_index=1).numpy()
    np.testing.assert_array_equal(counted[:, -1], [1, 1, 1])  # two pixels of label 1 are ignored
    np.testing.assert_array_equal(counted.sum(axis=1), [2, 2, 1.5])
    assert reliability(counted)["ece"] == pytest.approx(0.25)


def test_without_a_pixel_there_is_no_error():
    stored = reliability(np.zeros((3, BINS)))
    assert stored["ece"] is None and stored["bins"][0]["confidence"] is None


@pytest.mark.parametrize("batch_size", [1, 4])
def test_val_writes_it_of_all_images(tmp_path, batch_size):
    root = make_data(tmp_path / "data", val=5)
    config = load_config(write_config(root / "c.yml", values(root, model=TINY_MODEL)))
    paddle.seed(3)
    model = build_model(config)
    model.eval()
    paddle.save(model.state_dict(), str(tmp_path / "m.pdparams"))
    path = str(tmp_path / "m.pdparams")
    result = val(config, path, save_dir=str(tmp_path / "val"), progress=False, device="cpu", batch_size=batch_size)
    sure, right = [], []
    for sample in build_val_dataset(config):
        with paddle.no_grad():
            scores = model(paddle.to_tensor(sample["img"])[None])[0].numpy()
        label = np.asarray(sample["label"]).reshape(scores.shape[-2:])
        known = label != 255
        sure.append(softmax(scores)[0].max(axis=0)[known])
        right.append((scores[0].argmax(axis=0) == label)[known])
    stored = json.loads((tmp_path / "val" / "reliability.json").read_text())
    assert stored["ece"] == result["ece"] and stored["bins"][-1]["to"] == 1
    assert stored["ece"] == pytest.approx(expected(np.concatenate(sure), np.concatenate(right))[2], abs=2e-3)
    assert sum(row["pixels"] for row in stored["bins"]) == sum(map(len, right))
