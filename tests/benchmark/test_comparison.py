"""`ppliteseg compare`: figures against independent ones, refusals, the picture."""

import dataclasses
import json
import os

import cv2
import numpy as np
import pytest
from commands import run_json, write_photo
from exported import LABELS, photograph, small_folder, small_model
from sklearn.metrics import confusion_matrix as reference_matrix
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.benchmark import comparison
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.visual.error_map import WRONG

CLASSES = LABELS.num_classes


# --------------------------------------------------------------------------------------------
# Intervals
# --------------------------------------------------------------------------------------------
def areas_of(pairs):
    """(3, classes) of images, from their labels and predictions."""
    matrices = [reference_matrix(label, mask, labels=range(3)) for label, mask in pairs]
    return np.stack([np.stack([np.diag(m), m.sum(axis=0), m.sum(axis=1)]) for m in matrices])


def pairs(rng, wrong, images=12):
    """Labels of three classes, and predictions of which a share is wrong."""
    made = []
    for _ in range(images):
        label = rng.integers(0, 3, 400)
        mask = np.where(rng.random(400) < wrong, (label + 1) % 3, label)
        made.append((label, mask))
    return made


def iou(pairs):
    """By class, over all images, counted by hand."""
    labels, masks = (np.concatenate(each) for each in zip(*pairs))
    return [np.sum((labels == c) & (masks == c)) / np.sum((labels == c) | (masks == c)) for c in range(3)]


def test_differences_and_intervals_equal_those_of_images_drawn_one_by_one(rng):
    first, second = pairs(rng, 0.3), pairs(rng, 0.2)
    second = [(label, mask) for (label, _), (_, mask) in zip(first, second)]
    areas = np.stack([areas_of(first), areas_of(second)])
    found = comparison.accuracy(areas, ["a", "b", "c"], rounds=150, seed=5)
    draws = np.random.default_rng(5)
    differences = []
    for start in (0, 100):
        for times in draws.multinomial(12, np.full(12, 1 / 12), size=min(100, 150 - start)):
            chosen = [index for index, count in enumerate(times) for _ in range(count)]
            differences.append(np.subtract(iou([second[i] for i in chosen]), iou([first[i] for i in chosen])))
    low, high = np.percentile(differences, (2.5, 97.5), axis=0)
    for index, row in enumerate(found["classes"]):
        np.testing.assert_allclose(row["values"], [iou(first)[index], iou(second)[index]])
        np.testing.assert_allclose(row["interval"], [low[index], high[index]])
    means = np.mean(differences, axis=1)
    np.testing.assert_allclose(found["mIoU"]["interval"], np.percentile(means, (2.5, 97.5)))
    np.testing.assert_allclose(found["mIoU"]["difference"], np.mean(iou(second)) - np.mean(iou(first)))


def test_a_difference_is_clear_where_its_interval_excludes_zero(rng):
    same = areas_of(pairs(rng, 0.3))
    found = comparison.accuracy(np.stack([same, same]), "abc")
    assert found["mIoU"]["interval"] == [0, 0] and not found["mIoU"]["clear"]
    better = comparison.accuracy(np.stack([same, areas_of(pairs(rng, 0.05))]), "abc")
    assert better["mIoU"]["clear"] and better["mIoU"]["interval"][0] > 0
    worse = comparison.accuracy(np.stack([areas_of(pairs(rng, 0.05)), same]), "abc")
    assert worse["mIoU"]["clear"] and worse["mIoU"]["interval"][1] < 0


def test_a_class_that_is_nowhere_counts_as_zero():
    areas = np.zeros((2, 4, 3, 2), np.int64)
    areas[:, :, :, 0] = 5
    found = comparison.accuracy(areas, "ab", rounds=10)
    assert found["classes"][1]["values"] == [0, 0] and found["classes"][1]["interval"] == [0, 0]
    assert found["mIoU"]["values"] == [0.5, 0.5]


