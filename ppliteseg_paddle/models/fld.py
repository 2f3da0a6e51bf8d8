"""FLD, the head: the Flexible and Lightweight Decoder.

Source: arXiv 2204.02681, section 3.1; PaddleSeg `models/pp_liteseg.py::PPLiteSegHead`.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import nn

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.fused.blocked import is_untouched
from ppliteseg_paddle.models.uafm import AddFusion, build_fusion


class FLDHead(nn.Layer):
    """Go up from the neck's result through one fusion a level, with fewer channels the larger the map.

    Args:
        in_channels: channels of the skip features, shallow to deep; as many levels as there are numbers.
        neck_channels: channels of the neck's result.
        out_channels: channels of each level's result, shallow to deep.
        fusion: a name of `uafm.FUSIONS`, for all levels.
        resize_mode: "bilinear" or "nearest".
    Shape: skips (N, in_channels[i], H_i, W_i), shallow to deep, and context (N, neck_channels, h, w), not larger
        than the deepest skip; returns (N, out_channels[i], H_i, W_i), shallow to deep.
    Raises: ConfigError: if the lists differ in length or are empty, or a name is unknown.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        neck_channels: int,
        out_channels: Sequence[int],
        fusion: str = "spatial_mean_max",
        resize_mode: str = "bilinear",
    ):
        super().__init__()
        if not in_channels or len(in_channels) != len(out_channels):
            raise ConfigError(
                f"FLDHead's in_channels and out_channels need one number a level each, but are {list(in_channels)} and "
                f"{list(out_channels)}."
            )
        self.in_channels, self.neck_channels, self.out_channels = list(in_channels), neck_channels, list(out_channels)
        deep_channels = self.out_channels[1:] + [neck_channels]
        self.fusions = nn.LayerList(
            [
                build_fusion(fusion, skip, deep, out, resize_mode)
                for skip, deep, out in zip(in_channels, deep_channels, out_channels)
            ]
        )

    def forward(self, skips, context):
        fused: list[paddle.Tensor] = []
        deep = context
        for i in reversed(range(len(self.fusions))):
            deep = self.fusions[i](skips[i], deep)
            fused.insert(0, deep)
        return fused


@paddle.jit.not_to_static
def takes_blocked(head: nn.Layer) -> bool:
    """Whether a head's skips may be in oneDNN's layout: nobody but our own convolutions sees them there."""
    if type(head).forward is not FLDHead.forward or not is_untouched(head):
        return False
    return all(isinstance(fusion, AddFusion) and fusion.takes_blocked() for fusion in head.fusions)
