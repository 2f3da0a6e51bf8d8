"""What tests of several runtimes share."""

import importlib.machinery
import sys

import pytest
from fake_tensorrt import FakeDriver, fake_tensorrt

from ppliteseg_paddle.deploy import cuda


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Installs a version of TensorRT and a GPU. Returns a function that does it again."""
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))

    def install(version="10.13.0.35", gpus=("NVIDIA A10",), rtx=False):
        module, driver = fake_tensorrt(version, rtx), FakeDriver(gpus)
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        for name in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setitem(sys.modules, name, module if name == module.__name__ else None)
        monkeypatch.setattr(cuda, "load_driver", lambda: driver)
        return module, driver

    return install
