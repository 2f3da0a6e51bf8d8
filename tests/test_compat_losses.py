"""PaddleSeg's losses that fail with the installed Paddle, as they are built in their place."""

import numpy as np
import paddle
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle import compat_losses
from ppliteseg_paddle.benchmark.studies.mixed_types import mixed_types
from ppliteseg_paddle.compat_losses import FIXES_OF_2_8, FIXES_OF_ALL, fixed

CLASSES, IGNORED = 4, 255
WEIGHTS = [1.0, 2.0, 0.5, 1.5]
BOTH = {"weight": "dynamic", "pos_weight": "dynamic"}


@pytest.fixture(autouse=True)
def always_fixed(monkeypatch):
    """Whatever versions are installed, so that the fixes are compared on all of them."""
    monkeypatch.setattr(compat_losses, "_built", {})
    monkeypatch.setattr(compat_losses, "_fix_of", lambda loss: {**FIXES_OF_2_8, **FIXES_OF_ALL}.get(loss.__name__))


@pytest.fixture
def batch(rng):
    """Logits of classes, of a teacher and of edges; a label of which some pixels are ignored."""
    label = rng.integers(0, CLASSES, (2, 24, 32))
    label[:, :3] = IGNORED
    return {
        "logit": rng.standard_normal((2, CLASSES, 24, 32)).astype(np.float32),
        "teacher": rng.standard_normal((2, CLASSES, 24, 32)).astype(np.float32),
        "edge": rng.standard_normal((2, 1, 24, 32)).astype(np.float32),
        "points": rng.random((2, 24 * 32, 2)).astype(np.float32),
        "label": label,
        "planes": np.where(label[:, None] == IGNORED, IGNORED, rng.integers(0, 2, (2, CLASSES, 24, 32))),
    }


# name, arguments, what the loss is called with
PLANES = ("logit", "planes")
PLAIN, EDGES, TEACHER, POINTS = ("logit",), ("logit", "edge"), ("logit", "teacher"), ("points_logit", "points")
CASES = [
    *(("BCELoss", weights, inputs) for weights in ({}, {"weight": "dynamic"}, BOTH) for inputs in (PLAIN, PLANES)),
    ("CrossEntropyLoss", {}, PLAIN),
    ("CrossEntropyLoss", {"weight": WEIGHTS}, PLAIN),
    ("CrossEntropyLoss", {"top_k_percent_pixels": 0.3}, PLAIN),
    ("CrossEntropyLoss", {"top_k_percent_pixels": 0.3, "weight": WEIGHTS}, PLAIN),
    ("CrossEntropyLoss", {"avg_non_ignore": False}, PLAIN),
    ("DistillCrossEntropyLoss", {}, TEACHER),
    ("OhemCrossEntropyLoss", {"min_kept": 100}, PLAIN),
    ("OhemCrossEntropyLoss", {"min_kept": 100, "thresh": 0.01}, PLAIN),
    ("OhemCrossEntropyLoss", {"min_kept": 100000}, PLAIN),
    ("OhemCrossEntropyLoss", {"min_kept": 0}, PLAIN),
    ("OhemEdgeAttentionLoss", {"min_kept": 100}, EDGES),
    ("PointCrossEntropyLoss", {}, POINTS),
    ("PointCrossEntropyLoss", {"top_k_percent_pixels": 0.3}, POINTS),
    ("RMILoss", {"num_classes": CLASSES}, PLAIN),
]


def value_and_gradient(loss, batch, inputs):
    """The loss of fresh tensors, and its gradient with respect to the classes' logits."""
    tensors = {name: paddle.to_tensor(array) for name, array in batch.items()}
    tensors["points_logit"] = tensors["logit"].flatten(2)
    first = tensors[inputs[0]]
    first.stop_gradient = False
    label = tensors["label"]
    if inputs == PLANES:
        value = loss(first, tensors["planes"])
    elif inputs == TEACHER:
        value = loss(first, tensors["teacher"], label)
    else:
        value = loss(first if inputs == PLAIN else (first, tensors[inputs[1]]), label)
    value.backward()
    return float(value), first.grad.numpy()


