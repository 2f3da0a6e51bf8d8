"""Pictures of numbers, looked at for what can be counted in them."""

import warnings

import cv2
import numpy as np
import pytest
from anyascii import anyascii

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.visual import plots, text
from ppliteseg_paddle.visual.confusion import draw_confusion

BLUE, ORANGE = (0xBB, 0x6F, 0x2A), (0x2A, 0x72, 0xD9)  # BGR


def history(rows=30, evaluations=4, ema=True):
    train = [{"iter": 10 * (i + 1), "loss": 3 / (1 + i), "lr": 0.01} for i in range(rows)]
    evals = [
        {"iter": 50 * (i + 1), "mIoU": 0.1 * (i + 1) / (1 + averaged), "ema": bool(averaged)}
        for i in range(evaluations)
        for averaged in range(1 + ema)
    ]
    return {"train": train, "eval": evals}


def draw(tmp_path, content, title="run"):
    path = plots.training_curves(str(tmp_path / "curves.png"), content, title)
    return cv2.imread(path)


def count(picture, color):
    return int((np.abs(picture.astype(int) - color).sum(axis=-1) < 12).sum())


def test_the_curves_are_three_panels_with_both_mious(tmp_path):
    picture = draw(tmp_path, history())
    assert picture.shape == (1170, 1300, 3)
    third = len(picture) // 3
    assert (
        count(picture[:third], BLUE) > 500
        and count(picture[-third:], BLUE) > 300
        and count(picture[-third:], ORANGE) > 300
    )
    assert not count(draw(tmp_path, history(ema=False)), ORANGE)


@pytest.mark.parametrize(
    "content",
    [
        {"train": [], "eval": []},
        history(rows=1, evaluations=0),
        history(rows=2, evaluations=1),
        {"train": [{"iter": 10, "loss": None, "lr": 0.01}, {"iter": 20, "loss": float("nan"), "lr": 0.01}], "eval": []},
    ],
)
def test_a_run_that_has_just_begun_or_has_lost_its_loss_is_drawn_too(tmp_path, content):
    assert draw(tmp_path, content).shape == (1170, 1300, 3)


def test_nothing_but_the_picture_is_left(tmp_path):
    draw(tmp_path, history())
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_a_picture_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write .*curves.png"):
        plots.training_curves(str(tmp_path / "file" / "curves.png"), history())


def test_smoothing_keeps_constants_and_slopes_where_they_are():
    assert plots.smoothed([2.0] * 7) == [2.0] * 7
    assert plots.smoothed([float(i) for i in range(200)]) == pytest.approx(list(range(200)))
    assert plots.smoothed([]) == []


def test_smoothing_takes_the_mean_of_the_neighbours():
    assert plots.smoothed([0, 0, 0, 5, 0, 0, 0]) == pytest.approx([0, 0, 1, 1, 1, 0, 0])


def test_the_distribution_is_drawn_in_the_classes_colors(tmp_path):
    classes = [
        {"name": "road", "share": 0.9, "image_share": 1.0},
        {"name": "sign_symbol", "share": 0.1, "image_share": 0.5},
    ]
    picture = cv2.imread(plots.class_distribution(str(tmp_path / "d.png"), classes, [(255, 0, 0), (0, 0, 255)], "mine"))
    assert count(picture, (0, 0, 255)) > count(picture, (255, 0, 0)) > 1000


NAMES = ["背景", "道路_road", "Дорога", "a_long_name"]


def confusion_of(path, names):
    return draw_confusion(str(path), np.arange(16).reshape(4, 4), names, f"matrix of {names[0]}")


def distribution_of(path, names):
    rows = [{"name": name, "share": 0.25, "image_share": 0.5} for name in names]
    return plots.class_distribution(str(path), rows, [(200, 40 * i, 10) for i in range(4)], f"data of {names[0]}")


@pytest.mark.parametrize("drawn", [confusion_of, distribution_of])
def test_names_in_any_script_are_drawn_without_boxes(tmp_path, drawn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each box
        picture = cv2.imread(drawn(tmp_path / "names.png", NAMES))
    assert (picture < 128).any()


@pytest.mark.parametrize("drawn", [confusion_of, distribution_of])
def test_names_that_no_font_has_are_transliterated(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(text, "_packaged", lambda: ())
    monkeypatch.setattr(text, "_SYSTEM", ())
    monkeypatch.setattr(text, "_listed", lambda needed: [])
    text._choice.cache_clear()
    found, expected = (cv2.imread(drawn(tmp_path / "a.png", names)) for names in (NAMES, [*map(anyascii, NAMES)]))
    text._choice.cache_clear()
    np.testing.assert_array_equal(found, expected)