# --------------------------------------------------------------------------------------------
# The command
# --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A list of three photographs with labels."""
    root = tmp_path_factory.mktemp("labelled")
    lines = []
    for index in range(3):
        image = np.roll(photograph(64, 96), 7 * index, axis=1)
        label = (image[:, :, 0].astype(int) * CLASSES // 256).astype(np.uint8)
        label[:4] = 255
        cv2.imwrite(str(root / f"{index}.png"), image)
        cv2.imwrite(str(root / f"{index}_label.png"), label)
        lines.append(f"{index}.png {index}_label.png")
    (root / "list.txt").write_text("\n".join(lines))
    return root / "list.txt"


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """An export of a model with other weights."""
    import paddle

    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    model = small_model()
    paddle.seed(11)
    model.classifier.weight.set_value(model.classifier.weight + 0.05 * paddle.randn(model.classifier.weight.shape))
    folder = tmp_path_factory.mktemp("other") / "other"
    artifact = Predictor(small_folder()).artifact
    options = ExportOptions(
        label_set=LABELS, transforms=artifact.preprocess.to_transforms(), check_image=photograph(64, 96)
    )
    export_model(model, str(folder), options)
    return folder


TIMED = ("--warmup", "0", "--repeats", "2")


def test_figures_are_those_of_the_masks(labelled, other, tmp_path, capsys):
    status, result = run_json(
        capsys, "compare", small_folder(), other, "--image_path", labelled, "--save_dir", tmp_path / "o", *TIMED
    )
    assert status == 0 and result["images"] == result["labelled"] == 3
    predictors = [Predictor(small_folder()), Predictor(other)]
    masks, matrices = [[], []], [np.zeros((CLASSES, CLASSES), int) for _ in predictors]
    for index in range(3):
        label = cv2.imread(str(labelled.parent / f"{index}_label.png"), cv2.IMREAD_UNCHANGED)
        for which, predictor in enumerate(predictors):
            mask = predictor.predict(str(labelled.parent / f"{index}.png"))
            masks[which].append(mask)
            matrices[which] += reference_matrix(label[label != 255], mask[label != 255], labels=range(CLASSES))
    for which, matrix in enumerate(matrices):
        union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
        expected = np.divide(np.diag(matrix), union, out=np.zeros(CLASSES), where=union > 0)
        np.testing.assert_allclose([row["values"][which] for row in result["classes"]], expected)
        np.testing.assert_allclose(result["mIoU"]["values"][which], expected.mean())
    shares = [float(np.mean(a != b)) for a, b in zip(*masks)]
    np.testing.assert_allclose(result["agreement"], 1 - np.mean(shares))
    assert 0 < result["agreement"] < 1
    assert [row["differing"] for row in result["most_different"]] == pytest.approx(sorted(shares, reverse=True))
    assert all(ms > 0 for ms in result["speed"]["median_ms"]) and result["speed"]["image_size"] == [96, 64]
    assert json.loads((tmp_path / "o" / "compare.json").read_text())["classes"] == result["classes"]
    picture = cv2.imread(str(tmp_path / "o" / "differences.png"))
    assert (picture == WRONG[::-1]).all(axis=-1).any()


def test_the_summary_has_a_row_for_each_class_and_the_ratio(labelled, other, tmp_path, capsys):
    command = ["compare", small_folder(), str(other), "--image_path", str(labelled), "--save_dir", str(tmp_path / "o")]
    assert main([*command, *TIMED]) == 0
    text = capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.split()[:1] and line.split()[0] in (*LABELS.classes, "mIoU")]
    assert len(rows) == CLASSES + 1 and all(" to " in row for row in rows)
    assert "3 images, 3 with labels" in text and "times as fast" in text and "of the pixels have one class" in text


def test_without_labels_it_tells_where_the_masks_differ(other, tmp_path, capsys):
    write_photo(tmp_path / "photos" / "a.jpg")
    flags = ["--image_path", tmp_path / "photos", "--save_dir", tmp_path / "o", *TIMED]
    status, result = run_json(capsys, "compare", small_folder(), other, *flags)
    assert status == 0 and "mIoU" not in result and result["labelled"] == 0 and result["agreement"] < 1
    folder = small_folder()
    status, result = run_json(capsys, "compare", folder, folder, *flags)
    assert status == 0 and result["agreement"] == 1 and result["most_different"] == []
    assert not (tmp_path / "o" / "differences.png").exists()  # the first comparison's is gone
    assert result["files"] == [os.path.join(tmp_path / "o", "compare.json")]
    assert result["names"] == ["export (A)", "export (B)"]


@pytest.mark.slow
def test_a_run_is_compared_with_its_export(tmp_path, capsys):
    root = make_data(tmp_path / "data", train=4, val=3)
    content = values(root, batch_size=2)
    content["model"] = TINY_MODEL
    config = write_config(tmp_path / "c.yml", content)
    run, export = str(tmp_path / "run"), str(tmp_path / "export")
    assert main(["train", "--config", config, "--iters", "2", "--save_dir", run, "--device", "cpu", "--quiet"]) == 0
    weights = os.path.join(run, "iter_2", "model.pdparams")
    saved = os.path.join(run, "config.yml")
    assert main(["export", "--config", saved, "--model_path", weights, "--save_dir", export, "--device", "cpu"]) == 0
    capsys.readouterr()
    flags = ["--image_path", root / "val.txt", "--save_dir", tmp_path / "o", "--device", "cpu", *TIMED]
    status, result = run_json(capsys, "compare", run, export, *flags)
    assert status == 0 and result["agreement"] > 0.999 and result["names"] == ["run", "export"]
    assert abs(result["mIoU"]["difference"]) < 1e-3


def test_models_of_other_tasks_are_refused_with_what_differs(labelled, tmp_path):
    first = Predictor(small_folder())
    second = Predictor(small_folder())
    names = ("one", "two")
    second.artifact = dataclasses.replace(
        second.artifact, label_set=dataclasses.replace(LABELS, classes=("moon", *LABELS.classes[1:]))
    )
    second.label_set = second.artifact.label_set
    with pytest.raises(comparison.ConfigError, match="only in one: sky; only in two: moon"):
        comparison.Comparison(first, second, names).check()
    second.label_set = dataclasses.replace(LABELS, classes=LABELS.classes[::-1])
    with pytest.raises(comparison.ConfigError, match="the same names in another order"):
        comparison.Comparison(first, second, names).check()


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--image_path", "drive.mp4"], "compare takes images, not a video"),
        (["--image_path", "PHOTO", "--backend", "paddle", "paddle", "paddle"], "--backend names 3 runtimes"),
        (["--image_path", "absent.png"], "absent.png"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, flags, text):
    monkeypatch.chdir(tmp_path)
    write_photo("photo.png")
    flags = ["photo.png" if flag == "PHOTO" else flag for flag in flags]
    assert main(["compare", small_folder(), small_folder(), *flags]) == 2
    assert text in capsys.readouterr().err and not os.path.exists("output")
