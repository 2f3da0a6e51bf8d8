"""A configuration for a data set that has just been prepared: complete, so that it trains at once, with the reasons for
its numbers, and plain to change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from ppliteseg_paddle.data.prepare.image_facts import ImageFacts
from ppliteseg_paddle.data.prepare.sizing import FINE_TUNING, Extent, Machine, RunPlan, plan_run
from ppliteseg_paddle.reading.image_form import ImageForm
from ppliteseg_paddle.reading.limits import size_text
from ppliteseg_paddle.reading.palettes import RGB
from ppliteseg_paddle.weights import zoo

_HALF = [0.5]
_BACKBONE = "STDCNet813"
_NETWORK, _BACKBONE_NETWORK = "PP-LiteSeg-T", "STDC1"  # in the table of published weights


@dataclass(frozen=True)
class Prepared:
    """The data that a configuration is for.

    Args: root: folder with the lists; separator: of the lists; num_classes; ignored: the value of pixels without a
        class; images: their form, mean and deviation; palette: colors of the classes, () for the default ones; command:
        what prepared it.
    """

    root: str
    num_classes: int
    separator: str = " "
    ignored: int = 255
    images: ImageFacts = ImageFacts(ImageForm())
    palette: tuple[RGB, ...] = ()
    command: str = "folder"

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


class Pretrained(NamedTuple):
    """Published weights to start from. `here`: whether the file is there and intact, so that no connection is needed;
    `whole`: whether they are of the whole network, not of its backbone alone."""

    name: str
    here: bool
    whole: bool = False

    @classmethod
    def find(cls) -> Pretrained:
        """A backbone of ImageNet's that is there, else the network that is part of this package. They fit images of any
        channels (`weights.channels`), and any number of classes."""
        rows = list(zoo.published().values())
        backbones = [row for row in rows if row.network == _BACKBONE_NETWORK]
        for row in backbones:
            if zoo.is_here(row):
                return cls(row.name, True)
        for row in rows:
            if row.shipped and row.network == _NETWORK:
                return cls(row.name, True, True)
        return cls(next(row.name for row in backbones if row.address), False)


def starter_config(data: Prepared, extent: Extent, machine: Machine, weights: Pretrained) -> str:
    """YAML text: PP-LiteSeg-T with the recipe of the CamVid configuration at 480x360, and numbers that fit the data and
    the machine. Each is explained in a comment."""
    plan = plan_run(extent, machine)
    width, height = extent.smallest
    saved = "a checkpoint, and with --do_eval an evaluation" if extent.val else "a checkpoint"
    loss = {"types": [{"type": "CELoss", "ignore_index": data.ignored}], "coef": [1, 0.5, 0.5]}
    parts = [
        _head(data, extent, machine, plan, weights)
        + _line("batch_size", plan.batch_size, f"a step takes about {size_text(plan.memory)} of memory")
        + _line("iters", plan.iters, _length(plan, machine))
        + _line("save_interval", plan.save_interval, f"{saved}, {plan.iters // plan.save_interval:d} times"),
        f"# The crop fits the smallest image, {width:d}x{height:d}, and the time and memory of a step.\n"
        + _dump({"train_dataset": data.block("train", [_augment(data, plan)])}),
        _model(data, weights),
        _dump(_OPTIMIZER, flow=False),
        _schedule(plan, weights),
        _dump({"loss": loss}),
    ]
    if extent.val:
        parts.insert(2, _dump({"val_dataset": data.block("val", [{"type": "Normalize", **data.levels}])}))
    if data.palette:
        colors = _dump({"palette": [list(color) for color in data.palette]})
        parts.insert(1, f"# The colors of your masks, for those that are predicted.\n{colors}")
    return "\n".join(parts)


def length_of(extent: Extent, machine: Machine) -> str:
    """How long the run of `starter_config` is, in words: epochs, and on a CPU the time."""
    return _length(plan_run(extent, machine), machine)


def _schedule(plan: RunPlan, weights: Pretrained) -> str:
    rate, why = plan.learning_rate, "0.005 for each image of a batch, at most 0.04"
    if weights.here:
        rate, why = rate * FINE_TUNING, "a quarter of the rate from scratch, as these weights are trained"
    values = {
        "type": "PolynomialDecay",
        "learning_rate": round(rate, 5),
        "end_lr": 0,
        "power": 0.9,
        "warmup_iters": max(10, plan.iters // 50),
        "warmup_start_lr": min(1.0e-3, round(rate / 10, 6)),
    }
    return f"# The learning rate is {why}.\n{_dump({'lr_scheduler': values}, flow=False)}"


_OPTIMIZER = {"optimizer": {"type": "Momentum", "momentum": 0.9, "use_nesterov": True, "weight_decay": 5.0e-4}}


def _head(data: Prepared, extent: Extent, machine: Machine, plan: RunPlan, weights: Pretrained) -> str:
    path = shlex.quote(f"{data.root}/config.yml")
    whole = "" if weights.whole else " for its backbone"
    start = f"with the weights {weights.name}{whole}" if weights.here else "trained from scratch"
    where = "a GPU" if plan.hours is None else f"{machine.cores:d} CPU core{'s' if machine.cores > 1 else ''}"
    return (
        f"# Written by `ppliteseg data prepare {data.command}`: PP-LiteSeg-T, {start}.\n#\n"
        f"#   ppliteseg data check --config {path}\n"
        f"#   ppliteseg train --config {path}{' --do_eval' if extent.val else ''}\n#\n"
        f"# Its numbers fit {extent.train:d} training and {extent.val:d} validation images, and {where}. For another "
        "time:\n# train --iters N, or --max_minutes N (3: a first model).\n"
    )


def _length(plan: RunPlan, machine: Machine) -> str:
    epochs = f"{plan.epochs:.0f}" if plan.epochs >= 10 else f"{plan.epochs:.1f}"
    if plan.hours is None:
        return f"{epochs} epochs"
    time = f"{plan.hours:.1f} hours" if plan.hours >= 1.5 else f"{max(2, round(60 * plan.hours)):d} minutes"
    return f"{epochs} epochs, about {time} on {machine.cores:d} core{'s' if machine.cores > 1 else ''}"


def _augment(data: Prepared, plan: RunPlan) -> dict[str, Any]:
    return {
        "type": "FusedAugment",
        "min_scale_factor": 0.5,
        "max_scale_factor": 2.0,
        "scale_step_size": 0.125,
        "crop_size": list(plan.crop),
        "flip_prob": 0.5,
        "distort": data.distort,
        **({"label_padding_value": data.ignored} if data.ignored != 255 else {}),
        **data.levels,
    }


def _model(data: Prepared, weights: Pretrained) -> str:
    line = f"    pretrained: {weights.name}  # ImageNet; they are here: ppliteseg weights list"
    if weights.whole:
        line = f"  pretrained: {weights.name}  # street scenes, part of the package; others: ppliteseg weights list"
    elif not weights.here:
        get = f"`ppliteseg weights download {weights.name}`"
        line = f"    # pretrained: {weights.name}  # ImageNet: {get}; take a quarter of learning_rate"
    rest = {
        "neck": {"type": "SPPM", "in_channels": 1024, "out_channels": 128, "bin_sizes": [1, 2, 4]},
        "head": {
            "type": "FLDHead",
            "in_channels": [256, 512, 1024],
            "neck_channels": 128,
            "out_channels": [32, 64, 128],
        },
        "seg_head_channels": [32, 64, 64],
    }
    text = _dump({"model": {"type": "PPLiteSegNet", "num_classes": data.num_classes, **rest}})
    mark = f"  num_classes: {data.num_classes:d}\n"
    backbone = f"  backbone:\n    type: {_BACKBONE}\n"
    lines = f"{line}\n{backbone}" if weights.whole else f"{backbone}{line}\n"
    return text.replace(mark, mark + lines, 1)


def _line(key: str, value: Any, comment: str) -> str:
    return f"{f'{key}: {value}':20} # {comment}\n"


def _dump(values: Mapping[str, Any], flow: bool | None = None) -> str:
    """Args: flow: None writes lists and blocks of plain values on one line; False writes a line each."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return str(yaml.dump(values, Dumper=Plain, sort_keys=False, default_flow_style=flow, width=110, allow_unicode=True))
