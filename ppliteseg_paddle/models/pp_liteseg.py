"""PP-LiteSeg: backbone, neck, head and segmentation heads put together, and its two presets.

Source: arXiv 2204.02681, section 3 and table 1; PaddleSeg `models/pp_liteseg.py::PPLiteSeg`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddle import nn

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.fld import FLDHead, takes_blocked
from ppliteseg_paddle.models.fused.blocked import is_untouched, plain
from ppliteseg_paddle.models.layers import ConvBNReLU, resize, spatial_size, upsample_logits
from ppliteseg_paddle.models.sppm import SPPM
from ppliteseg_paddle.models.stdc import STDCNet, STDCNet813, STDCNet1446


class SegHead(nn.Layer):
    """A 3x3 convolution and a 1x1 classifier. Shape: (N, in_channels, H, W) -> logits (N, num_classes, H, W)."""

    def __init__(self, in_channels: int, mid_channels: int, num_classes: int):
        super().__init__()
        self.conv = ConvBNReLU(in_channels, mid_channels, 3)
        self.classifier = nn.Conv2D(mid_channels, num_classes, 1, bias_attr=False)

    def forward(self, x):
        return self.classifier(self.conv(x))


class PPLiteSegNet(nn.Layer):
    """PP-LiteSeg.

    Args:
        num_classes: number of classes.
        backbone: any layer with `feat_channels` that returns one feature for each of them, shallow to deep
            (ours, or PaddleSeg's: ResNet18_vd, MobileNetV2, ...).
        neck: fed with the deepest selected feature; has `in_channels` and `out_channels`.
        head: fed with the shallowest selected features, as many as it has levels, and with the neck's result.
        seg_head_channels: hidden channels of the segmentation head on each level, shallow to deep. All but
            the first serve deep supervision in training only.
        backbone_indices: which of the backbone's features are used. Default: the last ones, one a level of the head.
        pretrained: path or URL of weights for the whole model (see `weights.load`).

    Shape: (N, C, H, W) -> in training a list of logits (N, num_classes, H, W), one a level, shallow to deep; in
        evaluation a list with the first of them only. Our losses upsample by themselves, at a fraction of the cost,
        and go back from these logits to those of their level's size, which get the gradient in their place. Where
        `full_size_logits` is set to False, as by `ppliteseg train`, training returns the latter, and
        `loss_computation` upsamples them for other losses.
    Raises: ConfigError: if channels or lengths disagree; the text names the key, what it is and what it must be.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Layer,
        neck: nn.Layer,
        head: nn.Layer,
        seg_head_channels: Sequence[int],
        backbone_indices: Sequence[int] | None = None,
        pretrained: str | None = None,
    ):
        super().__init__()
        levels = len(head.out_channels)
        channels, self.backbone_indices = _selected_features(backbone, levels, backbone_indices)
        _check_channels(channels, neck, head, seg_head_channels, num_classes)
        self.num_classes = num_classes
        self.full_size_logits = True
        self.backbone, self.neck, self.head = backbone, neck, head
        self.seg_heads = nn.LayerList(
            [
                SegHead(in_channels, mid_channels, num_classes)
                for in_channels, mid_channels in zip(head.out_channels, seg_head_channels)
            ]
        )
        if pretrained is not None:
            from ppliteseg_paddle.weights.load import load_weights

            load_weights(self, pretrained)

    def small_logits(self, x):
        """The logits of each segmentation head at its own stride, before they are resized to the image's size: of all
        heads in training, else of the first."""
        # Strides 8, 16, 32 in both presets.
        features = _features(self.backbone, x, self.backbone_indices, takes_blocked(self.head))
        context = self.neck(plain(features[-1]))
        fused = self.head(features, context)
        seg_heads = self.seg_heads if self.training else self.seg_heads[:1]
        return [seg_head(feature) for seg_head, feature in zip(seg_heads, fused)]

    def forward(self, x):
        logits_list = self.small_logits(x)
        if self.training and not self.full_size_logits:
            return logits_list
        size = spatial_size(x)
        return [upsample_logits(logits, size, self.training) for logits in logits_list]

    def loss_computation(self, logits_list, losses, data):
        """The losses as PaddleSeg's loop wants them: a list of tensors of shape (1,).

        PaddleSeg indexes each loss (`l[0]`), which fails on the tensors without dimensions that every
        Paddle since 2.5 returns; the loop asks the model first if it has this method.

        Logits smaller than the label are upsampled, unless their loss says that it does so (`upsamples_logits`).

        Source: PaddleSeg `core/train.py::loss_computation`, which computes the losses here too.
        """
        from paddleseg.core.train import check_logits_losses, loss_computation

        check_logits_losses(logits_list, losses)
        edges = data["edge"].astype("int64") if "edge" in data else None
        label = data["label"].astype("int64")
        logits_list = [
            logits if getattr(loss, "upsamples_logits", False) else resize(logits, list(label.shape[-2:]))
            for logits, loss in zip(logits_list, losses["types"])
        ]
        return [loss.reshape([1]) for loss in loss_computation(logits_list, label, edges, losses)]

    def prepare_for_export(self, input_size: tuple[int, int] | None = None, adaptive_pooling: bool = True) -> None:
        """Turn this copy into its inference form, in place: evaluation mode, one segmentation head.

        Args:
            input_size: (H, W) of the image in pixels where the exported graph has one fixed size; the
                neck then pools with constant windows. None: any size.
            adaptive_pooling: whether the format knows it at any size; else the graph computes the windows.
        """
        self.eval()
        self.seg_heads = nn.LayerList(list(self.seg_heads)[:1])
        if not adaptive_pooling and hasattr(self.neck, "compute_windows"):
            self.neck.compute_windows()
        if input_size is not None and hasattr(self.neck, "fix_input_size"):
            self.neck.fix_input_size(*self._neck_input_size(input_size))

    def _neck_input_size(self, input_size: tuple[int, int]) -> list[int]:
        # A map's size depends on the backbone's paddings; asking it is right for every backbone.
        import paddle

        with paddle.no_grad():
            image = paddle.zeros([1, _image_channels(self.backbone), *input_size])
            return list(self.backbone(image)[self.backbone_indices[-1]].shape[2:])


