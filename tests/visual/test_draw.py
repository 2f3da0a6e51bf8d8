import os

import cv2
import numpy as np
import pytest
from exported import LABELS, photograph
from PIL import Image

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for
from ppliteseg_paddle.visual.draw import VOID_COLOR, VOID_STRIPE, class_borders, colorize, draw_confidence, overlay
from ppliteseg_paddle.visual.error_map import WRONG, draw_errors
from ppliteseg_paddle.visual.grid import Row, grid
from ppliteseg_paddle.visual.png import write_image, write_mask

PALETTE = LABELS.palette


def scene(height=40, width=60):
    mask = np.repeat(np.arange(11, dtype=np.uint8), -(-width // 11))[:width]
    mask = np.tile(mask, (height, 1))
    mask[:8, :8] = 255
    return mask


def test_a_mask_file_holds_class_ids_and_shows_their_colors(tmp_path):
    path = str(tmp_path / "new" / "mask.png")
    write_mask(path, scene(), PALETTE)
    with Image.open(path) as file:
        assert file.mode == "P" and file.size == (60, 40)
        assert np.array_equal(np.asarray(file), scene())
        colors = np.asarray(file.convert("RGB"))
    assert tuple(colors[20, 0]) == PALETTE[0] and tuple(colors[20, 59]) == PALETTE[scene()[20, 59]]
    assert tuple(colors[0, 0]) == VOID_COLOR
    # OpenCV expands the palette, PaddleSeg reads with Pillow: ids either way there.
    assert os.listdir(tmp_path / "new") == ["mask.png"]


def test_every_class_gets_its_color_and_void_is_striped():
    picture = colorize(scene(), PALETTE)
    for class_id in range(11):
        assert (picture[scene() == class_id] == PALETTE[class_id][::-1]).all()
    void = {tuple(int(v) for v in pixel[::-1]) for pixel in picture[scene() == 255]}
    assert void == {VOID_COLOR, VOID_STRIPE}


def test_an_overlay_mixes_colors_into_the_image_and_leaves_void_alone():
    image, mask = photograph(40, 60), scene()
    picture = overlay(image, mask, PALETTE, opacity=0.5)
    inside = ~class_borders(mask) & (mask != 255)
    inside[8, :8] = inside[:8, 8] = False  # the border to the void
    expected = (image.astype(float) + colorize(mask, PALETTE, stripes=False)) / 2
    assert np.abs(picture[inside] - expected[inside]).max() <= 0.5
    assert np.array_equal(picture[mask == 255], image[mask == 255])
    assert not np.array_equal(picture, image) and picture.dtype == np.uint8


def test_an_overlay_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(DataError, match="60x40 pixels and its image 128x96"):
        overlay(photograph(96, 128), scene(), PALETTE)


def test_a_picture_in_an_unknown_format_or_place_is_refused(tmp_path):
    with pytest.raises(DataError, match="no image format '.abc'"):
        write_image(str(tmp_path / "a.abc"), photograph(8, 8))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_image(str(tmp_path / "file" / "a.png"), photograph(8, 8))
    assert os.listdir(tmp_path) == ["file"]


def test_a_grid_shows_each_row_with_headings_and_a_legend(tmp_path):
    rows = [Row(photograph(40, 60), scene(), scene(), "first"), Row(photograph(96, 128), None, scene(96, 128))]
    picture = grid(rows, LABELS, "Title", "Subtitle", cell_width=240)
    assert picture.shape[1] == 2 * 36 + 3 * 240 + 2 * 14 and picture.dtype == np.uint8
    assert (picture[:10] == 255).all() and (picture[:, :10] == 255).all()  # white margins
    for color in PALETTE:  # each class occurs in a mask and in the legend
        assert (picture == np.array(color[::-1])).all(axis=2).sum() > 500
    assert (picture == np.array(VOID_STRIPE[::-1])).all(axis=2).any()
    write_image(str(tmp_path / "grid.png"), picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "grid.png")), picture)


def test_a_grid_without_any_truth_has_two_columns():
    picture = grid([(photograph(40, 60), None, scene(), "")], LABELS, cell_width=240)
    assert picture.shape[1] == 2 * 36 + 2 * 240 + 14


def test_errors_are_a_fourth_column_and_stand_in_the_legend():
    image, mask = photograph(40, 60), scene()
    row = Row(image, mask, mask, "first", draw_errors(image, np.zeros_like(mask), mask))
    plain, picture = (grid([each], LABELS, cell_width=240) for each in (row._replace(errors=None), row))
    assert picture.shape[1] == plain.shape[1] + 240 + 14 == 2 * 36 + 4 * 240 + 3 * 14
    red = (picture == np.array(WRONG[::-1])).all(axis=2)
    cell = red[70:230, -36 - 240 : -36]
    assert 0.8 < cell.mean() < 0.95 and red[:230].sum() == cell.sum()  # 54 of the 60 columns are wrong
    assert red[230:].sum() > 400 and not (plain == np.array(WRONG[::-1])).all(axis=2).any()


def test_the_legend_of_many_classes_names_those_that_occur():
    rows = [Row(photograph(40, 60), None, np.repeat(np.array([[7, 40]], np.uint8), 30, axis=1))]
    many = LabelSet("many", tuple(f"class {i}" for i in range(150)), palette_for(150))
    two = LabelSet("two", ("class 7", "class 40"), (many.palette[7], many.palette[40]))
    shown = rows[0]._replace(prediction=(rows[0].prediction == 40).astype(np.uint8))
    assert np.array_equal(grid(rows, many, cell_width=240), grid([shown], two, cell_width=240))


def test_a_grid_without_rows_is_refused():
    with pytest.raises(DataError, match="at least one image"):
        grid([], LABELS)


def test_confidences_of_planes_are_drawn_side_by_side():
    confidence = np.random.default_rng(0).random((6, 8, 3)).astype(np.float32)
    expected = np.concatenate([draw_confidence(confidence[..., i]) for i in range(3)], axis=1)
    np.testing.assert_array_equal(draw_confidence(confidence), expected)
