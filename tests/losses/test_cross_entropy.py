import numpy as np
import paddle
import pytest

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.losses.cross_entropy import CELoss, OhemCELoss

IGNORED = 255


def reference(logits, label, thresh=None, min_kept=0, weight=None, eps=0.0):
    """Value and gradient by the definition, in float64, with a full sort of the true classes' probabilities."""
    logits = logits.astype(np.float64)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    softmax = exp / exp.sum(1, keepdims=True)
    valid = label != IGNORED
    classes = np.where(valid, label, 0)
    true = np.take_along_axis(softmax, classes[:, None], 1)[:, 0]
    kept = valid.copy()
    if thresh is not None and 0 < min_kept < valid.sum():
        threshold = max(thresh, np.sort(true[valid])[min_kept - 1])
        kept &= true < threshold
    factor = kept * (1.0 if weight is None else np.asarray(weight)[classes])
    total = factor.sum() + eps * label.size
    one_hot = np.eye(logits.shape[1])[classes].transpose(0, 3, 1, 2)
    return (factor * -np.log(true)).sum() / total, (softmax - one_hot) * factor[:, None] / total


def value_and_gradient(loss, logits, label):
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    value = loss(tensor, paddle.to_tensor(label))
    assert list(value.shape) == []
    value.backward()
    return float(value), tensor.grad.numpy()


@pytest.fixture
def batch(rng):
    logits = rng.standard_normal((2, 5, 12, 17)).astype(np.float32) * 3
    label = rng.integers(0, 5, (2, 12, 17))
    label[rng.random(label.shape) < 0.1] = IGNORED
    return logits, label


def agrees(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


def test_the_plain_loss_is_the_mean_over_the_pixels_that_count(batch):
    agrees(value_and_gradient(CELoss(), *batch), reference(*batch, eps=1e-8))


def test_class_weights_weigh_the_mean(batch):
    weight = [1.0, 2.0, 0.5, 3.0, 1.5]
    agrees(value_and_gradient(CELoss(weight=weight), *batch), reference(*batch, weight=weight, eps=1e-8))


def test_the_wrong_number_of_weights_is_refused(batch):
    with pytest.raises(ConfigError, match="CELoss has 2 weights, but the logits have 5 classes"):
        CELoss(weight=[1.0, 2.0])(paddle.to_tensor(batch[0]), paddle.to_tensor(batch[1]))


@pytest.mark.parametrize("thresh, min_kept", [
    (0.7, 50),  # enough pixels below the threshold
    (0.001, 100),  # too few: the hundredth hardest sets it
    (0.5, 1), (0.999, 10), (0.01, 300), (0.7, 10 ** 6), (0.7, 0)])
def test_hard_examples_are_those_that_a_full_sort_gives(batch, thresh, min_kept):
    found = value_and_gradient(OhemCELoss(thresh, min_kept), *batch)
    agrees(found, reference(*batch, thresh=thresh, min_kept=min_kept, eps=1e-5))


def test_ties_at_the_threshold_fall_out_together_as_in_a_full_sort():
    logits = np.zeros((1, 2, 4, 4), np.float32)
    logits[0, 0, :2] = 2.0  # eight pixels with the same low loss, eight with the same high one
    label = np.zeros((1, 4, 4), np.int64)
    found = value_and_gradient(OhemCELoss(0.3, 12), logits, label)
    agrees(found, reference(logits, label, thresh=0.3, min_kept=12, eps=1e-5))
    np.testing.assert_allclose(found[0], np.log(2), rtol=1e-4)


@pytest.mark.parametrize("loss", [CELoss(), OhemCELoss(0.7, 10)])
def test_a_batch_without_any_labelled_pixel_gives_zero_and_no_gradient(batch, loss):
    value, gradient = value_and_gradient(loss, batch[0], np.full_like(batch[1], IGNORED))
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("loss", [CELoss(), OhemCELoss(0.7, 10)])
def test_a_label_with_a_channel_dimension_means_the_same(batch, loss):
    logits, label = batch
    assert float(loss(paddle.to_tensor(logits), paddle.to_tensor(label))) == \
        float(loss(paddle.to_tensor(logits), paddle.to_tensor(label[:, None])))


@pytest.mark.parametrize("arguments, text", [((1.5, 10), "thresh is 1.5, but must be between 0 and 1"),
                                             ((0.7, -1), "min_kept is -1, but must be a whole number, 0 or more")])
def test_settings_out_of_range_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        OhemCELoss(*arguments)
