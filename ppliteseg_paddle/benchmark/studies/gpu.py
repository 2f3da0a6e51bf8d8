"""The paper's speed table on a GPU: every runtime installed, every precision, correct first.

    python -m ppliteseg_paddle.benchmark.studies.gpu --save_dir DIR [--device gpu|cpu] [--networks KEY ...] [--runtimes
    NAME ...] ...

Everything is exported to ONNX first (which needs Paddle and no GPU; --export_only stops after it, --exports takes what
is exported already). Then, for each runtime, precision and input size, all networks are timed round-robin: copy in,
forward, copy out, each timed apart, and the bare network on data that lies on the device. Every engine's masks are
compared with those of the CPU in FP32. With --device cpu the same is done with the runtimes of the CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.benchmark.studies.engines import ENGINES
from ppliteseg_paddle.benchmark.studies.gpu_bench import PRECISIONS, Bench
from ppliteseg_paddle.benchmark.studies.gpu_exports import MISTAKES
from ppliteseg_paddle.benchmark.studies.networks import NETWORKS, accuracy_of, baselines_of, network, parse_weights
from ppliteseg_paddle.errors import ArtifactError, PPLiteSegError

DEFAULT_NETWORKS = [
    "PaddleSeg-T1",
    "T1",
    "PaddleSeg-B1",
    "B1",
    "STDC1-Seg50",
    "STDC2-Seg50",
    "BiSeNetV2",
    "PaddleSeg-T2",
    "T2",
    "PaddleSeg-B2",
    "B2",
    "STDC1-Seg75",
    "STDC2-Seg75",
    "PaddleSeg-T-CamVid",
    "T-CamVid",
    "PaddleSeg-B-CamVid",
    "B-CamVid",
    "STDC1-CamVid",
    "STDC2-CamVid",
    "DDRNet-23",
]


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.environment import machine

    bench = Bench(args)
    bench.exports.make_all()
    if args.export_only:
        return {"exports": bench.exports.folder, "failures": bench.failures}
    for name in args.runtimes or [name for name, row in ENGINES.items() if bench.kind in row.devices]:
        for precision in args.precisions:
            for size in dict.fromkeys(map(bench.exports.size, args.networks)):
                bench.measure(name, precision, [key for key in args.networks if bench.exports.size(key) == size])
    if not bench.rows:
        raise ArtifactError(
            "nothing could be measured: "
            f"{'; '.join('{}: {}'.format(*item) for item in list(bench.failures.items())[:5])}"
        )
    bench.add_roofline()
    result = {
        "protocol": "network",
        "device": args.device,
        "rows": bench.rows,
        "paper": _papers_protocol(args, bench),
        "ceilings": bench.ceilings,
        "profiles": bench.profiles,
        "failures": bench.failures,
        "images": bench.image_names,
        "weights": args.weights,
        "machine": machine(),
    }
    from ppliteseg_paddle.benchmark.studies.gpu_report import write

    return {**result, "files": write(result, args.save_dir)}


def _papers_protocol(args: argparse.Namespace, bench: Bench) -> list[dict[str, Any]]:
    """The paper's protocol on the runtimes that users have: image resized, inferred, mask resized back."""
    from ppliteseg_paddle.benchmark.protocols import Candidate, paper, paper_image
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES

    if args.no_paper:
        return []
    rows: list[dict[str, Any]] = []
    encoded, _ = paper_image(bench.images[0])
    onnx_runtimes = [name for name, spec in RUNTIMES.items() if {"onnx", "tensorrt"} & set(spec.graphs)]
    for name in onnx_runtimes:
        if not RUNTIMES[name].installed or (args.runtimes and name not in args.runtimes):
            continue
        candidates = []
        for key in filter(lambda key: bench.exports.done(key, "fp32"), args.networks):
            try:
                candidate = Candidate(key, bench.exports.artifact(key, "fp32"), name, args.device, args.num_threads)
                candidate.open()
                candidates.append(candidate)
            except MISTAKES as error:
                bench.failures[f"paper's protocol, {key}, {name}"] = " ".join(str(error).split())
        if candidates:
            names = [candidate.name for candidate in candidates]
            against = baselines_of(names)
            measured = paper(
                candidates, encoded, bench.exports.size(names[0]), args.warmup, args.repeats, against=against
            )
            rows += [
                {**row, "key": row["name"], "name": network(row["name"]).name, "accuracy": accuracy_of(row["name"])}
                for row in measured
            ]
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="gpu", help="gpu, gpu:N or cpu (default: %(default)s)")
    parser.add_argument("--save_dir", default="output/gpu", help="where to write (default: %(default)s)")
    parser.add_argument("--exports", help="folder with exports, kept between runs (default: exports/ in --save_dir)")
    parser.add_argument("--export_only", action="store_true", help="export and stop: for a GPU machine without Paddle")
    parser.add_argument(
        "--networks", nargs="+", default=DEFAULT_NETWORKS, metavar="KEY", help=f"known: {', '.join(NETWORKS)}"
    )
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="input in place of each network's own")
    parser.add_argument("--runtimes", nargs="+", choices=list(ENGINES), help="default: all that are for the device")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument(
        "--batches", type=int, nargs="+", metavar="N", help="images at once that are tried (GPU: 1 2 4 8 16; CPU: 1)"
    )
    parser.add_argument(
        "--images", metavar="DIR", help="real images for comparing masks (default: photographs of scikit-learn)"
    )
    parser.add_argument("--max_images", type=int, default=8, metavar="N", help="of them, evenly (default: %(default)s)")
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="KEY=FILE", help="trained weights (default: random)"
    )
    parser.add_argument("--num_threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--warmup", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--profile", action="store_true", help="also list the slowest operators of each network")
    parser.add_argument("--no_roofline", action="store_true", help="skip the ceilings")
    parser.add_argument("--no_paper", action="store_true", help="skip the paper's protocol")
    args = parser.parse_args(argv)
    try:
        from ppliteseg_paddle.deploy.interface import split_device

        split_device(args.device)
        args.weights = parse_weights(args.weights)
        result = run(args)
    except PPLiteSegError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    from ppliteseg_paddle.benchmark.studies.gpu_report import text

    print(text(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
