"""PP-LiteSeg with a backbone of a few channels: trains in a fraction of a second, for tests of the loop around it."""

from paddle import nn
from paddleseg.cvlibs import manager

from ppliteseg_paddle.models.layers import ConvBNReLU


class TinyNet(nn.Layer):
    """Five convolutions of stride 2."""

    feat_channels = (4, 4, 8, 8, 8)
    feat_strides = (2, 4, 8, 16, 32)

    def __init__(self, in_channels=3, pretrained=None):
        super().__init__()
        pairs = zip((in_channels, *self.feat_channels), self.feat_channels)
        self.convs = nn.LayerList([ConvBNReLU(a, b, 3, stride=2) for a, b in pairs])

    def forward(self, x):
        features = []
        for conv in self.convs:
            x = conv(x)
            features.append(x)
        return features


if "TinyNet" not in manager.BACKBONES.components_dict:
    manager.BACKBONES.add_component(TinyNet)

# For `model:` of a configuration.
TINY_MODEL = {
    "type": "PPLiteSegNet",
    "num_classes": 11,
    "backbone": {"type": "TinyNet"},
    "neck": {"type": "SPPM", "in_channels": 8, "out_channels": 8, "bin_sizes": [1, 2]},
    "head": {"type": "FLDHead", "in_channels": [8, 8, 8], "neck_channels": 8, "out_channels": [8, 8, 8]},
    "seg_head_channels": [8, 8, 8],
}
