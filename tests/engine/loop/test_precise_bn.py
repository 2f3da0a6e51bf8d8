"""Batch norm statistics counted anew after the last step."""

import os

import numpy as np
import paddle
import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop import precise_bn
from ppliteseg_paddle.engine.loop.precise_bn import PreciseStatistics
from ppliteseg_paddle.errors import ConfigError

pytestmark = pytest.mark.slow  # trains


class Images:
    """Random images, the last two of another size."""

    def __init__(self, rng, count=7):
        self.images = [
            rng.normal(3, 2, (3, 8, 6) if i < count - 2 else (3, 4, 12)).astype(np.float32) for i in range(count)
        ]
        self.read = []

    def __len__(self):
        return len(self.images)

    def transformed(self, index, transforms):
        self.read.append(index)
        return transforms(self.images[index])


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.first, self.conv, self.second = (
            paddle.nn.BatchNorm2D(3, momentum=0.7),
            paddle.nn.Conv2D(3, 4, 1),
            paddle.nn.BatchNorm2D(4),
        )

    def forward(self, x):
        return self.second(paddle.nn.functional.adaptive_avg_pool2d(self.conv(self.first(x)), 1))


@pytest.mark.parametrize("training", [True, False])
def test_the_statistics_become_those_of_all_pixels(rng, training):
    data, net = Images(rng), Net()
    net.train() if training else net.eval()
    weights = net.conv.weight.numpy().copy()
    PreciseStatistics(data, lambda image: 2 * image, 100, 3)(net)
    pixels = np.concatenate([2 * image.reshape(3, -1) for image in data.images], axis=1).astype(np.float64)
    assert sorted(data.read) == list(range(7))
    np.testing.assert_allclose(net.first._mean.numpy(), pixels.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(net.first._variance.numpy(), pixels.var(axis=1), rtol=1e-5)
    assert net.second._variance.numpy().min() > 0  # of pooled maps, one pixel an image
    assert net.first._momentum == 0.7 and net.training is net.first.training is training
    assert np.array_equal(net.conv.weight.numpy(), weights)


def test_an_image_without_a_second_one_of_its_size_is_skipped(rng, capsys):
    data, net = Images(rng, 6), Net()  # four of one size: three and one; two of another
    PreciseStatistics(data, lambda image: image, 100, 3)(net)
    pixels = np.concatenate([data.images[i].reshape(3, -1) for i in (0, 1, 2, 4, 5)], axis=1).astype(np.float64)
    np.testing.assert_allclose(net.first._variance.numpy(), pixels.var(axis=1), rtol=1e-5)
    data.images = [rng.normal(3, 2, (3, 8, width)).astype(np.float32) for width in (4, 5, 6)]
    before = net.first._variance.numpy().copy()
    PreciseStatistics(data, lambda image: image, 100, 3)(net)
    assert np.array_equal(net.first._variance.numpy(), before)
    assert (
        capsys.readouterr().out
        == "precise_bn: no two images have one size, so batch norm keeps the statistics of training\n"
    )


def test_statistics_that_were_not_finished_leave_those_of_training(rng):
    data, net = Images(rng), Net()
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}

    def interrupted(image):
        if len(data.read) == 5:
            raise KeyboardInterrupt
        return image

    with pytest.raises(KeyboardInterrupt):
        PreciseStatistics(data, interrupted, 100, 3)(net)
    assert all(np.array_equal(value.numpy(), before[name]) for name, value in net.state_dict().items())
    assert net.first._momentum == 0.7


def test_the_images_are_spread_over_the_data_set(rng):
    assert PreciseStatistics(Images(rng, 10), None, 4, 1).indices == [0, 2, 5, 7]
    assert PreciseStatistics(Images(rng, 3), None, 200, 1).indices == [0, 1, 2]
    assert PreciseStatistics(Images(rng, 10), None, 4, 1).steps == 2  # no batch of one image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("precise") / "data")


def config_of(root, **changes):
    return load_config(write_config(root / "c.yml", {**values(root), **changes}), iters=2)


def statistics(state):
    return {name: value for name, value in state.items() if name.endswith(("_mean", "_variance"))}


def test_the_last_checkpoint_has_precise_statistics_in_the_plain_and_in_the_averaged_weights(root, tmp_path):
    config = config_of(root, precise_bn=4)
    save_dir = str(tmp_path / "out")
    trainer.train(
        config, save_dir=save_dir, do_eval=True, save_interval=1, log_iters=1, use_ema=True, seed=3, device="cpu"
    )
    builder = build.make_builder(config)
    dataset = build.build(builder, "train_dataset")
    model = build.build(builder, "model")
    count = precise_bn.precise_statistics_of(config, builder, dataset, precise_bn.contextlib.nullcontext)
    assert count.indices == [i * len(dataset) // 4 for i in range(4)]
    for file in ("model.pdparams", "ema_model.pdparams"):
        for iteration, precise in ((1, False), (2, True)):
            state = paddle.load(os.path.join(save_dir, f"iter_{iteration:d}", file), return_numpy=True)
            model.set_state_dict(state)
            model.full_size_logits = False
            count(model)
            expected, found = statistics(model.state_dict()), statistics(state)
            assert len(found) > 50 and found.keys() == expected.keys()
            assert (
                all(np.allclose(found[name], expected[name].numpy(), rtol=1e-4, atol=1e-6) for name in found) is precise
            )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"precise_bn": 1}, "precise_bn: expected a number of images: 0 .off., or 2 and more, found 1"),
        ({"precise_bn": 4, "val_dataset": None}, "precise_bn needs a val_dataset"),
        ({"precise_bn": 4, "to_static_training": True}, "precise_bn and to_static_training exclude each other"),
    ],
)
def test_what_it_cannot_do_is_told_before_the_start(root, tmp_path, changes, words):
    contents = {key: value for key, value in {**values(root), **changes}.items() if value is not None}
    with pytest.raises(ConfigError, match=words):
        trainer.train(
            load_config(write_config(root / "bad.yml", contents), iters=1), save_dir=str(tmp_path / "out"), device="cpu"
        )
    assert not (tmp_path / "out").exists()
