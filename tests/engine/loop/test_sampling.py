"""Order and random numbers of training samples over a resume."""

import json

import paddle
import pytest
from loop_run import a_run
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.data.randomness import Draws
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.engine.loop.sampling import epochs_done, progress_of, resumed_sampler, seed_samples
from ppliteseg_paddle.engine.train import train
from ppliteseg_paddle.errors import ConfigError

pytestmark = pytest.mark.slow  # trains


@pytest.mark.parametrize(
    "images, iteration, batch_size, ranks, expected",
    [
        (8, 0, 2, 1, 0),
        (8, 4, 2, 1, 1),
        (8, 5, 2, 1, 2),
        (8, 8, 2, 1, 2),
        (9, 4, 2, 1, 1),
        (8, 2, 2, 2, 1),
        (9, 3, 2, 2, 2),
    ],
)
def test_a_begun_epoch_counts(images, iteration, batch_size, ranks, expected):
    assert epochs_done(images, iteration, batch_size, ranks) == expected


def test_the_loops_sampler_continues_with_the_orders_of_later_epochs(tmp_path):
    def orders(count, epochs=0):
        run = a_run(tmp_path, epochs=epochs)
        sampler = resumed_sampler(run, paddle.io.DistributedBatchSampler)(
            list(range(12)), batch_size=4, num_replicas=1, rank=0, shuffle=True, drop_last=True
        )
        assert run.monitor.steps_per_epoch == 3
        return [list(sampler) for _ in range(count)]

    whole = orders(4)
    assert orders(2, epochs=2) == whole[2:]
    assert whole[0] != whole[2]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_crops_grow_with_the_share_of_the_run(tmp_path, num_workers):
    augment = FusedAugment([32, 24], later_crop_sizes=[[0.4, [48, 40]], [0.9, [64, 48]]])
    dataset = StreetScenes(transforms=[augment], dataset_root=str(make_data(tmp_path / "d")))
    shares = iter([0.0, 0.39, 0.4, 1.0])
    run = a_run(tmp_path, begin_epoch=progress_of(dataset, lambda: next(shares)))
    sampler = resumed_sampler(run, paddle.io.DistributedBatchSampler)(dataset, batch_size=2, num_replicas=1, rank=0)
    loader = paddle.io.DataLoader(dataset, batch_sampler=sampler, num_workers=num_workers)
    shapes = [{tuple(batch["img"].shape) for batch in loader} for _ in range(4)]
    assert shapes == [{(2, 3, 24, 32)}, {(2, 3, 24, 32)}, {(2, 3, 40, 48)}, {(2, 3, 48, 64)}]


@pytest.mark.parametrize(
    "later, text",
    [
        ([[0.5, [10]]], "crop_size is \\[10\\]"),
        ([[2, [10, 10]]], "the share in later_crop_sizes is 2"),
        ([[0.5, [9, 9]], [0.4, [9, 9]]], "give the shares in rising order"),
        ("0.5", "give pairs such as"),
    ],
)
def test_crop_sizes_that_make_no_sense_are_refused(later, text):
    with pytest.raises(ConfigError, match=text):
        FusedAugment([32, 24], later_crop_sizes=later)


def test_seed_and_start_reach_the_draws(tmp_path):
    dataset = StreetScenes(transforms=[], dataset_root=str(make_data(tmp_path / "d")))
    seed_samples(dataset, 5, 3, 4)
    assert dataset.draws.seed == 5 and set(dataset.draws._readings) == {2}
    seed_samples(dataset, None, 0, 4)
    assert dataset.draws.seed == 5 and set(dataset.draws._readings) == {0}
    seed_samples([1, 2], 5, 3, 1)  # a data set of another kind is left alone


def test_a_run_resumed_after_an_epoch_has_the_losses_of_one_that_went_through(tmp_path):
    root = make_data(tmp_path / "data", train=4, val=1)
    content = values(root, batch_size=2, iters=4)
    content["train_dataset"]["transforms"] = [
        {"type": "FusedAugment", "crop_size": [64, 32], "min_scale_factor": 0.5, "max_scale_factor": 2.0, "distort": {}}
    ]
    config = write_config(tmp_path / "c.yml", content)

    def losses(folder, **arguments):
        train(
            load_config(config),
            save_dir=str(tmp_path / folder),
            save_interval=2,
            log_iters=1,
            seed=3,
            device="cpu",
            **arguments,
        )
        return [row["loss"] for row in json.loads((tmp_path / folder / "train.json").read_text())["train"]]

    whole = losses("whole")
    resumed = losses("resumed", resume_model=str(tmp_path / "whole" / "iter_2"))
    assert len(whole) == 4 and whole[2:] == resumed[-2:]


def test_ranks_draw_new_numbers_in_each_epoch_for_images_that_another_has_read(tmp_path):
    class Images(paddle.io.Dataset):
        draws = Draws(4, seed=1)

        def __len__(self):
            return 4

    sampler = resumed_sampler(a_run(tmp_path), paddle.io.DistributedBatchSampler)(
        Images(), batch_size=2, num_replicas=2, rank=0, shuffle=True
    )
    numbers = []
    for _ in range(3):
        seen = [index for batch in sampler for index in batch]
        assert len(seen) == 2
        numbers.append([Images.draws.generator(index).random() for index in range(4)])
    alone = Draws(4, seed=1)
    assert numbers == [[alone.generator(index).random() for index in range(4)] for _ in range(3)]
