"""`data cache`."""

from __future__ import annotations

from ppliteseg_paddle.cli.common import add_flags, count

HELP = "decode a data set once, so that training reads pixels and not files"


def add_arguments(parser) -> None:
    add_flags(parser, "config", config={"required": True})
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder to fill; run again, only what is missing or has changed is decoded",
    )
    add_flags(
        parser,
        "num_workers",
        "opts",
        num_workers={"type": count, "default": None, "help": "processes (default: one per core)"},
    )


def run(args) -> dict:
    from ppliteseg_paddle.engine.build import load_config
    from ppliteseg_paddle.engine.data_tools import cache_config

    return cache_config(load_config(args.config, args.opts), args.out, args.num_workers)


def summary(result: dict) -> str:
    from ppliteseg_paddle.reading.limits import size_text

    lines = [f"skipped: {error}" for error in result["skipped"].values()]
    lines += [
        f"{result['pairs']:d} pairs in {result['out']}, {size_text(result['bytes'])}: {result['written']:d} decoded, "
        f"{result['kept']:d} kept, {len(result['skipped']):d} skipped"
    ]
    return "\n".join(
        lines + [f"train from it: ppliteseg train --config {result['config']} --opts data_cache={result['out']}"]
    )
