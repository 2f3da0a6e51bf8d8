"""Warnings of a run that learns nothing."""

import paddle
import pytest
from loop_run import a_monitor, evaluation, train_steps

from ppliteseg_paddle.engine.callbacks.health import Health, gradient_norm

CLASSES = ("road", "pole", "sky")


def watched(tmp_path, fresh=True, log_iters=10, total=100, **options):
    health = Health(CLASSES, total, fresh, **options)
    return a_monitor(tmp_path, callbacks=[health], log_iters=log_iters)


def warnings(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def with_gradients(value):
    """A model whose four gradients have a value."""
    model = paddle.nn.Linear(2, 2, bias_attr=False)
    (model.weight * value).sum().backward()
    return model


def test_a_loss_that_stays_the_same_is_told_once(tmp_path, capsys):
    monitor = watched(tmp_path, log_iters=1)
    train_steps(monitor, *[2.4] * 19)
    assert warnings(capsys) == []
    train_steps(monitor, *[2.4] * 60)
    (line,) = warnings(capsys)
    assert "the loss has not moved for 20 iterations: it is 2.4." in line and "a learning rate near 0" in line


@pytest.mark.parametrize("fresh, expected", [(True, 1), (False, 0)])
def test_a_loss_that_does_not_fall_is_told_where_it_should(tmp_path, capsys, fresh, expected):
    monitor = watched(tmp_path, fresh=fresh)
    train_steps(monitor, *[2.0 + 0.2 * (number // 10 % 2) for number in range(520)])
    lines = warnings(capsys)
    assert len(lines) == expected and all("the loss has not fallen in 500 iterations" in line for line in lines)


def test_a_loss_that_falls_is_fine(tmp_path, capsys):
    train_steps(watched(tmp_path), *[3.0 - number / 1000 for number in range(600)])
    assert warnings(capsys) == []


def test_exploding_gradients_are_told_once(tmp_path, capsys):
    monitor = watched(tmp_path)
    for value in (1.0, 3.0, 1.0, 2.0, 1.0, 90.0):
        monitor.tell("on_gradients", with_gradients(value))
    assert warnings(capsys) == []
    for value in (500.0, 1000.0):
        monitor.tell("on_gradients", with_gradients(value))
    (line,) = warnings(capsys)
    assert "their norm is 1e+03, and was 2.25 before" in line or "their norm is 1e+03, and was 3 before" in line
    assert "lower --learning_rate" in line


@pytest.mark.parametrize("fp16, expected", [(False, 1), (True, 0)])
def test_gradients_that_overflow_are_told_where_no_loss_scale_skips_them(tmp_path, capsys, fp16, expected):
    monitor = watched(tmp_path, fp16=fp16)
    monitor.tell("on_gradients", with_gradients(float("inf")))
    assert len(warnings(capsys)) == expected


def test_the_norm_is_that_of_all_gradients():
    assert gradient_norm(with_gradients(3.0)) == pytest.approx(6.0)
    assert gradient_norm(paddle.nn.Linear(2, 2)) == 0.0


def test_a_class_that_is_never_predicted_is_told_from_the_middle_of_the_run_on(tmp_path, capsys):
    monitor = watched(tmp_path)
    monitor.never_predicted = [1, 2]
    for steps in (40, 60, 80):
        monitor.steps = steps
        monitor.evaluated(evaluation(0.3), 1.0)
    (line,) = warnings(capsys)
    assert "never predicted at iteration 60, though validation labels hold them: pole, sky." in line
