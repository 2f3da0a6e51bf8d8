"""Flags of `predict` that say how overlays are drawn and written."""

from __future__ import annotations

import argparse

from ppliteseg_paddle.cli.common import positive_int
from ppliteseg_paddle.deploy.predict_report import OVERLAY_FORMATS
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.reading.palettes import OPACITY, OVERLAY_SCALE

# Flags that have no effect without overlays -> their values where they are not given.
_DEFAULTS = {
    **{"bands": None, "opacity": OPACITY, "no_legend": False, "transparent": None},
    **{"overlay_format": OVERLAY_FORMATS[0], "overlay_scale": OVERLAY_SCALE},
}


def add_overlay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bands",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="channels that pictures show as red, green and blue, or one as gray, counted from 1, as in 4 3 2 "
        "(default: the first three)",
    )
    parser.add_argument(
        "--opacity",
        type=opacity,
        default=OPACITY,
        metavar="X",
        help="of the colors on overlays, from 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--overlay_format",
        choices=OVERLAY_FORMATS,
        default=OVERLAY_FORMATS[0],
        help="of the overlays of images: jpg is written in a third of the time, in a fifth of the size (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--overlay_scale",
        type=overlay_scale,
        default=OVERLAY_SCALE,
        metavar="X",
        help="of the overlays' sides, of images and videos, above 0: 0.5 draws and writes them at half size (default: "
        "%(default)s)",
    )
    parser.add_argument("--no_legend", action="store_true", help="no legend below the overlays of images")
    parser.add_argument(
        "--transparent",
        nargs="+",
        metavar="CLASS",
        help="classes that overlays leave uncolored and that rle and geojson omit, by name; none for all classes "
        "(default: the first class if it is the background)",
    )


def check_without_overlays(args: argparse.Namespace) -> None:
    """See that no flag says how overlays are drawn where none are.

    Raises: ConfigError: naming the first one that does.
    """
    used = {"bands": bool(args.grid), "transparent": bool({"rle", "geojson"} & set(args.outputs))}
    for flag, default in _DEFAULTS.items():
        if getattr(args, flag) != default and not used.get(flag):
            raise ConfigError(f"--{flag} has no effect without overlays: add --outputs overlay, or leave it out.")


def opacity(text: str) -> float:
    """argparse type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give a number from 0 to 1")
    return value


def overlay_scale(text: str) -> float:
    """argparse type: a number above 0, at most 1."""
    value = opacity(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give a number above 0, at most 1")
    return value
