"""What a `Predictor` takes as an image, and results that show and save themselves."""

import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from exported import photograph, small_folder
from PIL import Image

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DownloadError
from ppliteseg_paddle.visual.overlays import Overlays


@pytest.fixture(scope="module")
def predictor():
    return Predictor(small_folder("argmax"))


@pytest.fixture
def served(tmp_path):
    """An address whose files are those of `tmp_path`."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_result_holds_image_mask_and_names_and_lists_the_largest_classes(predictor):
    image = photograph(96, 128)
    result = predictor(image)
    assert np.array_equal(result.image, image) and np.array_equal(result.mask, predictor.predict(image))
    assert result.confidence is None and result.label_set == predictor.label_set
    counts = np.bincount(result.mask.reshape(-1), minlength=11)
    first = int(counts.argmax())
    expected = (
        f"Result(128x96 pixels: {predictor.label_set.classes[first]} {100 * counts[first] / image[..., 0].size:.1f} %"
    )
    assert repr(result).startswith(expected)
    assert repr(result).count("%") == min(5, np.count_nonzero(counts))


def test_confidence_comes_with_a_result_where_the_graph_has_scores(predictor):
    scoring = Predictor(small_folder("softmax"))
    result = scoring(photograph(96, 128), with_confidence=True)
    mask, confidence = scoring.predict_with_confidence(photograph(96, 128))
    assert np.array_equal(result.mask, mask) and np.array_equal(result.confidence, confidence)
    with pytest.raises(ArtifactError, match="output_op softmax"):
        predictor(photograph(96, 128), with_confidence=True)


def test_a_notebook_and_plot_and_save_show_the_overlay_of_the_command(predictor, tmp_path):
    result = predictor(photograph(96, 128))
    expected = Overlays(predictor.label_set).draw(result.image, result.mask)[:, :, ::-1]
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.format == "PNG" and np.array_equal(np.asarray(shown), expected)
    assert result.plot().mode == "RGB" and np.array_equal(np.asarray(result.plot()), expected)
    bare = np.asarray(result.plot(opacity=0, legend=False))
    assert np.array_equal(bare, result.image[:, :, ::-1])
    result.save(tmp_path / "overlay.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "overlay.png"))[:, :, ::-1], expected)
    result.save_mask(tmp_path / "mask.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")), result.mask)


def test_what_cannot_be_drawn_or_saved_is_said(predictor, tmp_path):
    result = predictor(photograph(96, 128))
    with pytest.raises(ConfigError, match="opacity 2"):
        result.plot(opacity=2)
    with pytest.raises(DataError, match="no image format '.xyz'; use .png or .jpg"):
        result.save(tmp_path / "overlay.xyz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L"])
def test_an_image_of_pillow_gives_the_mask_of_its_pixels(predictor, mode):
    pixels = photograph(96, 128)
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).convert(mode)
    expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    if mode == "RGBA":
        assert np.array_equal(expected, pixels)  # an independent look: nothing but the order changes
    assert np.array_equal(predictor.predict(image), predictor.predict(np.ascontiguousarray(expected)))


def test_a_turned_photograph_is_upright_from_pillow_as_from_its_file(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = tmp_path / "phone.png"
    Image.fromarray(np.ascontiguousarray(photograph(96, 128)[:, :, ::-1])).save(path, exif=exif)
    with Image.open(path) as image:
        found = predictor.predict(image)
    assert found.shape == (128, 96)
    assert np.array_equal(found, predictor.predict(path))


def test_an_image_at_an_address_is_fetched_anew_each_time(predictor, served, tmp_path):
    for image in (photograph(96, 128), photograph(96, 128)[:, ::-1]):
        cv2.imwrite(str(tmp_path / "camera.png"), image)
        assert np.array_equal(predictor.predict(f"{served}/camera.png"), predictor.predict(np.ascontiguousarray(image)))


def test_an_address_without_an_image_is_named_in_the_error(predictor, served, tmp_path):
    (tmp_path / "page.html").write_text("<html>not an image</html>")
    with pytest.raises(DataError) as found:
        predictor.predict(f"{served}/page.html")
    assert str(found.value).startswith(f"image {served}/page.html ")
    with pytest.raises(DownloadError, match="the server answers 404"):
        predictor.predict(f"{served}/absent.png")
    with pytest.raises(DownloadError, match="only http and https addresses"):
        predictor.predict("ftp://127.0.0.1/a.png")


def test_other_things_are_no_images(predictor):
    with pytest.raises(DataError, match="is of type dict; give a path, an image of Pillow, or a NumPy array"):
        predictor.predict({})
