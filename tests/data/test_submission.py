"""Predictions for the Cityscapes server, and figures equal to the official evaluator's."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mini_cityscapes import official
from PIL import Image

from ppliteseg_paddle.data import submission
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores
from ppliteseg_paddle.errors import DataError

NAME = "berlin_%06d_000019_leftImg8bit.png"


def write(folder, index, mask=None):
    return submission.write_prediction(
        str(folder), NAME % index, np.zeros((1024, 2048), np.uint8) if mask is None else mask
    )


def test_label_ids_and_class_names_are_those_of_the_official_package():
    from cityscapesscripts.helpers.labels import trainId2label

    from ppliteseg_paddle.reading.label_sets import label_set

    known = label_set("cityscapes")
    assert tuple(trainId2label[i].id for i in range(19)) == submission.LABEL_IDS
    assert known.classes == tuple(trainId2label[i].name for i in range(19))
    assert known.palette == tuple(trainId2label[i].color for i in range(19))


def test_masks_become_label_ids_at_the_servers_size():
    mask = np.array([[0, 18], [13, 0]], np.uint8).repeat(2, 1)
    ids = submission.label_ids(mask)
    assert ids.shape == (1024, 2048) and ids.dtype == np.uint8
    assert (ids[0, 0], ids[0, 2047], ids[1023, 0], ids[1023, 2047]) == (7, 33, 26, 7)


@pytest.mark.parametrize(
    "mask, words",
    [
        (np.zeros((100, 150), np.uint8), "a mask of 150x100 pixels cannot be brought to the 2048x1024"),
        (np.full((10, 20), 19, np.uint8), "answers with class 19, but Cityscapes has the train ids 0 to 18"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, words):
    with pytest.raises(DataError, match=words):
        submission.label_ids(mask)


def test_names_without_a_frame_and_frames_that_occur_twice_are_refused():
    with pytest.raises(DataError, match="photo.png is not named as Cityscapes names its frames"):
        submission.check_frames(["photo.png"])
    with pytest.raises(DataError, match="are the same frame"):
        submission.check_frames(["a/" + NAME % 1, "b/" + NAME % 1])
    assert submission.check_frames(["a/" + NAME % 1]) == ["berlin_000001_000019"]


def test_a_folder_is_checked_and_packed_without_folders(tmp_path):
    folder = tmp_path / "s"
    frames = [f"berlin_{i:06d}_000019" for i in range(2)]
    for i in range(2):
        write(folder, i)
    assert submission.check_folder(str(folder), frames) == {"images": 2, "test_set": False}
    archive = submission.pack(str(folder), str(tmp_path / "s.zip"))
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == [frame + "_pred_labelIds.png" for frame in frames]
        assert file.testzip() is None


def broken(folder, fault):
    path = os.path.join(str(folder), "berlin_000000_000019_pred_labelIds.png")
    if fault == "size":
        Image.fromarray(np.zeros((512, 1024), np.uint8)).save(path)
    elif fault == "color":
        Image.fromarray(np.zeros((1024, 2048, 3), np.uint8)).save(path)
    elif fault == "ids":
        Image.fromarray(np.full((1024, 2048), 255, np.uint8)).save(path)
    elif fault == "damaged":
        Path(path).write_bytes(b"no png")
    elif fault == "missing":
        os.remove(path)
    elif fault == "twice":
        os.link(path, path.replace("_pred", "_again"))
    elif fault == "text":
        open(os.path.join(str(folder), "notes.txt"), "w").close()
    elif fault == "foreign":
        write(folder, 7)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("size", "is 1024x512 .L., but the server takes 2048x1024"),
        ("color", "is 2048x1024 .RGB."),
        ("ids", "holds 255, which are no"),
        ("damaged", "cannot be decoded"),
        ("missing", "lacks the predictions of 1 frames: berlin_000000_000019"),
        ("twice", "are predictions of one frame"),
        ("text", "takes PNGs only"),
        ("foreign", "were not asked for .berlin_000007_000019"),
    ],
)
def test_what_the_server_would_refuse_is_refused_here(tmp_path, fault, words):
    for i in range(2):
        write(tmp_path, i)
    broken(tmp_path, fault)
    with pytest.raises(DataError, match=words):
        submission.check_folder(str(tmp_path), [f"berlin_{i:06d}_000019" for i in range(2)])


# --- the official evaluator --------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("classes", [range(19), (0, 2, 11, 18)])
def test_mean_iou_over_present_classes_equals_the_official_evaluators(tmp_path, ignored, classes):
    rng = np.random.default_rng(3)
    table = np.full(256, 3, np.uint8)  # "out of roi": ignored
    table[:19] = submission.LABEL_IDS
    matrix, predictions, truths = 0, [], []
    for index in range(2):
        truth = rng.choice(list(classes), (16, 32)).astype(np.uint8).repeat(64, 0).repeat(64, 1)
        mask = np.where(
            rng.random((16, 32)).repeat(64, 0).repeat(64, 1) < 0.6, truth, rng.choice(list(classes)[:3])
        ).astype(np.uint8)
        if ignored:
            truth[:200, 300:] = 255
        predictions.append(submission.write_prediction(str(tmp_path / "s"), NAME % index, mask))
        truths.append(tmp_path / (f"berlin_{index:06d}_000019_gtFine_labelIds.png"))
        Image.fromarray(table[truth]).save(truths[-1])
        matrix = matrix + confusion_matrix(mask, truth, 19)
    ours, theirs = scores(matrix), official(predictions, truths)
    assert ours["mIoU_present"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-6)
    assert sum(ours["present"]) == len(classes)
    assert ours["mIoU"] == pytest.approx(ours["mIoU_present"] * len(classes) / 19, abs=1e-12)
