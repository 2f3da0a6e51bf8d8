"""The averaged weights."""

import numpy as np
import paddle
import pytest
from loop_run import a_run

from ppliteseg_paddle.engine.loop import ema


@pytest.mark.parametrize("step, decay", [(1, 0.999), (50, 0.9), (2000, 0.999)])
def test_the_average_of_weights_is_paddlesegs(tmp_path, step, decay):
    from paddleseg.utils.ema import update_ema_model

    def layers():
        paddle.seed(step)
        return [paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4)) for _ in range(2)]

    average, model = layers()
    update_ema_model(average, model, step=step, decay=decay)
    found, model = layers()
    ema.average_in_place(a_run(tmp_path), update_ema_model)(found, model, step=step, decay=decay)
    for name, value in average.state_dict().items():
        np.testing.assert_allclose(found.state_dict()[name].numpy(), value.numpy(), rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_configured_decay_serves_where_the_loop_names_none(tmp_path):
    average, model = paddle.nn.Linear(1, 1), paddle.nn.Linear(1, 1)
    average.weight.set_value(paddle.zeros([1, 1])), model.weight.set_value(paddle.ones([1, 1]))
    ema.average_in_place(a_run(tmp_path, ema_decay=0.75), None)(average, model, step=1000)
    assert float(average.weight) == 0.25


def test_a_resume_takes_the_average_of_the_checkpoint(tmp_path):
    average, model = paddle.nn.Linear(1, 1), paddle.nn.Linear(1, 1)
    saved = {name: paddle.full_like(value, 7.0) for name, value in average.state_dict().items()}
    paddle.save(saved, str(tmp_path / "ema_model.pdparams"))
    ema.resumed_average(a_run(tmp_path, resume_model=str(tmp_path)), None)(average, model)
    assert float(average.weight) == 7.0
    original = object()
    assert ema.resumed_average(a_run(tmp_path, resume_model=str(tmp_path / "other")), original) is original
