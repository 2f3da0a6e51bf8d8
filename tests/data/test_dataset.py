import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_data import make_data

from ppliteseg_paddle.data.dataset import CamVid, CheckedDataset, StreetScenes, read_class_names
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import check_label, read_label
from ppliteseg_paddle.reading.lists import read_list


@pytest.fixture
def root(tmp_path):
    return make_data(tmp_path / "data", train=3, val=2)


def error(call, *args, kind=DataError, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the same numbers as PaddleSeg's ---------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "val"])
def test_items_equal_those_of_paddlesegs_own_dataset(root, mode):
    from paddleseg.datasets import Dataset
    from paddleseg.transforms import Normalize, Resize

    arguments = dict(
        mode=mode,
        dataset_root=str(root),
        num_classes=11,
        train_path=str(root / "train.txt"),
        val_path=str(root / "val.txt"),
        edge=mode == "train",
    )
    ours = CheckedDataset(transforms=[Resize((32, 24)), Normalize()], **arguments)
    theirs = Dataset(transforms=[Resize((32, 24)), Normalize()], **arguments)
    assert len(ours) == len(theirs) == (3 if mode == "train" else 2)
    assert ours.file_list == theirs.file_list
    for index in range(len(ours)):
        mine, reference = ours[index], theirs[index]
        assert set(mine) == set(reference)
        np.testing.assert_array_equal(mine["img"], reference["img"])
        np.testing.assert_array_equal(mine["label"], reference["label"])
        assert mine["img"].dtype == reference["img"].dtype and mine["label"].dtype == reference["label"].dtype
        assert mine["trans_info"] == reference["trans_info"]
        if mode == "train":
            np.testing.assert_array_equal(mine["edge"], reference["edge"])


def test_random_transforms_draw_the_same_numbers_as_in_paddlesegs_dataset(root):
    import random

    from paddleseg.datasets import Dataset
    from paddleseg.transforms import RandomDistort, RandomHorizontalFlip, RandomPaddingCrop, ResizeStepScaling

    arguments = dict(mode="train", dataset_root=str(root), num_classes=11, train_path=str(root / "train.txt"))
    items = []
    for kind in (CheckedDataset, Dataset):
        transforms = [
            ResizeStepScaling(0.5, 2.0, 0.25),
            RandomPaddingCrop((32, 32)),
            RandomHorizontalFlip(),
            RandomDistort(),
        ]
        dataset = kind(transforms=transforms, **arguments)
        random.seed(5)
        np.random.seed(5)
        items.append([dataset[index] for index in range(3)])
    for mine, reference in zip(*items):
        np.testing.assert_array_equal(mine["img"], reference["img"])
        np.testing.assert_array_equal(mine["label"], reference["label"])


def test_the_root_may_name_a_variable(root, monkeypatch):
    monkeypatch.setenv("TINY_ROOT", str(root))
    assert len(CamVid(transforms=[], dataset_root="${TINY_ROOT:-nowhere}")) == 3


def test_mode_test_reads_images_without_labels(root):
    (root / "test.txt").write_text("images/00.png\nimages/01.png labels/01.png\n")
    dataset = CamVid(transforms=[], dataset_root=str(root), mode="test")
    assert "label" not in dataset[0]
    assert dataset[1]["label"].shape == (48, 64)


def test_a_gray_data_set_gives_one_channel(root):
    dataset = CheckedDataset("train", str(root), [], 11, img_channels=1, train_path=str(root / "train.txt"))
    assert dataset[0]["img"].shape == (1, 48, 64)


# --- lists -------------------------------------------------------------------------------------


def test_a_list_may_have_blank_lines_and_a_byte_order_mark(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa.png b.png\r\n\r\nc.png d.png\n")
    assert read_list(str(tmp_path / "l.txt"), "R") == [("R/a.png", "R/b.png", 1), ("R/c.png", "R/d.png", 3)]


@pytest.mark.parametrize("line", ["a.png", "a b.png c.png", "a.png,b.png"])
def test_a_malformed_line_is_reported_with_file_and_number(tmp_path, line):
    (tmp_path / "l.txt").write_text(f"a.png b.png\n{line}\n")
    assert "l.txt:2: expected 'image label', found" in error(read_list, str(tmp_path / "l.txt"), "R")


def test_an_empty_list_and_a_missing_one_are_reported(tmp_path):
    (tmp_path / "l.txt").write_text("\n \n")
    assert "l.txt is empty" in error(read_list, str(tmp_path / "l.txt"), "R")
    assert "none.txt cannot be read: No such file" in error(read_list, str(tmp_path / "none.txt"), "R")


def test_a_list_given_relative_to_the_root_for_type_dataset_is_answered_with_what_to_write(root):
    text = error(CheckedDataset, "train", str(root), [], 11, train_path="train.txt")
    assert text.endswith(f"Write: {(root / 'train.txt')}")


def test_a_missing_root_is_reported(tmp_path):
    assert "none does not exist" in error(CamVid, transforms=[], dataset_root=str(tmp_path / "none"))


@pytest.mark.parametrize(
    "change, expected",
    [
        (dict(mode="trian"), "mode is 'trian'. Did you mean 'train'?"),
        (dict(num_classes=0), "num_classes is 0: give an integer of at least 1"),
        (dict(img_channels=0), "img_channels is 0: give an integer from 1 to 512"),
        (dict(img_range=[5, 5]), "img_range is [5, 5]: give the values that become black and white"),
        (dict(img_range=[[0, 1], [0, 1]]), "img_range has 2 pairs for 3 channels"),
        (dict(transforms=None), "transforms must be a list, but is None"),
        (dict(train_path=None), "so train_path is needed"),
    ],
)
def test_wrong_arguments_are_reported(root, change, expected):
    arguments = {
        **dict(mode="train", dataset_root=str(root), transforms=[], num_classes=11, train_path=str(root / "train.txt")),
        **change,
    }
    assert expected in error(CheckedDataset, kind=ConfigError, **arguments)


# --- images and labels -------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, read_label])
def test_files_that_cannot_be_read_are_reported_with_what_is_wrong(tmp_path, read):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    assert "does not exist" in error(read, str(tmp_path / "none.png"))
    assert "is empty (0 bytes)" in error(read, str(tmp_path / "empty.png"))
    assert "cannot be decoded" in error(read, str(tmp_path / "text.png"))
    assert "is a folder" in error(read, str(tmp_path))


def test_a_truncated_label_is_reported(tmp_path, rng):
    whole = cv2.imencode(".png", rng.integers(0, 11, (48, 64)).astype(np.uint8))[1].tobytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    assert "cannot be decoded" in error(read_label, str(tmp_path / "half.png"))


def test_palette_gray_and_16_bit_labels_are_read_as_class_ids(tmp_path, rng):
    ids = rng.integers(0, 11, (6, 8)).astype(np.uint8)
    palette = Image.fromarray(ids, mode="P")
    palette.putpalette([200, 10, 10] * 256)
    palette.save(tmp_path / "palette.png")
    cv2.imwrite(str(tmp_path / "gray.png"), ids)
    cv2.imwrite(str(tmp_path / "deep.png"), ids.astype(np.uint16))
    for name in ("palette.png", "gray.png", "deep.png"):
        label = read_label(str(tmp_path / name))
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, ids)


def test_a_color_label_is_reported_with_its_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((4, 4, 3), np.uint8))
    assert "has 3 channels (RGB): a label is one channel of class ids" in error(read_label, str(tmp_path / "c.png"))


