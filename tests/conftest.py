"""Shared by all tests: the process is prepared before paddle is imported, and seeds."""

import importlib.util
import os
import signal
import sys
import uuid

import numpy as np
import pytest

from ppliteseg_paddle import environment

environment.prepare()

# Started in the background or by nohup, a process ignores signals that some tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Files that take some minutes each.
MINUTES = (
    "test_printed_commands.py",
    "test_paddleseg_configs.py",
    "test_budget_measured.py",
    "test_channels.py",
    "test_resume_exactly.py",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.fast)
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    # Files that take long come first: one that begins last leaves the other processes without work.
    items.sort(key=lambda item: (item.path.name not in MINUTES, item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `pytest -n`, a file's tests stay in one process, as they share what they train and export."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # it puts files of few tests, the long ones, last
    return LoadFileScheduling(config, log)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Downloads and TensorRT's engines are kept for the next run: not for the next test."""
    home = tmp_path_factory.getbasetemp() / "home" / uuid.uuid4().hex
    monkeypatch.setenv("PPLITESEG_HOME", str(home))
    monkeypatch.setenv("PPLITESEG_AUTO", "table")  # each home would measure anew


@pytest.fixture(autouse=True)
def own_plugins(monkeypatch):
    """Configurations name the plugins that were loaded: not those of another test."""
    from ppliteseg_paddle.config import plugins

    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))


@pytest.fixture(autouse=True)
def small_process():
    """A test process that has trained keeps what it frees, gigabytes in the end, and each fork of it takes long: what a
    test leaves is given back."""
    yield
    global _resident
    if resident() > _resident + 200e6:
        from ppliteseg_paddle.environment import trim_memory

        trim_memory()
        _resident = resident()


_resident = 0


def resident():
    """Bytes of memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.fixture(autouse=True)
def no_exports_where_there_is_no_converter(monkeypatch):
    """Paddle2ONNX has no build for Python 3.13: whatever exports to ONNX is skipped there, where it asks for it."""
    if sys.version_info < (3, 13) or importlib.util.find_spec("paddle2onnx") is not None:
        return
    from ppliteseg_paddle.export import formats

    def missing(form, package):
        if package == "paddle2onnx":
            pytest.skip("Paddle2ONNX has no build for Python 3.13")
        return original(form, package)

    original = formats.missing
    monkeypatch.setattr(formats, "missing", missing)


@pytest.fixture(autouse=True)
def one_converter(request, monkeypatch):
    """All conversions to ONNX by one process, but those of tests marked `own_converter`."""
    if request.node.get_closest_marker("own_converter") is None and hasattr(os, "fork"):
        from converter import run_converter

        monkeypatch.setattr("ppliteseg_paddle.export.convert.run_converter", run_converter)


@pytest.fixture(autouse=True)
def blank_curves(request, monkeypatch):
    """A run that a test itself trains gets an empty picture: matplotlib takes half a second for each, and hundreds of
    tests train. Runs that a module's tests share are drawn, and so are the pictures of tests/visual."""
    if request.node.path.parent.name != "visual":
        monkeypatch.setattr("ppliteseg_paddle.visual.plots.training_curves", write_blank)


def write_blank(path, history, title=""):
    from ppliteseg_paddle.files import save_atomic

    assert {"train", "eval"} <= set(history)
    with save_atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(b"\x89PNG")
    return path


@pytest.fixture(autouse=True)
def seeds():
    import random

    import paddle

    paddle.seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture
def by_paddle(monkeypatch):
    """A function that calls another one while oneDNN computes nothing, so that only Paddle's layers do."""
    from ppliteseg_paddle.models.fused import conv_bn as convolution

    def run(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(convolution, "_block", lambda *args: None)
            return function(*args)

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)
