"""What tests of several runtimes share."""

import pytest
from fake_tensorrt import FakeDriver, install


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Installs a version of TensorRT and a GPU. Returns a function that does it again."""
    monkeypatch.setenv("PPLITESEG_HOME", str(tmp_path / "cache"))

    def again(version="10.13.0.35", gpus=("NVIDIA A10",), rtx=False):
        return install(monkeypatch, FakeDriver(gpus), version, rtx)

    return again
