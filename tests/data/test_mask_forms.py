"""Masks that look like others: saved as JPEG or smoothed, of 0/1 beside 0/255, mapped by hand, of many classes."""

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_data import save_pixels

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data.prepare.draft import carry_out
from ppliteseg_paddle.data.prepare.folder import Sources, plan_folder
from ppliteseg_paddle.data.prepare.label_forms import convert, decide
from ppliteseg_paddle.data.prepare.mask_facts import Census, facts_of
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.labels import read_label

QUIET = dict(num_workers=0, progress=False)


def disc(size=96, radius=30):
    y, x = np.mgrid[:size, :size] - size // 2
    return (x**2 + y**2 < radius**2).astype(np.uint8)


def form_of(paths, by_color=False, **how):
    census = Census()
    for path in paths:
        census.add(str(path), facts_of(str(path), as_colors=by_color))
    return decide(census, **how)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_binary_masks_saved_as_jpeg_are_cut_in_the_middle(tmp_path, mode, quality):
    path, truth = tmp_path / "m.jpg", disc()
    Image.fromarray(truth * 255).convert(mode).save(path, quality=quality)
    assert len(np.unique(np.asarray(Image.open(path)))) > 3  # compression has spread the values
    form = form_of([path])
    assert form.names == ("background", "foreground") and "saved as JPEG" in form.what
    assert (convert(str(path), form) != truth).mean() < 0.005


def test_binary_masks_with_smoothed_borders_are_cut_in_the_middle(tmp_path):
    truth = disc()
    path = save_pixels(tmp_path / "m.png", cv2.GaussianBlur(truth * 255, (3, 3), 0))
    form = form_of([path])
    assert form.smeared and (convert(str(path), form) != truth).mean() < 0.01


@pytest.mark.parametrize("values", [[0, 1, 2, 3, 255], [0, 64, 128, 192, 255], list(range(0, 250, 10))])
def test_class_ids_are_not_taken_for_smeared_binary_masks(tmp_path, values):
    pixels = np.repeat(np.array(values, np.uint8), 50)[None]
    assert not form_of([save_pixels(tmp_path / "m.png", pixels)]).smeared


def test_class_ids_or_colors_saved_as_jpeg_are_refused(tmp_path):
    Image.fromarray(disc() * 3 + disc(radius=10) * 4).save(tmp_path / "ids.jpg")
    with pytest.raises(DataError, match="ids.jpg is a JPEG, .* export the masks as PNG"):
        form_of([tmp_path / "ids.jpg"])
    Image.fromarray(np.array([[200, 0, 0], [0, 0, 200]], np.uint8)[disc()]).save(tmp_path / "colors.jpg")
    with pytest.raises(DataError, match="colors.jpg holds .* changed by JPEG"):
        form_of([tmp_path / "colors.jpg"])


def test_masks_of_0_and_1_beside_masks_of_0_and_255_get_a_warning(tmp_path):
    ones = save_pixels(tmp_path / "ones.png", disc())
    full = save_pixels(tmp_path / "full.png", disc() * 255)
    warning = form_of([ones, full]).warning
    assert "1 masks hold 0 and 1 (" in warning and "ones.png" in warning and "--remap 255=1" in warning
    form = form_of([ones, full], remap={255: 1})
    assert not form.warning and convert(str(full), form).max() == 1
    both = disc()
    both[0] = 255
    assert not form_of([ones, full, save_pixels(tmp_path / "both.png", both)]).warning  # 255 is ignored there


def test_data_check_warns_of_labels_of_0_and_1_beside_labels_of_0_and_255(tmp_path):
    from ppliteseg_paddle.data.check import check_datasets
    from ppliteseg_paddle.data.dataset import CheckedDataset

    for i, factor in enumerate((1, 255)):
        cv2.imwrite(str(tmp_path / f"i{i}.png"), np.full((96, 96, 3), i, np.uint8))
        save_pixels(tmp_path / f"l{i}.png", disc() * factor)
    (tmp_path / "l.txt").write_text("i0.png l0.png\ni1.png l1.png\n")
    data = CheckedDataset("train", str(tmp_path), [], 2, train_path=str(tmp_path / "l.txt"))
    found = check_datasets({"train": data}, **QUIET)["findings"]
    assert [(row["kind"], row["count"]) for row in found] == [("mixed_binary", 1)]


# --- by hand ----------------------------------------------------------------------------------


