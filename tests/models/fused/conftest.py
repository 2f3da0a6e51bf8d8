import pytest

from ppliteseg_paddle.models.fused import block as blocks
from ppliteseg_paddle.models.fused import onednn


@pytest.fixture(autouse=True)
def onednn_computes(monkeypatch):
    """Whatever PPLITESEG_ONEDNN says outside: these tests are about oneDNN's path."""
    library = onednn.library  # which a test may replace
    outside = library()
    if outside is None:
        monkeypatch.delenv("PPLITESEG_ONEDNN", raising=False)
        library.cache_clear()
    if library() is None:
        pytest.skip("this Paddle has no oneDNN of version 3, or this processor no AVX2")
    yield
    if outside is None:
        library.cache_clear()


@pytest.fixture
def counted(monkeypatch):
    """How often oneDNN computed forward, in a list of one."""
    calls, forward = [0], blocks.Block.forward
    monkeypatch.setattr(blocks.Block, "forward", lambda *args: calls.__setitem__(0, calls[0] + 1) or forward(*args))
    return calls
