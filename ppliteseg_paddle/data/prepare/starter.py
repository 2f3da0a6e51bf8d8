"""A configuration for a data set that has just been prepared: complete, so that it trains at once, and plain to
change."""

from __future__ import annotations

import yaml

_LEVELS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def starter_config(
    root: str,
    num_classes: int,
    images: int,
    has_val: bool,
    size: tuple[int, int],
    separator: str = " ",
    ignored: int = 255,
) -> str:
    """YAML text: PP-LiteSeg-T from scratch, with the recipe of the CamVid configuration at 480x360.

    Args: root: folder with the lists; images: for training; size: (width, height) of the smallest; ignored: the value
        of pixels without a class.
    """
    batch_size = max(1, min(8, images))
    crop = [max(64, min(512, side) // 32 * 32) for side in size]

    def dataset(mode: str, transforms: list) -> dict:
        block = {
            "type": "Dataset",
            "dataset_root": root,
            "mode": mode,
            "num_classes": num_classes,
            f"{mode}_path": f"{root}/{mode}.txt",
            "transforms": transforms,
        }
        if ignored != 255:
            block["ignore_index"] = ignored
        return block if separator == " " else {**block, "separator": separator}

    values = {
        "batch_size": batch_size,
        "iters": max(200, min(4000, images * 10)),
        "train_dataset": dataset(
            "train",
            [
                {
                    "type": "FusedAugment",
                    "min_scale_factor": 0.5,
                    "max_scale_factor": 2.0,
                    "scale_step_size": 0.125,
                    "crop_size": crop,
                    "flip_prob": 0.5,
                    "distort": {"brightness_range": 0.4, "contrast_range": 0.4, "saturation_range": 0.4},
                    **({"label_padding_value": ignored} if ignored != 255 else {}),
                    **_LEVELS,
                }
            ],
        ),
        "val_dataset": dataset("val", [{"type": "Normalize", **_LEVELS}]),
        "model": {
            "type": "PPLiteSegNet",
            "num_classes": num_classes,
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
        "loss": {"types": [{"type": "CELoss", "ignore_index": ignored}], "coef": [1, 0.5, 0.5]},
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
