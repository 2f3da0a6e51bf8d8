import pytest

from ppliteseg_paddle.models.fused import onednn


@pytest.fixture(autouse=True)
def onednn_computes(monkeypatch):
    """Whatever PPLITESEG_ONEDNN says outside: these tests are about oneDNN's path."""
    outside = onednn.library()
    if outside is None:
        monkeypatch.delenv("PPLITESEG_ONEDNN", raising=False)
        onednn.library.cache_clear()
    if onednn.library() is None:
        pytest.skip("this Paddle has no oneDNN of version 3, or this processor no AVX2")
    yield
    if outside is None:
        onednn.library.cache_clear()
