"""Regions of rare classes that are pasted into other images, and crops around rare classes."""

import cv2
import numpy as np
import pytest

from ppliteseg_paddle.data.copy_paste import CopyPaste, connected_region, cumulative_pixels
from ppliteseg_paddle.data.dataset import CheckedDataset
from ppliteseg_paddle.data.rare_classes import RareClassCrop
from ppliteseg_paddle.data.transforms import FusedAugment
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.planes import side_by_side

SIZE = 40, 60
LABELS = np.zeros((4, *SIZE), np.uint8)
LABELS[1, 20:30, 5:12] = 2
LABELS[1, 30:33, 12:15] = 2  # touches in a corner
LABELS[1, 5:9, 50:54] = 2  # a region of its own
LABELS[2, 10:16, 30:50] = 3
LABELS[3, :4] = 255


def images():
    """Each pixel tells its place: B the column, G the row, R the image."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return [np.stack([columns, rows, np.full(SIZE, number)], axis=-1).astype(np.uint8) for number in range(4)]


@pytest.fixture
def root(tmp_path):
    lines = []
    for number, (image, label) in enumerate(zip(images(), LABELS)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        cv2.imwrite(str(tmp_path / f"{number}_label.png"), label)
        planes = side_by_side(np.stack([label == value for value in range(4)], axis=-1).astype(np.uint8))
        cv2.imwrite(str(tmp_path / f"{number}_planes.png"), planes)
        lines.append(f"{number}.png {number}_label.png\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    (tmp_path / "planes.txt").write_text("".join(line.replace("label", "planes") for line in lines))
    return tmp_path


def data_set(root, *transforms, mode="train", path="train.txt", **arguments):
    lists = {f"{mode}_path": str(root / path)}
    return CheckedDataset(mode, str(root), list(transforms), 4, **lists, **arguments)


def as_it_is(**changes):
    """Pastes regions into every sample, neither scaled nor flipped."""
    arguments = {"prob": 1, "max_regions": 1, "min_scale_factor": 1, "max_scale_factor": 1, "flip_prob": 0}
    return CopyPaste([2, 3], **{**arguments, **changes})


def test_pixels_are_counted_by_class_and_image(root):
    counts = cumulative_pixels(data_set(root), [2, 3, 1])
    assert {number: count.tolist() for number, count in counts.items()} == {
        2: [0, 95, 95, 95],
        3: [0, 0, 120, 120],
        1: [0, 0, 0, 0],
    }


def test_a_label_that_cannot_be_read_counts_as_empty(root):
    (root / "1_label.png").write_bytes(b"no image")
    assert cumulative_pixels(data_set(root), [2, 3])[2].tolist() == [0, 0, 0, 0]


def test_a_region_is_what_hangs_together_corners_included():
    whole = LABELS[1] == 2
    sizes = set()
    for seed in range(40):
        (left, top, width, height), inside = connected_region(LABELS[1], 2, np.random.default_rng(seed))
        part = np.zeros(SIZE, bool)
        part[top : top + height, left : left + width] = inside
        assert inside.any(axis=0).all() and inside.any(axis=1).all()
        sizes.add(int(part.sum()))
        side = slice(None, 20) if part[25, 8] else slice(40, None)
        np.testing.assert_array_equal(part[:, side], whole[:, side])
    assert sizes == {79, 16}
    assert connected_region(LABELS[0], 2, np.random.default_rng(0)) is None


def test_pasted_pixels_bring_their_labels_and_nothing_else_changes(root):
    step = as_it_is(max_shift=0.1)
    dataset = data_set(root, step)
    moves, sources = set(), set()
    for seed in range(60):
        image, label = dataset.read(0)
        before = image.copy()
        pasted, ids = step.sample(image, label, np.random.default_rng(seed))
        np.testing.assert_array_equal(image, before)
        changed = ids != 0
        np.testing.assert_array_equal(pasted[~changed], image[~changed])
        assert changed.sum() in (79, 16, 120)
        columns, rows, numbers = pasted[changed].T.astype(int)
        np.testing.assert_array_equal(ids[changed], LABELS[numbers, rows, columns])
        (number,), (move,) = set(numbers), set(zip(*(np.argwhere(changed) - np.stack([rows, columns], 1)).T.tolist()))
        assert abs(move[0]) <= 4
        moves.add(move)
        sources.add(number)
    assert sources == {1, 2} and len({down for down, _ in moves}) > 4 and len({right for _, right in moves}) > 15


def test_regions_are_scaled_and_flipped_with_their_labels(root):
    step = as_it_is(min_scale_factor=2, max_scale_factor=2, flip_prob=1, max_shift=1)
    step.rare_classes = (3,)
    dataset = data_set(root, step)
    pasted, ids = step.sample(*dataset.read(0), np.random.default_rng(0))
    rows, columns = np.nonzero(ids == 3)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (12, 40, 12 * 40)
    line = pasted[rows[0], columns.min() : columns.max() + 1, 0].astype(int)
    assert line[0] == 49 and line[-1] == 30 and (np.diff(line) <= 0).all()


def test_a_region_larger_than_the_image_is_made_to_fit(root):
    step = as_it_is(min_scale_factor=50, max_scale_factor=50)
    data_set(root, step)
    for seed in range(5):
        image, ids = step.sample(images()[0][:15, :20], LABELS[0][:15, :20], np.random.default_rng(seed))
        assert image.shape == (15, 20, 3) and (ids != 0).any()


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_a_share_of_the_samples_gets_one_to_the_largest_number_of_regions(root, share):
    step = CopyPaste([3], share, 2, 1, 1, 0, 1)
    data_set(root, step)
    pasted = [(step.sample(images()[0], LABELS[0], np.random.default_rng(seed))[1] == 3).sum() for seed in range(300)]
    assert abs(np.mean(np.array(pasted) > 0) - share) < 0.08
    assert (max(pasted) > 120) == (share > 0)


def test_planes_are_pasted_whole(root):
    step = as_it_is()
    dataset = data_set(root, step, path="planes.txt")
    dataset.use_multilabel()
    image, planes = step.sample(*dataset.read(0), np.random.default_rng(0))
    assert planes.shape == (*SIZE, 4) and (planes.sum(axis=-1) == 1).all()
    columns, rows, numbers = image.reshape(-1, 3).T.astype(int)
    np.testing.assert_array_equal(planes.argmax(axis=-1).ravel(), LABELS[numbers, rows, columns])
    assert (planes[..., 2:] == 1).any()


def test_it_goes_before_fused_augment_and_before_paddlesegs_transforms(root):
    from paddleseg.transforms import Normalize

    fused = data_set(root, as_it_is(), FusedAugment([60, 40], 1, 1, flip_prob=0))
    plain = data_set(root, as_it_is(), Normalize())
    for dataset in (fused, plain):
        dataset.draws.epoch = 0
    for number, dataset in enumerate((fused, plain)):
        sample = dataset[0]
        pixels = np.rint((np.asarray(sample["img"]) * 0.5 + 0.5) * 255).astype(int)
        red, rows, columns = pixels.reshape(3, -1)  # RGB
        np.testing.assert_array_equal(np.asarray(sample["label"]).ravel(), LABELS[red, rows, columns], str(number))
        assert set(red) in ({0, 1}, {0, 2})


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"rare_classes": []}, "CopyPaste: rare_classes names no class: give their ids."),
        ({"rare_classes": "pole"}, "rare_classes is 'pole': give a list of class ids."),
        ({"prob": 2}, "prob is 2: give a number from 0 to 1."),
        ({"max_regions": 0}, "max_regions is 0: give an integer of at least 1."),
        ({"min_scale_factor": 2.0}, "scales from 2.0 to 1.5 in steps of 0: 0 < min_scale_factor"),
        ({"flip_prob": -1}, "flip_prob is -1: give a number from 0 to 1."),
        ({"max_shift": "far"}, "max_shift is 'far': give a number from 0 to 1."),
    ],
)
def test_wrong_arguments_are_reported(arguments, expected):
    with pytest.raises(ConfigError) as caught:
        CopyPaste(**{"rare_classes": [1], **arguments})
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_go_together_is_refused(root):
    crop = RareClassCrop([8, 8], [1])
    for transforms, mode, said in (
        ([crop, CopyPaste([1])], "train", "pastes pixels as images hold them: make it the first of train_dataset.tran"),
        ([CopyPaste([1])], "val", "CopyPaste draws at random and is for mode 'train'; mode is 'val': remove it."),
        ([crop], "val", "RareClassCrop draws at random and is for mode 'train'; mode is 'val': remove it."),
        ([CopyPaste([4])], "train", "rare_classes names 4, but the data set has 4 classes: give ids from 0 to 3."),
        ([RareClassCrop([8, 8], [9])], "train", "RareClassCrop: rare_classes names 9, but the data set has 4 classes"),
    ):
        with pytest.raises(ConfigError, match=said):
            data_set(root, *transforms, mode=mode)
    with pytest.raises(ConfigError, match=r"no label of the training set holds one of rare_classes \[1\]: give other"):
        data_set(root, CopyPaste([1]))[0]
    with pytest.raises(ConfigError, match="takes regions from other images of the training set, and this data set"):
        CopyPaste([1]).set_progress(0)
    with pytest.raises(ConfigError, match=r"takes an image with its label, and nothing else \(edge\)"):
        CopyPaste([1])({"img": images()[0], "label": LABELS[0], "edge": LABELS[0], "gt_fields": ["label", "edge"]})


# --------------------------------------------------------------------------------------------
# Crops
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_crops_holds_a_rare_class(share):
    step, hits = RareClassCrop([12, 10], [2, 7], share), []
    for _ in range(300):
        data = step({"img": images()[1].astype(np.float32), "label": LABELS[1], "gt_fields": ["label"]})
        assert data["img"].shape == (10, 12, 3) and data["label"].shape == (10, 12)
        columns, rows = data["img"][..., 0].astype(int), data["img"][..., 1].astype(int)
        np.testing.assert_array_equal(data["label"], LABELS[1][rows, columns])
        hits.append((data["label"] == 2).any())
    places = [(y, x) for y in range(31) for x in range(49)]
    by_chance = np.mean([(LABELS[1, y : y + 10, x : x + 12] == 2).any() for y, x in places])
    assert abs(np.mean(hits) - (share + (1 - share) * by_chance)) < 0.1


@pytest.mark.parametrize("channels", [1, 3, 10])
def test_a_crop_larger_than_the_image_is_filled_at_the_right_and_below(channels):
    image = np.full((4, 6, channels), 9, np.float32)
    image = image[..., 0] if channels == 1 else image
    label = np.full((4, 6), 2, np.uint8)
    data = RareClassCrop([8, 5], [2], 1, 50, 77)({"img": image, "label": label, "gt_fields": ["label"]})
    wanted = np.full((5, 8), 77)
    wanted[:4, :6] = 2
    np.testing.assert_array_equal(data["label"], wanted)
    pixels = data["img"].reshape(5, 8, channels)
    np.testing.assert_array_equal(pixels, np.where(wanted == 2, 9, 50)[..., None].repeat(channels, axis=-1))


def test_crops_belong_to_numpys_seed():
    def crops(seed):
        np.random.seed(seed)
        step = RareClassCrop([12, 10], [2])
        return [step({"img": images()[1], "label": LABELS[1], "gt_fields": ["label"]})["img"] for _ in range(5)]

    assert np.array_equal(crops(1), crops(1)) and not np.array_equal(crops(1), crops(2))


def test_crops_need_classes():
    with pytest.raises(ConfigError, match="RareClassCrop: rare_classes names no class: give their ids."):
        RareClassCrop([8, 8], [])


def test_the_size_of_the_crop_is_told(root):
    from ppliteseg_paddle.data.check import crop_size_of

    assert crop_size_of(data_set(root, RareClassCrop([12, 10], [2]))) == (12, 10)
