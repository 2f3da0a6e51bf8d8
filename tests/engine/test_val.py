"""Evaluation: batches, the matrix on the device, PaddleSeg's loop evaluating by it."""

import numpy as np
import paddle
import pytest
from loop_run import a_run
from mini_cityscapes import official
from PIL import Image
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.data.submission import LABEL_IDS
from ppliteseg_paddle.engine.build import build_model, build_val_dataset, load_config
from ppliteseg_paddle.engine.loop.evaluation import fast_and_noted
from ppliteseg_paddle.engine.metrics import confusion_matrix, confusion_on_device, scores
from ppliteseg_paddle.engine.val import evaluate, stack_equals
from ppliteseg_paddle.reading.label_sets import label_set


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("val") / "data", val=5)
    config = load_config(write_config(root / "c.yml", values(root)))
    return build_model(config), build_val_dataset(config)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("ignore_index", [255, 3])
def test_the_matrix_on_the_device_equals_numpys(rng, dtype, ignore_index):
    label = rng.integers(0, 12, (2, 1, 7, 9)).astype(dtype)
    label[label == 11] = 255
    pred = rng.integers(0, 11, label.shape)
    matrix = confusion_on_device(paddle.to_tensor(pred.astype("int32")), paddle.to_tensor(label), 11, ignore_index)
    known = np.where((label == 255) | (label == ignore_index), 255, label)
    np.testing.assert_array_equal(matrix.numpy(), confusion_matrix(pred, known, 11))
    assert matrix.dtype == paddle.int64


def test_negative_labels_and_labels_beyond_the_classes_count_nowhere():
    label = paddle.to_tensor(np.array([-1, 0, 1, 7, 300], np.int32))
    matrix = confusion_on_device(paddle.to_tensor(np.array([1, 1, 1, 0, 0], np.int32)), label, 2, -1)
    assert matrix.numpy().tolist() == [[0, 1], [0, 1]]


def test_up_to_256_classes_fit():
    label = paddle.to_tensor(np.array([0, 254, 255], np.uint8))
    matrix = confusion_on_device(paddle.to_tensor(np.array([255, 254, 3], np.int32)), label, 256, 255).numpy()
    assert matrix.sum() == 2 and matrix[0, 255] == matrix[254, 254] == 1


def test_figures_from_the_device_equal_the_official_cityscapes_evaluators(rng, tmp_path):
    label = rng.integers(0, 20, (3, 1, 32, 64)).astype(np.uint8)
    label[label == 19] = 255
    pred = np.where(rng.random(label.shape) < 0.6, np.minimum(label, 18), rng.integers(0, 19, label.shape))
    ids = np.full(256, 3, np.uint8)  # "out of roi": ignored
    ids[:19] = LABEL_IDS
    total, predictions, truths = 0, [], []
    for index in range(3):
        total = total + confusion_on_device(
            paddle.to_tensor(pred[index].astype("int32")), paddle.to_tensor(label[index]), 19
        )
        for kind, files, values_ in (("pred", predictions, pred), ("gtFine_labelIds", truths, label)):
            files.append(tmp_path / (f"berlin_{index:06d}_000019_{kind}.png"))
            Image.fromarray(ids[values_[index, 0]]).save(files[-1])
    ours, theirs = scores(total.numpy()), official(predictions, truths)
    assert ours["mIoU"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-9)
    assert ours["class_iou"] == pytest.approx(
        [theirs["classScores"][name] for name in label_set("cityscapes").classes], abs=1e-9
    )


def test_neighbors_of_one_size_and_way_back_are_stacked():
    def sample(height, info=()):
        return {
            "img": np.zeros((3, height, 8), np.float32),
            "label": np.zeros((1, height, 8), np.uint8),
            "trans_info": list(info),
        }

    groups = stack_equals([sample(4), sample(4), sample(6), sample(4), sample(4, [("resize", (2, 8))])])
    assert [group["img"].shape[0] for group in groups] == [2, 1, 1, 1]
    assert groups[0]["label"].shape == (2, 1, 4, 8) and groups[3]["trans_info"] == [("resize", (2, 8))]


@pytest.mark.parametrize("arguments", [{}, {"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True}])
def test_batches_give_the_figures_of_single_images(parts, arguments):
    alone, together = (evaluate(*parts, progress=False, batch_size=size, **arguments) for size in (1, 4))
    assert together["images"] == 5
    assert together["mIoU"] == pytest.approx(alone["mIoU"], abs=1e-3)
    assert together["class_iou"] == pytest.approx(alone["class_iou"], abs=1e-2)


def test_the_loops_evaluation_gives_paddlesegs_figures_and_prints_them(parts, tmp_path, capsys):
    from paddleseg.core.val import evaluate as slow

    run = a_run(tmp_path)
    run.classes = [f"class_{number}" for number in range(parts[1].num_classes)]
    fast = fast_and_noted(run, slow)(*parts, num_workers=0, precision="fp32", amp_level="O1", print_detail=True)
    lines = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    for ours, theirs in zip(fast, slow(*parts, print_detail=False)):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)
    assert lines[0].startswith(f"[EVAL] #Images: 5 mIoU: {fast[0]:.4f} Acc: {fast[1]:.4f}") and len(lines) == 2
    named = [f"{name} {value:.4f}" for name, value in zip(run.classes, fast[2])]
    assert lines[1] == f"[EVAL] Class IoU: {', '.join(named)}" and len(named) == len(fast[2])
    assert run.monitor.evaluations[0]["mIoU"] == fast[0]


def test_the_area_under_the_curve_is_left_to_paddlesegs_own_evaluation(tmp_path, capsys):
    from paddleseg.utils import logger

    space = {"logger": logger, "progbar": None}
    exec(
        "def evaluate(model, eval_dataset, auc_roc=False, print_detail=True):\n"
        "    progbar.Progbar(target=1, verbose=1).update(1)\n"
        "    logger.info('[EVAL] Auc_roc: 0.9')\n"
        "    return 0.5, 0.9, [0.5], [0.5], 0.8",
        space,
    )
    run = a_run(tmp_path)
    assert fast_and_noted(run, space["evaluate"])("model", "data", auc_roc=True)[0] == 0.5
    assert "[EVAL] Auc_roc: 0.9" in capsys.readouterr().out
    assert (run.monitor.evaluations[0]["mIoU"], space["progbar"]) == (0.5, None)
