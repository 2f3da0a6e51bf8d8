"""The confusion matrix and the scores of each image, counted in one pass."""

import csv
import json

import cv2
import numpy as np
import pytest
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.image_scores import FILES, PICTURES, Counts, normalized, write_counts
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores
from ppliteseg_paddle.engine.predict import EvaluationPredictor
from ppliteseg_paddle.engine.sample_rows import SampleRows
from ppliteseg_paddle.engine.val import evaluate, val

CLASSES = ("road", "sign, large")


def of_matrices(*matrices):
    counts = Counts(len(matrices), len(matrices[0]))
    for index, matrix in enumerate(matrices):
        counts.add(index, np.array(matrix))
    counts.gather(np.sum(matrices, axis=0))
    return counts


PAIRS = [("/d/i/a.png", "/d/l/a.png"), ("/d/i/b.png", "/d/l/b.png"), ("/d/i/c.png", "/d/l/c.png")]


def test_images_come_worst_first_with_the_classes_that_occur_in_them():
    counts = of_matrices([[4, 0], [0, 0]], [[0, 0], [0, 0]], [[1, 1], [2, 4]])
    rows = counts.rows(PAIRS, "/d")
    assert [row["image"] for row in rows] == ["i/c.png", "i/a.png", "i/b.png"]
    worst, whole, unlabelled = rows
    assert worst["class_iou"] == [1 / 4, 4 / 7] and worst["mIoU"] == pytest.approx((1 / 4 + 4 / 7) / 2)
    assert (worst["acc"], worst["pixels"]) == (5 / 8, 8)
    assert (whole["mIoU"], whole["class_iou"]) == (1.0, [1.0, None])
    assert (unlabelled["mIoU"], unlabelled["acc"], unlabelled["pixels"]) == (None, None, 0)


def test_paths_outside_of_the_folder_stay():
    assert of_matrices([[1, 0], [0, 1]]).rows([("/e/a.png", "b.png")], "/d")[0]["image"] == "/e/a.png"


def test_where_pixels_have_several_classes_each_image_has_areas():
    counts = Counts(1, 3, several=True)
    counts.add(0, np.array([[1, 0, 2], [2, 0, 2], [1, 0, 4]]))
    counts.gather(None)
    assert counts.rows(PAIRS[:1])[0]["class_iou"] == [0.5, None, 0.5]


def test_shares_are_of_the_labelled_pixels_and_nothing_where_there_are_none():
    np.testing.assert_equal(normalized(np.array([[1, 3], [0, 0]])), [[0.25, 0.75], [np.nan, np.nan]])


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_files_name_rows_and_columns_and_agree(tmp_path):
    counts = of_matrices([[4, 0], [0, 0]], [[0, 0], [0, 0]], [[1, 1], [2, 4]])
    write_counts(str(tmp_path), counts, counts.rows(PAIRS, "/d"), CLASSES)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    table, stored = read_table(tmp_path / "confusion_matrix.csv"), json.loads((tmp_path / FILES[3]).read_text())
    assert table == [["label \\ prediction", *CLASSES], ["road", "5", "1"], ["sign, large", "2", "4"]]
    assert stored["counts"] == [[5, 1], [2, 4]] and stored["normalized"][1] == [2 / 6, 4 / 6]
    assert (stored["rows"], stored["columns"], stored["class_names"]) == ("labels", "predictions", list(CLASSES))
    assert read_table(tmp_path / "confusion_matrix_normalized.csv")[2][1] == str(2 / 6)
    images = read_table(tmp_path / "images.csv")
    assert images[0] == ["image", "label", "mIoU", "acc", "pixels", "IoU:road", "IoU:sign, large"]
    assert [row[0] for row in images[1:]] == ["i/c.png", "i/a.png", "i/b.png"] and images[2][6] == ""
    (first, _, last) = json.loads((tmp_path / "images.json").read_text())["images"]
    assert first["class_iou"] == {"road": 1 / 4, "sign, large": 4 / 7} and last["mIoU"] is None


