"""Flags that several commands share, so that each has one spelling, one default and one help text.

Only argparse and our errors are imported at once: `ppliteseg --help` must answer without delay.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import SOURCE_ROOT

# Of `--device` and `--precision` where an export is run.
EXPORT_DEVICE_HELP = "cpu, gpu or gpu:1 (default: gpu where the runtime finds one, else cpu)"
ARITHMETIC_HELP = (
    "what a float export is computed in; bf16 needs AVX512_BF16 or AMX, and OpenVINO or Paddle Inference, and changes "
    "a few pixels of a thousand (default: as exported)"
)


def as_installed(text: str) -> str:
    """A message whose commands fit this installation: `pip install '.[EXTRA]'` is for a checkout; of an installed
    package pip finds what an extra adds by its name."""
    in_checkout = os.path.isfile(os.path.join(SOURCE_ROOT, "setup.py"))
    return text if in_checkout else text.replace("'.[", "'ppliteseg_paddle[")


def positive_int(text: str) -> int:
    """argparse type: an integer of at least 1."""
    value = _int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give an integer of at least 1")
    return value


def count(text: str) -> int:
    """argparse type: an integer of at least 0."""
    value = _int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give an integer of at least 0")
    return value


def positive_float(text: str) -> float:
    """argparse type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give a number above 0")
    return value


def shape(text: str) -> tuple[int, ...]:
    """argparse type: "1,3,512,1024" (or "1x3x512x1024") -> (1, 3, 512, 1024)."""
    return tuple(positive_int(part) for part in text.replace("x", ",").split(","))


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer") from None


# name -> keyword arguments of `add_argument`. The spelling is PaddleSeg's; `main` accepts dashes too.
FLAGS: dict[str, dict[str, Any]] = {
    "config": dict(
        metavar="FILE",
        help="YAML configuration in PaddleSeg's dialect, or the name of a shipped one (`configs list`, `configs keys`)",
    ),
    "opts": dict(
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="change values of the configuration, as in: batch_size=2 "
        "train_dataset.dataset_root=/data/camvid loss.coef.0=0.5",
    ),
    "plugin": dict(
        nargs="+",
        metavar="FILE",
        help="Python files (.py) or modules with transforms, losses, data sets or models of your own; their code runs",
    ),
    "model_path": dict(
        metavar="FILE",
        help="trained weights (.pdparams, .safetensors, ...: see `weights --help`), or the name of published ones "
        "(`weights list`), which need no --config",
    ),
    "model_dir": dict(
        metavar="DIR", help="exported model, as `export` writes it, or camvid-t, which is part of the package"
    ),
    "image_path": dict(metavar="PATH", help="an image, a folder of images, or a text file with one image a line"),
    "save_dir": dict(metavar="DIR", default="output", help="where to write (default: %(default)s)"),
    "overwrite": dict(
        action="store_true", help="replace files, too, that an earlier run did not write, or that were changed since"
    ),
    "save_json": dict(metavar="FILE", help="write the result as JSON"),
    "device": dict(metavar="NAME", help="cpu, gpu, gpu:1, xpu, npu or mlu (default: gpu where there is one, else cpu)"),
    "num_workers": dict(
        type=count,
        default=0,
        metavar="N",
        help="processes that read data; 0 reads in the main process (default: %(default)s)",
    ),
    "num_threads": dict(type=positive_int, metavar="N", help="CPU threads (default: all)"),
    "streams": dict(
        type=positive_int,
        default=1,
        metavar="N",
        help="copies of the model that work side by side and share the threads (default: %(default)s)",
    ),
    "palette": dict(metavar="FILE", help="colors of the classes, one 'R G B name' a line"),
    "classes": dict(metavar="FILE", help="names of the classes, one a line, in the order of their ids"),
    "batch_size": dict(
        type=positive_int, metavar="N", help="images in a step on one device (default: the configuration's)"
    ),
    "iters": dict(type=positive_int, metavar="N", help="training iterations (default: the configuration's)"),
    "learning_rate": dict(type=positive_float, metavar="X", help="learning rate (default: the configuration's)"),
    "precision": dict(
        choices=["fp32", "fp16", "bf16"],
        default="fp32",
        help="fp16 and bf16 are mixed precision and need a GPU that has them; `train` has bf16 on a CPU with "
        "AVX512_BF16 or AMX, too (default: %(default)s)",
    ),
    "amp_level": dict(
        choices=["O1", "O2"],
        default="O1",
        help="with fp16 or bf16: O1 mixes per operator, O2 casts nearly everything (default: %(default)s)",
    ),
    "seed": dict(type=count, metavar="N", help="seed of paddle, numpy and random"),
    "verbose": dict(action="store_true", help="show what PaddleSeg logs about each component, too"),
    # Test-time augmentation and sliding windows, for `val` and `predict`.
    "aug_eval": dict(action="store_true", help="average over --scales and flips"),
    "scales": dict(
        type=positive_float, nargs="+", metavar="X", help="scales of the image, with --aug_eval (default: 1.0)"
    ),
    "flip_horizontal": dict(action="store_true", help="average with the image flipped left to right, with --aug_eval"),
    "flip_vertical": dict(action="store_true", help="average with the image flipped upside down, with --aug_eval"),
    "is_slide": dict(action="store_true", help="evaluate by a sliding window"),
    "crop_size": dict(type=positive_int, nargs=2, metavar=("W", "H"), help="size of the sliding window"),
    "stride": dict(type=positive_int, nargs=2, metavar=("W", "H"), help="step of the sliding window"),
    "use_multilabel": dict(
        action="append_const",
        dest="opts",
        const="test_config.use_multilabel=True",
        help="a pixel may be of several classes: labels are a plane of 0 and 1 for each, as with "
        "test_config.use_multilabel in the configuration",
    ),
    "mask_resize": dict(
        choices=["bilinear", "nearest"],
        help="how a mask gets to the image's size where the network's input has another: bilinear resizes the logits, "
        "as `val` does; nearest resizes the class ids, which is faster and moves borders by up to a pixel "
        "(default: %(default)s)",
    ),
}

