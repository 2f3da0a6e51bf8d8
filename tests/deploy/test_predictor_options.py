"""Batches, streams of images, confidence, the unknown class, sliding windows: what goes around the network."""

import threading
import warnings

import cv2
import numpy as np
import pytest
from stand_in import NORMALIZE, image, labels, logits_of, softmax, stand_in

from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError

SIZES = [(48, 64), (33, 51), (48, 64), (64, 48), (33, 51), (48, 64), (20, 20)]


def images(sizes=SIZES):
    return [image(*size, seed=i) for i, size in enumerate(sizes)]


# --------------------------------------------------------------------------------------------
# Batches and streams
# --------------------------------------------------------------------------------------------
def test_a_batch_gives_the_masks_of_its_images_one_by_one():
    predictor = stand_in(batch_size=3)
    expected = [stand_in().predict(each) for each in images()]
    found = predictor.predict_batch(images())
    assert all(np.array_equal(*pair) for pair in zip(found, expected)) and len(found) == len(expected)


def test_images_of_one_size_go_through_the_network_together():
    predictor = stand_in(batch_size=3)
    predictor.predict_batch(images())
    assert sorted(predictor.backend.batches) == [(1, 3, 20, 20), (1, 3, 64, 48), (2, 3, 33, 51), (3, 3, 48, 64)]
    predictor = stand_in(
        batch_size=4, shape=(-1, 3, 32, 32), transforms=({"type": "Resize", "target_size": [32, 32]}, NORMALIZE)
    )
    assert [mask.shape for mask in predictor.predict_batch(images())] == SIZES
    assert predictor.backend.batches == [(4, 3, 32, 32), (3, 3, 32, 32)]


def test_a_stream_gives_each_image_with_its_mask_in_order():
    predictor = stand_in(batch_size=2)
    found = list(predictor.stream(iter(images() * 3)))
    for prediction, each in zip(found, images() * 3):
        assert np.array_equal(prediction.image, each) and np.array_equal(prediction.mask, stand_in().predict(each))
        assert prediction.confidence is None and prediction.error is None
    assert len(found) == 3 * len(SIZES)


def test_a_stream_of_paths_ends_at_an_image_that_cannot_be_read_or_continues(tmp_path):
    paths = []
    for i, each in enumerate(images()):
        paths.append(str(tmp_path / (f"{i:d}.png")))
        cv2.imwrite(paths[-1], each)
    (tmp_path / "2.png").write_bytes(b"no image")
    stream = stand_in(batch_size=2).stream(paths)
    assert np.array_equal(next(stream).mask, stand_in().predict(paths[0])) and next(stream).mask.shape == SIZES[1]
    with pytest.raises(DataError, match="2.png cannot be decoded"):
        next(stream)
    found = list(stand_in(batch_size=2).stream(paths, keep_going=True))
    assert [prediction.error is None for prediction in found] == [True, True, False, True, True, True, True]
    assert "2.png" in str(found[2].error) and found[2].mask is None
    assert [prediction.mask.shape for prediction in found if prediction.error is None] == SIZES[:2] + SIZES[3:]


def test_an_endless_stream_is_read_only_as_far_as_needed():
    taken = []

    def frames():
        while True:
            taken.append(1)
            yield image()

    before = threading.active_count()
    stream = stand_in().stream(frames())
    for _ in range(3):
        assert next(stream).mask.shape == (48, 64)
    stream.close()
    assert len(taken) < 40 and threading.active_count() == before


def test_an_error_of_the_network_reaches_the_caller():
    predictor = stand_in()

    def broken(batch):
        raise RuntimeError("out of memory")

    predictor.backend.run = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        list(predictor.stream(images()))


def test_several_threads_may_use_one_predictor():
    predictor, expected, wrong = stand_in(), [stand_in().predict(each) for each in images()], []

    def work():
        for each, mask in zip(images(), expected):
            if not np.array_equal(predictor.predict(each), mask):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(predictor.backend.batches) == 4 * len(SIZES)


