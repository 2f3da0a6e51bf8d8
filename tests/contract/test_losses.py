"""What every loss owes PaddleSeg's loop: one number, its gradient, and no say for ignored pixels."""

import numpy as np
import paddle
import pytest
from registered import component, registered

from ppliteseg_paddle.errors import DataError

every_loss = pytest.mark.parametrize("target", registered("LOSSES"))
CLASSES, IGNORED = 5, 255


def value_and_gradient(loss, logits, label):
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    value = loss(tensor, paddle.to_tensor(label))
    value.backward()
    return float(value), tensor.grad.numpy()


@pytest.fixture
def batch(rng):
    """Logits of the label's size, and a label of which a tenth is ignored."""
    label = rng.integers(0, CLASSES, (2, 24, 34))
    label[rng.random(label.shape) < 0.1] = IGNORED
    return rng.standard_normal((2, CLASSES, 24, 34)).astype(np.float32), label


@every_loss
@pytest.mark.parametrize("scale", [1, 2], ids=["label's size", "half of it"])
@pytest.mark.parametrize("label_dims", [3, 4])
def test_it_gives_one_finite_number_and_a_gradient_of_the_logits_shape(target, batch, scale, label_dims):
    logits, label = batch
    logits = np.ascontiguousarray(logits[:, :, ::scale, ::scale])
    label = label if label_dims == 3 else label[:, None]
    value, gradient = value_and_gradient(component(target)(), logits, label)
    assert np.isfinite(value) and value > 0
    assert gradient.shape == logits.shape and np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@every_loss
def test_the_gradient_is_the_slope_of_the_value(target, batch):
    logits, label = batch
    loss = component(target)()
    _, gradient = value_and_gradient(loss, logits, label)
    step = 0.5 * gradient / np.abs(gradient).max()
    ahead, behind = (value_and_gradient(loss, logits + sign * step, label)[0] for sign in (1, -1))
    assert ahead - behind == pytest.approx(2 * float((gradient.astype(np.float64) * step).sum()), rel=0.05)


@every_loss
def test_ignored_pixels_change_nothing_and_get_no_gradient(target, batch):
    logits, label = batch
    loss = component(target)(ignore_index=IGNORED)
    value, gradient = value_and_gradient(loss, logits, label)
    ignored = np.broadcast_to((label == IGNORED)[:, None], logits.shape)
    assert ignored.any() and not gradient[ignored].any()
    assert value_and_gradient(loss, np.where(ignored, 50, logits).astype(np.float32), label)[0] == pytest.approx(value)


@every_loss
def test_another_ignore_index_is_obeyed(target, batch):
    logits, label = batch
    expected = value_and_gradient(component(target)(ignore_index=IGNORED), logits, label)
    found = value_and_gradient(component(target)(ignore_index=99), logits, np.where(label == IGNORED, 99, label))
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


@every_loss
def test_a_batch_without_labelled_pixels_gives_zero_and_no_gradient(target, batch):
    value, gradient = value_and_gradient(component(target)(), batch[0], np.full_like(batch[1], IGNORED))
    assert value == 0 and not gradient.any()


@every_loss
def test_a_label_that_is_no_class_is_refused_with_its_value(target, batch):
    logits, label = batch
    label[0, 3, 4] = CLASSES
    with pytest.raises(DataError, match=f"value {CLASSES}, but the model has the classes 0 to {CLASSES - 1}"):
        component(target)()(paddle.to_tensor(logits), paddle.to_tensor(label))