def test_a_label_of_another_size_is_reported_with_both_sizes(root):
    cv2.imwrite(str(root / "labels" / "01.png"), np.zeros((40, 64), np.uint8))
    dataset = StreetScenes(transforms=[], dataset_root=str(root))
    text = error(dataset.read, 1)
    assert "labels/01.png is 64x40 pixels, but its image" in text and "images/01.png is 64x48" in text


def test_a_turned_label_points_to_the_rotation_of_the_image(root):
    cv2.imwrite(str(root / "labels" / "01.png"), np.zeros((64, 48), np.uint8))
    assert "EXIF rotation" in error(StreetScenes(transforms=[], dataset_root=str(root)).read, 1)


def test_values_outside_the_classes_are_named(root):
    label = np.zeros((48, 64), np.uint8)
    label[0, :3], label[1, 1], label[2] = 77, 11, 255
    cv2.imwrite(str(root / "labels" / "02.png"), label)
    text = error(StreetScenes(transforms=[], dataset_root=str(root)).__getitem__, 2)
    assert "holds the values 11, 77 (4 pixels), but the classes are 0 to 10 and 255 is ignored" in text


def test_labels_that_count_from_one_are_recognised():
    assert "count from 1: subtract 1" in error(
        check_label, np.arange(1, 12, dtype=np.uint8).reshape(1, 11), "l.png", 11, 255
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_every_allowed_value_passes(dtype):
    check_label(np.array([[0, 10, 255, 5]], dtype), "l.png", 11, 255)


def test_a_negative_value_is_named():
    assert "holds the value -1 (1 pixel)" in error(check_label, np.array([[-1, 0]], np.int32), "l.png", 11, 255)


def test_class_names_come_from_a_file_of_the_right_length(tmp_path):
    assert read_class_names(str(tmp_path), 2) is None
    (tmp_path / "classes.txt").write_text("road\nnot road\n")
    assert read_class_names(str(tmp_path), 2) == ["road", "not road"]
    assert "names 2 classes, but num_classes is 3" in error(read_class_names, str(tmp_path), 3)