def test_one_path_is_no_batch():
    with pytest.raises(DataError, match=r"takes a list of images, not one path; give \['photo.jpg'\]"):
        stand_in().predict_batch("photo.jpg")


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"batch_size": 0}, ConfigError, "batch_size is 0; give an integer of at least 1"),
        ({"batch_size": 2.0}, ConfigError, "batch_size is 2.0"),
        (
            {"batch_size": 2, "shape": (1, 3, 32, 32)},
            ConfigError,
            "batch_size is 2, but export takes 1 image at a time.*--input_shape -1 3 H W",
        ),
        ({"unknown_below": 0}, ConfigError, "unknown_below is 0; give a confidence above 0 and up to 1"),
        ({"unknown_below": 50}, ConfigError, "unknown_below is 50"),
        (
            {"unknown_below": 0.5, "op": "argmax"},
            ArtifactError,
            "unknown_below needs probabilities.*class ids only; export it with --output_op softmax",
        ),
        ({"crop_size": (32, 32)}, ConfigError, "add is_slide"),
        ({"is_slide": True}, ConfigError, "is_slide needs the window"),
        ({"is_slide": True, "crop_size": (32, 32), "stride": (33, 32)}, ConfigError, "would skip pixels"),
        (
            {"is_slide": True, "crop_size": (64, 32), "shape": (1, 3, 32, 48)},
            ConfigError,
            "crop_size is 64 32, but .* 48x32 pixels; give crop_size 48 32",
        ),
    ],
)
def test_an_option_that_cannot_be_is_refused_on_one_line(options, error, words):
    with pytest.raises(error, match=words) as caught:
        stand_in(**options)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------
# Confidence and the unknown class
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", ["softmax", "none"])
@pytest.mark.parametrize("options", [{}, {"is_slide": True, "crop_size": (30, 20)}], ids=["whole", "windows"])
def test_confidence_is_the_probability_of_each_pixels_class(op, options):
    probabilities = softmax(logits_of(image().transpose(2, 0, 1)[None] / np.float32(127.5) - 1, 11)[0], 0)
    mask, confidence = stand_in(op, **options).predict_with_confidence(image())
    assert np.array_equal(mask, probabilities.argmax(axis=0)) and mask.dtype == np.uint8
    assert confidence.dtype == np.float32 and confidence.shape == (48, 64)
    np.testing.assert_allclose(confidence, probabilities.max(axis=0), atol=1e-5)
    streamed = next(stand_in(op, **options).stream([image()], with_confidence=True))
    assert np.array_equal(streamed.mask, mask) and np.array_equal(streamed.confidence, confidence)


def test_confidence_comes_back_to_the_images_size():
    mask, confidence = stand_in(
        "softmax", transforms=({"type": "Resize", "target_size": [32, 24]}, NORMALIZE)
    ).predict_with_confidence(image())
    assert mask.shape == confidence.shape == (48, 64) and 1 / 11 <= confidence.min() < confidence.max() <= 1


def test_there_is_no_confidence_where_class_ids_are_all_there_is():
    for call in (
        lambda predictor: predictor.predict_with_confidence(image()),
        lambda predictor: predictor.stream([], with_confidence=True),
    ):
        with pytest.raises(ArtifactError, match="confidence needs probabilities.*export it with --output_op softmax"):
            call(stand_in("argmax"))


def test_pixels_below_the_threshold_are_unknown_and_the_others_keep_their_class():
    mask, confidence = stand_in("softmax").predict_with_confidence(image())
    limit = float(np.median(confidence))
    for options in ({}, {"is_slide": True, "crop_size": (30, 20)}):
        predictor = stand_in("softmax", unknown_below=limit, **options)
        found = predictor.predict(image())
        assert predictor.unknown_id == 255 and found.dtype == np.uint8
        assert np.mean((found == 255) != (confidence < limit)) < 0.01  # windows average in another order
        assert np.array_equal(found[found != 255], mask[found != 255])
        assert 0.2 < np.mean(found == 255) < 0.8


