"""Make data sets, prepare, check, describe and cache them.

ppliteseg data prepare cityscapes --root data/cityscapes
ppliteseg data prepare folder --images photos --masks masks --out data/mine
ppliteseg data check --config data/mine/config.yml
ppliteseg data stats --config data/mine/config.yml
ppliteseg data cache --config data/mine/config.yml --out data/mine_cache
ppliteseg data synth --out data/street --train 600 --val 60 --size 480 360 --seed 0
"""

from __future__ import annotations

import argparse

from ppliteseg_paddle.cli.data_commands import cache, check, prepare, stats
from ppliteseg_paddle.signals import Interrupted


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the defaults that a help text does not tell itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default in (None, False) or "(default" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (text, arguments, _, _) in ACTIONS.items():
        arguments(
            actions.add_parser(
                name,
                help=text,
                description=text[0].upper() + text[1:] + ".",
                allow_abbrev=False,
                formatter_class=_Defaults,
            )
        )


# What is left by an action that a signal has ended.
_FINISHED = {
    "prepare": "labels that are written are whole; run the command again to continue.",
    "cache": "pairs that are decoded are kept; run the command again to continue.",
    "synth": "scenes that are drawn are kept; run the command again to continue.",
}


def run(args: argparse.Namespace) -> dict:
    try:
        return dict(ACTIONS[args.action][2](args), action=args.action)
    except KeyboardInterrupt as interrupt:
        raise Interrupted.of(interrupt).saying(_FINISHED.get(args.action, "")) from None


def summary(result: dict) -> str:
    return ACTIONS[result["action"]][3](result)


def _synth_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        required=True,
        metavar="DIR",
        help="folder to write to; a finished set of the same parameters is reused",
    )
    add("--train", type=int, default=600, metavar="N", help="training scenes")
    add("--val", type=int, default=60, metavar="M", help="validation scenes; none is a training scene")
    add("--size", type=int, nargs=2, default=[480, 360], metavar=("W", "H"), help="pixels")
    add("--seed", type=int, default=0, metavar="S", help="the same seed gives the same bytes")
    add("--num_workers", type=int, default=None, metavar="K", help="processes; without it one per core, at most 8")
    add("--overwrite", action="store_true", help="replace a generated set of other parameters")


def _synth(args: argparse.Namespace) -> dict:
    from ppliteseg_paddle.synth import generate

    return generate(
        args.out, args.train, args.val, tuple(args.size), args.seed, args.num_workers, overwrite=args.overwrite
    )


def _synth_summary(result: dict) -> str:
    what = "{train} training and {val} validation scenes of {0}x{1} in {out_dir}".format(*result["size"], **result)
    if result["reused"]:
        return "Reused " + what
    return f"Wrote {what} ({result['drawn']} drawn in {result['seconds']} s)"


# action: help, flags, what it does, what a person reads of its result
ACTIONS = {
    "prepare": (prepare.HELP, prepare.add_arguments, prepare.run, prepare.summary),
    "check": (check.HELP, check.add_arguments, check.run, check.summary),
    "stats": (stats.HELP, stats.add_arguments, stats.run, stats.summary),
    "cache": (cache.HELP, cache.add_arguments, cache.run, cache.summary),
    "synth": ("draw street scenes in CamVid's 11 classes", _synth_arguments, _synth, _synth_summary),
}
