"""Evaluation with batch norm folded into convolutions, by oneDNN, against Paddle's own layers."""

import copy
import threading

import numpy as np
import paddle
import pytest
from one_block import SHAPES, assert_close, layer
from tiny_data import make_data, values, write_config

import ppliteseg_paddle
from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.val import evaluate
from ppliteseg_paddle.export.eager import EagerBackend
from ppliteseg_paddle.models.fused import folded, onednn, weighed
from ppliteseg_paddle.models.fused.conv_bn import conv_bn
from ppliteseg_paddle.models.fused.folded import Folded
from ppliteseg_paddle.models.layers import ConvBN, ConvBNReLU
from ppliteseg_paddle.models.uafm import build_fusion


@pytest.fixture
def evaluated(monkeypatch):
    """[how many blocks oneDNN has evaluated]"""
    count, forward = [0], folded.Evaluated.forward

    def counting(self, *args):
        count[0] += 1
        return forward(self, *args)

    monkeypatch.setattr(folded.Evaluated, "forward", counting)
    return count


def by_both(made, batch):
    """What Paddle's layers give, and what oneDNN does."""
    made.eval()
    with paddle.no_grad():
        expected = made(batch)
        with Folded():
            return expected.numpy(), made(batch).numpy()


def fused_with(fusion, deep):
    """The fusion with a deeper feature, as a layer of the skip feature alone."""
    whole = paddle.nn.Layer()
    whole.fusion, whole.forward = fusion, lambda skip: fusion(skip, deep)
    return whole


def with_statistics(made):
    """Batch norm as training leaves it."""
    for sub in made.sublayers(include_self=True):
        if isinstance(sub, paddle.nn.BatchNorm2D):
            for tensor, low in ((sub._mean, -1.0), (sub._variance, 0.2), (sub.weight, -1.0), (sub.bias, -1.0)):
                tensor.set_value(paddle.uniform(tensor.shape, min=low, max=1.5))
    return made


@pytest.mark.parametrize("cls", [ConvBNReLU, ConvBN])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_those_of_paddles_layers(shape, cls, evaluated):
    made, batch = layer(cls, shape)
    expected, found = by_both(with_statistics(made), batch)
    assert evaluated == [1]
    assert_close({"result": found}, {"result": expected}, 2e-5)


def test_a_bias_of_the_convolution_counts(evaluated):
    paddle.seed(0)
    made = with_statistics(ConvBNReLU(16, 24, 3, bias=True))
    made.conv.bias.set_value(paddle.randn([24]))
    expected, found = by_both(made, paddle.randn([2, 16, 9, 11]))
    assert evaluated == [1]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["pp_liteseg_t", "pp_liteseg_b"])
def test_a_whole_network_gives_the_same_logits(preset, evaluated):
    paddle.seed(1)
    network = getattr(ppliteseg_paddle, preset)(num_classes=7)
    network.train()
    with paddle.no_grad():
        for _ in range(4):  # statistics of batches
            network(paddle.randn([2, 3, 96, 128]))
    network.eval()
    for size in ([96, 128], [64, 160]):
        batch = paddle.randn([1, 3, *size])
        with paddle.no_grad():
            expected = network(batch)[0].numpy()
            before = evaluated[0]
            with Folded():
                found = network(batch)[0].numpy()
        assert evaluated[0] - before > 30
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_outside_in_training_and_with_gradients_paddle_computes(evaluated):
    made, batch = layer(ConvBNReLU, SHAPES[0])
    made.eval()
    weights = Folded()
    with paddle.no_grad():
        made(batch)
        with weights:
            pass
        made(batch)
    with weights:
        made(batch)  # gradients are on
    made.train()
    with weights, paddle.no_grad():
        made(batch)
    assert evaluated == [0] and folded.active() is None


def test_what_is_folded_is_kept_and_another_context_sees_new_weights():
    made, batch = layer(ConvBNReLU, SHAPES[0])
    made.eval()
    weights = Folded()
    with paddle.no_grad():
        with weights:
            first = made(batch).numpy()
        made.conv.weight.set_value(made.conv.weight * 2)
        made.bn.bias.set_value(made.bn.bias + 1)
        with weights:
            np.testing.assert_array_equal(made(batch).numpy(), first)
        expected = made(batch).numpy()
        with Folded():
            np.testing.assert_allclose(made(batch).numpy(), expected, rtol=2e-5, atol=2e-5)
    assert np.abs(expected - first).max() > 0.1


def test_contexts_nest_and_an_error_leaves_none():
    outer, inner = Folded(), Folded()
    with outer:
        with inner, inner:
            assert folded.active() is inner
        assert folded.active() is outer
        with pytest.raises(ValueError), inner:
            raise ValueError
        assert folded.active() is outer
    assert folded.active() is None


