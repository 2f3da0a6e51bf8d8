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
    "max_restart": dict(
        type=count,
        metavar="N",
        help="start again up to N times when a process or another machine is lost, from the newest complete checkpoint "
        "in --save_dir (default: 0)",
    ),
}


def add_rank_flags(parser: argparse.ArgumentParser, trains: bool = False) -> None:
    """Args: trains: whether the command has checkpoints to start again from."""
    group = parser.add_argument_group("several devices or machines (any of these starts one process a device)")
    for name, arguments in RANK_FLAGS.items():
        if name == "max_restart" and not trains:
            continue
        group.add_argument("--" + name, **arguments)


def launched_instead(args: argparse.Namespace, save_dir: str | None = None) -> dict[str, Any] | None:
    """Run the command line of `args` on several processes, if it asks for them and this is not one of them.

    Returns: the result; None where this process is to do the work.

    Args: save_dir: of a training run; gets the logs.
    """
    given = {name: getattr(args, name) for name in RANK_FLAGS if getattr(args, name, None) is not None}
    if not given:
        return None
    from ppliteseg_paddle.engine.loop.launch import launch_again
    from ppliteseg_paddle.engine.loop.notes import launched

    if launched():
        return None
    if save_dir:
        given.setdefault("log_dir", save_dir + "/log")
    argv, max_restart = without_flags(args._argv, RANK_FLAGS), given.pop("max_restart", 0)
    return launch_again(argv, max_restart, command=args._argv, device=args.device, **given)