@pytest.mark.parametrize("name, arguments, inputs", CASES)
def test_a_fixed_loss_has_the_value_and_gradient_of_paddlesegs(batch, name, arguments, inputs):
    from paddleseg.models import losses

    with mixed_types():
        expected, gradient = value_and_gradient(getattr(losses, name)(**arguments), batch, inputs)
    found, found_gradient = value_and_gradient(fixed(getattr(losses, name))(**arguments), batch, inputs)
    assert found == pytest.approx(expected, rel=1e-5) and expected > 0
    np.testing.assert_allclose(found_gradient, gradient, rtol=1e-4, atol=1e-8)


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def test_relaxed_boundaries_are_not_rounded(batch):
    """By the definition: a pixel's likelihood is the sum over the classes within a pixel of it."""
    from paddleseg.models import losses

    probability, label = softmax(batch["logit"].astype(np.float64)), batch["label"]
    padded = np.pad(label, ((0, 0), (1, 1), (1, 1)), constant_values=CLASSES)
    padded[padded == IGNORED] = CLASSES
    near = np.zeros(probability.shape, bool)
    for i in range(3):
        for j in range(3):
            for c in range(CLASSES):
                near[:, c] |= padded[:, i : i + 24, j : j + 32] == c
    count = near.sum(axis=1)
    unknown = count == 0
    log = np.log((probability * near).sum(axis=1, where=near, initial=0.0), where=~unknown, out=np.zeros(count.shape))
    expected = 0.0
    for image in range(2):
        # PaddleSeg divides the logarithms of each image by the borders of the whole batch.
        each = -(count[image] * log[image]) / np.maximum(count, 1) * ~unknown[image]
        expected += each.sum() / (24 * 32 - unknown[image].sum() + 1)
    found, gradient = value_and_gradient(fixed(losses.RelaxBoundaryLoss)(), batch, PLAIN)
    assert found == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_the_dual_task_loss_compares_edges_of_a_sample_with_those_of_the_label(batch, monkeypatch):
    from paddleseg.models import losses

    loss = fixed(losses.DualTaskLoss)()
    monkeypatch.setattr(loss, "_gumbel_softmax_sample", lambda logit, tau: logit)  # without its noise
    known = (batch["label"] != IGNORED)[:, None]
    labels = np.eye(CLASSES, dtype=np.float32)[np.where(known[:, 0], batch["label"], 0)].transpose(0, 3, 1, 2)
    found, expected = (
        loss.compute_grad_mag(paddle.to_tensor(values.astype(np.float32))).numpy()
        for values in (batch["logit"] * known, labels)
    )
    difference = np.abs(found - expected) * known
    by_hand = 0.5 * sum((difference * (edges > 1e-8)).sum() / (edges > 1e-8).sum() for edges in (found, expected))
    value, gradient = value_and_gradient(loss, batch, PLAIN)
    assert value == pytest.approx(by_hand, rel=1e-5) and np.abs(gradient).max() > 0


def test_a_dice_loss_leaves_the_labels_to_the_losses_after_it(batch):
    from paddleseg.models import losses

    logit, label = paddle.to_tensor(batch["logit"]), paddle.to_tensor(batch["label"])
    value = fixed(losses.DiceLoss)()(logit, label)
    assert np.array_equal(label.numpy(), batch["label"])
    assert float(value) == pytest.approx(float(losses.DiceLoss()(logit, label)))
    assert not np.array_equal(label.numpy(), batch["label"])  # PaddleSeg's own


def test_the_builder_builds_them_also_inside_of_others_under_paddlesegs_names(tmp_path):
    from ppliteseg_paddle.engine import build

    root = make_data(tmp_path / "data")
    parts = [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}]
    loss = {"types": [{"type": "MixedLoss", "losses": parts, "coef": [1, 1]}], "coef": [1, 1, 1]}
    config = build.load_config(write_config(root / "c.yml", values(root, loss=loss)))
    mixed = build.build(build.make_builder(config), "loss")["types"][0]
    assert [type(part).__name__ for part in mixed.losses] == ["CrossEntropyLoss", "DiceLoss"]
    logit = paddle.randn([2, 11, 8, 8])
    logit.stop_gradient = False
    label = paddle.full([2, 8, 8], IGNORED, "int64")
    label[:, 4:] = 3
    sum(mixed(logit, label)).backward()
    assert np.abs(logit.grad.numpy()).max() > 0


def test_losses_that_run_and_those_of_other_packages_are_built_themselves(monkeypatch):
    from paddleseg.models import losses

    from ppliteseg_paddle.losses.cross_entropy import CELoss

    monkeypatch.undo()
    assert fixed(losses.LovaszSoftmaxLoss) is losses.LovaszSoftmaxLoss and fixed(CELoss) is CELoss
    monkeypatch.setattr(compat_losses, "_built", {})
    monkeypatch.setattr("paddleseg.__version__", "0.0.0.dev0")  # as 2.9.1 calls itself, which casts
    assert fixed(losses.OhemCrossEntropyLoss) is losses.OhemCrossEntropyLoss
    monkeypatch.setattr("paddleseg.__version__", "2.8.0")
    for version, same in (((2, 6, 2), True), ((3, 2, 2), False)):
        monkeypatch.setattr(compat_losses, "_built", {})
        monkeypatch.setattr(compat_losses, "paddle_version", lambda version=version: version)
        assert (fixed(losses.OhemCrossEntropyLoss) is losses.OhemCrossEntropyLoss) is same
