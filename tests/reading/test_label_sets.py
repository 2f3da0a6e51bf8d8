import subprocess
import sys

import pytest

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS, LabelSet, aligned, label_set, palette_for


def test_camvid_has_its_eleven_classes_in_order():
    camvid = label_set("camvid")
    assert camvid.classes == (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign_symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    assert camvid.num_classes == 11
    assert camvid.ignore_index == 255


def test_cityscapes_has_nineteen_classes_from_road_to_bicycle():
    cityscapes = label_set("cityscapes")
    assert cityscapes.num_classes == 19
    assert cityscapes.classes[0] == "road" and cityscapes.classes[-1] == "bicycle"
    assert cityscapes.palette[0] == (128, 64, 128)


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_every_label_set_has_one_distinct_8_bit_color_per_class(name):
    known = LABEL_SETS[name]
    assert known.name == name
    assert len(set(known.palette)) == len(known.classes)
    assert all(0 <= channel <= 255 for color in known.palette for channel in color)


def test_an_unknown_label_set_is_reported_with_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown label set 'camvit'. Did you mean 'camvid'?"):
        label_set("camvit")


def test_a_label_set_with_too_few_colors_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match="2 classes and 1 colors"):
        LabelSet("mine", ("a", "b"), ((0, 0, 0),))


def test_a_label_set_that_names_a_class_twice_is_refused():
    with pytest.raises(ConfigError, match="names a twice"):
        LabelSet("mine", ("a", "b", "a"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


@pytest.mark.parametrize("count", [1, 2, 11, 19, 20, 21, 150, 256, 257, 300, 5000])
def test_palettes_hold_distinct_colors_for_any_number_of_classes(count):
    palette = palette_for(count)
    assert len(palette) == count
    assert len(set(palette)) == count


def test_palettes_of_known_sizes_are_the_known_ones():
    assert palette_for(11) == label_set("camvid").palette
    assert palette_for(19) == label_set("cityscapes").palette


def test_generated_palettes_start_with_the_same_colors():
    assert palette_for(30)[:5] == palette_for(5)


@pytest.mark.parametrize("count", [0, -1, 65536])
def test_a_palette_of_an_impossible_size_is_refused(count):
    with pytest.raises(ConfigError, match="holds 1 to 65535"):
        palette_for(count)


def test_the_catalogue_imports_neither_numpy_nor_opencv():
    code = (
        "import sys, ppliteseg_paddle.errors; before = set(sys.modules); "
        "import ppliteseg_paddle.reading.label_sets; new = set(sys.modules) - before; "
        "sys.exit(bool({'numpy', 'cv2', 'paddle'} & new))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_wide_characters_are_aligned_as_terminals_show_them():
    assert aligned(["sky", "人行道", "ﾎﾟ"]) == ["sky   ", "人行道", "ﾎﾟ    "]
    assert aligned(["a"], 3) == ["a  "]
