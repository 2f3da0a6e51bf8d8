"""Flags of the commands that run on several devices or machines."""

from __future__ import annotations

import argparse
from typing import Any

from ppliteseg_paddle.cli.common import count, positive_int
from ppliteseg_paddle.config.command import without_flags

# name -> keyword arguments of `add_argument`. The spelling is that of `paddle.distributed.launch`, but for --node_rank.
RANK_FLAGS: dict[str, dict[str, Any]] = {
    "nproc_per_node": dict(
        type=positive_int, metavar="N", help="processes on this machine, one a device; on the CPU they share its cores"
    ),
    "devices": dict(metavar="LIST", help="GPUs of this machine to use, one process each, as in 0,1,2"),
    "nnodes": dict(metavar="N", help="machines; start the same command on each (default: 1)"),
    "master": dict(metavar="HOST:PORT", help="with --nnodes: a port of the first machine, reached by all"),
    "node_rank": dict(
        type=count, metavar="N", help="with --nnodes: this machine's number, 0 for the first (default: as they come)"
    ),
    "log_dir": dict(metavar="DIR", help="where to keep what each process prints"),
}


def add_rank_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "several devices or machines (any of these starts one process a device; see docs/distributed.md)"
    )
    for name, arguments in RANK_FLAGS.items():
        group.add_argument("--" + name, **arguments)


def launched_instead(args: argparse.Namespace, save_dir: str | None = None) -> dict[str, Any] | None:
    """Run the command line of `args` on several processes, if it asks for them and this is not one of them.

    Returns: the result; None where this process is to do the work.

    Args: save_dir: of a training run; gets the logs.
    """
    given = {name: getattr(args, name) for name in RANK_FLAGS if getattr(args, name) is not None}
    if not given:
        return None
    from ppliteseg_paddle.engine.loop.launch import launch
    from ppliteseg_paddle.engine.loop.notes import launched

    if launched():
        return None
    if save_dir:
        given.setdefault("log_dir", save_dir + "/log")
    return launch(without_flags(args._argv, RANK_FLAGS), args._argv, device=args.device, **given)
