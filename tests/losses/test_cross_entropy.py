import numpy as np
import paddle
import pytest

from ppliteseg_paddle import environment
from ppliteseg_paddle.benchmark.studies.mixed_types import mixed_types
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.losses import upsampled_softmax
from ppliteseg_paddle.losses.cross_entropy import CELoss, OhemCELoss, kth_largest
from ppliteseg_paddle.losses.upsampled_softmax import upsampling_matrix

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


@pytest.mark.parametrize(
    "thresh, min_kept",
    [
        (0.7, 50),  # enough pixels below the threshold
        (0.001, 100),  # too few: the hundredth hardest sets it
        (0.5, 1),
        (0.999, 10),
        (0.01, 300),
        (0.7, 10**6),
        (0.7, 0),
    ],
)
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
    assert float(loss(paddle.to_tensor(logits), paddle.to_tensor(label))) == float(
        loss(paddle.to_tensor(logits), paddle.to_tensor(label[:, None]))
    )


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((1.5, 10), "thresh is 1.5, but must be between 0 and 1"),
        ((0.7, -1), "min_kept is -1, but must be an integer, 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        OhemCELoss(*arguments)


# --------------------------------------------------------------------------------------------
# Beside PaddleSeg's own losses
# --------------------------------------------------------------------------------------------
def paddleseg_loss(name, **options):
    from paddleseg.models import losses

    loss = getattr(losses, name)(ignore_index=IGNORED, **options)

    def with_mixed_types(logits, label):
        with mixed_types():
            return loss(logits, label).reshape([])

    return with_mixed_types


def tied(rng):
    """Three different probabilities only, so that each occurs many times."""
    logits = np.zeros((2, 5, 12, 17), np.float32)
    logits[:, 0] = rng.integers(-1, 2, (2, 12, 17))
    return logits, np.zeros((2, 12, 17), np.int64)


def few_valid(rng):
    logits, label = tied(rng)
    label[:, 1:] = IGNORED
    return logits + rng.standard_normal(logits.shape).astype(np.float32), label


def all_ignored(rng):
    logits, label = tied(rng)
    return logits, np.full_like(label, IGNORED)


@pytest.mark.parametrize("case", ["random", "tied", "few_valid", "all_ignored"])
@pytest.mark.parametrize("thresh, min_kept", [(0.7, 50), (0.3, 12), (0.001, 100), (0.9, 34), (0.7, 10**6)])
def test_ohem_equals_paddlesegs_in_value_and_gradient(rng, batch, case, thresh, min_kept):
    logits, label = batch if case == "random" else globals()[case](rng)
    found = value_and_gradient(OhemCELoss(thresh, min_kept), logits, label)
    expected = value_and_gradient(
        paddleseg_loss("OhemCrossEntropyLoss", thresh=thresh, min_kept=min_kept), logits, label
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


def test_more_pixels_to_keep_than_there_are_keep_all_that_count(rng):
    logits, label = few_valid(rng)
    count = int((label != IGNORED).sum())
    all_kept = value_and_gradient(OhemCELoss(0.7, 0), logits, label)
    for min_kept in (count, count + 1, 10**9):
        found = value_and_gradient(OhemCELoss(0.7, min_kept), logits, label)
        assert found[0] == all_kept[0] > 0
        np.testing.assert_array_equal(found[1], all_kept[1])


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5, 3.0, 1.5]])
def test_cross_entropy_equals_paddlesegs_in_value_and_gradient(batch, weight):
    found = value_and_gradient(CELoss(weight=weight), *batch)
    expected = value_and_gradient(paddleseg_loss("CrossEntropyLoss", weight=weight), *batch)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


# --------------------------------------------------------------------------------------------
# Upsampling within the loss
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "loss", [CELoss(), CELoss(weight=[1, 2, 3, 4, 5]), OhemCELoss(0.5, 300), OhemCELoss(0.001, 3000)]
)
@pytest.mark.parametrize(
    "small, large", [((6, 9), (48, 72)), ((5, 7), (37, 52)), ((12, 17), (12, 17)), ((1, 1), (9, 4))]
)
def test_small_logits_give_what_upsampled_ones_give(rng, loss, small, large):
    logits = rng.standard_normal((3, 5, *small)).astype(np.float32) * 3
    label = rng.integers(0, 5, (3, *large))
    label[rng.random(label.shape) < 0.1] = IGNORED
    found = value_and_gradient(loss, logits, label)

    def upsample_first(tensor, label):
        return loss(paddle.nn.functional.interpolate(tensor, large, mode="bilinear", align_corners=False), label)

    expected = value_and_gradient(upsample_first, logits, label)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


def test_upsampling_is_the_interpolation_of_paddle(rng):
    for small, large in ((1, 5), (7, 7), (9, 72), (12, 37)):
        line = rng.standard_normal((1, 1, small, 1)).astype(np.float32)
        expected = paddle.nn.functional.interpolate(
            paddle.to_tensor(line), [large, 1], mode="bilinear", align_corners=False
        ).numpy()
        np.testing.assert_allclose(upsampling_matrix(small, large) @ line[0, 0], expected[0, 0], atol=1e-6)


