"""The rows of `keys` for components: the arguments of our classes, and of PaddleSeg's those that are checked here."""

from __future__ import annotations

from typing import Any

from ppliteseg_paddle.config import kinds as k
from ppliteseg_paddle.config.kinds import or_null

REQUIRED = "required"  # a key without a default
SIGNATURE = "signature"  # a component's argument: the default is that of its constructor
EVERY, TRAIN, EVALUATE, DATA, NONE = "all", "train", "train, val, predict", "train, val, data", "none"
OURS, PADDLESEG = "ours", "PaddleSeg"

# (blocks or types, commands, whose keys they are) -> rows of (name, kind, default, meaning[, choices]).
Rows = tuple[tuple[tuple[str, ...], str, str, tuple[tuple[Any, ...], ...]], ...]

COMPONENT_ROWS: Rows = (
    (
        ("PPLiteSegNet",),
        EVERY,
        OURS,
        (
            ("num_classes", k.INT, SIGNATURE, "Number of classes."),
            ("backbone", k.BLOCK, SIGNATURE, "`STDCNet813`, `STDCNet1446`, or one of PaddleSeg's."),
            ("neck", k.BLOCK, SIGNATURE, "`SPPM` or `ConvNeck`."),
            ("head", k.BLOCK, SIGNATURE, "`FLDHead`."),
            ("seg_head_channels", k.INTS, SIGNATURE, "Hidden channels of the segmentation heads, shallow to deep."),
            ("backbone_indices", or_null(k.INTS), SIGNATURE, "The features to use; null takes the deepest ones."),
            ("pretrained", or_null(k.TEXT), SIGNATURE, "Path, URL or published name of weights for the whole model."),
        ),
    ),
    (
        ("STDCNet813", "STDCNet1446"),
        EVERY,
        OURS,
        (
            ("in_channels", k.INT, SIGNATURE, "Channels of the image."),
            ("pretrained", or_null(k.TEXT), SIGNATURE, "Path, URL or published name of weights for the backbone."),
        ),
    ),
    (
        ("SPPM", "ConvNeck"),
        EVERY,
        OURS,
        (
            ("in_channels", k.INT, SIGNATURE, "Channels of the backbone's deepest feature."),
            ("out_channels", k.INT, SIGNATURE, "Channels of the result."),
        ),
    ),
    (("SPPM",), EVERY, OURS, (("bin_sizes", k.INTS, SIGNATURE, "Bins along each side of each pooling grid."),)),
    (
        ("FLDHead",),
        EVERY,
        OURS,
        (
            ("in_channels", k.INTS, SIGNATURE, "Channels of the skip features, shallow to deep."),
            ("neck_channels", k.INT, SIGNATURE, "Channels of the neck's result."),
            ("out_channels", k.INTS, SIGNATURE, "Channels of each level's result, shallow to deep."),
            ("fusion", k.TEXT, SIGNATURE, "How two features are fused.", "ppliteseg_paddle.models.uafm:FUSIONS"),
            ("resize_mode", k.TEXT, SIGNATURE, "How the deep feature is upsampled: `bilinear` or `nearest`."),
        ),
    ),
    (
        ("CELoss",),
        TRAIN,
        OURS,
        (("weight", or_null(k.NUMBERS), SIGNATURE, "One weight for each class, in the order of their ids."),),
    ),
    (
        ("OhemCELoss",),
        TRAIN,
        OURS,
        (
            ("thresh", k.NUMBER, SIGNATURE, "Probability of the true class from which a pixel is easy."),
            ("min_kept", k.INT, SIGNATURE, "Pixels of a batch to keep at least."),
        ),
    ),
    (
        ("CELoss", "OhemCELoss"),
        TRAIN,
        OURS,
        (("ignore_index", k.INT, SIGNATURE, "The label of pixels that do not count."),),
    ),
    (
        ("Dataset",),
        EVERY,
        PADDLESEG,
        (("img_channels", k.POSITIVE_INT, 3, "Channels of the images; `model.backbone.in_channels` follows it."),),
    ),
    (
        ("Dataset",),
        EVERY,
        OURS,
        (
            (
                "img_range",
                or_null(k.LIST),
                None,
                "Values that become black and white, for more than 8 bits: `[0, 4095]`, or a pair for each channel.",
            ),
        ),
    ),
    (
        ("CamVid", "StreetScenes"),
        DATA,
        OURS,
        (
            ("dataset_root", k.TEXT, SIGNATURE, "The folder of the data; may hold `${VARIABLE:-default}`."),
            ("transforms", k.LIST_OF_BLOCKS, SIGNATURE, "What is done to each image and label."),
            ("mode", k.TEXT, SIGNATURE, "The list to read: `train`, `val` or `test`."),
            ("train_path", k.TEXT, SIGNATURE, "The list of the training pairs, relative to `dataset_root`."),
            ("val_path", k.TEXT, SIGNATURE, "The list of the validation pairs."),
            ("test_path", k.TEXT, SIGNATURE, "The list of the test pairs."),
            ("separator", k.TEXT, SIGNATURE, "What separates image and label on a line."),
            ("edge", k.FLAG, SIGNATURE, "Give the classes' edges, too, for losses that need them."),
        ),
    ),
    (
        ("FusedAugment",),
        TRAIN,
        OURS,
        (
            ("crop_size", k.SIZE, SIGNATURE, "Size of the crop that the network gets."),
            ("later_crop_sizes", k.LIST, SIGNATURE, "Crops from a share of the run on: `[[0.75, [480, 360]], ...]`."),
            ("min_scale_factor", k.NUMBER, SIGNATURE, "The smallest scale."),
            ("max_scale_factor", k.NUMBER, SIGNATURE, "The largest scale."),
            ("scale_step_size", k.NUMBER, SIGNATURE, "Step between scales; 0 draws any number between them."),
            ("flip_prob", k.NUMBER, SIGNATURE, "Probability of a horizontal flip."),
            (
                "distort",
                or_null(k.DICT),
                SIGNATURE,
                "Arguments of PaddleSeg's `RandomDistort`; null leaves colors alone.",
            ),
            ("im_padding_value", k.NUMBER, SIGNATURE, "What fills a crop larger than the image."),
            ("label_padding_value", k.INT, SIGNATURE, "The label of the filled pixels."),
            ("rare_class_crops", k.NUMBER, SIGNATURE, "Share of the crops that are laid around one of `rare_classes`."),
            ("rare_classes", k.INTS, SIGNATURE, "Ids of rare classes."),
        ),
    ),
    (
        ("CopyPaste",),
        TRAIN,
        OURS,
        (
            ("rare_classes", k.INTS, SIGNATURE, "Ids of the classes whose regions are pasted."),
            ("prob", k.NUMBER, SIGNATURE, "Share of the samples that get regions."),
            ("max_regions", k.POSITIVE_INT, SIGNATURE, "Regions in a sample at most; their number is drawn."),
            ("min_scale_factor", k.NUMBER, SIGNATURE, "The smallest scale of a region."),
            ("max_scale_factor", k.NUMBER, SIGNATURE, "The largest scale of a region."),
            ("flip_prob", k.NUMBER, SIGNATURE, "Probability of a horizontal flip of a region."),
            (
                "max_shift",
                k.NUMBER,
                SIGNATURE,
                "How far a region may move up or down, as a share of the height; 1: to any place.",
            ),
        ),
    ),
    (
        ("RareClassCrop",),
        TRAIN,
        OURS,
        (
            ("crop_size", k.SIZE, SIGNATURE, "Size of the crop."),
            ("rare_classes", k.INTS, SIGNATURE, "Ids of rare classes."),
            ("prob", k.NUMBER, SIGNATURE, "Share of the crops that are laid around one of `rare_classes`."),
            ("im_padding_value", k.NUMBER, SIGNATURE, "What fills a crop larger than the image."),
            ("label_padding_value", k.INT, SIGNATURE, "The label of the filled pixels."),
        ),
    ),
    (
        ("FusedAugment",),
        EVERY,
        OURS,
        (
            (
                "mean",
                k.CHANNEL_NUMBERS,
                SIGNATURE,
                "Subtracted from the image in [0, 1]: one number, or one a channel.",
            ),
            ("std", k.CHANNEL_NUMBERS, SIGNATURE, "The image is divided by it."),
        ),
    ),
    (
        ("Normalize",),
        EVERY,
        PADDLESEG,
        (
            ("mean", k.NUMBERS, [0.5], "Subtracted from the image in [0, 1]: one number, or one a channel."),
            ("std", k.NUMBERS, [0.5], "The image is divided by it."),
        ),
    ),
)
