"""The Predictor's options on real graphs: sizes, streams, many classes, sliding windows against PaddleSeg's."""

import numpy as np
import pytest
from exported import LABELS, TRANSFORMS, few_ties, model, photograph, small_folder, small_model

from ppliteseg_paddle import Predictor

ODD = [(333, 517), (720, 960), (64, 64)]


@pytest.mark.parametrize("input_shape", [None, (1, 3, 64, 64), (-1, 3, 333, 517)], ids=str)
@pytest.mark.parametrize("output_op", ["argmax", "softmax"])
def test_masks_have_the_images_size_whatever_the_networks_is(input_shape, output_op):
    predictor = Predictor(small_folder(output_op, input_shape), "paddle-native", num_threads=1)
    images = [photograph(*size) for size in ODD]
    for image, batched in zip(images, predictor.predict_batch(images)):
        mask = predictor.predict(image)
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8 and np.array_equal(mask, batched)
        assert len(np.unique(mask)) > 1 and mask.max() < LABELS.num_classes
        if output_op == "softmax":
            confidence = predictor.predict_with_confidence(image)[1]
            assert confidence.shape == image.shape[:2] and confidence.min() >= 1 / 11 and confidence.max() <= 1.0001


def test_batches_and_streams_give_the_masks_of_single_images():
    images = [
        photograph(64, 96),
        photograph(64, 96)[:, ::-1].copy(),
        photograph(96, 64),
        photograph(64, 96)[::-1].copy(),
    ] * 3
    one = Predictor(small_folder("argmax"), "paddle-native", num_threads=1)
    expected = [one.predict(image) for image in images]
    for options in ({"batch_size": 3}, {"streams": 2, "num_threads": 2}, {"batch_size": 2, "streams": 2}):
        predictor = Predictor(small_folder("argmax"), "paddle-native", **options)
        assert predictor.streams == options.get("streams", 1)
        for found, mask in zip(predictor.predict_batch(images), expected):
            assert np.mean(found != mask) < 0.001  # sums in another order


def test_streams_share_the_threads():
    predictor = Predictor(small_folder("argmax"), "paddle-native", streams=2, num_threads=4)
    assert predictor.backend.describe()["num_threads"] == 2


def test_a_graph_of_300_classes_gives_16_bit_masks():
    import paddle

    from ppliteseg_paddle.deploy.preprocess import Preprocess

    with paddle.no_grad():
        logits = small_model(300)(paddle.to_tensor(Preprocess(TRANSFORMS)(photograph(64, 96))[0]))[0].numpy()[0]
    assert logits.argmax(axis=0).max() > 255
    for output_op in ("argmax", "softmax"):
        mask = Predictor(small_folder(output_op, None, 300), "paddle-native").predict(photograph(64, 96))
        assert mask.dtype == np.uint16 and np.mean(mask != logits.argmax(axis=0)) < 0.001


@pytest.mark.slow
def test_a_sliding_window_gives_paddlesegs_result():
    """With logits, as PaddleSeg averages them; a real network sees each window's borders, so places and weights
    show."""
    import paddle
    from paddleseg.core.infer import inference

    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.export.eager import eager_predictor

    image, crop_size, stride = photograph(150, 200), (128, 96), (80, 64)
    batch, _ = Preprocess(TRANSFORMS)(image)
    with paddle.no_grad():
        expected = inference(
            model(), paddle.to_tensor(batch), trans_info=[], is_slide=True, crop_size=crop_size, stride=stride
        )[0]
    predictor = eager_predictor(
        model(), LABELS, Preprocess(TRANSFORMS), "none", is_slide=True, crop_size=crop_size, stride=stride
    )
    found = predictor.predict(image)
    assert np.mean(found != expected.numpy().reshape(found.shape)) <= few_ties(found.size)
    whole = eager_predictor(model(), LABELS, Preprocess(TRANSFORMS)).predict(image)
    assert np.mean(found != whole) > 0.01  # windows do matter here
