"""PaddleSeg's own PP-LiteSeg, exported PaddleSeg's way and run by Paddle Inference, beside our exports of ours.

    python -m ppliteseg_paddle.benchmark.peer --save_json FILE [--model T|B] [--size H W] [--num_threads N] ...

Both have random weights: the time does not depend on them. All contestants take turns, call by call, in one process,
so that whatever else the machine does meets them all.

Source: PaddleSeg `deploy/export.py::WrappedModel`, `models/pp_liteseg.py`.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from ppliteseg_paddle.benchmark.protocols import machine
from ppliteseg_paddle.benchmark.timing import describe
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import default_threads, open_backend
from ppliteseg_paddle.deploy.preprocess import Preprocess

PEER = "paddleseg"
# model -> (PaddleSeg's backbone and arguments, our preset)
MODELS = {
    "T": ("STDC1", {"arm_out_chs": [32, 64, 128], "seg_head_inter_chs": [32, 64, 64]}, "pp_liteseg_t"),
    "B": ("STDC2", {"arm_out_chs": [64, 96, 128], "seg_head_inter_chs": [64, 64, 64]}, "pp_liteseg_b"),
}
NUM_CLASSES = 19


def measure_in_turns(calls: Dict[str, Callable[[], Any]], warmup: int, repeats: int,
                     progress: Callable[[], None] = lambda: None) -> Dict[str, Dict[str, List[float]]]:
    """Time several calls, one after the other in every round.

    Returns: name -> {"wall": seconds of each round, "cpu": processor seconds of all threads}. On a machine that others
        use too, the second tells more.
    """
    seconds: Dict[str, Dict[str, List[float]]] = {name: {"wall": [], "cpu": []} for name in calls}
    for done in range(warmup + repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if done >= warmup:
                seconds[name]["cpu"].append(time.process_time() - cpu)
                seconds[name]["wall"].append(time.perf_counter() - wall)
        progress()
    return seconds


def ratios(seconds: Dict[str, Dict[str, List[float]]], peer: str = PEER) -> Dict[str, Dict[str, float]]:
    """How many times faster than the peer each one is: the median over the rounds of the ratio within a round, by wall clock
    and by processor time."""
    return {name: {clock: float(np.median(np.divide(seconds[peer][clock], values[clock]))) for clock in ("wall", "cpu")}
            for name, values in seconds.items() if name != peer}


def export_peer(model: str, size: Tuple[int, int], folder: str) -> None:
    """Write PaddleSeg's model as its own export does: traced with its wrapper, int32 ids, and nothing else done to it."""
    import paddle
    from paddleseg import models
    from paddleseg.deploy.export import WrappedModel
    from paddleseg.models import backbones
    backbone, arguments, _ = MODELS[model]
    network = models.PPLiteSeg(NUM_CLASSES, getattr(backbones, backbone)(), **arguments)
    network.eval()
    wrapped = WrappedModel(network, "argmax")
    wrapped.eval()
    traced = paddle.jit.to_static(wrapped, input_spec=[paddle.static.InputSpec([1, 3, *size], "float32")])
    paddle.jit.save(traced, os.path.join(folder, "model"))


def export_ours(model: str, size: Tuple[int, int], folder: str, formats: Sequence[str]) -> Artifact:
    """Write our model with `export_model`: checked against itself, mask out."""
    import ppliteseg_paddle
    from ppliteseg_paddle.data.catalog import LABEL_SETS
    from ppliteseg_paddle.export.paddle import export_model
    network = getattr(ppliteseg_paddle, MODELS[model][2])(num_classes=NUM_CLASSES)
    export_model(network, folder, formats=formats, label_set=LABEL_SETS["cityscapes"], transforms=Preprocess([{"type": "Normalize"}]),
                 input_shape=(1, 3, *size))
    return Artifact.read(folder)


def run(args) -> Dict[str, Any]:
    from tqdm import tqdm
    size = tuple(args.size)
    threads = args.num_threads or default_threads()
    batch = np.random.RandomState(0).randn(1, 3, *size).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        peer, ours = os.path.join(folder, "peer"), os.path.join(folder, "ours")
        os.mkdir(peer)
        export_peer(args.model, size, peer)
        artifact = export_ours(args.model, size, ours, ("paddle", "onnx", "openvino"))
        backends = {PEER: open_backend("paddle", _bare(peer, artifact), "cpu", threads)}
        backends.update((name, open_backend(name, artifact, "cpu", threads)) for name in args.backends)
        calls = {name: (lambda backend=backend: backend.run(batch)) for name, backend in backends.items()}
        with tqdm(total=args.warmup + args.repeats, desc="rounds", file=sys.stderr, disable=None) as bar:
            seconds = measure_in_turns(calls, args.warmup, args.repeats, bar.update)
        faster = ratios(seconds)
        results = {name: {**{clock: describe(values) for clock, values in seconds[name].items()},
                          "times_faster": faster.get(name), "backend": backend.describe()} for name, backend in backends.items()}
    return {"protocol": "in turns", "model": args.model, "num_classes": NUM_CLASSES, "input_shape": list(batch.shape),
            "num_threads": threads, "warmup": args.warmup, "repeats": args.repeats, "results": results, "machine": machine()}


def _bare(folder: str, artifact: Artifact) -> Artifact:
    """The peer's files as an artifact, so that the same backend runs them."""
    from dataclasses import replace
    model = next(name for name in ("model.json", "model.pdmodel") if os.path.exists(os.path.join(folder, name)))
    return replace(artifact, folder=folder, graphs={"paddle": {"model": model, "params": "model.pdiparams"}})


def table(result: Dict[str, Any]) -> str:
    """What a person reads."""
    lines = ["PP-LiteSeg-%s, %d classes, %dx%d, mask out, %d threads, %s" % (
        result["model"], result["num_classes"], *result["input_shape"][:1:-1], result["num_threads"],
        result["machine"]["processor"]), "", "%-36s %10s %10s %10s %10s" % ("", "median ms", "ratio", "cpu ms", "cpu ratio")]
    for name, values in result["results"].items():
        label = "PaddleSeg's own, Paddle Inference" if name == PEER else "ours, " + name
        faster = values["times_faster"] or {"wall": 1.0, "cpu": 1.0}
        lines.append("%-36s %10.1f %9.2fx %10.1f %9.2fx" % (label, values["wall"]["median_ms"], faster["wall"],
                                                            values["cpu"]["median_ms"], faster["cpu"]))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="T")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), default=[512, 1024])
    parser.add_argument("--backends", nargs="+", default=["onnxruntime", "openvino", "paddle"])
    parser.add_argument("--num_threads", type=int)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--save_json", default="bench_infer.json")
    args = parser.parse_args()
    result = run(args)
    from ppliteseg_paddle.engine.checkpoint import write_json
    write_json(args.save_json, result)
    print(table(result))
    print("written: %s" % args.save_json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
