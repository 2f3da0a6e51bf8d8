"""Images and labels: any depth, channels and orientation, and what is said of files that cannot be read."""

import cv2
import numpy as np
import pytest
from PIL import Image

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.images import UnreadableError, image_mode, image_size, read_image
from ppliteseg_paddle.reading.labels import read_label

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)  # BGR


def saved(path, pixels) -> str:
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return str(path)


def test_color_gray_and_transparency_become_bgr_or_gray(tmp_path):
    gray = PIXELS[..., 0]
    with_alpha = np.dstack([PIXELS, np.full((6, 8), 3, np.uint8)])
    for name, stored, expected in (
        ("color.png", PIXELS, PIXELS),
        ("alpha.png", with_alpha, PIXELS),
        ("gray.png", gray, np.dstack([gray] * 3)),
    ):
        image = read_image(saved(tmp_path / name, stored))
        assert image.dtype == np.uint8, name
        np.testing.assert_array_equal(image, expected, name)
    assert read_image(tmp_path / "color.png", channels=1).shape == (6, 8)


def test_an_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png")[..., ::-1], np.rot90(PIXELS, -1))
    assert image_size(str(tmp_path / "turned.png")) == (8, 6)


def test_a_jpeg_that_ends_too_early_is_refused(tmp_path):
    content = cv2.imencode(".jpg", np.kron(PIXELS, np.ones((20, 20, 1), np.uint8)))[1].tobytes()
    (tmp_path / "whole.jpg").write_bytes(content + b"\0\0")  # bytes after the end are no fault
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    assert read_image(tmp_path / "whole.jpg").shape == (120, 160, 3)
    with pytest.raises(UnreadableError, match="half.jpg ends too early"):
        read_image(tmp_path / "half.jpg")


def test_a_header_that_promises_too_many_pixels_is_reported(tmp_path):
    header = b"P5\n200000 200000\n255\n"
    (tmp_path / "huge.ppm").write_bytes(header + b"\0" * 100)
    with pytest.raises(DataError, match="huge.ppm claims 200000x200000 pixels"):
        read_image(tmp_path / "huge.ppm")


def test_size_and_mode_come_from_the_header_or_are_none(tmp_path):
    path = saved(tmp_path / "gray.png", PIXELS[..., 0])
    assert (image_size(path), image_mode(path)) == ((8, 6), "L")
    (tmp_path / "text.png").write_text("no image")
    assert (image_size(str(tmp_path / "text.png")), image_mode(str(tmp_path / "none.png"))) == (None, None)


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.float32])
def test_a_label_of_any_depth_gives_its_class_ids(tmp_path, dtype):
    ids = (PIXELS[..., 0] % (2 if dtype is bool else 19)).astype(dtype)
    Image.fromarray(ids).save(tmp_path / "l.tif")
    label = read_label(str(tmp_path / "l.tif"))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids)


def test_ids_above_255_keep_16_bits(tmp_path):
    ids = PIXELS[..., 0].astype(np.uint16) * 3
    np.testing.assert_array_equal(read_label(saved(tmp_path / "l.png", ids)), ids)


def test_a_palette_label_gives_its_indices_whatever_its_colors(tmp_path):
    ids = PIXELS[..., 0] % 11
    image = Image.fromarray(ids, "P")
    image.putpalette([200, 10, 10] * 256)
    image.save(tmp_path / "l.png", bits=8)
    np.testing.assert_array_equal(read_label(str(tmp_path / "l.png")), ids)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_label_of_fractions_is_refused(tmp_path, value):
    Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "l.tif")
    with pytest.raises(DataError, match="holds floating-point numbers: save class ids as integers"):
        read_label(str(tmp_path / "l.tif"))
