"""The table of all keys of a configuration: what each accepts, its default, its meaning, and which commands read it.

The checks read it (`check`, `components`), defaults come from it (`value_of`), and `reference` writes
`docs/configuration.md` from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ppliteseg_paddle.config import kinds as k
from ppliteseg_paddle.config.component_keys import COMPONENT_ROWS, DATA, EVALUATE, EVERY, NONE, PADDLESEG, TRAIN, Rows
from ppliteseg_paddle.config.component_keys import OURS as OURS
from ppliteseg_paddle.config.component_keys import REQUIRED as REQUIRED
from ppliteseg_paddle.config.component_keys import SIGNATURE as SIGNATURE
from ppliteseg_paddle.config.kinds import Kind, or_null


class Key(NamedTuple):
    """One key.

    place: the block that holds it ("" for the top level), or the `type` whose argument it is. name: "*" is each item
    of a list. commands: who reads it. choices: "module:name" of the table whose names are the allowed values.
    """

    place: str
    name: str
    kind: Kind
    default: Any
    meaning: str
    commands: str
    origin: str
    choices: str = ""


_TABLE: Rows = (
    (
        ("",),
        TRAIN,
        PADDLESEG,
        (
            ("batch_size", k.POSITIVE_INT, REQUIRED, "Images in a step on one device (`--batch_size`)."),
            ("iters", k.POSITIVE_INT, REQUIRED, "Training steps (`--iters`)."),
            ("optimizer", k.TYPED, REQUIRED, "A class of `paddle.optimizer` with its arguments."),
            ("lr_scheduler", k.TYPED, REQUIRED, "A class of `paddle.optimizer.lr` with its arguments, and a warm-up."),
            ("loss", k.DICT, REQUIRED, "The losses of the model's outputs."),
            ("to_static_training", k.FLAG, False, "Train the traced network."),
        ),
    ),
    (
        ("",),
        EVERY,
        PADDLESEG,
        (
            ("train_dataset", k.TYPED, REQUIRED, "The training data."),
            ("val_dataset", k.TYPED, None, "The validation data; exported models take its transforms."),
            ("model", k.TYPED, REQUIRED, "The network."),
        ),
    ),
    (("",), EVALUATE, PADDLESEG, (("test_config", k.DICT, {}, "How images are evaluated."),)),
    (
        ("",),
        NONE,
        PADDLESEG,
        (
            ("distill_loss", k.DICT, None, "The losses of PaddleSeg's distillation, which `train` does not do."),
            ("test_dataset", k.ANY, None, "Occurs in PaddleSeg's files."),
        ),
    ),
    (
        ("",),
        TRAIN,
        OURS,
        (
            ("recipe", k.DICT, None, "The hardware that the numbers are for; other hardware scales them."),
            (
                "save_interval",
                k.POSITIVE_INT,
                1000,
                "Iterations between checkpoints, and with `--do_eval` between evaluations (`--save_interval`).",
            ),
            ("ema_decay", k.DECAY, 0.999, "Decay of the averaged weights (`--use_ema`)."),
            (
                "best_by",
                k.TEXT,
                "mIoU",
                "The best model is best by: `mIoU`, `acc`, `kappa`, `dice`, `IoU:CLASS` (`--best_by`).",
            ),
            (
                "early_stop_intervals",
                or_null(k.POSITIVE_INT),
                None,
                "Evaluations without improvement after which the run ends (`--early_stop_intervals`).",
            ),
            ("precise_bn", k.IMAGES, 0, "Images over which batch norm's statistics are recomputed after training."),
            (
                "gradient_accumulation_steps",
                k.POSITIVE_INT,
                1,
                "Batches whose gradients are added up for one update (`--accumulate`).",
            ),
            ("freeze", k.TEXTS, [], "Parts of the model that are not trained, as in `[backbone]` (`--freeze`)."),
        ),
    ),
    (
        ("",),
        EVERY,
        OURS,
        (
            ("plugin", k.TEXTS, [], "Python files or modules that the file needs (`--plugin`)."),
            (
                "palette",
                or_null(k.LIST),
                None,
                "The classes' colors in masks and overlays: `[[0, 0, 0], [255, 0, 0]]`, in the order of their ids.",
            ),
        ),
    ),
    (
        ("",),
        DATA,
        OURS,
        (
            ("data_cache", or_null(k.TEXT), None, "Where decoded pairs are: a folder of `data cache`, or `memory`."),
            ("max_unreadable_share", k.SHARE, 0.01, "Share of a list's pairs that may be unreadable and skipped."),
        ),
    ),
    (
        ("recipe",),
        TRAIN,
        OURS,
        (
            ("devices", k.POSITIVE_INT, REQUIRED, "Number of devices."),
            ("batch_size", k.POSITIVE_INT, REQUIRED, "Images in a step on each device."),
            ("gradient_accumulation_steps", k.POSITIVE_INT, 1, "Batches of an update."),
        ),
    ),
    (
        ("test_config",),
        EVALUATE,
        PADDLESEG,
        (
            ("aug_eval", k.FLAG, False, "Average over `scales` and flips."),
            ("scales", k.SCALES, 1.0, "Scales of the image, with `aug_eval`."),
            ("flip_horizontal", k.FLAG, False, "Average with the image flipped left to right, with `aug_eval`."),
            ("flip_vertical", k.FLAG, False, "Average with the image flipped upside down, with `aug_eval`."),
            ("is_slide", k.FLAG, False, "Evaluate by a sliding window; needs `crop_size` and `stride`."),
            ("crop_size", or_null(k.SIZE), None, "Size of the sliding window."),
            ("stride", or_null(k.SIZE), None, "Step of the sliding window."),
            ("use_multilabel", k.FLAG, False, "A pixel may be of several classes: labels are a plane of 0 and 1 each."),
            ("auc_roc", k.FLAG, False, "Compute the area under the ROC curve, too."),
            ("print_detail", k.FLAG, True, "Log the scores of each class."),
        ),
    ),
    (
        ("optimizer",),
        TRAIN,
        PADDLESEG,
        (("custom_cfg", k.LIST, None, "Other rates for parts of the model: `[{name: backbone, lr_mult: 0.1}]`."),),
    ),
    (
        ("lr_scheduler",),
        TRAIN,
        PADDLESEG,
        (
            ("learning_rate", k.NON_NEGATIVE, None, "The learning rate (`--learning_rate`)."),
            ("end_lr", k.NON_NEGATIVE, None, "The learning rate at the end (`PolynomialDecay`)."),
            ("power", k.NON_NEGATIVE, None, "The exponent (`PolynomialDecay`)."),
            ("warmup_iters", k.NON_NEGATIVE, None, "Steps of a linear warm-up; needs `warmup_start_lr`."),
            ("warmup_start_lr", k.NON_NEGATIVE, None, "The learning rate at which the warm-up starts."),
        ),
    ),
    (
        ("loss", "distill_loss"),
        TRAIN,
        PADDLESEG,
        (
            ("types", k.FILLED_LIST, REQUIRED, "The losses: one for all outputs, or one for each."),
            ("types.*", k.NAMED_BLOCK, REQUIRED, "A loss with its arguments."),
            ("coef", k.FILLED_LIST, REQUIRED, "Weights of the outputs' losses."),
            ("coef.*", k.NUMBER, REQUIRED, "The weight of one output's loss."),
        ),
    ),
    (
        ("train_dataset", "val_dataset"),
        EVERY,
        PADDLESEG,
        (
            ("transforms", k.LIST_OF_BLOCKS, [], "What is done to each image and label, in this order."),
            ("transforms.*", k.BLOCK, REQUIRED, "A transform with its arguments."),
        ),
    ),
    (("model",), EVERY, PADDLESEG, (("backbone", k.BLOCK, None, "The backbone, of models that take one."),)),
    *COMPONENT_ROWS,
)

KEYS: tuple[Key, ...] = tuple(
    Key(place, row[0], row[1], row[2], row[3], commands, origin, row[4] if len(row) > 4 else "")
    for places, commands, origin, rows in _TABLE
    for place in places
    for row in rows
)
TOP_LEVEL: dict[str, Key] = {key.name: key for key in KEYS if not key.place}


def keys_of(place: str) -> dict[str, Key]:
    """The keys of a block or of a component's `type`; empty for one that the table does not have."""
    return {key.name: key for key in KEYS if key.place == place}


def value_of(values: Mapping[str, Any], name: str) -> Any:
    """A top-level value of a configuration, or its default."""
    return values.get(name, TOP_LEVEL[name].default)
