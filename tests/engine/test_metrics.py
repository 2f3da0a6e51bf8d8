import numpy as np
import pytest

from ppliteseg_paddle.engine.metrics import confusion_matrix, scores
from ppliteseg_paddle.registry import register


def random_maps(rng, classes, ignored, used=None):
    label = rng.choice(used if used is not None else classes, (2, 19, 23)).astype(np.int64)
    pred = np.where(rng.random(label.shape) < 0.6, label, rng.integers(0, classes, label.shape))
    label[rng.random(label.shape) < ignored] = 255
    return pred, label


@pytest.mark.parametrize("ignored, used", [(0.0, None), (0.3, None), (0.3, [0, 2]), (0.99, [1])])
def test_scores_equal_paddlesegs_functions(rng, ignored, used):
    register()
    import paddle
    from paddleseg.utils import metrics

    pred, label = random_maps(rng, 5, ignored, used)
    areas = metrics.calculate_area(paddle.to_tensor(pred), paddle.to_tensor(label), 5, ignore_index=255)
    ours = scores(confusion_matrix(pred, label, 5))
    class_iou, miou = metrics.mean_iou(*areas)
    accuracy, precision, recall = metrics.class_measurement(*areas)
    class_dice, dice = metrics.dice(*areas)
    assert ours["mIoU"] == pytest.approx(float(miou), abs=1e-12)
    assert ours["acc"] == pytest.approx(float(accuracy), abs=1e-12)
    assert ours["kappa"] == pytest.approx(float(metrics.kappa(*areas)), abs=1e-12)
    assert ours["dice"] == pytest.approx(float(dice), abs=1e-12)
    np.testing.assert_allclose(ours["class_iou"], class_iou, atol=1e-12)
    np.testing.assert_allclose(ours["class_dice"], class_dice, atol=1e-12)
    np.testing.assert_allclose(ours["class_precision"], precision, atol=1e-12)
    np.testing.assert_allclose(ours["class_recall"], recall, atol=1e-12)


def test_the_matrix_counts_labels_in_rows_and_leaves_ignored_pixels_out():
    matrix = confusion_matrix(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 255]), 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_a_known_matrix_gives_known_scores():
    result = scores(np.array([[3, 1], [1, 3]]))
    assert result["class_iou"] == [0.6, 0.6]
    assert (result["mIoU"], result["acc"], result["dice"], result["kappa"]) == (pytest.approx(0.6), 0.75, 0.75, 0.5)


def test_an_absent_class_counts_as_zero_and_is_marked():
    result = scores(np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]]))
    assert result["class_iou"] == [1.0, 1.0, 0.0]
    assert result["mIoU"] == pytest.approx(2 / 3)
    assert result["present"] == [True, True, False]


def test_scores_of_no_pixels_are_zero_and_kappa_is_undefined():
    result = scores(np.zeros((3, 3), np.int64))
    assert (result["mIoU"], result["acc"], result["dice"]) == (0.0, 0.0, 0.0)
    assert np.isnan(result["kappa"])


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
