"""Data sets that PaddleSeg pairs by the order of their files."""

import cv2
import numpy as np
import pytest

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.pairs_by_order import check_order

# form of the names -> image, label
FORMS = {
    "equal": ("{}.jpg", "{}.png"),
    "suffixes": ("{}_leftImg8bit.png", "{}_gtFine_labelTrainIds.png"),
    "prefixes": ("img_{}.jpg", "mask_{}.png"),
}
KEYS = ["000139", "000285", "000632", "000724", "000776", "000785", "000802", "000872", "000885", "001000"]


def zipped(root, form, without_image=(), without_label=()):
    """Pairs as PaddleSeg makes them, of folders in which files are missing."""
    (root / "i").mkdir()
    (root / "l").mkdir()
    for pattern, folder, lost in ((FORMS[form][0], "i", without_image), (FORMS[form][1], "l", without_label)):
        for key in KEYS:
            if key not in lost:
                (root / folder / pattern.format(key)).write_bytes(b"")
    images, labels = (sorted(map(str, (root / folder).iterdir())) for folder in ("i", "l"))
    return list(zip(images, labels))


@pytest.mark.parametrize("form", FORMS)
def test_complete_folders_pass(tmp_path, form):
    check_order(zipped(tmp_path, form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lost", [KEYS[0], KEYS[4], KEYS[-1]])
def test_a_missing_label_is_refused_by_the_name_of_its_image(tmp_path, form, lost):
    with pytest.raises(DataError, match=FORMS[form][0].format(lost) + " has no label"):
        check_order(zipped(tmp_path, form, without_label=[lost]))


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_image_is_refused_by_the_name_of_its_label(tmp_path, form):
    with pytest.raises(DataError, match=FORMS[form][1].format(KEYS[3]) + " has no image"):
        check_order(zipped(tmp_path, form, without_image=[KEYS[3]]))


def test_names_that_share_nothing_are_left_to_the_user(tmp_path):
    check_order([(f"photo {i}.jpg", f"{chr(97 + i)}.png") for i in range(5)])


def test_coco_stuff_with_a_label_missing_is_refused_by_name(tmp_path):
    from paddleseg.datasets import CocoStuff
    from paddleseg.transforms import Normalize

    from ppliteseg_paddle.data.dataset import CheckedDataset

    for folder in ("images/train2017", "annotations/train2017"):
        (tmp_path / folder).mkdir(parents=True)
    for key in KEYS:
        cv2.imwrite(str(tmp_path / "images/train2017" / f"{key}.jpg"), np.zeros((8, 8, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "annotations/train2017" / f"{key}.png"), np.zeros((8, 8), np.uint8))

    def built():
        return CheckedDataset.of(CocoStuff(transforms=[Normalize()], dataset_root=str(tmp_path), mode="train"))

    assert len(built()) == len(KEYS)
    (tmp_path / "annotations/train2017" / f"{KEYS[2]}.png").unlink()
    with pytest.raises(DataError, match=f"{KEYS[2]}.jpg has no label"):
        built()
