"""What a run prints never ends it."""

import io
import sys

import pytest

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
