import numpy as np
import pytest

from ppliteseg_paddle.benchmark.peer import MODELS, PEER, measure_in_turns, ratios


def test_contestants_take_turns_and_warm_up_is_not_counted():
    order = []
    seconds = measure_in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, warmup=1, repeats=3)
    assert order == ["a", "b"] * 4
    assert all(len(seconds[name][clock]) == 3 for name in "ab" for clock in ("wall", "cpu"))


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    seconds = {PEER: {"wall": [4.0, 40.0, 6.0], "cpu": [2.0, 2.0, 2.0]}, "ours": {"wall": [2.0, 10.0, 2.0], "cpu": [1.0, 1.0, 4.0]}}
    assert ratios(seconds) == {"ours": {"wall": 3.0, "cpu": 2.0}}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_peer_and_ours_have_the_same_decoder(name):
    import ppliteseg_paddle
    from paddleseg import models
    from paddleseg.models import backbones
    backbone, arguments, preset = MODELS[name]
    peer = models.PPLiteSeg(19, getattr(backbones, backbone)(), **arguments)
    ours = getattr(ppliteseg_paddle, preset)(num_classes=19)
    count = [sum(int(np.prod(p.shape)) for p in net.parameters() if not p.stop_gradient) for net in (peer, ours)]
    assert abs(count[0] - count[1]) < 0.001 * count[0]