@pytest.mark.parametrize("loss", [CELoss(weight=[1, 2, 3, 4, 5]), OhemCELoss(0.7, 50), OhemCELoss(0.001, 100)])
def test_the_form_for_other_devices_gives_the_same(batch, loss):
    found = value_and_gradient(loss, *batch)
    label = paddle.to_tensor(batch[1])
    expected = value_and_gradient(lambda logits, _: loss._on_device(logits, label), *batch)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


def test_threads_do_not_change_the_loss(batch, monkeypatch):
    alone = value_and_gradient(OhemCELoss(0.7, 50), *batch)
    monkeypatch.setattr(environment, "_compute_threads", 2)
    together = value_and_gradient(OhemCELoss(0.7, 50), *batch)
    assert alone[0] == together[0]
    np.testing.assert_array_equal(alone[1], together[1])


def test_the_searched_threshold_is_the_kth_largest_value(rng):
    values = np.abs(rng.standard_normal(1000)).astype(np.float32)
    values[100:300] = values[50]  # ties
    values[300:320] = 0
    for k in (1, 2, 77, 500, 1000):
        assert float(kth_largest(paddle.to_tensor(values), k)) == np.sort(values)[-k]


@pytest.mark.parametrize("value", [5, 254, -1])
def test_a_label_beyond_the_classes_is_named(batch, value):
    logits, label = batch
    label[1, 3, 4] = value
    with pytest.raises(
        DataError, match=f"a label has the value {value:d}, but the model has the classes 0 to 4, and 255 is ignored"
    ):
        CELoss()(paddle.to_tensor(logits), paddle.to_tensor(label))


def test_without_gradients_only_the_value_is_computed(batch):
    logits, label = map(paddle.to_tensor, batch)
    value = CELoss()(logits, label)
    assert value.stop_gradient
    np.testing.assert_allclose(float(value), reference(*batch, eps=1e-8)[0], rtol=1e-5)


@pytest.mark.parametrize("thresh, passes", [(0.7, [1, 1, 1]), (0.001, [2, 2, 2])])
def test_ohem_passes_over_the_pixels_once_where_enough_are_hard_and_results_do_not_depend_on_it(
    batch, thresh, passes, monkeypatch
):
    one_pass, calls = upsampled_softmax.pixel_losses, []
    monkeypatch.setattr(upsampled_softmax, "pixel_losses", lambda *args: calls.append(1) or one_pass(*args))
    loss, found, counts = OhemCELoss(thresh, 100), [], []
    for _ in passes:
        calls.clear()
        found.append(value_and_gradient(loss, *batch))
        counts.append(len(calls))
    assert counts == passes
    loss.likely_bound = lambda counted: None
    found.append(value_and_gradient(loss, *batch))
    for value, gradient in found[1:]:
        assert value == found[0][0] and np.array_equal(gradient, found[0][1])


def test_upsampled_logits_of_the_model_are_as_cheap_as_small_ones(monkeypatch):
    """The loss goes back to what they were made of, unless they have been changed since."""
    import ppliteseg_paddle
    from ppliteseg_paddle.losses import cross_entropy

    taken, pixel_losses = [], cross_entropy.upsampled_softmax.pixel_losses

    def noted(values, *rest):
        taken.append(values.shape[2:])
        return pixel_losses(values, *rest)

    monkeypatch.setattr(cross_entropy.upsampled_softmax, "pixel_losses", noted)
    model, label = ppliteseg_paddle.pp_liteseg_t(num_classes=5), paddle.randint(0, 5, [2, 64, 96])
    model.train()
    image, loss = paddle.rand([2, 3, 64, 96]), cross_entropy.CELoss()
    logits = model(image)
    assert [list(each.shape) for each in logits] == [[2, 5, 64, 96]] * 3
    values = [float(loss(each, label)) for each in logits]
    assert taken == [(8, 12), (4, 6), (2, 3)]
    np.testing.assert_allclose(values, [float(loss(each.clone(), label)) for each in logits], rtol=1e-5)
    assert taken[3:] == [(64, 96)] * 3
    changed = logits[0]
    changed.add_(paddle.ones([1]))
    changed[:, 0] += 2
    assert abs(float(loss(changed, label)) - values[0]) > 1e-3 and taken[6:] == [(64, 96)]

    from ppliteseg_paddle.models import layers

    logits[1].stop_gradient = True
    assert loss(logits[1], label).stop_gradient and taken[7:] == [(64, 96)]
    del logits, changed
    assert not layers._small
    gradients = []
    for full_size in (True, False):
        model.full_size_logits = full_size
        model.clear_gradients()
        loss(model(image)[0], label).backward()
        gradients.append(model.seg_heads[0].classifier.weight.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-6)
