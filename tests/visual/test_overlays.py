"""Overlays of images: the background stays, a legend names the classes, in any script."""

from dataclasses import replace

import numpy as np
import pytest
from exported import LABELS, photograph

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.label_sets import LabelSet, palette_for
from ppliteseg_paddle.visual import text
from ppliteseg_paddle.visual.grid import Row, grid
from ppliteseg_paddle.visual.overlays import Overlays, background_of

BINARY = LabelSet("binary", ("background", "foreground"), palette_for(2))


def square(height=60, width=80):
    mask = np.zeros((height, width), np.uint8)
    mask[20:40, 30:50] = 1
    return mask


def color_in(picture, color):
    return int((picture == np.array(color[::-1])).all(axis=2).sum())


def test_the_background_of_binary_masks_is_left_as_it_is_and_the_foreground_has_a_border_on_all_sides():
    image, mask = photograph(60, 80), square()
    drawn = Overlays(BINARY, legend=False).draw(image, mask)
    assert np.array_equal(drawn[mask == 0], image[mask == 0])
    inside = drawn[20:40, 30:50]
    for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
        assert (side == BINARY.palette[1][::-1]).all()
    assert not (inside[1:-1, 1:-1] == BINARY.palette[1][::-1]).all()


def test_classes_are_left_uncolored_by_name_and_none_colors_all():
    image, mask = photograph(60, 80), square()
    colored = Overlays(BINARY, legend=False, transparent=["none"]).draw(image, mask)
    assert not np.array_equal(colored[mask == 0], image[mask == 0])
    bare = Overlays(BINARY, legend=False, transparent=["background", "foreground"]).draw(image, mask)
    assert np.array_equal(bare, image)
    with pytest.raises(ConfigError, match="--transparent backgrund: no class has this name. Did you mean 'background'"):
        Overlays(BINARY, transparent=["backgrund"])


@pytest.mark.parametrize("planes", [False, True])
def test_a_half_size_overlay_is_that_of_the_image_and_mask_in_half_size(planes):
    image, small = photograph(60, 80), square(30, 40)
    half = image.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
    small[0, 0] = LABELS.num_classes  # no class
    if planes:
        small = np.eye(LABELS.num_classes + 1, dtype=np.uint8)[small][..., :-1]
    drawn = Overlays(LABELS, scale=0.5).draw(image, small.repeat(2, axis=0).repeat(2, axis=1))
    expected = Overlays(LABELS).draw(np.rint(half).astype(np.uint8), small)
    assert drawn.shape == expected.shape and drawn.shape[1] >= 40
    assert np.abs(drawn.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "side, scale, shrunk", [(720, 0.5, 360), (90, 0.5, 46), (65, 0.5, 33), (10, 0.01, 2), (9, 0.01, 1), (9, 1.0, 9)]
)
def test_shrunk_sides_stay_even_or_odd(side, scale, shrunk):
    image, mask = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    assert Overlays(LABELS, scale=scale).frame(image, mask).shape == (shrunk, shrunk, 3)


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan")])
def test_a_scale_that_is_not_possible_is_refused(scale):
    with pytest.raises(ConfigError, match=f"--overlay_scale {scale} is not allowed: give a number above 0, at most 1"):
        Overlays(LABELS, scale=scale)


@pytest.mark.parametrize(
    "names, hidden",
    [
        (("background", "cat", "dog"), (0,)),
        (("class_0", "class_1"), (0,)),
        (("class_0", "class_1", "class_2"), ()),
        (("sky", "ground"), ()),
    ],
)
def test_the_first_class_is_the_background_by_its_name_or_of_two_numbered_ones(names, hidden):
    assert background_of(LabelSet("any", names, palette_for(len(names)))) == hidden


def test_opacity_goes_from_the_image_to_the_colors():
    image, mask = photograph(60, 80), square()
    assert np.array_equal(Overlays(LABELS, 0, legend=False).draw(image, mask), image)
    full = Overlays(LABELS, 1, legend=False).draw(image, mask)
    assert color_in(full, LABELS.palette[1]) == 400 and color_in(full, LABELS.palette[0]) == mask.size - 400
    with pytest.raises(ConfigError, match="--opacity 1.5 is not allowed"):
        Overlays(LABELS, 1.5)


def test_the_legend_lies_below_the_image_and_names_what_is_in_it():
    image, mask = photograph(60, 80), square()
    mask[:4] = 255
    image, mask = (np.repeat(np.repeat(array, 4, 0), 4, 1) for array in (image, mask))
    drawn, bare = Overlays(LABELS).draw(image, mask), Overlays(LABELS, legend=False).draw(image, mask)
    assert np.array_equal(drawn[:240], bare)
    strip = drawn[240:]
    assert color_in(strip, LABELS.palette[0]) > 50 and color_in(strip, LABELS.palette[1]) > 50
    assert color_in(strip, LABELS.palette[2]) == 0
    assert Overlays(BINARY).draw(image, np.zeros_like(mask)).shape == image.shape  # nothing to name


def test_a_legend_of_many_classes_stays_below_half_of_the_image_and_keeps_the_largest():
    many = LabelSet("many", tuple(f"class number {i:d}" for i in range(200)), palette_for(200))
    mask = np.arange(200 * 300).reshape(200, 300) % 199
    mask[:150] = 199
    drawn = Overlays(many).draw(photograph(200, 300), mask.astype(np.uint8))
    assert 200 < len(drawn) <= 310
    assert color_in(drawn[200:], many.palette[199]) > 50


def test_every_text_is_drawn_in_characters_that_the_font_has():
    for name in ("road", "Straße", "Дорога", "天空", "도로", "そら", "طريق", "सड़क", "🚗", "a\u200bb"):
        font, drawn = text.font_for(name, 20)
        path = text._choice(name)[0]
        assert drawn and not any(text._lacks(path, char) for char in drawn if not char.isspace())


def test_without_a_font_a_text_is_transliterated(monkeypatch):
    for search in ("_packaged", "_listed"):
        monkeypatch.setattr(text, search, lambda *_: ())
    monkeypatch.setattr(text, "_SYSTEM", ())
    text._choice.cache_clear()
    assert [text.font_for(name, 20)[1] for name in ("天空 sky", "Дорога", "도로")] == ["TianKong sky", "Doroga", "DoLo"]
    text._choice.cache_clear()


def test_a_font_of_the_script_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(text, "_packaged", lambda: ("wide.ttf",))
    monkeypatch.setattr(text, "_lacks", lambda path, char: not path and not char.isascii())
    text._choice.cache_clear()
    assert text._choice("天空 sky") == ("wide.ttf", "天空 sky") and text._choice("sky") == ("", "sky")
    text._choice.cache_clear()


def test_a_grid_shows_captions_and_names_of_any_script():
    names = replace(BINARY, classes=("天空", "дорога"))
    rows = [Row(photograph(40, 60), None, np.zeros((40, 60), np.uint8), "图像 一.png")]
    plain = grid([rows[0]._replace(caption="a")], BINARY, cell_width=240)
    assert grid(rows, names, cell_width=240).shape == plain.shape
