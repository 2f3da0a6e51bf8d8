"""Where a prediction is wrong, as a picture."""

import numpy as np
import pytest

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.visual.error_map import draw_errors

RED, GRAY = (48, 59, 255), (184, 177, 174)  # BGR


def gray_image(*values):
    return np.repeat(np.array(values, np.uint8)[..., np.newaxis], 3, axis=-1)


def test_right_pixels_are_dim_wrong_ones_red_and_ignored_ones_gray():
    truth = np.array([[0, 1, 255], [1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 0], [1, 2, 1]], np.uint8)
    drawn = draw_errors(gray_image([200, 200, 200], [100, 0, 50]), truth, prediction)
    expected = [[(90, 90, 90), RED, GRAY], [(54, 54, 54), RED, GRAY]]
    assert np.array_equal(drawn, np.array(expected, np.uint8))


def test_the_value_that_is_ignored_may_be_a_class_and_have_sixteen_bits():
    truth, prediction = (np.array([values], np.uint16) for values in ([0, 700, 700], [5, 700, 1]))
    drawn = draw_errors(gray_image([100, 100, 100]), truth, prediction, ignore_index=0)
    assert np.array_equal(drawn, np.array([[GRAY, (54, 54, 54), RED]], np.uint8))


def test_a_pixel_of_several_classes_is_wrong_where_one_of_them_is():
    truth = np.array([[[1, 0], [1, 1], [255, 0], [255, 255]]], np.uint8)
    prediction = np.array([[[1, 0], [1, 0], [1, 0], [1, 0]]], np.uint8)
    drawn = draw_errors(gray_image([100] * 4), truth, prediction)
    assert np.array_equal(drawn, np.array([[(54, 54, 54), RED, (54, 54, 54), GRAY]], np.uint8))


def test_sizes_that_differ_are_refused():
    mask = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match=r"a label of shape \(2, 2\) and a prediction of shape \(2, 3\)"):
        draw_errors(gray_image([0, 0], [0, 0]), mask, np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match=r"an image of shape \(1, 2\) and a label of shape \(2, 2\)"):
        draw_errors(gray_image([0, 0]), mask, mask)