@pytest.mark.parametrize("classes", [1, 11, 90])
def test_the_picture_has_a_bounded_size(tmp_path, classes):
    counts = of_matrices(np.eye(classes, dtype=np.int64) * 1234)
    write_counts(str(tmp_path), counts, [], [f"class {i}" for i in range(classes)])
    height, width, _ = cv2.imread(str(tmp_path / "confusion_matrix.png")).shape
    assert min(height, width) > 300 and max(height, width) < 4000


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("scores") / "data", val=5)
    config = load_config(write_config(root / "c.yml", values(root, model=TINY_MODEL)))
    model = build_model(config)
    model.eval()
    return config, model, build_val_dataset(config)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_one_pass_counts_what_numpy_counts_of_each_mask(parts, batch_size):
    config, model, dataset = parts
    counts = Counts(5, 11)
    result = evaluate(model, dataset, counts, progress=False, batch_size=batch_size)
    predictor = EvaluationPredictor(model, config)
    total = 0
    rows = {row["image"]: row for row in counts.rows(dataset.file_list)}
    for index, (image, _) in enumerate(dataset.file_list):
        pixels, label = dataset.read(index)
        matrix = confusion_matrix(predictor.predict(pixels), label, 11)
        total = total + matrix
        assert rows[image]["mIoU"] == pytest.approx(scores(matrix)["mIoU_present"], abs=1e-3)
        assert rows[image]["pixels"] == matrix.sum() and rows[image]["acc"] == pytest.approx(
            scores(matrix)["acc"], abs=1e-3
        )
    assert counts.matrix.sum() == total.sum() and abs(counts.matrix - total).sum() <= 0.001 * total.sum()
    assert scores(counts.matrix)["mIoU"] == result["mIoU"]
    np.testing.assert_array_equal(counts.areas.sum(axis=0)[0], np.diag(counts.matrix))


def test_val_writes_all_of_them_and_infers_once_but_for_the_images_that_it_shows(parts, tmp_path, monkeypatch):
    from paddleseg.core import infer

    config, calls, inference = parts[0], [], infer.inference
    shown, rows_of = [], SampleRows.rows
    monkeypatch.setattr(SampleRows, "rows", lambda self, *args: (shown.append(args[1]), rows_of(self, *args))[1])
    monkeypatch.setattr(infer, "inference", lambda *args, **kwargs: (calls.append(1), inference(*args, **kwargs))[1])
    result = val(config, save_dir=str(tmp_path), progress=False, device="cpu")
    assert len(calls) == 5 + 3 + 3 and result["images"] == 5
    assert [str(tmp_path / name) for name in (*FILES, *PICTURES)] == result["files"]
    images = [row[0] for row in read_table(tmp_path / "images.csv")[1:]]
    assert result["worst_images"][0]["image"] == images[0]
    pairs = build_val_dataset(config).file_list
    rows = json.loads((tmp_path / "images.json").read_text())["images"]
    assert [pairs[row["index"]][0].endswith(row["image"]) for row in rows] == [True] * 5
    assert shown == [[row["index"] for row in rows[:3]], [row["index"] for row in rows[:-4:-1]]]
    worst, best = (cv2.imread(str(tmp_path / name)) for name in PICTURES)
    assert worst.shape == best.shape and not np.array_equal(worst, best)


def test_images_are_shown_as_they_were_evaluated(parts, tmp_path, monkeypatch):
    from paddleseg.core import infer

    calls, inference = [], infer.aug_inference
    monkeypatch.setattr(infer, "aug_inference", lambda *args, **to: (calls.append(to), inference(*args, **to))[1])
    val(parts[0], save_dir=str(tmp_path), progress=False, device="cpu", aug_eval=True, flip_horizontal=True)
    assert [to["flip_horizontal"] for to in calls] == [True] * (5 + 3 + 3)
