"""A training step with PaddleSeg's own classes beside ours: forward, OHEM losses of three outputs, backward, update.

    python -m ppliteseg_paddle.benchmark.studies.training --save_json FILE [--model T|B] [--size H W] [--batch_size N]
    [--num_threads N] ...

Each candidate is a process of its own; they are timed round-robin, step by step, in one run. PaddleSeg's classes take
part twice: as its users have them, and with the matrix products that we choose on AMD processors
(`environment.choose_fast_matrix_products`), which tells what our classes themselves bring. Ours, too: with Paddle's
convolutions, and with oneDNN's (`models.fused`), in PaddleSeg's loop or one's own, and as `ppliteseg train` has them;
all keep the memory that they free (`environment.keep_freed_memory`). With `--torch_python` LibreYOLO's
PP-LiteSeg takes part in the step, in PyTorch, by the Python of an environment of its own (`libreyolo_worker`), with the
same loss on its main output and the first two of its three others.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies import ranks
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE, OURS, VARIANTS
from ppliteseg_paddle.benchmark.studies.command import in_turns, run_and_report
from ppliteseg_paddle.benchmark.studies.training_candidate import OWN_LOOP, STAGES
from ppliteseg_paddle.benchmark.studies.worker import Worker, module_command
from ppliteseg_paddle.benchmark.timing import describe, ratios
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.errors import ConfigError, DependencyError

BASELINE_FAST, OURS_PLAIN = "paddleseg, our matrix products", "ours, Paddle's convolutions"
CANDIDATE = "ppliteseg_paddle.benchmark.studies.training_candidate"
LIBREYOLO, _STRIDE = "libreyolo, PyTorch", 32
# candidate -> whose classes, and the environment variables that it gets ("" leaves MKL to itself)
CANDIDATES = {
    BASELINE: ("paddleseg", {"MKL_DEBUG_CPU_TYPE": ""}),
    BASELINE_FAST: ("paddleseg", {}),
    OURS_PLAIN: ("ours", {"PPLITESEG_ONEDNN": "0"}),
    OWN_LOOP: (OWN_LOOP, {}),
    OURS: ("ours", {}),
}


@contextlib.contextmanager
def workers(options: dict[str, Any], num_threads: int, torch_python: str | None = None) -> Iterator[dict[str, Worker]]:
    """name -> `Worker` for all candidates; they end with the block."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Worker] = {}

        def start(name: str, command: list[str], who: str, environment: dict[str, str] | None = None) -> None:
            worker = Worker(name, command, {"who": who, **options}, num_threads, environment)
            started[name] = stack.enter_context(contextlib.closing(worker))

        for name, (who, environment) in CANDIDATES.items():
            start(name, module_command(CANDIDATE), who, environment)
        if torch_python is not None:
            script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libreyolo_worker.py")
            start(LIBREYOLO, [torch_python, script, "train"], LIBREYOLO)
        yield started


def run(
    model: str,
    size: list[int],
    batch_size: int,
    num_classes: int,
    num_threads: int,
    warmup: int,
    repeats: int,
    min_kept: int,
    torch_python: str | None = None,
) -> dict[str, Any]:
    """Measure steps, losses and the losses' memory; see the module.

    Raises: ConfigError: for a size that LibreYOLO's network does not take, where it takes part. DependencyError: if
        `torch_python` is no program.
    """
    if torch_python is not None and shutil.which(torch_python) is None:
        raise DependencyError(
            f"--torch_python {torch_python} is no program; give the Python of an environment with libreyolo, such as "
            ".venv-rivals/bin/python, which scripts/bench_rivals.sh makes."
        )
    if torch_python is not None and any(side % _STRIDE for side in size):
        raise ConfigError(
            f"size is {size[0]:d} {size[1]:d}, but LibreYOLO's network takes multiples of {_STRIDE:d}; give --size 352 "
            "480, or leave --torch_python out."
        )
    options = {
        "model": model,
        "num_classes": num_classes,
        "batch_size": batch_size,
        "size": list(size),
        "min_kept": min_kept,
    }
    results: dict[str, Any] = {}
    with workers(options, num_threads, torch_python) as running:
        own = {name: worker for name, worker in running.items() if name in CANDIDATES}
        if sys.platform == "linux":
            results["loss_memory"] = {name: {"mib": worker.ask("loss_memory")["total"]} for name, worker in own.items()}
        for work in ("step", "loss"):
            asked = running if work == "step" else own
            calls = {name: partial(worker.ask, work) for name, worker in asked.items()}
            measured = in_turns(work, calls, warmup, repeats)
            faster = ratios(measured, BASELINE)
            results[work] = {
                name: {
                    **{stage: describe(seconds) for stage, seconds in one.seconds.items()},
                    "times_faster": faster[name],
                }
                for name, one in measured.items()
            }
    return {
        "protocol": "round-robin",
        **options,
        "loss": "OHEM, three outputs",
        "num_threads": num_threads,
        "warmup": warmup,
        "repeats": repeats,
        "results": results,
        "machine": machine(),
    }


def table(result: dict[str, Any]) -> str:
    """What a person reads."""
    lines = [
        f"PP-LiteSeg-{result['model']}, batch {result['batch_size']:d}, {result['size'][1]:d}x{result['size'][0]:d}, "
        f"{result['num_classes']:d} classes, {result['num_threads']:d} threads, Paddle "
        f"{result['machine']['versions'].get('paddlepaddle', result['machine']['versions'].get('paddlepaddle-gpu'))}, "
        f"{result['machine']['processor']}",
        "",
    ]
    heads = ("total",) + STAGES
    lines += [f"{'step, median ms'!s:32}" + "".join(f"{head!s:>10}" for head in heads) + f"{'ratio'!s:>10}"]
    for name, values in result["results"]["step"].items():
        lines.append(
            f"{name!s:32}"
            + "".join(f"{values[head]['median_ms']:10.0f}" for head in heads)
            + f"{values['times_faster']['median']:9.2f}x"
        )
    lines += ["", f"{'losses alone, with upsampling'!s:32}{'median ms'!s:>10}{'ratio'!s:>10}{'peak MiB'!s:>14}"]
    for name, values in result["results"]["loss"].items():
        memory = result["results"].get("loss_memory", {}).get(name, {}).get("mib")
        lines.append(
            f"{name:32}{values['total']['median_ms']:10.0f}{values['times_faster']['median']:9.2f}x"
            f"{'' if memory is None else f'{memory:.0f}':>14}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(VARIANTS), default="T")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), default=[360, 480])
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--num_classes", type=int, default=11)
    parser.add_argument(
        "--min_kept", type=int, default=10000, help="of PaddleSeg's and our OHEM loss; its default is 10000"
    )
    parser.add_argument("--num_threads", type=int, help="default: all cores")
    parser.add_argument("--torch_python", metavar="FILE", help="Python of an environment with libreyolo, beside ours")
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="compare N processes that train jointly with one, in place of all else"
    )
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--save_json", default="bench_train.json")
    args = vars(parser.parse_args())
    save_json, count = args.pop("save_json"), args.pop("ranks")
    if count is not None:
        del args["num_threads"], args["torch_python"]
        turns = {name: args.pop(name) for name in ("warmup", "repeats")}
        return run_and_report(lambda: ranks.run(args, count, **turns), ranks.table, save_json)
    args["num_threads"] = args["num_threads"] or default_threads()
    return run_and_report(lambda: run(**args), table, save_json)


if __name__ == "__main__":
    sys.exit(main())
