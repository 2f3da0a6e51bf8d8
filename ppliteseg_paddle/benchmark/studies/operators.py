"""Where an export's time goes, operator by operator, in ONNX Runtime or OpenVINO.

    python -m ppliteseg_paddle.benchmark.studies.operators --model_dir DIR [--backend onnxruntime|openvino]
    [--num_threads N] [--repeats N]

Of every node the minimum over the repeats counts: on a machine that others use, too, that is the time it takes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from typing import Any

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.images import generated_image
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.openvino import shared_core
from ppliteseg_paddle.errors import ArtifactError, PPLiteSegError
from ppliteseg_paddle.reading.images import read_image

# node -> (operator, milliseconds)
Times = dict[str, tuple[str, float]]


def onnxruntime_times(path: str, batch: np.ndarray, threads: int, repeats: int) -> Times:
    """The minimum time of each node in ONNX Runtime, after its own optimisation."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        options.enable_profiling, options.profile_file_prefix = True, os.path.join(folder, "profile")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(repeats):
            session.run(None, {session.get_inputs()[0].name: batch})
        with open(session.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    times: Times = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            _keep_min(times, event["name"], event["args"]["op_name"], event["dur"] / 1e3)
    return times


def openvino_times(path: str, batch: np.ndarray, threads: int, repeats: int) -> Times:
    """The minimum time of each node in OpenVINO; the operator's name holds the kernel that it chose."""
    import openvino

    core = shared_core(openvino.Core)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": True,
    }
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    times: Times = {}
    for _ in range(repeats):
        request.infer([batch])
        for node in request.get_profiling_info():
            if str(node.status).endswith("EXECUTED"):
                _keep_min(
                    times, node.node_name, f"{node.node_type} {node.exec_type}", 1e3 * node.real_time.total_seconds()
                )
    return times


RUNTIMES = {"onnxruntime": ("onnx", onnxruntime_times), "openvino": ("openvino", openvino_times)}


def _keep_min(times: Times, node: str, operator: str, milliseconds: float) -> None:
    if node not in times or milliseconds < times[node][1]:
        times[node] = operator, milliseconds


def by_operator(times: Times) -> list[dict[str, Any]]:
    """One row for each operator, the dearest first: operator, nodes, ms, share."""
    rows: dict[str, dict[str, Any]] = {}
    for operator, milliseconds in times.values():
        row = rows.setdefault(operator, {"operator": operator, "nodes": 0, "ms": 0.0})
        row["nodes"] += 1
        row["ms"] += milliseconds
    total = sum(row["ms"] for row in rows.values())
    return [
        {**row, "share": row["ms"] / total if total else 0.0}
        for row in sorted(rows.values(), key=lambda row: -row["ms"])
    ]


def run(args: argparse.Namespace) -> dict[str, Any]:
    artifact = Artifact.read(args.model_dir)
    form, measure = RUNTIMES[args.backend]
    if form not in artifact.graphs:
        raise ArtifactError(f"{args.model_dir} holds no {form} graph; export it with --format {form}.")
    height, width = (side if side > 0 else 512 for side in artifact.input.shape[2:])
    image = read_image(args.image_path) if args.image_path else generated_image(height, width)
    batch = image[np.newaxis] if form in artifact.in_graph else artifact.preprocess(image)[0]
    threads = args.num_threads or default_threads()
    times = measure(artifact.path_of(form, "model"), np.ascontiguousarray(batch), threads, args.repeats)
    return {
        "model_dir": args.model_dir,
        "backend": args.backend,
        "precision": artifact.precision,
        "input_shape": list(batch.shape),
        "num_threads": threads,
        "repeats": args.repeats,
        "operators": by_operator(times),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--backend", choices=sorted(RUNTIMES), default="onnxruntime")
    parser.add_argument("--image_path", help="what is segmented (default: a generated image)")
    parser.add_argument("--num_threads", type=int)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--save_json")
    args = parser.parse_args()
    try:
        result = run(args)
    except PPLiteSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    if args.save_json:
        from ppliteseg_paddle.files import write_json

        write_json(args.save_json, result)
    for row in result["operators"]:
        print(f"{row['operator']!s:44} {row['nodes']:4d} nodes {row['ms']:8.2f} ms {100 * row['share']:6.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
