"""Measure exported models: latency, the paper's protocol, or throughput.

latency     one image at a time in steady state, from decoded pixels to a mask of the image's size
paper       an image of 1024x2048 is resized to the network's size, inferred, and its mask resized back: the three
            together and each
throughput  as many images in flight as pay; finds the best number of streams and images in a batch

Warm-up lasts until times are steady; every call waits for its device. Several folders or backends are measured
round-robin in one run.

--budget_ms MS needs no model: it measures PP-LiteSeg-T and B with random weights at several input sizes, precisions and
runtimes, shows the points that nothing beats, and writes the configuration of the most accurate one within MS."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ppliteseg_paddle.benchmark.budget.options import IMAGE_SIZE, BudgetOptions
from ppliteseg_paddle.benchmark.run import DEFAULT_SIZE, PROTOCOLS, BenchmarkOptions, benchmark
from ppliteseg_paddle.cli.common import (
    ARITHMETIC_HELP,
    EXPORT_DEVICE_HELP,
    add_backend,
    add_flags,
    count,
    positive_float,
    positive_int,
)
from ppliteseg_paddle.deploy.runtimes import ARITHMETIC
from ppliteseg_paddle.errors import ConfigError

# Flags that are fields of `BenchmarkOptions` under the same name, and of `BudgetOptions`.
_OPTIONS = ("protocol", "image_path", "warmup", "repeats", "streams", "batch_size", "device", "num_threads")
_BUDGET_OPTIONS = ("budget_ms", "config", "image_path", "warmup", "repeats", "device", "num_threads")
# Flags that only one of the two takes.
_WITH_MODEL, _WITH_BUDGET = ("compare", "streams", "batch_size", "precision"), ("config", "plugin", "save_dir")
_BUDGET_DIR = "output/budget"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    measured = parser.add_mutually_exclusive_group(required=True)
    add_flags(measured, "model_dir")
    measured.add_argument(
        "--budget_ms",
        type=positive_float,
        metavar="MS",
        help="milliseconds an image: find the network, input size, precision and runtime that fit, in a minute or two",
    )
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="DIR", help="further folders, measured round-robin with the first"
    )
    add_backend(parser, "{}; several are measured round-robin", nargs="+", default=list(BenchmarkOptions.backends))
    parser.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        default=BenchmarkOptions.protocol,
        help="what is timed (default: %(default)s)",
    )
    parser.add_argument(
        "--image", "--image_path", dest="image_path", metavar="FILE", help="the image (default: a generated one)"
    )
    parser.add_argument(
        "--input_shape",
        type=positive_int,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="1 3 H W: the image's size in pixels, with --protocol paper the network's (default: the graph's own where "
        "it is fixed, the image's own with --image, else {} {}; with --budget_ms {} {})".format(
            *DEFAULT_SIZE, *IMAGE_SIZE
        ),
    )
    parser.add_argument(
        "--warmup", type=count, metavar="N", help="calls before timing starts (default: until times are steady)"
    )
    parser.add_argument(
        "--repeats",
        type=positive_int,
        metavar="N",
        help="timed calls, with --protocol throughput windows of 1 s (default: 3 s of them, at least 20; 6 windows)",
    )
    parser.add_argument(
        "--streams", type=positive_int, metavar="N", help="throughput: so many at once (default: the best number)"
    )
    parser.add_argument(
        "--batch_size", type=positive_int, metavar="N", help="throughput: images in a batch (default: the best number)"
    )
    add_flags(parser, "num_threads")
    add_flags(
        parser,
        "precision",
        "device",
        "save_json",
        "overwrite",
        "config",
        "save_dir",
        precision={
            "nargs": "+",
            "choices": list(ARITHMETIC),
            "default": None,
            "help": f"{ARITHMETIC_HELP}; several are measured round-robin",
        },
        config={"help": "with --budget_ms: your configuration, for its classes and data (default: Cityscapes')"},
        save_dir={"default": None, "help": f"with --budget_ms: where config.yml is written (default: {_BUDGET_DIR})"},
        device={"help": EXPORT_DEVICE_HELP},
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.outputs import check_result, write_result

    if args.input_shape and args.input_shape[:2] != [1, 3]:
        raise ConfigError(f"--input_shape is {args.input_shape}; it must start with 1 3: one image, three channels.")
    work = _model(args) if args.budget_ms is None else _budget(args)
    if args.save_json:
        check_result(args.save_json, args.overwrite)
    result = work()
    if args.save_json:
        write_result(args.save_json, result)
    return result


def _model(args: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """What measures exported folders, its options checked."""
    for name in _WITH_BUDGET:
        if getattr(args, name):
            raise ConfigError(
                f"--{name} is for --budget_ms: an export brings its classes along, and nothing is written."
            )
    options = BenchmarkOptions(
        [args.model_dir, *args.compare],
        args.backend,
        size=_size(args),
        precisions=args.precision or BenchmarkOptions.precisions,
        **{name: getattr(args, name) for name in _OPTIONS},
    )
    options.check()
    return lambda: benchmark(options)


def _budget(args: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """What searches for a budget, its options checked."""
    from ppliteseg_paddle.benchmark.budget.answer import fit

    for name in _WITH_MODEL:
        if getattr(args, name):
            raise ConfigError(
                f"--{name} is for --model_dir: --budget_ms measures networks of its own, one image at a time."
            )
    if args.protocol != BenchmarkOptions.protocol:
        raise ConfigError(f"--protocol {args.protocol} is for --model_dir: --budget_ms measures latency.")
    options = BudgetOptions(
        size=_size(args), backends=args.backend, **{name: getattr(args, name) for name in _BUDGET_OPTIONS}
    )
    return lambda: fit(options, args.save_dir or _BUDGET_DIR, args.overwrite)


def _size(args: argparse.Namespace) -> tuple[int, int] | None:
    return (args.input_shape[2], args.input_shape[3]) if args.input_shape else None


def summary(result: dict[str, Any]) -> str:
    if result["protocol"] == "budget":
        from ppliteseg_paddle.benchmark.budget.text import budget_text

        return budget_text(result)
    from ppliteseg_paddle.benchmark.text import benchmark_text

    return benchmark_text(result)