def test_threads_share_what_is_folded_and_do_not_see_each_others_contexts():
    made, batch = layer(ConvBNReLU, SHAPES[0])
    made.eval()
    weights, results, seen = Folded(), [None] * 4, []

    def work(index):
        seen.append(folded.active())
        with paddle.no_grad(), weights:
            for _ in range(5):
                results[index] = made(batch).numpy()

    with paddle.no_grad(), weights:
        expected = made(batch).numpy()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [None] * 4
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_layers_with_hooks_are_called(evaluated):
    made, batch = layer(ConvBNReLU, SHAPES[0])
    called = []
    made.bn.register_forward_post_hook(lambda *args: called.append(1))
    by_both(made, batch)
    assert called == [1, 1] and evaluated == [0]


def test_without_the_library_paddle_computes(evaluated, monkeypatch):
    monkeypatch.setattr(onednn, "library", lambda: None)
    made, batch = layer(ConvBNReLU, SHAPES[0])
    expected, found = by_both(made, batch)
    np.testing.assert_array_equal(found, expected)
    assert evaluated == [0]


@pytest.mark.slow
def test_an_evaluation_has_the_figures_of_paddles_layers(tmp_path, evaluated, monkeypatch):
    config = load_config(write_config(tmp_path / "c.yml", values(make_data(tmp_path / "data", train=2, val=3))))
    model, dataset = with_statistics(build_model(config)), build_val_dataset(config)
    found = evaluate(model, dataset, progress=False)
    assert evaluated[0] > 3 * 30
    model = copy.deepcopy(model)
    monkeypatch.setattr(folded, "active", lambda: None)
    expected = evaluate(model, dataset, progress=False)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["class_iou"], expected["class_iou"], atol=1e-3)
    np.testing.assert_allclose(found["mIoU"], expected["mIoU"], atol=1e-3)


def test_the_model_itself_as_a_backend_is_evaluated_so(evaluated):
    paddle.seed(2)
    network = with_statistics(ppliteseg_paddle.pp_liteseg_t(num_classes=5))
    backend, batch = EagerBackend(network, "none", 5), np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    found = backend.run(batch)
    assert evaluated[0] > 30
    with paddle.no_grad():
        expected = network(paddle.to_tensor(batch))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_what_was_found_for_one_image_is_not_taken_for_another(evaluated):
    paddle.seed(4)
    made = with_statistics(ConvBNReLU(16, 24, 3))
    made.eval()
    batches = [paddle.randn([1, 16, *size]) for size in ((9, 11), (9, 11), (12, 8), (9, 11))]
    with paddle.no_grad():
        expected = [made(batch).numpy() for batch in batches]
        with Folded():
            for batch, wanted in zip(batches, expected):
                assert np.allclose(made(batch).numpy(), wanted, atol=2e-5)
            assert evaluated == [4]
            called = made.bn.register_forward_post_hook(lambda layer, inputs, output: output * 2)
            assert np.allclose(made(batches[-1]).numpy(), 2 * expected[-1], atol=4e-5)
            called.remove()
            assert np.allclose(made(batches[-1]).numpy(), expected[-1], atol=2e-5)
            found = conv_bn(made.conv, made.bn, batches[-1])  # without ReLU
    assert evaluated == [6] and float(found.min()) < 0


@pytest.mark.parametrize("batch, size", [(1, (6, 9)), (3, (5, 1))])
@pytest.mark.parametrize("kind", ["spatial_mean_max", "spatial_mean", "channel_mean_max", "add"])
def test_fusions_by_numpy_are_those_by_paddle(kind, batch, size):
    paddle.seed(5)
    fusion = with_statistics(build_fusion(kind, 24, 16, 8))
    skip, deep = paddle.randn([batch, 24, *size]), paddle.randn([batch, 16, 3, 1])
    expected, found = by_both(fused_with(fusion, deep), skip)
    assert found.shape == (batch, 8, *size)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_maps_that_are_not_contiguous_are_mixed_rightly():
    paddle.seed(6)
    with paddle.no_grad(), Folded():
        skip, deep = (paddle.randn([2, 5, 4, 3]).transpose([0, 3, 1, 2]) for _ in range(2))
        weight = paddle.rand([2, 1, 5, 4])
        mixed = weighed.mix(skip, deep, weight)
        found = weighed.over_channels((skip, deep), ("max", "mean"))
    s, d, w = skip.numpy(), deep.numpy(), weight.numpy()
    np.testing.assert_allclose(mixed.numpy(), d + w * (s - d), rtol=1e-6, atol=1e-6)
    both = [reduce(x, axis=1) for x in (s, d) for reduce in (np.max, np.mean)]
    np.testing.assert_allclose(found.numpy(), np.stack(both, axis=1), rtol=1e-6, atol=1e-6)
    assert weighed.mix(skip, deep, weight) is None  # with gradients, by Paddle
