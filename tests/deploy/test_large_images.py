"""Images of more pixels than may go through the network in one piece."""

import numpy as np
import pytest
from exported import photograph, small_folder

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.limits import TooLargeError
from ppliteseg_paddle.visual.png import write_image


class Counting:
    """A backend that remembers what it was given."""

    def __init__(self, backend):
        self.graph, self.run_on, self.shapes = backend.graph, backend, []

    def run(self, batch):
        self.shapes.append(batch.shape)
        return self.run_on.run(batch)


def predictor_of(op="argmax", **options):
    opened = Predictor(small_folder(op))
    return Predictor.of(opened.artifact, Counting(opened.backend), **options)


@pytest.mark.parametrize("op", ["argmax", "softmax"])
def test_a_large_image_goes_through_overlapping_windows_and_others_do_not(op, caplog):
    predictor, image = predictor_of(op, max_pixels=64 * 96), photograph(200, 300)
    with caplog.at_level("WARNING", logger="ppliteseg_paddle"):
        found = [result.mask for result in predictor.stream([image, image[:64, :96], image])]
    assert max(h * w for _, _, h, w in predictor.backend.shapes) <= 64 * 96
    assert (1, 3, 64, 96) in predictor.backend.shapes  # in one piece
    assert caplog.text.count("segmented by windows of 64x64") == 1
    whole = Predictor(small_folder(op)).predict(image)
    assert found[0].shape == whole.shape and np.mean(found[0] != whole) < 0.02  # near the windows' borders
    assert np.array_equal(found[0], found[2]) and np.array_equal(found[0], predictor.predict(image))


def test_large_images_are_refused_where_that_is_asked_and_the_others_segmented(tmp_path):
    write_image(str(tmp_path / "large.png"), photograph(64, 96))
    predictor = predictor_of(max_pixels=64 * 96 - 1, large_images="refuse")
    for image in (tmp_path / "large.png", photograph(64, 96)):
        with pytest.raises(TooLargeError, match="has 96x64 pixels, more than the 6143 of max_pixels"):
            predictor.predict(image)
    results = list(predictor.stream([tmp_path / "large.png", photograph(48, 64)], keep_going=True))
    assert isinstance(results[0].error, TooLargeError) and results[1].mask.shape == (48, 64)


@pytest.mark.parametrize("options, words", [({"max_pixels": 0}, "max_pixels is 0"), ({"large_images": "no"}, "'no'")])
def test_a_limit_that_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Predictor(small_folder("argmax"), **options)
