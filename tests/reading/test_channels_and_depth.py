"""Images of 1 to 10 channels, 8 to 16 bits and floating point, from PNG, TIFF and NPY."""

import importlib.util

import numpy as np
import pytest
import tifffile
from rasters import CELLS, DEPTHS, GEO_TAGS, save, values

from ppliteseg_paddle.errors import ConfigError, DataError, DependencyError
from ppliteseg_paddle.reading.image_form import COLOR, ImageForm
from ppliteseg_paddle.reading.images import UnreadableError, channels_of, image_size, read_image
from ppliteseg_paddle.reading.rasters import geo_tags


def as_read(pixels):
    """In OpenCV's order, where it has one."""
    return pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels


@pytest.mark.parametrize("channels, depth, suffix", CELLS)
def test_every_value_of_every_channel_arrives(tmp_path, channels, depth, suffix):
    stored, top = values(channels, depth), DEPTHS[depth][1]
    path = save(tmp_path / f"image{suffix}", stored)
    assert image_size(path) == (64, 48)
    if depth == "8":
        np.testing.assert_array_equal(read_image(path, channels), as_read(stored))
        return
    with pytest.raises(DataError, match=r"img_range: \[0") as caught:
        read_image(path, channels)
    assert f"img_range: {[0.0, 1.0] if depth == 'float' else [0, top]}" in str(caught.value)
    levels = read_image(path, *ImageForm.checked(channels, [0, top]))
    assert levels.dtype == np.float32
    np.testing.assert_allclose(levels, as_read(stored).astype(np.float64) * 255 / top, atol=2e-5)
    assert len(np.unique(levels)) == len(np.unique(stored))  # no value is merged with another


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_another_number_of_channels_is_refused_with_the_line_to_write(tmp_path, suffix):
    path = save(tmp_path / f"ten{suffix}", values(10, "8"))
    with pytest.raises(DataError, match="ten.* has 10 channels, but img_channels is 3: write img_channels: 10"):
        read_image(path)
    assert channels_of(path) == 10


def test_gray_serves_color_and_color_gray(tmp_path):
    gray, color = values(1, "12"), values(3, "12")
    read = read_image(save(tmp_path / "g.tif", gray), 3, ((0, 4095),))
    np.testing.assert_array_equal(read, read_image(str(tmp_path / "g.tif"), 1, ((0, 4095),))[..., None].repeat(3, 2))
    read = read_image(save(tmp_path / "c.tif", color), 1, ((0, 4095),))
    np.testing.assert_allclose(read, color @ [0.299, 0.587, 0.114] * 255 / 4095, atol=0.05)


def test_a_fourth_band_that_a_program_calls_transparency_is_not_dropped_silently(tmp_path):
    pixels = values(4, "8")
    tifffile.imwrite(tmp_path / "ir.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(DataError, match="4 channels, of which the last is called transparency, .*img_channels: 4"):
        read_image(str(tmp_path / "ir.tif"))
    np.testing.assert_array_equal(read_image(str(tmp_path / "ir.tif"), 4), pixels)
    assert channels_of(str(tmp_path / "ir.tif")) == 4
    pixels[..., 3] = 255
    tifffile.imwrite(tmp_path / "opaque.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(str(tmp_path / "opaque.tif")), pixels[..., 2::-1])
    assert channels_of(str(tmp_path / "opaque.tif")) == 3


@pytest.mark.parametrize("form", ["planes", "pages", "rows", "channels first"])
def test_channels_lie_where_they_may(tmp_path, form):
    pixels = values(10, "8", size=(48, 64))
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    path = str(tmp_path / ("i.npy" if form == "channels first" else "i.tif"))
    if form == "channels first":
        np.save(path, planes)
    elif form == "planes":
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
    else:  # tifffile's default: a page for each of the first axis
        tifffile.imwrite(path, planes if form == "pages" else pixels, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path, 10), pixels)
    assert image_size(path) == (64, 48)


def test_levels_are_bounded_by_the_range_and_missing_values_are_its_low_end(tmp_path):
    pixels = np.array([[-1.0, 0.0], [0.5, 3.0]], np.float32).repeat(8, 0).repeat(8, 1)
    pixels[0, 0] = np.nan
    pixels[0, 1] = -9999
    path = str(tmp_path / "f.tif")
    tifffile.imwrite(path, pixels, extratags=[(42113, "s", 0, "-9999", True)])
    levels = read_image(path, 1, ((0.0, 1.0),))
    assert levels[0, 0] == levels[0, 1] == levels[1, 1] == 0
    assert (levels[0, 8], levels[8, 0], levels[8, 8]) == (0, 127.5, 255)


def test_a_range_for_each_channel_is_in_the_order_of_the_file(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint16)
    pixels[:] = 10, 200, 3000
    path = save(tmp_path / "c.tif", pixels)
    levels = read_image(path, *ImageForm.checked(3, [[0, 10], [0, 400], [0, 3000]]))
    np.testing.assert_array_equal(levels[0, 0], [255, 127.5, 255])  # BGR


@pytest.mark.parametrize("content", [b"", b"II*\0broken", b"\x93NUMPY broken"])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_damaged_file_is_reported_as_such(tmp_path, suffix, content):
    (tmp_path / f"bad{suffix}").write_bytes(content)
    with pytest.raises(UnreadableError, match=f"bad{suffix}"):
        read_image(str(tmp_path / f"bad{suffix}"), 10)
    assert image_size(str(tmp_path / f"bad{suffix}")) is None


def test_georeferencing_is_read_as_it_is_stored(tmp_path):
    path = save(tmp_path / "g.tif", values(10, "16"), extratags=GEO_TAGS)
    assert [(tag[0], tuple(tag[3])) for tag in geo_tags(path)] == [(tag[0], tag[3]) for tag in GEO_TAGS]
    assert geo_tags(save(tmp_path / "plain.tif", values(3, "8"))) == []


def test_the_usual_form_is_color_of_8_bits():
    assert ImageForm.checked() == COLOR and COLOR.plain and not ImageForm.checked(4).plain
    for wrong in ([1], "wide", [[0, 1], [1, 0], [0, 1]], [0, float("nan")]):
        with pytest.raises(ConfigError, match="img_range is"):
            ImageForm.checked(3, wrong)


def test_a_compressed_tiff_is_read_or_says_what_to_install(tmp_path):
    from PIL import Image

    pixels = values(1, "16")
    path = str(tmp_path / "lzw.tif")
    Image.fromarray(pixels).save(path, compression="tiff_lzw")
    if importlib.util.find_spec("imagecodecs"):
        np.testing.assert_allclose(read_image(path, 1, ((0.0, 65535.0),)), pixels * (255 / 65535), atol=2e-5)
        return
    with pytest.raises(DependencyError, match=r"lzw.tif is compressed \(LZW\), which needs imagecodecs: pip install"):
        read_image(path, 1, ((0.0, 65535.0),))
