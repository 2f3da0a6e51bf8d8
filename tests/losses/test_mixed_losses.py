"""Mixes of PaddleSeg's losses, as its documentation gives them, train and end where the losses written by hand end.

Class 0 is never labelled, and a part of the pixels is ignored: a loss that takes those for class 0 ends elsewhere.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppliteseg_paddle.compat_losses import fixed

IGNORED, STEPS, RATE = 255, 60, 0.5


def cross_entropy(logits, label):
    known = (label != IGNORED).astype("float32")
    own = F.log_softmax(logits, axis=1) * one_hot(logits, label)
    return -(own.sum(1) * known).sum() / known.sum()


def one_hot(logits, label):
    classes = paddle.arange(logits.shape[1]).reshape([1, -1, 1, 1])
    return (label.unsqueeze(1) == classes).astype("float32")


def dice(logits, label):
    """Class 0 also gets the ignored pixels, out of which the mask takes them again."""
    known = (label != IGNORED).astype("float32").unsqueeze(1)
    found, expected = F.softmax(logits, axis=1) * known, one_hot(logits, label)
    both, all_of = (found * expected).sum([2, 3]), (found + expected).sum([2, 3])
    return (1 - (2 * both + 1) / (all_of + 1 + 1e-8)).mean()


def jaccard_slopes(truth):
    """The slopes of the Jaccard loss along errors in falling order, from their truth values (P,)."""
    both, either = truth.sum() - truth.cumsum(), truth.sum() + (1 - truth).cumsum()
    loss = 1 - both / either
    return np.diff(loss, prepend=0.0).astype(np.float32)


def by_slopes(errors, truth, clip):
    order = np.argsort(-errors.numpy(), kind="stable")
    weights = paddle.to_tensor(jaccard_slopes(truth.numpy()[order].astype(np.float64)))
    errors = paddle.gather(errors, paddle.to_tensor(order))
    return ((F.relu(errors) if clip else errors) * weights).sum()


def known_pixels(values, label):
    return paddle.gather(values, paddle.nonzero((label != IGNORED).flatten()).flatten())


def lovasz(logits, label):
    found = known_pixels(F.softmax(logits, axis=1).transpose([0, 2, 3, 1]).reshape([-1, logits.shape[1]]), label)
    ids = known_pixels(label.flatten(), label)
    each = []
    for number in sorted(set(ids.numpy().tolist())):
        truth = (ids == number).astype("float32")
        each.append(by_slopes((truth - found[:, number]).abs(), truth, False))
    return sum(each) / len(each)


def lovasz_hinge(logits, label):
    """PaddleSeg's logit of two classes is the logarithm of the second one's probability (its epsilon is misplaced)."""
    score = F.log_softmax(logits, axis=1)[:, 1].flatten()
    truth = known_pixels(label.flatten(), label).astype("float32")
    return by_slopes(1 - known_pixels(score, label) * (2 * truth - 1), truth, True)


def binary_cross_entropy(logits, label):
    """Of each class against the others; the ignored pixels count as none in the mean."""
    known = (label != IGNORED).astype("float32").unsqueeze(1)
    truth = one_hot(logits, label)
    loss = F.relu(logits) - logits * truth + F.softplus(-logits.abs())
    return (loss * known).mean() / known.mean()


def hardest(logits, label, kept=100, bound=0.3):
    """Of each image the mean over losses above a bound, or over the largest `kept`."""
    each = []
    for one, ids in zip(logits, label):
        losses = -(F.log_softmax(one, axis=0) * one_hot(one.unsqueeze(0), ids.unsqueeze(0))[0]).sum(0).flatten()
        order = np.argsort(-losses.numpy(), kind="stable")
        count = max(int((losses.numpy() > bound).sum()), kept)
        each.append(paddle.gather(losses, paddle.to_tensor(order[:count])).mean())
    return sum(each) / len(each)


BY_HAND = {
    "CrossEntropyLoss": cross_entropy,
    "DiceLoss": dice,
    "LovaszSoftmaxLoss": lovasz,
    "LovaszHingeLoss": lovasz_hinge,
    "BCELoss": binary_cross_entropy,
    "BootstrappedCrossEntropyLoss": hardest,
}
ARGUMENTS = {"BootstrappedCrossEntropyLoss": {"min_K": 100, "loss_th": 0.3}}
# losses with their factors, number of classes
MIXES = [
    ({"CrossEntropyLoss": 1.0, "DiceLoss": 1.0}, 4),
    ({"DiceLoss": 0.5, "CrossEntropyLoss": 0.5}, 4),
    ({"DiceLoss": 3.0, "LovaszSoftmaxLoss": 0.2, "CrossEntropyLoss": 0.8}, 4),
    ({"CrossEntropyLoss": 0.8, "LovaszSoftmaxLoss": 0.2}, 4),
    ({"BCELoss": 0.5, "LovaszHingeLoss": 0.5}, 2),
    ({"DiceLoss": 1.0, "BCELoss": 1.0}, 2),
    ({"DiceLoss": 1.0, "BootstrappedCrossEntropyLoss": 1.0}, 4),
]


def scene(classes):
    """Three features of pixels that tell the classes apart, and their labels: class 0 never, some ignored."""
    rng = np.random.default_rng(0)
    label = np.broadcast_to(np.arange(32) * (classes - 1) // 32 + 1, (2, 24, 32)).copy()
    if classes == 2:  # the hinge wants both of its classes
        label = (np.broadcast_to(np.arange(32) // 16, (2, 24, 32))).copy()
    features = np.stack([label == 1, label % 2, np.ones_like(label)], axis=1) + rng.normal(0, 0.3, (2, 3, 24, 32))
    label[:, :6] = IGNORED
    return paddle.to_tensor(features.astype(np.float32)), label.astype(np.int64)


def trained(loss, classes, steps=STEPS):
    """The weights of a linear layer, and its predictions, after some steps down `loss`."""
    features, label = scene(classes)
    weights = paddle.to_tensor(np.random.default_rng(1).normal(0, 0.1, (classes, 3, 1, 1)).astype(np.float32))
    weights.stop_gradient = False
    values = []
    for _ in range(steps):
        value = loss(F.conv2d(features, weights), paddle.to_tensor(label))
        value.backward()
        values.append(float(value))
        weights.set_value(weights - RATE * weights.grad)
        weights.clear_gradient()
    return weights.numpy(), values


@pytest.mark.slow
@pytest.mark.parametrize("mix, classes", MIXES, ids=lambda value: "+".join(value) if isinstance(value, dict) else "")
def test_a_mix_ends_where_the_losses_written_by_hand_end(mix, classes):
    from paddleseg.models import losses

    parts = [fixed(getattr(losses, name))(**ARGUMENTS.get(name, {})) for name in mix]
    mixed = fixed(losses.MixedLoss)(parts, list(mix.values()))

    def by_hand(logits, label):
        return sum(factor * BY_HAND[name](logits, label) for name, factor in mix.items())

    weights, values = trained(lambda logits, label: sum(mixed(logits, label)), classes)
    expected, expected_values = trained(by_hand, classes)
    assert values[-1] < 0.9 * values[0]
    np.testing.assert_allclose(values, expected_values, rtol=1e-3)
    np.testing.assert_allclose(weights, expected, atol=2e-3)


@pytest.mark.parametrize("others", [["SemanticConnectivityLoss"], ["DiceLoss", "SemanticConnectivityLoss"]], ids=str)
def test_connectivity_beside_cross_entropy_lowers_the_loss(others):
    from paddleseg.models import losses

    parts = [fixed(getattr(losses, name))() for name in ["CrossEntropyLoss", *others]]
    mixed = fixed(losses.MixedLoss)(parts, [1.0] + [0.01] * len(others))
    _, values = trained(lambda logits, label: sum(mixed(logits, label)), 4, steps=20)
    assert np.isfinite(values).all() and values[-1] < 0.9 * values[0]


def test_a_loss_that_writes_into_its_labels_or_keeps_them_changes_none_of_the_others_labels():
    from paddleseg.models import losses

    seen = []

    def writing(logits, label):
        seen.append(label.numpy().copy())
        label[label == IGNORED] = 0
        return logits.mean()

    label = paddle.full([1, 4, 4], IGNORED, "int64")
    fixed(losses.MixedLoss)([writing, writing], [1, 1])(paddle.zeros([1, 2, 4, 4]), label)
    assert all((each == IGNORED).all() for each in [*seen, label.numpy()])