TEST_FLAGS = ("aug_eval", "scales", "flip_horizontal", "flip_vertical", "is_slide", "crop_size", "stride")


def add_flags(parser: argparse._ActionsContainer, *names: str, **changes: dict[str, Any]) -> None:
    """Add shared flags by name.

    Args:
        parser: an argparse parser or argument group.
        names: keys of `FLAGS`, in the order in which `--help` lists them.
        changes: what is different for this command, as in `config={"required": True}`.
    """
    if "config" in names:  # what reads a configuration builds its components
        names = (*names, "plugin")
    for name in names:
        parser.add_argument("--" + name, **{**FLAGS[name], **changes.get(name, {})})


def add_backend(parser: argparse._ActionsContainer, text: str = "{}", **options: Any) -> None:
    """Add --backend, for commands that run an export.

    Args:
        text: the help text; {} becomes what is the same for all commands.
        options: further keyword arguments of `add_argument`: `default` is that of the command's options.
    """
    from ppliteseg_paddle.deploy.runtimes import backend_names  # when called: other packages may register runtimes

    names = ", ".join(backend_names())
    common = (
        f"what runs an export, one of {names} (default: auto, the fastest that works here: a GPU's, or the one that "
        "was fastest when auto timed them, once; auto:measure times them again, auto:table never; `doctor` says which "
        "are installed)"
    )
    parser.add_argument("--backend", metavar="NAME", help=text.format(common), **options)


def config_for(args: argparse.Namespace) -> str:
    """--config, or else the configuration of the published weights that --model_path names.

    Raises: ConfigError: if there is neither; WeightsError: for a name that is not published.
    """
    from ppliteseg_paddle.weights.zoo import config_of

    config = args.config or config_of(args.model_path)
    if config is None:
        raise ConfigError(
            f"--config is missing: which model are the weights of --model_path {args.model_path} for? Give its "
            "configuration, or published weights by name ('ppliteseg weights list')."
        )
    return config


def test_config_from(args: argparse.Namespace, config_values: dict[str, Any]) -> dict[str, Any]:
    """The configuration's `test_config` with the flags for test-time augmentation and sliding windows on top."""
    given = {name: getattr(args, name) for name in TEST_FLAGS if getattr(args, name, None)}
    merged = {**config_values, **given}
    if merged.get("is_slide") and not (merged.get("crop_size") and merged.get("stride")):
        raise ConfigError("--is_slide needs the window: add --crop_size W H and --stride W H.")
    return merged
