"""What a file claims is checked before its pixels are decoded, and only regular files are opened."""

import io
import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from ppliteseg_paddle.reading import limits
from ppliteseg_paddle.reading.color_masks import read_rgb
from ppliteseg_paddle.reading.images import UnreadableError, image_size, read_image
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.limits import TooLargeError, free_memory, pixels_in_one_piece

PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
SAVED = {"a.jpg": {"quality": 95, "subsampling": 0}, "a.png": {}, "a.tif": {}, "a.webp": {"lossless": True}}
READERS = {"read_image": read_image, "read_label": read_label, "read_rgb": read_rgb}


@pytest.fixture
def no_decoding(monkeypatch):
    def decoded(*args, **kwargs):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("reader", READERS)
def test_an_image_that_memory_does_not_hold_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch, no_decoding, reader, extension
):
    path = str(tmp_path / f"large{extension}")
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(limits, "_ALWAYS", 0)
    monkeypatch.setattr(limits, "free_memory", lambda: 64 * 48 * limits.READ_BYTES)
    with pytest.raises(TooLargeError, match=f"large{extension} claims 64x48 pixels.*Make it smaller"):
        READERS[reader](path)


def test_max_pixels_bounds_what_is_read(tmp_path, no_decoding):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(TooLargeError, match="a.png has 64x48 pixels, more than the 3071 of max_pixels"):
        read_image(tmp_path / "a.png", max_pixels=3071)


def test_a_jpeg_that_claims_more_pixels_than_its_bytes_can_hold_is_refused(tmp_path, no_decoding):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = (4000).to_bytes(2, "big") * 2  # 16 million pixels: memory allows them
    (tmp_path / "claims.jpg").write_bytes(content)
    with pytest.raises(UnreadableError, match="claims.jpg ends too early"):
        read_image(tmp_path / "claims.jpg")


def test_memory_and_container_bound_the_pixels_of_one_piece(tmp_path, monkeypatch):
    for name, value in (("max", 10**9), ("current", 10**9 - 4 * 108 * 1000)):
        (tmp_path / name).write_text(f"{value}\n")
    assert free_memory() is None or free_memory() > 10**6
    monkeypatch.setattr(limits, "_CGROUPS", ((str(tmp_path / "max"), str(tmp_path / "current")),))
    assert free_memory() == 4 * 108 * 1000
    assert pixels_in_one_piece(classes_of_scores=1) == 1000
    monkeypatch.setattr(limits, "free_memory", lambda: 2**50)
    assert pixels_in_one_piece() == 2**26


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["z.png", "z.npy", "z.tif"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_that_is_called_an_image_is_refused_rather_than_waited_for(tmp_path, reader, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UnreadableError, match=f"{name} is no regular file"):
        READERS[reader](str(tmp_path / name))
    assert image_size(str(tmp_path / name)) is None


def _saved(path, kind):
    if kind == "NPY":
        with open(path, "wb") as file:
            np.save(file, PIXELS)
    else:
        Image.fromarray(PIXELS).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "NPY"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.jpg"])
def test_the_content_of_an_image_and_not_its_name_says_what_decodes_it(tmp_path, kind, name):
    _saved(tmp_path / name, kind)
    assert (read_image(tmp_path / name)[..., ::-1] == PIXELS).all()
    assert image_size(str(tmp_path / name)) == (64, 48)


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_opencv_does_not_decode_webp(tmp_path, monkeypatch, name, mode):
    picture = Image.fromarray(PIXELS).convert(mode)
    if mode == "RGBA":
        picture.putalpha(picture.getchannel("R"))  # WebP drops what is all opaque
    picture.save(tmp_path / name, "WEBP", lossless=True, exact=True)
    expected = {flags: cv2.imread(str(tmp_path / name), flags) for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE)}
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: pytest.fail("OpenCV decoded it"))
    assert (read_image(tmp_path / name) == expected[cv2.IMREAD_COLOR]).all()
    assert (read_image(tmp_path / name, channels=1) == expected[cv2.IMREAD_GRAYSCALE]).all()
    if mode == "RGBA":
        assert (read_image(tmp_path / name, channels=4) == np.asarray(picture)).all()


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".tif", ".bmp", ".ppm"])
def test_an_image_that_is_cut_off_is_refused_in_every_format(tmp_path, extension):
    content = cv2.imencode(extension, PIXELS)[1].tobytes()
    for share in (0.3, 0.7, 0.97):
        path = tmp_path / f"cut{extension}"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UnreadableError, match=f"cut{extension} (ends too early|cannot be decoded)"):
            read_image(path)


def test_a_whole_jpeg_may_be_followed_by_anything(tmp_path):
    content = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    (tmp_path / "motion.jpg").write_bytes(content + b"video \xff\xda more")  # as phones append one
    assert read_image(tmp_path / "motion.jpg").shape == PIXELS.shape


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "name, options",
    [("a.jpg", {"quality": 95, "subsampling": 0}), ("a.png", {}), ("a.tif", {}), ("a.webp", {"lossless": True})],
)
def test_an_exif_orientation_is_applied_in_every_format(tmp_path, name, options, orientation, channels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / name, exif=exif, **SAVED[name])
    turned = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x),
    }[orientation](PIXELS)
    expected = cv2.cvtColor(np.ascontiguousarray(turned), cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_RGB2BGR)
    image = read_image(tmp_path / name, channels)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 8  # JPEG's own error


def _cut_header(content):
    return content[:7]


def _flipped_byte(content):
    """In the compressed values, which have a checksum."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_cut_header, _flipped_byte])
def test_a_damaged_tiff_is_refused_in_one_line(tmp_path, damage):
    file = io.BytesIO()
    deep = np.random.default_rng(0).integers(0, 65536, (48, 64, 3)).astype(np.uint16)
    tifffile.imwrite(file, deep, compression="zlib", photometric="rgb")
    (tmp_path / "a.tif").write_bytes(damage(file.getvalue()))
    with pytest.raises(UnreadableError, match="a.tif cannot be decoded: it is damaged"):
        read_image(tmp_path / "a.tif", value_range=((0, 65535),))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_a_jpeg_that_is_cut_off_anywhere_is_said_to_end_too_early(tmp_path, reader, progressive):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert("L").save(file, "JPEG", progressive=progressive)
    content = file.getvalue()
    for kept in range(3, len(content) - 2, 41):
        (tmp_path / "a.jpg").write_bytes(content[:kept])
        with pytest.raises(UnreadableError, match="a.jpg ends too early"):
            READERS[reader](str(tmp_path / "a.jpg"))
