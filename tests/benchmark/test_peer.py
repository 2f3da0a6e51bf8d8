import numpy as np
import pytest

from ppliteseg_paddle.benchmark.studies.inference import MODELS


@pytest.mark.parametrize("name", sorted(MODELS))
def test_peer_and_ours_have_the_same_decoder(name):
    from paddleseg import models
    from paddleseg.models import backbones

    import ppliteseg_paddle

    backbone, arguments, preset = MODELS[name]
    peer = models.PPLiteSeg(19, getattr(backbones, backbone)(), **arguments)
    ours = getattr(ppliteseg_paddle, preset)(num_classes=19)
    count = [sum(int(np.prod(p.shape)) for p in net.parameters() if not p.stop_gradient) for net in (peer, ours)]
    assert abs(count[0] - count[1]) < 0.001 * count[0]
