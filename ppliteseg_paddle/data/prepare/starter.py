"""A configuration for a data set that has just been prepared: complete, so that it trains at once, and plain to
change."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from ppliteseg_paddle.data.prepare.image_facts import ImageFacts
from ppliteseg_paddle.reading.image_form import ImageForm

_HALF = [0.5]


@dataclass(frozen=True)
class Prepared:
    """The data that a configuration is for.

    Args: root: folder with the lists; separator: of the lists; num_classes; ignored: the value of pixels without a
        class; images: their form, mean and deviation.
    """

    root: str
    num_classes: int
    separator: str = " "
    ignored: int = 255
    images: ImageFacts = ImageFacts(ImageForm())

    def block(self, mode: str, transforms: list) -> dict:
        """A data set's block; defaults are omitted."""
        form = self.images.form
        optional = {
            "img_channels": (form.channels, 3),
            "img_range": (_one_pair(form.to_plain()), None),
            "ignore_index": (self.ignored, 255),
            "separator": (self.separator, " "),
        }
        return {
            "type": "Dataset",
            "dataset_root": self.root,
            "mode": mode,
            "num_classes": self.num_classes,
            f"{mode}_path": f"{self.root}/{mode}.txt",
            **{key: value for key, (value, default) in optional.items() if value != default},
            "transforms": transforms,
        }

    @property
    def distort(self) -> dict:
        """Arguments of the jitter; only color has a saturation."""
        names = (
            ("brightness", "contrast", "saturation") if self.images.form.channels == 3 else ("brightness", "contrast")
        )
        return {f"{name}_range": 0.4 for name in names}

    @property
    def levels(self) -> dict:
        """Arguments of Normalize."""
        half = _HALF * min(self.images.form.channels, 3)
        return {"mean": self.images.mean or half, "std": self.images.std or half}


def _one_pair(pairs: list[list[float]] | None):
    """A range as it is written by hand: [0, 4095]; a list of such for channels that differ."""
    written = [[int(end) if end == int(end) else end for end in pair] for pair in pairs or ()]
    return None if pairs is None else written[0] if len(written) == 1 else written


def starter_config(data: Prepared, images: int, has_val: bool, size: tuple[int, int]) -> str:
    """YAML text: PP-LiteSeg-T from scratch, with the recipe of the CamVid configuration at 480x360.

    Args: images: for training; size: (width, height) of the smallest.
    """
    root = data.root
    batch_size = max(1, min(8, images))
    crop = [max(64, min(512, side) // 32 * 32) for side in size]

    values = {
        "batch_size": batch_size,
        "iters": max(200, min(4000, images * 10)),
        "train_dataset": data.block(
            "train",
            [
                {
                    "type": "FusedAugment",
                    "min_scale_factor": 0.5,
                    "max_scale_factor": 2.0,
                    "scale_step_size": 0.125,
                    "crop_size": crop,
                    "flip_prob": 0.5,
                    "distort": data.distort,
                    **({"label_padding_value": data.ignored} if data.ignored != 255 else {}),
                    **data.levels,
                }
            ],
        ),
        "val_dataset": data.block("val", [{"type": "Normalize", **data.levels}]),
        "model": {
            "type": "PPLiteSegNet",
            "num_classes": data.num_classes,
            "backbone": {"type": "STDCNet813"},
            "neck": {"type": "SPPM", "in_channels": 1024, "out_channels": 128, "bin_sizes": [1, 2, 4]},
            "head": {
                "type": "FLDHead",
                "in_channels": [256, 512, 1024],
                "neck_channels": 128,
                "out_channels": [32, 64, 128],
            },
            "seg_head_channels": [32, 64, 64],
        },
        "optimizer": {"type": "Momentum", "momentum": 0.9, "use_nesterov": True, "weight_decay": 5.0e-4},
        "lr_scheduler": {
            "type": "PolynomialDecay",
            "learning_rate": round(0.005 * batch_size, 4),
            "end_lr": 0,
            "power": 0.9,
            "warmup_iters": 20,
            "warmup_start_lr": 1.0e-3,
        },
        "loss": {"types": [{"type": "CELoss", "ignore_index": data.ignored}], "coef": [1, 0.5, 0.5]},
    }
    if not has_val:
        del values["val_dataset"]
    head = (
        "# Written by `ppliteseg data prepare folder`: PP-LiteSeg-T, trained from scratch.\n#\n"
        f"#   ppliteseg data check --config {root}/config.yml\n#   ppliteseg train --config "
        f"{root}/config.yml{(' --do_eval' if has_val else '')}\n"
    )

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    return head + yaml.dump(values, Dumper=Plain, sort_keys=False, default_flow_style=None, width=110)
