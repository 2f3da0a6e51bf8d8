"""The random numbers of training samples: by seed, image and reading, whatever the number of workers."""

import random

import numpy as np
import paddle
import pytest
from tiny_data import make_data

from ppliteseg_paddle.data.copy_paste import CopyPaste
from ppliteseg_paddle.data.dataset import StreetScenes
from ppliteseg_paddle.data.randomness import Draws
from ppliteseg_paddle.data.rare_classes import RareClassCrop
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.engine.loop.workers import quiet_forks

pytestmark = pytest.mark.slow  # starts loading processes


@pytest.fixture
def root(tmp_path):
    return make_data(tmp_path / "data", train=8, val=1)


def fused():
    return FusedAugment([32, 24], 0.5, 2.0, 0.25, distort={})


def paddlesegs():
    from paddleseg.transforms import RandomDistort, RandomHorizontalFlip, RandomPaddingCrop, ResizeStepScaling

    return [ResizeStepScaling(0.5, 2.0, 0.25), RandomPaddingCrop((32, 24)), RandomHorizontalFlip(), RandomDistort()]


def epochs(root, num_workers, count=2, seed=7, transforms=None, reverse=False, before=lambda dataset: None):
    """Samples of some epochs as PaddleSeg's loop reads them: epoch -> image -> pixels."""
    from paddleseg.utils import worker_init_fn

    random.seed(seed)
    np.random.seed(seed)
    dataset = StreetScenes(transforms=transforms or [fused()], dataset_root=str(root))
    before(dataset)
    order = list(range(8))[::-1] if reverse else list(range(8))
    result = []
    loader = paddle.io.DataLoader(
        dataset,
        batch_sampler=[order[i : i + 2] for i in range(0, 8, 2)],
        num_workers=num_workers,
        return_list=True,
        worker_init_fn=worker_init_fn,
    )
    for _ in range(count):
        with quiet_forks():
            batches = iter(loader)
        images = np.concatenate([batch["img"].numpy() for batch in batches])
        result.append({index: images[place] for place, index in enumerate(order)})
    return result


def same(one, other):
    return all(np.array_equal(a[index], b[index]) for a, b in zip(one, other) for index in a)


def test_samples_are_the_same_with_any_number_of_workers_and_in_any_order(root):
    alone = epochs(root, 0)
    assert same(alone, epochs(root, 1))
    assert same(alone, epochs(root, 3))
    assert same(alone, epochs(root, 2, reverse=True))


def test_seeds_epochs_and_images_differ(root):
    first, second = epochs(root, 2)
    other, _ = epochs(root, 2, seed=8)
    for index in range(8):
        assert not np.array_equal(first[index], second[index])
        assert not np.array_equal(first[index], other[index])


def pasted():
    return [CopyPaste([8], 0.8), fused()]


def pasted_and_cropped():
    return [CopyPaste([8], 0.8), *paddlesegs()[::2], RareClassCrop([32, 24], [8])]


@pytest.mark.parametrize("transforms", [None, paddlesegs, pasted, pasted_and_cropped])
def test_a_run_that_tells_the_epoch_gets_its_samples_wherever_they_are_read(root, transforms):
    def samples(num_workers, epoch):
        def tell(dataset):
            dataset.draws.epoch = epoch

        return epochs(root, num_workers, count=1, transforms=transforms and transforms(), before=tell)

    second = samples(0, 1)
    assert same(second, samples(2, 1)) and not same(second, samples(0, 2))
    if transforms is None:
        assert same(epochs(root, 0, count=2)[1:], second)  # where readings are counted


def test_paddlesegs_transforms_in_workers_repeat_neither_each_other_nor_the_epoch_before(root):
    dataset = make_data(root / "alike", train=8, val=1)
    for kind in ("images", "labels"):  # the same picture eight times: only the draws differ
        first = (dataset / kind / "00.png").read_bytes()
        for index in range(1, 8):
            (dataset / kind / (f"{index:02d}.png")).write_bytes(first)
    runs = epochs(dataset, 2, transforms=paddlesegs())
    samples = [epoch[index].tobytes() for epoch in runs for index in range(8)]
    assert len(set(samples)) > 12  # a few may draw the same scale, corner and flip, and no jitter
    assert same(runs, epochs(dataset, 3, transforms=paddlesegs()))


def test_in_the_main_process_paddlesegs_transforms_draw_from_the_global_generators(root):
    assert same(epochs(root, 0, transforms=paddlesegs()), epochs(root, 0, transforms=paddlesegs()))
    assert not same(epochs(root, 0, transforms=paddlesegs()), epochs(root, 0, seed=8, transforms=paddlesegs()))


def test_a_generator_belongs_to_seed_image_and_reading():
    draws, again = Draws(4, seed=1), Draws(4, seed=1)
    numbers = [draws.generator(2).random() for _ in range(3)]
    assert len(set(numbers)) == 3
    assert [again.generator(index).random() for index in (2, 0, 2, 1, 2)][::2] == numbers
    assert Draws(4, seed=2).generator(2).random() not in numbers
    again.epoch = 1
    assert again.generator(2).random() == numbers[1]


def test_validation_counts_no_readings(root):
    dataset = StreetScenes(transforms=[], dataset_root=str(root), mode="val")
    dataset[0]
    assert list(dataset.draws._readings) == [0]
