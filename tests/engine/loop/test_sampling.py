"""Order and random numbers of training samples over a resume."""

import random

import numpy as np
import paddle
import pytest
from loop_run import a_monitor, a_run
from paddleseg.utils import TimeAverager
from tiny_data import make_data

from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.data.randomness import Draws
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.engine.loop.sampling import (
    Place,
    resumed_sampler,
    seed_of_run,
    seeded,
    seeded_steps,
    tell_progress,
)
from ppliteseg_paddle.errors import ConfigError

pytestmark = pytest.mark.slow  # trains


def orders(tmp_path, count, start=0, place=None, images=14):
    """The batches of some epochs, of 3 steps each, as the loop gets them after `start` iterations."""
    run = a_run(tmp_path, monitor=a_monitor(tmp_path, start=start))
    run.place = place
    sampler = resumed_sampler(run, paddle.io.DistributedBatchSampler)(
        list(range(images)), batch_size=4, num_replicas=1, rank=0, shuffle=True, drop_last=True
    )
    found = []
    for _ in range(count):
        found.append(list(sampler))
        run.monitor.steps += len(found[-1])
    return found


@pytest.mark.parametrize("start", range(7))
def test_the_loops_sampler_continues_with_the_batches_to_come(tmp_path, start):
    whole, resumed = orders(tmp_path, 4), orders(tmp_path, 2, start)
    assert whole[0] != whole[2]
    epoch, done = divmod(start, 3)
    assert resumed == [whole[epoch][done:], whole[epoch + 1]]


def test_with_another_batch_the_epoch_continues_at_its_share_of_images(tmp_path):
    noted = Place(epoch=5, begin=40, share=0.5, steps=12)  # now 3 of them
    resumed = orders(tmp_path, 2, start=48, place=noted)
    assert resumed[0] == orders(tmp_path, 6)[5][2:] and len(resumed[1]) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_crops_grow_with_the_share_of_the_run(tmp_path, num_workers):
    augment = FusedAugment([32, 24], later_crop_sizes=[[0.4, [48, 40]], [0.9, [64, 48]]])
    dataset = StreetScenes(transforms=[augment], dataset_root=str(make_data(tmp_path / "d")))
    shares = iter([0.0, 0.39, 0.4, 1.0])
    run = a_run(tmp_path, share=lambda iteration: next(shares), begin_epoch=tell_progress(dataset))
    run.place = Place(epoch=0, begin=0, share=0.0, steps=4)
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


def test_all_samples_belong_to_the_seed(tmp_path):
    ours = StreetScenes(transforms=[], dataset_root=str(make_data(tmp_path / "d")))
    assert seeded(ours, 5) is ours and ours.draws.seed == 5

    class Others:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return random.random(), np.random.rand()

    one, other = seeded(Others(), 5), seeded(Others(), 6)
    numbers = {}
    for epoch in (0, 1):
        one.draws.epoch = other.draws.epoch = epoch
        numbers[epoch] = [one[index] for index in (0, 1, 2)]
        assert numbers[epoch] == [one[index] for index in (0, 1, 2)] != [other[index] for index in (0, 1, 2)]
    assert len(one) == 3 and len({*numbers[0], *numbers[1]}) == 6


def test_a_run_without_a_seed_keeps_the_one_that_its_checkpoint_notes():
    assert (seed_of_run(3, 4), seed_of_run(None, 4)) == (3, 4)
    assert seed_of_run(None, None) != seed_of_run(None, None)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_each_step_draws_what_belongs_to_seed_and_step(tmp_path, num_workers):
    """Without workers, Python's and NumPy's generators belong to the thread that reads images."""

    def drawn(steps, seed=3):
        run = a_run(tmp_path, monitor=a_monitor(tmp_path, start=steps), seed=seed, num_workers=num_workers)
        Averager = seeded_steps(run, TimeAverager)
        Averager().record(0.1)
        first = float(paddle.rand([1])), random.random() if num_workers else 0, np.random.rand() if num_workers else 0
        Averager().record(0.1, num_samples=4)  # the end of a step
        assert num_workers or float(paddle.rand([1])) != first[0]
        return first

    assert drawn(7) == drawn(7) and len({drawn(7), drawn(8), drawn(7, seed=4)}) == 3
    random.seed(1), np.random.seed(1)
    before = random.random(), np.random.rand()
    random.seed(1), np.random.seed(1)
    drawn(9)
    assert ((random.random(), np.random.rand()) == before) == (not num_workers)


def test_ranks_draw_new_numbers_in_each_epoch_for_images_that_another_has_read(tmp_path):
    class Images(paddle.io.Dataset):
        draws = Draws(4, seed=1)

        def __len__(self):
            return 4

    run = a_run(tmp_path)
    sampler = resumed_sampler(run, paddle.io.DistributedBatchSampler)(
        Images(), batch_size=2, num_replicas=2, rank=0, shuffle=True
    )
    numbers = []
    for _ in range(3):
        seen = [index for batch in sampler for index in batch]
        assert len(seen) == 2
        numbers.append([Images.draws.generator(index).random() for index in range(4)])
        run.monitor.steps += 1
    alone = Draws(4, seed=1)
    assert numbers == [[alone.generator(index).random() for index in range(4)] for _ in range(3)]
