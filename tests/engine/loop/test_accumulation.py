"""Gradients added up over several batches: the update is that of one large batch."""

import math

import numpy as np
import paddle
import pytest
from loop_run import a_monitor, a_run
from PIL import Image
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine import train as trainer
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop import accumulation, steps
from ppliteseg_paddle.engine.scaling import scale_recipe
from ppliteseg_paddle.errors import DataError

WEIGHT = [0.5, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight images of which each ignores more than the one before it."""
    root = make_data(tmp_path_factory.mktemp("accumulation") / "data", train=8, val=1)
    for index in range(8):
        path = root / "labels" / f"{index:02d}.png"
        label = np.array(Image.open(path))
        label[: 4 * index] = 255
        Image.fromarray(label).save(path)
    return root


def trained(data, folder, monkeypatch, batch_size, accumulate, loss):
    """The weights and the record's losses after three updates, without statistics of batches."""
    build_parts = trainer.build_parts

    def fixed(*args, **kwargs):
        parts = build_parts(*args, **kwargs)
        for layer in parts.model.sublayers():
            if hasattr(layer, "_use_global_stats"):
                layer._use_global_stats = True
        return parts

    monkeypatch.setattr(trainer, "build_parts", fixed)
    content = values(data, model=TINY_MODEL, loss=loss, gradient_accumulation_steps=accumulate)
    config = load_config(write_config(data / f"{batch_size}.yml", content), iters=3, batch_size=batch_size)
    losses = []

    class Rows(trainer.Record):
        def on_log(self, monitor, row):
            losses.append(row["loss"])

    monkeypatch.setattr(trainer, "Record", Rows)
    trainer.train(config, save_dir=str(folder), seed=3, log_iters=1, device="cpu")
    return paddle.load(str(folder / "iter_3" / "model.pdparams"), return_numpy=True), losses


@pytest.mark.parametrize(
    "types",
    [
        [{"type": "CELoss", "weight": WEIGHT}],
        [{"type": "CrossEntropyLoss"}],
        [{"type": "MixedLoss", "losses": [{"type": "CELoss"}, {"type": "CELoss", "weight": WEIGHT}], "coef": [1, 0.5]}],
    ],
    ids=["weighted", "PaddleSeg's", "mixed"],
)
def test_an_update_equals_that_of_the_larger_batch(data, tmp_path, monkeypatch, types):
    """Also where parts ignore different numbers of pixels, so that the mean of their means is another number."""
    loss = {"types": types, "coef": [1, 0.5, 0.5]}
    with monkeypatch.context() as patch:
        one, losses = trained(data, tmp_path / "one", patch, 4, 1, loss)
    with monkeypatch.context() as patch:
        parts, of_parts = trained(data, tmp_path / "parts", patch, 1, 4, loss)
    np.testing.assert_allclose(of_parts, losses, rtol=1e-5)
    for name, value in one.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


class Loss:
    ignore_index = 255


def test_parts_count_by_their_pixels_and_equally_where_all_are_ignored():
    one, three = np.array([[0, 255], [255, 255]]), np.array([[1, 1], [0, 255]])
    weighted, all_pixels = Loss(), Loss()
    weighted.weight, all_pixels.avg_non_ignore = np.array([1.0, 2.0]), False
    found = accumulation.shares_of([Loss(), weighted, all_pixels], [one, three])
    assert found == [[1 / 4, 1 / 6, 1 / 2], [3 / 4, 5 / 6, 1 / 2]]
    assert accumulation.shares_of([Loss()], [np.full((2, 2), 255)] * 4) == [[0.25]] * 4


def accumulating(tmp_path, **options):
    run = a_run(tmp_path, accumulate=3, monitor=a_monitor(tmp_path, log_iters=1), **options)
    run.shares = [1 / 3]
    return run


def test_a_loss_that_is_no_number_in_an_early_part_is_the_steps_loss(tmp_path):
    run = accumulating(tmp_path)
    run.earlier_losses = [[paddle.to_tensor([math.nan])], [paddle.to_tensor([1.0])]]
    accumulation.sum_of_parts(run, steps.read_losses(run, sum))([paddle.to_tensor([1.0])])
    with pytest.raises(Exception, match="the loss is nan at iteration 1"):
        run.monitor.stepped(0.0, 1.0)


def test_the_loop_gets_the_last_part_and_after_the_last_update_nothing_is_computed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(accumulation, "_compute_all_but_last", lambda run, parts: seen.append(len(parts)))
    run = accumulating(tmp_path, iters=1)
    batch = {"img": paddle.arange(6).reshape([6, 1]), "label": paddle.arange(6), "gt_fields": [["label"]]}
    loader = accumulation.loader_of_parts(run, lambda: [batch, batch])()
    for got in loader:
        assert got["img"].numpy().ravel().tolist() == [4, 5] and got["gt_fields"] == [["label"]]
        run.done = 1
    assert seen == [3]


def test_a_data_set_smaller_than_an_update_is_refused_with_the_number_that_fits():
    with pytest.raises(DataError, match="fewer than the 8 batches of 2 of one update. Use --accumulate 4"):
        build.check_dataset_size(range(9), 2, 1, 8)


def test_a_recipe_counts_the_images_of_an_update():
    config = {"recipe": {"devices": 4, "batch_size": 4}, "iters": 100, "lr_scheduler": {"learning_rate": 0.01}}
    assert scale_recipe(config, devices=1, batch_size=4, accumulate=4).changes == {}
    halved = scale_recipe(config, devices=1, batch_size=4, accumulate=2)
    assert halved.changes == {"lr_scheduler.learning_rate": 0.005, "iters": 200}
    assert "this run takes 8 (1 x 4 x 2 accumulated)" in halved.sentences[0]
    config["recipe"]["gradient_accumulation_steps"] = 2
    assert scale_recipe(config, devices=4, batch_size=4, accumulate=2).changes == {}
