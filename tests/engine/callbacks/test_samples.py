"""Which validation images are shown, how often they are predicted, and that the run does not notice."""

import random

import cv2
import numpy as np
import paddle
import pytest
from multilabel import make_multilabel, multilabel_config, planes_of
from tiny_data import make_data, values, write_config
from tiny_network import TINY_MODEL

from ppliteseg_paddle.engine import predict
from ppliteseg_paddle.engine.build import build_model, build_val_dataset, label_set_of, load_config
from ppliteseg_paddle.engine.callbacks.samples import Samples
from ppliteseg_paddle.engine.sample_rows import CELL_WIDTH
from ppliteseg_paddle.visual.error_map import WRONG


def evaluation(iteration=10, ema=False):
    return {"iter": iteration, "ema": ema, "mIoU": 0.4321}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("samples") / "data", val=7)
    return load_config(write_config(root / "c.yml", values(root, model=TINY_MODEL)))


@pytest.fixture
def samples(config):
    return Samples(build_val_dataset(config), config)


@pytest.fixture
def predicted(monkeypatch):
    """The images that were predicted; everything is predicted as class 3, road."""
    images = []

    def predict_road(self, image):
        images.append(image)
        return np.full(image.shape[:2], 3, np.uint8)

    monkeypatch.setattr(predict.EvaluationPredictor, "predict", predict_road)
    return images


def test_the_images_lie_evenly_in_the_list_and_have_names(samples):
    assert samples.chosen == [(1, "1 09"), (3, "2 11"), (5, "3 13")]


def test_a_data_set_that_cannot_be_read_by_number_shows_none(config):
    for dataset in (range(5), None):
        samples = Samples(dataset, config)
        assert samples.chosen == [] and samples.sheet(build_model(config), evaluation()) is None


def test_an_evaluation_is_predicted_once_for_all_that_show_it(samples, config, predicted):
    model = build_model(config)
    first = evaluation()
    sheet, pictures = samples.sheet(model, first), samples.pictures(model, first)
    assert samples.sheet(model, first) is not None and len(predicted) == 3
    assert [name for name, _ in pictures] == ["1 09", "2 11", "3 13"]
    assert samples.pictures(model, evaluation(ema=True)) == [] and len(predicted) == 3
    samples.pictures(model, evaluation(20))
    assert len(predicted) == 6
    assert all(picture.shape[1] == sheet.shape[1] > 4 * CELL_WIDTH for _, picture in pictures)
    colors = {tuple(color) for color in pictures[0][1].reshape(-1, 3).tolist()}
    palette = label_set_of(config).palette
    assert {palette[3][::-1], palette[8][::-1]} <= colors  # road, car: not with red and blue in each other's place


def test_errors_are_where_prediction_and_label_differ(samples, config, predicted):
    _, row = samples._rows(build_model(config), evaluation())[0]
    label = cv2.imread(samples.samples.dataset.file_list[1][1], cv2.IMREAD_UNCHANGED)
    red = (row.errors == np.array(WRONG[::-1])).all(axis=-1)
    assert np.array_equal(red, (label != 3) & (label != 255))
    hit, union = (label == 3).sum(), (label != 255).sum()
    others = len(np.unique(label[(label != 3) & (label != 255)]))
    miou = 100 * hit / union / (1 + others)
    assert row.caption == f"09.png   mIoU {miou:.1f} %, pixels right {100 * hit / union:.1f} %"


def test_nothing_is_drawn_at_random_and_the_model_stays_as_it_was(samples, config):
    model = build_model(config)
    model.train()
    model.backbone.convs[0].eval()

    def state():
        weights = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
        modes = [layer.training for layer in model.sublayers(include_self=True)]
        numpys = np.random.get_state()[1].tolist()
        return weights, modes, random.getstate(), numpys

    paddle.seed(5)
    before, drawn = state(), paddle.rand([3]).tolist()
    paddle.seed(5)
    assert samples.sheet(model, evaluation()) is not None
    assert state() == before and paddle.rand([3]).tolist() == drawn


def test_a_prediction_that_fails_leaves_the_model_in_training(samples, config, monkeypatch):
    def fail(self, image):
        raise MemoryError("too large")

    monkeypatch.setattr(predict.EvaluationPredictor, "predict", fail)
    model = build_model(config)
    model.train()
    with pytest.raises(MemoryError):
        samples.sheet(model, evaluation())
    assert model.training and all(layer.training for layer in model.sublayers())


def test_large_images_are_not_held_between_evaluations(samples, config, predicted):
    samples.sheet(build_model(config), evaluation())
    samples.on_step(None, 0.0, 0.0)
    assert samples._predicted == (None, [])


def test_planes_are_compared_as_the_evaluation_compares_them(tmp_path, monkeypatch):
    """With the plane that a transform adds in front, for pixels of no class."""
    data = make_multilabel(tmp_path / "data")
    transforms = [{"type": "AddMultiLabelAuxiliaryCategory"}, {"type": "Normalize"}]
    (data / "classes.txt").write_text("none\nbright\nred\nround\n")
    path = multilabel_config(data, tmp_path / "c.yml")
    config = load_config(
        path,
        [
            f"val_dataset.transforms={transforms!r}",
            "val_dataset.num_classes=4",
            "train_dataset.num_classes=4",
            "model.num_classes=4",
        ],
    )
    truth = planes_of(1)
    expected = np.concatenate([(truth == 0).all(axis=-1, keepdims=True), truth], axis=-1).astype(np.uint8)
    shown = expected.copy()
    shown[:5, :, 1] ^= 1
    monkeypatch.setattr(predict.EvaluationPredictor, "predict", lambda self, image: shown)
    samples = Samples(build_val_dataset(config), config)
    samples.chosen = [(1, "one")]
    ((_, row),) = samples._rows(paddle.nn.Conv2D(3, 4, 1), evaluation())
    assert np.array_equal(row.truth, expected)
    red = (row.errors == np.array(WRONG[::-1])).all(axis=-1)
    assert red[:5].all() and not red[5:].any()
