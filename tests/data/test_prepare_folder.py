"""Folders of images and masks of many kinds become class ids."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_data import save_pixels

from ppliteseg_paddle.data.prepare.draft import carry_out
from ppliteseg_paddle.data.prepare.folder import Sources, plan_folder
from ppliteseg_paddle.data.prepare.label_forms import convert, decide
from ppliteseg_paddle.data.prepare.mask_facts import Census, facts_of
from ppliteseg_paddle.data.prepare.pairing import pair_by_name
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.lists import read_list

QUIET = dict(num_workers=0, progress=False)


def form_of(paths, **how):
    census = Census()
    for path in paths:
        census.add(str(path), facts_of(str(path), as_colors="table" in how))
    return decide(census, **how)


def converted(tmp_path, pixels, **how):
    path = save_pixels(tmp_path / "mask.png", pixels)
    form = form_of([path], **how)
    return convert(str(path), form), form


# --- property: color masks are recovered exactly ---------------------------------------------

COLORS = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=12, unique=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=COLORS, seed=st.integers(0, 2**32 - 1), masks=st.integers(1, 3), alpha=st.booleans())
def test_any_color_masks_of_a_given_table_are_recovered_exactly(tmp_path, table, seed, masks, alpha):
    rng = np.random.default_rng(seed)
    truths = [rng.integers(0, len(table), (7, 9)).astype(np.uint8) for _ in range(masks)]
    paths = [
        save_pixels(tmp_path / (f"{i:d}.png"), np.array(table, np.uint8)[truth], "RGBA" if alpha else None)
        for i, truth in enumerate(truths)
    ]
    form = form_of(paths, table=[(color, f"class {i:d}") for i, color in enumerate(table)])
    assert form.names == tuple(f"class {i:d}" for i in range(len(table)))
    for path, truth in zip(paths, truths):
        np.testing.assert_array_equal(convert(str(path), form), truth)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=COLORS.filter(lambda table: any(len(set(color)) > 1 for color in table)), seed=st.integers(0, 2**32 - 1))
def test_without_a_table_each_color_becomes_one_class(tmp_path, table, seed):
    truth = np.random.default_rng(seed).integers(0, len(table), (6, 8))
    truth.flat[: len(table)] = np.arange(len(table))
    path = save_pixels(tmp_path / "mask.png", np.array(table, np.uint8)[truth])
    form = form_of([path])
    ids = convert(str(path), form)
    found = {row.source: row.id for row in form.rows}
    assert [found[table[i]] for i in truth.ravel()] == ids.ravel().tolist()
    assert len(set(found.values())) == len(found)


# --- forms ------------------------------------------------------------------------------------


def test_class_ids_stay_what_they_are(tmp_path):
    pixels = np.array([[0, 1, 2, 255]], np.uint8)
    ids, form = converted(tmp_path, pixels)
    assert (ids.tolist(), form.what, form.names) == ([[0, 1, 2, 255]], "class ids", ("class_0", "class_1", "class_2"))


def test_binary_masks_become_background_and_foreground(tmp_path):
    ids, form = converted(tmp_path, np.array([[0, 255]], np.uint8))
    assert (ids.tolist(), form.names) == ([[0, 1]], ("background", "foreground"))


def test_one_bit_masks_are_binary_ids(tmp_path):
    ids, form = converted(tmp_path, np.array([[False, True]]))
    assert (ids.tolist(), form.what) == ([[0, 1]], "class ids")


def test_ids_counted_from_one_are_shifted(tmp_path):
    ids, form = converted(tmp_path, np.array([[1, 2, 3, 255]], np.uint8))
    assert (ids.tolist(), form.what) == ([[0, 1, 2, 255]], "class ids counted from 1")


def test_with_named_classes_a_zero_beside_ids_from_one_is_unlabelled(tmp_path):
    ids, form = converted(tmp_path, np.array([[0, 1, 2, 3]], np.uint8), class_names=["a", "b", "c"])
    assert (ids.tolist(), form.names) == ([[255, 0, 1, 2]], ("a", "b", "c"))


def test_values_with_wide_gaps_are_numbered_in_their_order(tmp_path):
    ids, form = converted(tmp_path, np.array([[7, 26, 11, 255]], np.uint8))
    assert (ids.tolist(), form.what) == ([[0, 2, 1, 255]], "values with gaps, numbered in their order")


def test_a_class_that_does_not_occur_does_not_shift_the_others(tmp_path):
    ids, form = converted(tmp_path, np.array([[0, 1, 3, 4]], np.uint8))
    assert (ids.tolist(), len(form.names)) == ([[0, 1, 3, 4]], 5)


def test_values_are_mapped_by_hand(tmp_path):
    ids, form = converted(tmp_path, np.array([[0, 7, 8]], np.uint8), remap={0: None, 7: 0, 8: 1})
    assert (ids.tolist(), form.names) == ([[255, 0, 1]], ("class_0", "class_1"))


def test_sixteen_bit_ids_are_read(tmp_path):
    ids, _ = converted(tmp_path, np.array([[1000, 2000, 3000]], np.uint16))
    assert ids.tolist() == [[0, 1, 2]]


def test_gray_colors_are_values_written_three_times(tmp_path):
    ids, form = converted(tmp_path, np.array([[[0] * 3, [1] * 3, [2] * 3]], np.uint8))
    assert (ids.tolist(), form.kind) == ([[0, 1, 2]], "values")


def test_a_palette_image_keeps_its_indices(tmp_path):
    path = save_pixels(tmp_path / "m.png", np.array([[0, 1, 2]], np.uint8), palette=[0, 0, 0, 9, 0, 0, 0, 9, 0])
    form = form_of([path])
    assert convert(str(path), form).tolist() == [[0, 1, 2]]


def test_palettes_that_differ_from_file_to_file_are_read_as_colors(tmp_path):
    images, masks = tmp_path / "i", tmp_path / "m"
    for folder in (images, masks):
        folder.mkdir()
    for name, pixels, palette in (("a", [[0, 1]], [200, 0, 0, 0, 0, 200]), ("b", [[0, 1]], [0, 0, 200, 200, 0, 0])):
        save_pixels(images / (name + ".png"), np.zeros((1, 2, 3), np.uint8))
        save_pixels(masks / (name + ".png"), np.array(pixels, np.uint8), palette=palette)
    plan = plan_folder(Sources(str(images), str(masks)), **QUIET)
    assert plan.make(plan.pairing.pairs[0]).tolist() == [[1, 0]]
    assert plan.make(plan.pairing.pairs[1]).tolist() == [[0, 1]]


def test_colors_of_a_known_set_get_its_names_and_ids(tmp_path):
    ids, form = converted(tmp_path, np.array([[[128, 64, 128], [0, 0, 142], [70, 130, 180], [0, 0, 0]]], np.uint8))
    assert ids.tolist() == [[0, 13, 10, 255]]
    assert (form.what, form.names[13]) == ("the colors of cityscapes", "car")


def test_a_void_in_the_table_is_ignored(tmp_path):
    ids, form = converted(
        tmp_path, np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8), table=[((0, 0, 0), "void"), ((1, 2, 3), "road")]
    )
    assert (ids.tolist(), form.names) == ([[0, 255]], ("road",))


@pytest.mark.parametrize(
    "pixels, how, words",
    [
        (
            np.array([[[1, 2, 3]]], np.uint8),
            {"table": [((9, 9, 9), "a")]},
            "1 colors that the table does not know (1 2 3)",
        ),
        (
            np.array([[0, 1, 2, 3, 4]], np.uint8),
            {"class_names": ["a", "b"]},
            "the masks hold 5 values, but the class file names 2",
        ),
        (np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), {"class_names": ["a"]}, "2 colors, but the class file names 1"),
        (np.array([[255, 255]], np.uint8), {"class_names": ["a", "b", "c"]}, "the ignored value 255 only"),
        (
            np.array([[0, 1]], np.uint8),
            {"remap": {0: 4}, "class_names": ["a", "b"]},
            "the masks give the class ids [4]",
        ),
        (np.arange(300, dtype=np.uint16)[None], {}, "300 values from 0 to 299"),
        (np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8), {}, "more than classes can be"),
    ],
)
def test_masks_that_fit_nothing_are_reported(tmp_path, pixels, how, words):
    with pytest.raises(DataError) as caught:
        converted(tmp_path, pixels, **how)
    assert words in str(caught.value)


def test_ids_and_colors_in_one_folder_are_refused(tmp_path):
    paths = [
        save_pixels(tmp_path / "a.png", np.zeros((2, 2), np.uint8)),
        save_pixels(tmp_path / "b.png", np.array([[[1, 2, 3]]], np.uint8)),
    ]
    with pytest.raises(DataError, match="several kinds: .*a.png holds class ids, .*b.png colors"):
        form_of(paths)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image, mask",
    [
        ("{}.jpg", "{}.png"),
        ("{}_leftImg8bit.png", "{}_gtFine_color.png"),
        ("img_{}.jpg", "mask_{}.png"),
        ("{}.jpg", "{}_L.png"),
        ("{}_sat.jpg", "{}_mask.png"),
        ("photo-{}.jpeg", "{}.json"),
    ],
)
def test_pairs_are_found_by_name_whatever_surrounds_it(image, mask):
    keys = ["001", "002", "010", "0011", "1", "scene_7"]
    pairing = pair_by_name(
        [image.format(key) for key in keys], [mask.format(key) for key in keys + ["alone"]], ".", "."
    )
    assert pairing.pairs == [(image.format(key), mask.format(key)) for key in keys]
    assert (pairing.images_alone, pairing.masks_alone) == ([], [mask.format("alone")])


def test_equal_names_in_different_folders_are_kept_apart():
    pairing = pair_by_name(["i/x/1.jpg", "i/y/1.jpg"], ["m/x/1.png", "m/y/1.png"], "i", "m")
    assert pairing.pairs == [("i/x/1.jpg", "m/x/1.png"), ("i/y/1.jpg", "m/y/1.png")]


def test_several_masks_for_each_image_need_a_choice():
    masks = [f"{i:d}_{kind}.png" for i in (1, 2, 3) for kind in ("color", "labelIds")]
    with pytest.raises(DataError, match="fit equally well; choose with --mask_suffix"):
        pair_by_name(["1.jpg", "2.jpg", "3.jpg"], masks, ".", ".")


def test_names_that_have_nothing_in_common_are_reported():
    with pytest.raises(DataError, match="no mask of m has a name like an image of i .abc.jpg and 123.png."):
        pair_by_name(["i/abc.jpg"], ["m/123.png"], "i", "m")


# --- the whole ---------------------------------------------------------------------------------


def test_a_prepared_folder_checks_and_its_configuration_builds(tmp_path):
    from ppliteseg_paddle.engine.build import build_train_dataset, label_set_of, load_config
    from ppliteseg_paddle.engine.data_checks import check_config

    images, masks = tmp_path / "my photos", tmp_path / "masks"
    for folder in (images, masks):
        folder.mkdir()
    rng = np.random.default_rng(0)
    table = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 0]], np.uint8)
    truths = {}
    for i in range(10):
        truths[f"{i:02d}"] = truth = rng.integers(0, 3, (70, 90))
        cv2.imwrite(str(images / (f"{i:02d}.jpg")), rng.integers(0, 255, (70, 90, 3)).astype(np.uint8))
        save_pixels(masks / (f"{i:02d}_seg.png"), table[truth])
    plan = plan_folder(Sources(str(images), str(masks), class_names=["sky", "rock", "sand"]), **QUIET)
    assert "( 10,  20,  30) ->      1  rock" in plan.describe()
    result = carry_out(plan, str(tmp_path / "out"), val=0.3, **QUIET)
    assert (result["train"], result["val"], result["class_names"]) == (7, 3, ["sky", "rock", "sand"])
    config = load_config(result["config"])
    assert label_set_of(config).classes == ("sky", "rock", "sand")
    assert [row["kind"] for row in check_config(config, num_workers=0)["findings"]] == []
    data = build_train_dataset(config)
    assert len(data) == 7 and data[0]["img"].shape == (3, 70, 90)
    for image, label, _ in read_list(str(tmp_path / "out" / "val.txt"), str(tmp_path / "out"), "\t"):
        order = np.array([1, 2, 0])  # colors are numbered in their order: (0,0,0), (10,20,30), (200,100,0)
        np.testing.assert_array_equal(read_label(label), order[truths[image[-6:-4]]])
    content = yaml.safe_load(Path(result["config"]).read_text())
    assert content["train_dataset"]["separator"] == "\t"
    assert content["train_dataset"]["transforms"][0]["crop_size"] == [90, 70]


def test_too_few_pairs_for_a_validation_list_are_reported(tmp_path):
    (tmp_path / "images").mkdir()
    save_pixels(tmp_path / "images" / "a.png", np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "masks").mkdir()
    save_pixels(tmp_path / "masks" / "a.png", np.array([[0, 1]], np.uint8))
    plan = plan_folder(Sources(str(tmp_path / "images"), str(tmp_path / "masks")), **QUIET)
    with pytest.raises(DataError, match="1 pairs are too few .* --val 0"):
        carry_out(plan, str(tmp_path / "out"), **QUIET)
