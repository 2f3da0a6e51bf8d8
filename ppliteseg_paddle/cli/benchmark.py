"""Measure exported models: latency, the paper's protocol, or throughput.

latency     one image at a time in steady state, from decoded pixels to a mask of the image's size
paper       an image of 1024x2048 is resized to the network's size, inferred, and its mask resized back: the three
            together and each
throughput  as many images in flight as pay; finds the best number of streams and images in a batch

Warm-up lasts until times are steady; every call waits for its device. Several folders or backends are measured
round-robin in one run."""

from __future__ import annotations

import argparse
from typing import Any

from ppliteseg_paddle.benchmark.run import DEFAULT_SIZE, PROTOCOLS, BenchmarkOptions, benchmark
from ppliteseg_paddle.cli.common import add_flags, count, positive_int
from ppliteseg_paddle.deploy.runtimes import backend_names
from ppliteseg_paddle.errors import ConfigError

# Flags that are fields of `BenchmarkOptions` under the same name.
_OPTIONS = ("protocol", "image_path", "warmup", "repeats", "streams", "batch_size", "device", "num_threads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, "model_dir", model_dir={"required": True})
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="DIR", help="further folders, measured round-robin with the first"
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        default=list(BenchmarkOptions.backends),
        metavar="NAME",
        help=f"what runs it, of {', '.join(backend_names())}; several are measured round-robin (default: auto, the "
        "fastest that works here; see `predict --help`)",
    )
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
        "it is fixed, the image's own with --image, else {} {})".format(*DEFAULT_SIZE),
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
    parser.add_argument("--num_threads", type=positive_int, metavar="N", help="CPU threads (default: all)")
    add_flags(
        parser,
        "device",
        "save_json",
        "overwrite",
        device={"help": "cpu, gpu or gpu:1 (default: gpu where the runtime finds one, else cpu)"},
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.outputs import check_result, write_result

    if args.input_shape and args.input_shape[:2] != [1, 3]:
        raise ConfigError(f"--input_shape is {args.input_shape}; it must start with 1 3: one image, three channels.")
    options = BenchmarkOptions(
        [args.model_dir, *args.compare],
        args.backend,
        size=tuple(args.input_shape[2:]) if args.input_shape else None,
        **{name: getattr(args, name) for name in _OPTIONS},
    )
    options.check()
    if args.save_json:
        check_result(args.save_json, args.overwrite)
    result = benchmark(options)
    if args.save_json:
        write_result(args.save_json, result)
    return result


def summary(result: dict[str, Any]) -> str:
    from ppliteseg_paddle.benchmark.text import benchmark_text

    return benchmark_text(result)
