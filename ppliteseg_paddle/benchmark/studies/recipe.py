"""What a recipe learns in a given time: PaddleSeg's own model, loss and recipe beside ours, round-robin.

    python -m ppliteseg_paddle.benchmark.studies.recipe --minutes 60 --save_dir DIR [--repeats N] [--only NAME]

Each run starts from scratch and has the same wall time on all cores, reading and building included; afterwards its last
weights (the averaged ones too, where the recipe averages) are evaluated on the validation set. The best of those two is
the run's figure. A run that has ended is kept: the same command again does only what is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Any

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies import baseline
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE, OURS
from ppliteseg_paddle.benchmark.studies.command import run_and_report
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import read_json, write_json

NEVER = 10**9  # iterations between evaluations: only the one after the time is up
OUR_RANKS = 2  # ours trains in two processes, for which its batch and learning rate were chosen, and not in one a core
# name -> (configuration, flags)
RECIPES: dict[str, tuple[str, list[str]]] = {
    BASELINE: (baseline.CONFIG, []),
    OURS: ("configs/camvid/ppliteseg_t_camvid_480x360_60min.yml", ["--use_ema"]),
}


def train_once(name: str, minutes: float, save_dir: str, seed: int, options: list[str]) -> dict[str, Any]:
    """Train in a process of its own and return what its train.json says, in short.

    Raises: PPLiteSegError: if the run fails.
    """
    config, flags = RECIPES[name]
    ranks = min(OUR_RANKS, default_threads()) if name == OURS else 1
    command = [
        sys.executable,
        "-m",
        "ppliteseg_paddle",
        "train",
        "--config",
        config,
        "--max_minutes",
        f"{minutes:g}",
        "--do_eval",
        "--save_interval",
        str(NEVER),
        "--log_iters",
        "50",
        "--num_workers",
        "0",
        "--seed",
        str(seed),
        "--save_dir",
        save_dir,
        "--resume_model",
        "auto",  # what was interrupted is continued, within its time
    ] + flags
    if ranks > 1:
        command += ["--nproc_per_node", str(ranks), "--log_dir", os.path.join(save_dir, "log")]
    command += ["--opts"] + options if options else []
    done = subprocess.run(command, stdout=sys.stderr, check=False)  # noqa: S603 - this Python, no shell
    if done.returncode:
        raise PPLiteSegError(f"the run of {name} has failed (status {done.returncode:d}): see above.")
    return outcome(save_dir)


def outcome(save_dir: str) -> dict[str, Any]:
    """The figures of a finished run, from its record.

    Raises: PPLiteSegError: if it has left none.
    """
    record = read_json(os.path.join(save_dir, "train.json"))
    if record is None:
        raise PPLiteSegError(f"{save_dir} holds no train.json, so nothing is known of the run.")
    last = max(evaluation["iter"] for evaluation in record["eval"])
    final = {
        ("mIoU_averaged" if evaluation["ema"] else "mIoU"): evaluation["mIoU"]
        for evaluation in record["eval"]
        if evaluation["iter"] == last
    }
    ranks = record.get("ranks") or 1
    return {
        **final,
        "best": max(final.values()),
        "iterations": last,
        "samples": last * record["batch_size"] * ranks,
        "minutes": record.get("max_minutes"),
        "seconds": record["seconds"],
        "versions": record["versions"],
    }


def run(minutes: float, repeats: int, save_dir: str, names: list[str], options: list[str]) -> dict[str, Any]:
    """Train each recipe `repeats` times, round-robin, each time with another seed."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in range(repeats):
        for name in names:
            folder = os.path.join(save_dir, f"{name}_{seed:d}")
            finished = os.path.join(folder, "outcome.json")
            found = read_json(finished)
            if found is None:
                found = {**train_once(name, minutes, folder, seed, options), "load_average_after": os.getloadavg()[0]}
                write_json(finished, found)
            runs[name].append(found)
    return {
        "protocol": f"val mIoU after {minutes:g} minutes on {default_threads():d} cores",
        "minutes": minutes,
        "repeats": repeats,
        "configs": {name: RECIPES[name][0] for name in names},
        "options": options,
        "results": runs,
        "machine": machine(),
    }


def table(result: dict[str, Any]) -> str:
    """What a person reads."""
    lines = [
        f"{result['protocol']}, Paddle {result['machine']['versions'].get('paddlepaddle')}, "
        f"{result['machine']['processor']}",
        "",
        f"{''!s:20} {'mIoU %'!s:>8} {'plain %'!s:>10} {'averaged %'!s:>10} {'samples'!s:>10}",
    ]
    for name, runs in result["results"].items():
        for one in runs:
            averaged = one.get("mIoU_averaged")
            lines.append(
                f"{name!s:20} {100 * one['best']:8.1f} {100 * one['mIoU']:10.1f} "
                f"{('' if averaged is None else f'{(100 * averaged):.1f}')!s:>10} {one['samples']:10d}"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each recipe")
    parser.add_argument("--only", choices=sorted(RECIPES), help="skip the other one")
    parser.add_argument("--save_dir", default="bench_recipe")
    parser.add_argument("--save_json", default="bench_recipe.json")
    parser.add_argument("--opts", nargs="*", default=[], help="for both configurations, as in train")
    args = parser.parse_args()
    names = [args.only] if args.only else list(RECIPES)
    return run_and_report(
        lambda: run(args.minutes, args.repeats, args.save_dir, names, args.opts), table, args.save_json
    )


if __name__ == "__main__":
    sys.exit(main())
