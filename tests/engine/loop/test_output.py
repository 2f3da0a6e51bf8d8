"""What a run prints never ends it, and is of use to its reader."""

import io
import sys
import warnings

import paddle
import pytest
from loop_run import a_run
from paddleseg import utils

from ppliteseg_paddle.engine.loop.log import logged_resume
from ppliteseg_paddle.engine.loop.output import forgiving_output, warn


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "full"), ValueError("closed file")])
def test_streams_that_cannot_be_written_are_forgiven_inside_alone(monkeypatch, error):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    monkeypatch.setattr(sys, "stderr", Broken(error))
    with forgiving_output():
        print("a line", flush=True)
        warn("a warning")
    with pytest.raises(type(error)):
        print("a line")


def test_what_can_be_written_is_written(capsys):
    with forgiving_output():
        print("a line")
        warn("a warning")
        assert sys.stdout.isatty() is False
    assert capsys.readouterr() == ("a line\n", "warning: a warning\n")


def test_paddle_does_not_complain_of_the_state_of_a_warm_up_in_a_resumed_run(tmp_path):
    def optimizer_of(model):
        decay = paddle.optimizer.lr.PolynomialDecay(0.1, 10)
        rate = paddle.optimizer.lr.LinearWarmup(decay, warmup_steps=4, start_lr=0.01, end_lr=0.1)
        return paddle.optimizer.Momentum(rate, parameters=model.parameters()), rate

    model = paddle.nn.Linear(2, 2)
    optimizer, rate = optimizer_of(model)
    rate.step()
    folder = tmp_path / "iter_1"
    paddle.save(model.state_dict(), str(folder / "model.pdparams"))
    paddle.save(optimizer.state_dict(), str(folder / "model.pdopt"))
    said = {}
    for name, resume in (("PaddleSeg's", utils.resume), ("ours", logged_resume(a_run(tmp_path), utils.resume))):
        optimizer, rate = optimizer_of(model)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert resume(model, optimizer, str(folder)) == 1 and rate.last_epoch == 1
        said[name] = ["unused values in state_dict" in str(warning.message) for warning in told]
    assert any(said["PaddleSeg's"]) and not any(said["ours"])