def _features(backbone: nn.Layer, x, indices: Sequence[int], may_be_blocked: bool):
    """Those features of a backbone. STDC computes them alone, in oneDNN's layout where they `may_be_blocked`, unless
    something of the user's belongs to its call."""
    if type(backbone).forward is STDCNet.forward and is_untouched(backbone):
        return backbone.selected(x, indices, may_be_blocked)
    features = backbone(x)
    return [features[i] for i in indices]


def _image_channels(backbone: nn.Layer) -> int:
    first = next(layer for layer in backbone.sublayers() if isinstance(layer, nn.Conv2D))
    return int(first.weight.shape[1])


def _selected_features(backbone, levels: int, indices: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """Channels and indices of the features that the model uses, shallow to deep."""
    available = getattr(backbone, "feat_channels", None)
    if not available:
        raise ConfigError(
            f"model.backbone: {type(backbone).__name__} has no feat_channels, so it cannot serve as a backbone; choose "
            "one that "
            "has, such as STDCNet813."
        )
    count = len(available)
    indices = list(range(count))[-levels:] if indices is None else list(indices)
    if any(not isinstance(i, int) or not 0 <= i < count for i in indices) or sorted(set(indices)) != indices:
        raise ConfigError(
            f"model.backbone_indices is {indices}; it must be rising numbers from 0 to {count - 1:d}, as "
            f"{type(backbone).__name__} returns {count:d} features."
        )
    if len(indices) < levels:
        raise ConfigError(
            f"model.head has {levels:d} levels, but {len(indices)} are selected from the backbone "
            f"(model.backbone_indices: {indices})."
        )
    return [available[i] for i in indices], indices


def _check_channels(channels: Sequence[int], neck, head, seg_head_channels: Sequence[int], num_classes: int) -> None:
    levels = len(head.out_channels)
    expected = [
        ("model.neck.in_channels", neck.in_channels, channels[-1], "the backbone's deepest selected feature"),
        ("model.head.in_channels", list(head.in_channels), list(channels[:levels]), "the backbone's selected features"),
        ("model.head.neck_channels", head.neck_channels, neck.out_channels, "model.neck.out_channels"),
        ("the length of model.seg_head_channels", len(seg_head_channels), levels, "the number of levels of model.head"),
    ]
    for key, found, wanted, reason in expected:
        if found != wanted:
            raise ConfigError(f"{key} is {found}, but must be {wanted} ({reason}).")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ConfigError(f"model.num_classes is {num_classes!r}, but must be a positive integer.")


# preset -> backbone, channels of the head's levels and of the segmentation heads (shallow to deep)
PRESETS = {"T": (STDCNet813, (32, 64, 128), (32, 64, 64)), "B": (STDCNet1446, (64, 96, 128), (64, 64, 64))}
NECK_CHANNELS = 128


def _build_preset(
    name: str, num_classes: int, in_channels: int, fusion: str, resize_mode: str, pretrained: str | None
) -> PPLiteSegNet:
    backbone_class, out_channels, seg_head_channels = PRESETS[name]
    backbone = backbone_class(in_channels=in_channels)
    skip_channels = backbone.feat_channels[-len(out_channels) :]
    neck = SPPM(skip_channels[-1], NECK_CHANNELS)
    head = FLDHead(skip_channels, NECK_CHANNELS, out_channels, fusion, resize_mode)
    return PPLiteSegNet(num_classes, backbone, neck, head, seg_head_channels, pretrained=pretrained)


def pp_liteseg_t(
    num_classes: int,
    in_channels: int = 3,
    fusion: str = "spatial_mean_max",
    resize_mode: str = "bilinear",
    pretrained: str | None = None,
) -> PPLiteSegNet:
    """PP-LiteSeg-T: STDC1 backbone, head of 32, 64 and 128 channels. Arguments as of `PPLiteSegNet` and `FLDHead`."""
    return _build_preset("T", num_classes, in_channels, fusion, resize_mode, pretrained)


def pp_liteseg_b(
    num_classes: int,
    in_channels: int = 3,
    fusion: str = "spatial_mean_max",
    resize_mode: str = "bilinear",
    pretrained: str | None = None,
) -> PPLiteSegNet:
    """PP-LiteSeg-B: STDC2 backbone, head of 64, 96 and 128 channels. Arguments as of `PPLiteSegNet` and `FLDHead`."""
    return _build_preset("B", num_classes, in_channels, fusion, resize_mode, pretrained)
