"""What `POST /predict` gives, in each format, against what `Predictor` and `predict` give."""

import gzip
import io
import json

import cv2
import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, photograph, small_folder, small_model
from PIL import Image
from served import serving

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.visual.overlays import Overlays


@pytest.fixture(scope="module")
def predictor():
    return Predictor(small_folder())


@pytest.fixture(scope="module")
def client(predictor):
    with serving(predictor) as running:
        yield running


def encoded(image, extension=".png"):
    return cv2.imencode(extension, image)[1].tobytes()


@pytest.fixture(scope="module")
def image():
    return photograph(64, 96)


@pytest.fixture(scope="module")
def mask(predictor, image):
    found = predictor.predict(image)
    assert len(np.unique(found)) > 2
    return found


def test_the_png_holds_the_class_ids_with_their_colors(client, image, mask):
    answer = client.post(encoded(image), "?format=png")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.body)) as file:
        assert file.mode == "P" and tuple(file.getpalette()[:3]) == LABELS.palette[0]
        np.testing.assert_array_equal(np.asarray(file), mask)


def test_npy_is_the_mask_packed_where_the_client_unpacks_it(client, image, mask):
    plain = client.post(encoded(image), "?format=npy")
    packed = client.post(encoded(image), "?format=npy", **{"Accept-Encoding": "gzip, br"})
    assert plain.headers["Content-Encoding"] is None and packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body)
    np.testing.assert_array_equal(np.load(io.BytesIO(plain.body)), mask)


def test_json_tells_areas_and_latency(client, image, mask):
    answer = client.post(encoded(image), "?format=json").json
    assert (answer["name"], answer["width"], answer["height"]) == ("upload", 96, 64)
    counts = np.bincount(mask.ravel(), minlength=LABELS.num_classes)
    expected = [
        {
            "id": int(number),
            "name": LABELS.classes[number],
            "color": "#{:02x}{:02x}{:02x}".format(*LABELS.palette[number]),
            "pixels": int(counts[number]),
            "share": round(counts[number] / mask.size, 6),
        }
        for number in np.flatnonzero(counts)
    ]
    assert sorted(answer["classes"], key=lambda row: row["id"]) == expected
    shares = [row["share"] for row in answer["classes"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-4)
    latency = answer["latency_ms"]
    stages = ["decode", "queue", "network", "finish"]
    assert list(latency) == [*stages, "total"] and all(latency[name] >= 0 for name in stages)
    assert latency["total"] == pytest.approx(sum(latency[name] for name in stages), abs=0.01)
    assert client.post(encoded(image)).json["classes"] == answer["classes"]  # the default


def test_run_lengths_are_those_of_predict(client, image, mask):
    from ppliteseg_paddle.visual.coco import coco_image

    answer = client.post_form({"file": ("street.png", encoded(image))}, "?format=rle")
    assert answer.json == json.loads(json.dumps(coco_image("street.png", mask, LABELS.classes)))


def test_run_lengths_decode_to_the_mask(client, image, mask):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    for row in client.post(encoded(image), "?format=rle").json["annotations"]:
        np.testing.assert_array_equal(coco.decode(row["segmentation"]), mask == row["category_id"])


@pytest.mark.parametrize("query, options", [("", {}), ("&opacity=0.25&legend=0", {"opacity": 0.25, "legend": False})])
def test_the_overlay_is_that_of_predict(client, image, mask, query, options):
    answer = client.post(encoded(image), f"?format=overlay{query}")
    drawn = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(drawn, Overlays(LABELS, **options).draw(image, mask))


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""])
def test_a_body_is_taken_as_what_clients_call_it(client, image, mask, kind):
    answer = client.post(encoded(image), "?format=npy", kind)
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.body)), mask)


def test_a_form_is_an_image_under_any_field_and_keeps_its_name(client, image, mask):
    for field, name, kept in (("file", "C:\\photos\\a b.png", "a b.png"), ("image", "x/../y.png", "y.png")):
        answer = client.post_form({field: (name, encoded(image))})
        assert answer.status == 200 and answer.json["name"] == kept


def test_a_jpeg_is_turned_as_its_orientation_says(client, predictor, tmp_path):
    pixels = Image.fromarray(photograph(64, 96)[:, :, ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels.save(tmp_path / "turned.jpg", exif=exif)
    answer = client.post((tmp_path / "turned.jpg").read_bytes(), "?format=npy", "image/jpeg")
    found = np.load(io.BytesIO(answer.body))
    assert found.shape == (96, 64)
    np.testing.assert_array_equal(found, predictor.predict(tmp_path / "turned.jpg"))


def test_times_are_in_a_header_that_browsers_show(client, image):
    timing = client.post(encoded(image), "?format=png").headers["Server-Timing"]
    names = [entry.split(";dur=")[0] for entry in timing.split(", ")]
    assert names == ["decode", "queue", "network", "finish", "total"]


def test_health_names_the_model_its_classes_and_what_runs_it(client, predictor):
    from ppliteseg_paddle import __version__

    found = client.get("/health").json
    backend = predictor.backend.describe()
    assert (found["status"], found["version"], found["backend"]) == ("ok", __version__, backend)
    assert (found["device"], found["max_upload"], found["model"]["name"]) == (backend["device"], 4 << 20, "export")
    assert [row["name"] for row in found["classes"]] == list(LABELS.classes)


def test_more_than_256_classes_are_16_bits_everywhere(tmp_path):
    predictor = Predictor(small_folder("argmax", None, 300))
    image = photograph(64, 96)
    mask = predictor.predict(image)
    assert mask.dtype == np.uint16
    with serving(predictor) as client:
        found = np.load(io.BytesIO(client.post(encoded(image), "?format=npy").body))
        drawn = cv2.imdecode(np.frombuffer(client.post(encoded(image), "?format=png").body, np.uint8), -1)
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(drawn, mask)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A predictor of several classes a pixel that averages an image with its mirror image, so that it goes alone."""
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    folder = tmp_path_factory.mktemp("several") / "planes"
    test_config = {"use_multilabel": True, "aug_eval": True, "flip_horizontal": True}
    options = ExportOptions(LABELS, TRANSFORMS, test_config=test_config, check_image=photograph(64, 96))
    export_model(small_model(), str(folder), options)
    return Predictor(folder)


def test_several_classes_a_pixel_are_planes(several, image):
    planes = several.predict(image)
    assert planes.shape == (64, 96, LABELS.num_classes) and planes.sum(axis=2).max() > 1
    with serving(several, batch_size=4) as client:
        found = np.load(io.BytesIO(client.post(encoded(image), "?format=npy").body))
        png = Image.open(io.BytesIO(client.post(encoded(image), "?format=png").body))
        areas = client.post(encoded(image)).json["classes"]
        assert client.get("/health").json["model"] == {"name": "planes", "type": "Small", "multilabel": True}
    np.testing.assert_array_equal(found, planes)
    np.testing.assert_array_equal(np.asarray(png), np.concatenate(np.moveaxis(planes, -1, 0), axis=1))
    assert {row["id"]: row["pixels"] for row in areas} == {
        int(number): int(planes[..., number].sum()) for number in np.flatnonzero(planes.any(axis=(0, 1)))
    }