@pytest.mark.parametrize(
    "num_classes, ignore_index, value, dtype",
    [
        (11, 255, 255, np.uint8),
        (11, 200, 200, np.uint8),
        (255, 255, 255, np.uint8),
        (11, 3, 65535, np.uint16),
        (11, -1, 65535, np.uint16),
        (256, 255, 65535, np.uint16),
        (300, 255, 65535, np.uint16),
    ],
)
def test_the_value_of_unknown_pixels_is_never_a_class(num_classes, ignore_index, value, dtype):
    predictor = stand_in("softmax", num_classes, ignore_index=ignore_index, unknown_below=1.0)
    found = predictor.predict(image())
    assert predictor.unknown_id == value and found.dtype == dtype and (found == value).any()


def test_masks_have_16_bits_above_256_classes():
    for op in ("argmax", "softmax"):
        found = stand_in(op, 300).predict(image())
        assert found.dtype == np.uint16 and found.max() > 255
        assert np.array_equal(
            found, logits_of(image().transpose(2, 0, 1)[None] / np.float32(127.5) - 1, 300)[0].argmax(axis=0)
        )
    assert stand_in("argmax", 256).predict(image()).dtype == np.uint8


# --------------------------------------------------------------------------------------------
# Sliding windows
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", ["none", "softmax", "argmax"])
@pytest.mark.parametrize("in_graph", [False, True], ids=["float", "in the graph"])
@pytest.mark.parametrize("size", [(90, 140), (48, 64), (20, 30)], ids=str)
def test_windows_give_the_mask_of_the_whole_image(op, in_graph, size):
    """The stand-in looks at each pixel alone, so a window must not change what it says."""
    predictor = stand_in(op, in_graph=in_graph, is_slide=True, crop_size=(40, 30), stride=(25, 30), batch_size=4)
    assert np.array_equal(predictor.predict(image(*size)), stand_in(op).predict(image(*size)))
    assert np.array_equal(predictor.predict_batch([image(*size)])[0], stand_in(op).predict(image(*size)))
    assert {(shape[1:3] if in_graph else shape[2:]) for shape in predictor.backend.batches} == {
        (min(30, size[0]), min(40, size[1]))
    }
    assert max(shape[0] for shape in predictor.backend.batches) <= 4


def test_a_network_of_fixed_size_slides_over_the_image_as_it_is():
    transforms = ({"type": "Resize", "target_size": [40, 30]}, NORMALIZE)  # as exporting for a fixed size adds it
    predictor = stand_in("none", shape=(1, 3, 30, 40), transforms=transforms, is_slide=True)
    assert predictor.windows.crop_size == (40, 30) and predictor.windows.stride == (26, 20)
    for size in ((90, 140), (20, 140), (20, 30)):
        assert np.array_equal(predictor.predict(image(*size)), stand_in().predict(image(*size)))
    assert set(predictor.backend.batches) == {(1, 3, 30, 40)}


def test_windows_of_an_open_size_are_cut_from_the_resized_image_as_paddleseg_cuts_them():
    transforms = ({"type": "Resize", "target_size": [100, 80]}, NORMALIZE)
    for op in ("none", "argmax"):
        whole, windows = (
            stand_in(op, transforms=transforms),
            stand_in(op, transforms=transforms, is_slide=True, crop_size=(40, 30)),
        )
        assert np.mean(windows.predict(image()) != whole.predict(image())) < 0.001
        assert set(windows.backend.batches) == {(1, 3, 30, 40)}


def test_a_large_images_scores_are_never_held_at_once():
    import tracemalloc

    predictor = stand_in("none", 50, is_slide=True, crop_size=(64, 64), stride=(64, 64))
    large = image(2048, 64)
    tracemalloc.start()
    predictor.predict(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2048 * 64 * 50 * 4 / 2  # half of what all scores take


def test_nothing_is_said_while_predicting(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stand_in("softmax", unknown_below=0.5).predict(image())
    assert capfd.readouterr() == ("", "") and labels().num_classes == 11