def test_colors_are_mapped_by_hand(tmp_path):
    pixels = np.array([[[0, 0, 0], [128, 0, 0], [0, 128, 0], [9, 9, 9]]], np.uint8)
    path = save_pixels(tmp_path / "m.png", pixels)
    remap = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 1, (9, 9, 9): None}
    form = form_of([path], by_color=True, remap=remap, class_names=["ground", "plant"])
    assert convert(str(path), form).tolist() == [[0, 1, 1, 255]]
    assert form.names == ("ground", "plant")


@pytest.mark.parametrize(
    "pixels, remap, words",
    [
        ([[[0, 0, 0], [128, 0, 0]]], {(0, 0, 0): 0}, "--remap lacks 1 of the masks' colors (128,0,0)"),
        ([[[0, 0, 0], [128, 0, 0]]], {7: 0}, "--remap names the value 7, but"),
        ([[[0, 0, 0], [128, 0, 0]]], {(1, 2, 3): 0}, "--remap has no effect: the masks hold none"),
        ([[0, 1]], {7: 0}, "--remap has no effect: the masks hold none of what it maps, but 0 1"),
    ],
)
def test_a_map_that_does_not_fit_the_masks_is_refused(tmp_path, pixels, remap, words):
    path = save_pixels(tmp_path / "m.png", np.array(pixels, np.uint8))
    with pytest.raises(DataError) as caught:
        form_of([path], by_color=any(isinstance(key, tuple) for key in remap), remap=remap)
    assert words in str(caught.value)


def folder(tmp_path, masks):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i, mask in enumerate(masks):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), np.full(mask.shape[:2] + (3,), 9 * i, np.uint8))
        save_pixels(tmp_path / "masks" / f"{i}.png", mask)
    return ["data", "prepare", "folder", "--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"), "--yes"]


def test_the_command_line_maps_colors_and_spells_ignored_pixels_ignore(tmp_path, capsys):
    mask = np.array([[0, 0, 0], [128, 0, 0]], np.uint8)[disc()]
    command = folder(tmp_path, [mask] * 3) + ["--masks", str(tmp_path / "masks"), "--val", "0"]
    assert main(command + ["--remap", "128,0,0=0", "0,0,0=ignore"]) == 0
    assert np.unique(read_label(str(tmp_path / "out" / "labels" / "0.png"))).tolist() == [0, 255]
    assert "( 0,   0,   0) -> ignore" in capsys.readouterr().err.replace("(  0", "( 0")


@pytest.mark.parametrize(
    "extra, words",
    [
        (["--masks", "M", "--val", "0", "--seed", "3"], "--seed has no effect with --val 0"),
        (["--annotations", "A", "--remap", "1=0"], "--remap has no effect on COCO annotations"),
        (["--annotations", "A", "--classes", "C"], "--classes has no effect on COCO annotations"),
        (["--masks", "M", "--remap", "9=0"], "--remap has no effect: the masks hold none"),
        (["--masks", "M", "--remap", "1=nothing"], "TO a class id or ignore"),
        (["--masks", "M", "--remap", "1=0", "1=1"], "--remap names 1 twice"),
    ],
)
def test_an_option_without_effect_is_an_error(tmp_path, capsys, extra, words):
    (tmp_path / "c.txt").write_text("a\nb\n")
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    places = {"M": str(tmp_path / "masks"), "C": str(tmp_path / "c.txt"), "A": str(tmp_path / "a.json")}
    assert main(folder(tmp_path, [disc()] * 3) + [places.get(word, word) for word in extra]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- many classes -----------------------------------------------------------------------------


def test_more_than_256_classes_become_16_bit_labels_with_an_ignored_value_of_their_own(tmp_path):
    names = [f"kind {i}" for i in range(400)]
    mask = np.arange(400, dtype=np.uint16).repeat(30).reshape(100, 120)
    mask[0, 0] = 65535
    folder(tmp_path, [mask] * 4)
    plan = plan_folder(Sources(str(tmp_path / "images"), str(tmp_path / "masks"), class_names=names), **QUIET)
    result = carry_out(plan, str(tmp_path / "out"), val=0.25, **QUIET)
    label = read_label(str(tmp_path / "out" / "labels" / "0.png"))
    np.testing.assert_array_equal(label, mask)
    content = yaml.safe_load((tmp_path / "out" / "config.yml").read_text())
    assert (result["ignored"], len(result["class_names"])) == (65535, 400)
    assert content["train_dataset"]["ignore_index"] == 65535
    assert content["train_dataset"]["transforms"][0]["label_padding_value"] == 65535
    assert content["loss"]["types"][0]["ignore_index"] == 65535
