"""`predict` gives shares of area, COCO run lengths and GeoJSON."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from commands import files_in, run_json, write_photo, write_video
from exported import small_folder
from matplotlib.path import Path as Outline
from PIL import Image
from rasters import GEO_TAGS, save

from ppliteseg_paddle.cli import predict
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.visual.overlays import Overlays

LABELS = LabelSet("three", ("background", "cat", "dog"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)))
MASK = np.zeros((20, 30), np.uint8)
MASK[2:12, 3:23] = 1
MASK[5:8, 10:15] = 2  # in a hole of the cat
MASK[12:14, 23:25] = 1  # touches the other one in a corner
MASK[-1, 0] = 255
BACKGROUND, CAT, DOG = 395, 189, 15  # pixels


class GivesTheMask:
    label_set, unknown_below, unknown_id = LABELS, 0.5, 255
    backend = SimpleNamespace(describe=lambda: {"name": "fake", "runtime": "none", "version": "1", "device": "cpu"})

    def __init__(self, planes=False):
        self.artifact = SimpleNamespace(multilabel=planes)
        self.mask = np.stack([MASK == 0, MASK < 3, MASK == 2], axis=-1).astype(np.uint8) if planes else MASK

    def predict(self, image):
        return self.mask[: len(image)]


@pytest.fixture
def given(monkeypatch):
    def use(model=None):
        def open_model(args, kinds):
            return model or GivesTheMask(), Overlays(LABELS, transparent=args.transparent)

        monkeypatch.setattr(predict, "_open", open_model)

    use()
    return use


def photo(path, rows=20):
    return write_photo(path, rows, 30)


def vectors(capsys, source, out, *arguments):
    kinds = ["--outputs", "rle", "geojson"]
    return run_json(
        capsys, "predict", "--model_dir", "unused", "--image_path", source, "--save_dir", out, *kinds, *arguments
    )


def opened(path):
    """What pycocotools makes of a file."""
    return pytest.importorskip("pycocotools.coco", reason="comes with the extra 'data'").COCO(path)


def drawn(features, to_pixels=lambda points: points):
    """The mask that GeoJSON polygons enclose, by matplotlib; 0 elsewhere."""
    rows, columns = np.mgrid[:20, :30] + 0.5
    centers, mask = np.stack([columns.ravel(), rows.ravel()], axis=1), np.zeros(MASK.size, np.uint8)
    for feature in features:
        assert feature["geometry"]["type"] == "Polygon"
        inside = np.zeros(len(centers), bool)
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            x, y = np.array(ring, float).T
            counterclockwise = np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:])) > 0
            assert counterclockwise == (number == 0)
            inside ^= Outline(to_pixels(np.array(ring))).contains_points(centers)
        assert inside.sum() == feature["properties"]["pixels"]
        mask[inside] = feature["properties"]["class_id"]
    return mask.reshape(MASK.shape)


def test_shares_of_many_images_do_not_fill_the_memory(tmp_path, given, capsys, monkeypatch):
    monkeypatch.setattr("ppliteseg_paddle.deploy.predict_images.MAX_AREAS", 1)
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png")
    status, result = vectors(capsys, tmp_path / "in", tmp_path / "out")
    assert status == 0 and [row["path"] for row in result["area_of_images"]] == [str(tmp_path / "in" / "a.png")]
    assert result["area_of_images_omitted"] == 1 and result["area"]["dog"]["pixels"] == 2 * DOG


def test_shares_of_area_are_told_of_each_image_and_of_all(tmp_path, given, capsys):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "b.png", 10)
    status, result = vectors(capsys, tmp_path / "in", tmp_path / "out")
    upper = {value: int((MASK[:10] == value).sum()) for value in range(3)}
    assert status == 0 and result["area_of_images"] == [
        {
            "path": str(tmp_path / "in" / "a.png"),
            "share": {"background": round(BACKGROUND / 600, 6), "cat": round(CAT / 600, 6), "dog": DOG / 600},
        },
        {
            "path": str(tmp_path / "in" / "b.png"),
            "share": {"background": round(upper[0] / 300, 6), "cat": round(upper[1] / 300, 6), "dog": DOG / 300},
        },
    ]
    assert result["area"] == {
        name: {"pixels": pixels, "share": round(pixels / 900, 6)}
        for name, pixels in (("background", BACKGROUND + upper[0]), ("cat", CAT + upper[1]), ("dog", 2 * DOG))
    }
    assert result["unknown"] == {"id": 255, "share": round(1 / 900, 6)}
    assert (
        main(
            [
                *["predict", "--model_dir", "unused", "--image_path"],
                str(tmp_path / "in"),
                "--save_dir",
                str(tmp_path / "o"),
            ]
        )
        == 0
    )
    assert "area        background 59.4 %, cat 37.1 %, dog 3.3 %\n" in capsys.readouterr().out


def test_run_lengths_and_polygons_give_the_mask_back_without_the_background(tmp_path, given, capsys):
    photo(tmp_path / "in" / "sub" / "a.jpg")
    photo(tmp_path / "in" / "b.png")
    status, result = vectors(capsys, tmp_path / "in", tmp_path / "out")
    assert status == 0 and result["coco"] == str(tmp_path / "out" / "rle.json")
    assert files_in(tmp_path / "out") == [
        *("geojson/b.geojson", "geojson/sub/a.geojson", "rle.json", "rle/b.json", "rle/sub/a.json")
    ]
    coco = opened(tmp_path / "out" / "rle.json")
    assert [row["file_name"] for row in coco.loadImgs([1, 2])] == ["b.png", "sub/a.jpg"]
    assert [row["category_id"] for row in coco.loadAnns(coco.getAnnIds())] == [1, 2, 1, 2]
    for number, name in ((1, "b"), (2, "sub/a")):
        content = json.loads((tmp_path / "out" / "geojson" / f"{name}.geojson").read_text())
        assert (content["crs"], content["coordinates_in"]) == (None, "pixels")
        assert [feature["properties"]["class"] for feature in content["features"]] == ["cat", "cat", "dog"]
        np.testing.assert_array_equal(drawn(content["features"]), MASK % 255)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=[number])):
            np.testing.assert_array_equal(coco.annToMask(row), row["category_id"] == MASK)


@pytest.mark.parametrize("transparent, ids", [(["none"], {0, 1, 2}), (["cat", "dog"], {0})])
def test_transparent_says_which_classes_are_omitted(tmp_path, given, capsys, transparent, ids):
    photo(tmp_path / "a.png")
    status, _ = vectors(capsys, tmp_path / "a.png", tmp_path / "out", "--transparent", *transparent)
    content = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())
    assert status == 0 and {feature["properties"]["class_id"] for feature in content["features"]} == ids
    assert set(opened(tmp_path / "out" / "rle.json").catToImgs) == ids


def test_planes_have_polygons_that_overlap(tmp_path, given, capsys):
    given(GivesTheMask(planes=True))
    photo(tmp_path / "a.png")
    status, result = vectors(capsys, tmp_path / "a.png", tmp_path / "out")
    features = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())["features"]
    for number, plane in enumerate((MASK == 0, MASK < 3, MASK == 2)):
        one = [feature for feature in features if feature["properties"]["class_id"] == number]
        np.testing.assert_array_equal(drawn(one) == number, plane if number else np.ones_like(plane))
        assert sum(feature["properties"]["pixels"] for feature in one) == plane.sum()
    assert status == 0 and result["area"]["cat"] == {"pixels": 599, "share": round(599 / 600, 6)}


def test_a_georeferenced_image_has_polygons_in_its_coordinates_and_a_warning(tmp_path, given, capsys, caplog):
    (tmp_path / "in").mkdir()
    for name in "ab":
        save(tmp_path / "in" / f"{name}.tif", np.zeros((20, 30, 3), np.uint8), extratags=GEO_TAGS)
    status, _ = vectors(capsys, tmp_path / "in", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())
    assert status == 0 and content["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    origin = np.array([500000, 4600000])
    np.testing.assert_array_equal(drawn(content["features"], lambda points: (points - origin) / (10, -10)), MASK % 255)
    assert [record.getMessage() for record in caplog.records] == [
        f"GeoJSON of {tmp_path / 'in' / 'a.tif'} and 1 more is in EPSG:32633, not in WGS 84: see `crs` in the file. "
        "GDAL and QGIS read it; for other readers convert it (ogr2ogr -t_srs EPSG:4326)."
    ]


def test_longitude_and_latitude_need_neither_crs_nor_warning(tmp_path, given, capsys, caplog):
    keys = (34735, "H", 12, (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326), True)
    save(tmp_path / "a.tif", np.zeros((20, 30, 3), np.uint8), extratags=[*GEO_TAGS[:2], keys])
    assert vectors(capsys, tmp_path / "a.tif", tmp_path / "out")[0] == 0
    content = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())
    assert "crs" not in content and content["coordinates_in"] == "EPSG:4326" and not caplog.records


def test_tags_without_a_transformation_leave_pixels_and_a_warning(tmp_path, given, capsys, caplog):
    source = save(tmp_path / "a.tif", np.zeros((20, 30, 3), np.uint8), extratags=GEO_TAGS[1:])
    assert vectors(capsys, source, tmp_path / "out")[0] == 0
    content = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())
    np.testing.assert_array_equal(drawn(content["features"]), MASK % 255)
    assert [record.getMessage() for record in caplog.records] == [
        f"GeoJSON of {source} is in pixels: the tags that georeference it give no transformation."
    ]


def test_an_interrupted_run_is_continued_to_the_same_file_of_all_images(tmp_path, given, capsys):
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.png")
    assert vectors(capsys, tmp_path / "in", tmp_path / "out")[0] == 0
    whole = (tmp_path / "out" / "rle.json").read_bytes()
    (tmp_path / "out" / "rle.json").unlink()
    (tmp_path / "out" / "rle" / "b.json").unlink()
    status, result = vectors(capsys, tmp_path / "in", tmp_path / "out", "--skip_existing")
    assert (status, result["images"], result["kept"]) == (0, 1, 2)
    assert (tmp_path / "out" / "rle.json").read_bytes() == whole


def test_an_unreadable_image_is_in_neither(tmp_path, given, capsys):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    status, result = vectors(capsys, tmp_path / "in", tmp_path / "out")
    assert status == 2 and len(result["area_of_images"]) == 1
    assert [row["file_name"] for row in json.loads((tmp_path / "out" / "rle.json").read_text())["images"]] == ["a.png"]


def test_a_foreign_file_of_run_lengths_is_not_replaced(tmp_path, given, capsys):
    photo(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rle.json").write_text("mine")
    arguments = ["--image_path", str(tmp_path / "a.png"), "--save_dir", str(tmp_path / "out"), "--outputs", "rle"]
    assert main(["predict", "--model_dir", "unused", *arguments]) == 2
    assert "rle.json exists and was not written by an earlier run" in capsys.readouterr().err
    assert files_in(tmp_path / "out") == ["rle.json"]


@pytest.mark.parametrize("kind", ["rle", "geojson"])
def test_videos_have_neither(tmp_path, capsys, kind):
    source = write_video(tmp_path / "drive.avi", 2)
    arguments = ["--image_path", source, "--save_dir", str(tmp_path / "out"), "--outputs", "mask", kind]
    assert main(["predict", "--model_dir", "unused", *arguments]) == 2
    said = f"error: --outputs {kind} is for images, not for videos: take frames as images (ffmpeg -i VIDEO %06d.png)."
    assert capsys.readouterr().err.strip().splitlines()[-1] == said and not (tmp_path / "out").exists()


def test_sliding_windows_and_whole_images_go_the_same_way(tmp_path, capsys):
    write_photo(tmp_path / "a.png")
    command = ["predict", "--model_dir", small_folder(), "--image_path", tmp_path / "a.png", "--transparent", "none"]
    windows = ["--is_slide", "--crop_size", 64, 32, "--stride", 32, 32]
    for name, more in (("whole", []), ("windows", windows)):
        out = tmp_path / name
        status, result = run_json(capsys, *command, "--save_dir", out, "--outputs", "mask", "rle", "geojson", *more)
        mask = np.asarray(Image.open(out / "mask" / "a.png"))
        coco = opened(out / "rle.json")
        capsys.readouterr()  # COCO prints
        rows = coco.loadAnns(coco.getAnnIds())
        assert status == 0 and cv2.imread(str(tmp_path / "a.png")).shape[:2] == mask.shape
        assert (
            sum(coco.annToMask(row).astype(int) * (row["category_id"] + 1) for row in rows).tolist()
            == (mask.astype(int) + 1).tolist()
        )
        features = json.loads((out / "geojson" / "a.geojson").read_text())["features"]
        counted = np.zeros(256, int)
        for feature in features:
            counted[feature["properties"]["class_id"]] += feature["properties"]["pixels"]
        assert counted.tolist() == np.bincount(mask.ravel(), minlength=256).tolist()
        assert {name for name, row in result["area"].items() if row["pixels"]} == {
            feature["properties"]["class"] for feature in features
        }
