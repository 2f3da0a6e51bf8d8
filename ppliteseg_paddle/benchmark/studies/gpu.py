"""The paper's speed table on a GPU: every runtime installed, every precision, correct first.

    python -m ppliteseg_paddle.benchmark.studies.gpu --save_dir DIR [--device gpu|cpu] [--networks KEY ...] [--runtimes
    NAME ...] ...

Everything is exported to ONNX first (which needs Paddle and no GPU; --export_only stops there, --exports takes what is
there
already). Then, for each runtime, precision and input size, all networks take turns: copy in, forward, copy out, each
timed
apart, and the bare network on data that lies on the device. Every engine's masks are compared with those of the CPU in
FP32.
With --device cpu the same is done with the runtimes of the CPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.benchmark.protocols import rest_between
from ppliteseg_paddle.benchmark.studies import roofline as floors
from ppliteseg_paddle.benchmark.studies.engines import RUNTIMES, Engine, check_runtime, open_engine
from ppliteseg_paddle.benchmark.studies.networks import NETWORKS, accuracy_of, export, network, parse_weights
from ppliteseg_paddle.benchmark.timing import describe, measure, measure_in_turns, ratios
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DataError, DependencyError, PPLiteSegError

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
PRECISIONS = ("fp32", "tf32", "fp16", "int8")
_BATCHES = {"gpu": [1, 2, 4, 8, 16], "cpu": [1]}
_EXPORTED_AS = {"tf32": "fp32"}  # the others have a folder of their own
_MISTAKES = (ArtifactError, ConfigError, DataError, DependencyError)


def run(args) -> dict[str, Any]:
    from ppliteseg_paddle.benchmark.environment import machine

    bench = _Bench(args)
    bench.export_all()
    if args.export_only:
        return {"exports": bench.folder, "failures": bench.failures}
    for name in args.runtimes or [name for name, runtime in RUNTIMES.items() if bench.kind in runtime.devices]:
        for precision in args.precisions:
            for size in dict.fromkeys(map(bench.size, args.networks)):
                bench.measure(name, precision, [key for key in args.networks if bench.size(key) == size])
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


class _Bench:
    """Exports, images and results of one run."""

    def __init__(self, args):
        self.args, self.kind = args, args.device.split(":")[0]
        self.folder = args.exports or os.path.join(args.save_dir, "exports")
        self.failures: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []
        self.profiles: dict[str, list[tuple[str, float]]] = {}
        self.ceilings: dict[str, dict[str, float]] = {}
        self.batches = args.batches or _BATCHES[self.kind]
        self._references: dict[str, list[np.ndarray]] = {}
        self.image_names, self.images = _images(args.images, args.max_images)
        for key in args.networks:
            network(key)

    def size(self, key: str) -> tuple[int, int]:
        return tuple(self.args.size) if self.args.size else network(key).size

    # Exports ------------------------------------------------------------------------------------
    def path(self, key: str, precision: str, batched: bool = False) -> str:
        height, width = self.size(key)
        exported_as = _EXPORTED_AS.get(precision, precision)
        return os.path.join(self.folder, f"{key}_{height}x{width}_{exported_as}{'_batch' if batched else ''}")

    def export_all(self) -> None:
        """Export what is not there yet; what cannot be exported is noted."""
        from tqdm import tqdm

        kinds = dict.fromkeys(_EXPORTED_AS.get(precision, precision) for precision in self.args.precisions)
        wanted = [
            (key, precision, batched)
            for key in self.args.networks
            for precision in kinds
            for batched in (False, True)
            if (precision != "int8" or network(key).ours)
            and (not batched or max(self.batches) > 1)
            and (self.kind == "gpu" or precision != "fp16")
        ]
        for key, precision, batched in tqdm(wanted, desc="exports", file=sys.stderr, disable=None):
            path = self.path(key, precision, batched)
            weights = self.args.weights.get(key)
            if self.exported(key, precision, batched) and self.artifact(key, precision, batched).model.get(
                "weights"
            ) == (weights or "random"):
                continue
            formats = ("onnx", "tensorrt") + (("paddle",) if precision == "fp32" and not batched else ())
            try:
                with tempfile.TemporaryDirectory() as aside:
                    export(
                        key,
                        path,
                        formats,
                        self.size(key),
                        batch=-1 if batched else 1,
                        precision=precision,
                        weights=weights,
                        calibration=self._calibration(aside) if precision == "int8" else None,
                    )
            except _MISTAKES as error:
                self.failures[f"export of {key} in {precision}{(', any batch' if batched else '')}"] = str(error)

    def exported(self, key: str, precision: str, batched: bool = False) -> bool:
        return os.path.isfile(os.path.join(self.path(key, precision, batched), "deploy.yaml"))

    def _calibration(self, folder: str):
        """The images as files, which the ranges for INT8 are measured on."""
        import cv2

        from ppliteseg_paddle.export.int8.calibration import Calibration

        paths = []
        for i, image in enumerate(self.images):
            paths.append((os.path.join(folder, f"{i:d}.png"), None))
            cv2.imwrite(paths[-1][0], image)
        return Calibration(paths, sensitivity=bool(self.args.weights), progress=False)

    def artifact(self, key: str, precision: str, batched: bool = False) -> Artifact:
        return Artifact.read(self.path(key, precision, batched), verify=False)

    # Measuring ----------------------------------------------------------------------------------
    def measure(self, runtime: str, precision: str, keys: Sequence[str]) -> None:
        """All networks of one size on a runtime, in turns."""
        try:
            check_runtime(runtime, precision, self.args.device)
        except (ConfigError, DependencyError) as error:
            self.failures[f"{runtime}, {precision}"] = str(error)
            return
        engines: dict[str, Engine] = {}
        differing: dict[str, float] = {}
        for key in keys:
            if not self.exported(key, precision):  # which has been told
                continue
            try:
                engine = open_engine(
                    runtime, self.artifact(key, precision), precision, self.args.device, self.args.num_threads
                )
                differing[key] = self._differing(key, precision, engine)
                engines[key] = engine
            except _MISTAKES as error:
                self._fail(runtime, precision, key, error)
        if not engines:
            return
        batches = {key: self._batch(key, precision, 0) for key in engines}
        rest = rest_between(engine.backend for engine in engines.values())
        in_steps = measure_in_turns(
            {key: _steps(engine, batches[key]) for key, engine in engines.items()},
            self.args.warmup,
            self.args.repeats,
            rest=rest,
        )
        bare = {key: _launches(engine) for key, engine in engines.items() if engine.launch}
        bare = measure_in_turns(bare, self.args.warmup, self.args.repeats, rest=rest) if bare else {}
        self._measure_ceilings(runtime, precision)
        for key, engine in engines.items():
            against = network(key).against if network(key).against in engines else None
            row = {
                "name": network(key).name,
                "key": key,
                "protocol": "network",
                "batch_size": 1,
                "precision": precision,
                "runtime": runtime,
                "backend": engine.backend.describe(),
                "input_shape": list(batches[key].shape),
                "graphed": engine.graphed,
                **_times(in_steps[key], bare.get(key)),
                "steady": in_steps[key].steady,
                "repeats": len(in_steps[key].seconds["total"]),
                "differing_pixels": differing[key],
                "against": against,
                "accuracy": accuracy_of(key),
                "times_faster": ratios(in_steps, against)[key] if against else None,
                "times_faster_bare": ratios(bare, against)[key] if against in bare and key in bare else None,
            }
            self.rows.append(row)
            if engine.profile is not None and self.args.profile:
                self.profiles[f"{key}, {runtime}, {precision}"] = engine.profile(batches[key])[:15]
        del engines
        for key in keys:
            self._best_batch(runtime, precision, key)

    def _best_batch(self, runtime: str, precision: str, key: str) -> None:
        """Larger batches while they give more images a second."""
        row = next(
            (row for row in self.rows if (row["key"], row["runtime"], row["precision"]) == (key, runtime, precision)),
            None,
        )
        if row is None or max(self.batches) == 1:
            return
        tried = {1: 1000.0 / row["bare_ms"]}
        for size in self.batches[1:]:
            try:
                engine = open_engine(
                    runtime,
                    self.artifact(key, precision, True),
                    precision,
                    self.args.device,
                    self.args.num_threads,
                    size,
                )
                batch = np.repeat(self._batch(key, precision, 0), size, axis=0)
                engine.backend.run(batch)
                measured = measure(
                    _launches(engine) if engine.launch else _steps(engine, batch), self.args.warmup, self.args.repeats
                )
            except _MISTAKES as error:
                self._fail(runtime, precision, f"{key} in batches of {size:d}", error)
                break
            tried[size] = size / float(np.median(measured.seconds["total" if engine.launch else "forward"]))
            if tried[size] < 1.02 * max(list(tried.values())[:-1]):
                break
        best = max(tried, key=lambda size: tried[size])
        row.update(
            best_batch=best, best_batch_fps=tried[best], batches_tried={str(size): fps for size, fps in tried.items()}
        )

    def _fail(self, runtime: str, precision: str, what: str, error: PPLiteSegError) -> None:
        self.failures[f"{what}, {runtime}, {precision}"] = " ".join(str(error).split())

    # Correctness --------------------------------------------------------------------------------
    def _batch(self, key: str, precision: str, index: int) -> np.ndarray:
        return self.artifact(key, precision).preprocess(self.images[index])[0]

    def _differing(self, key: str, precision: str, engine: Engine) -> float:
        """Share of pixels in which the engine's masks differ from the CPU's in FP32, over all images."""
        if key not in self._references:
            reference = _reference(self.artifact(key, "fp32"))
            self._references[key] = [reference(self._batch(key, "fp32", i)) for i in range(len(self.images))]
        shares = [
            float(np.mean(engine.backend.run(self._batch(key, precision, i)) != expected))
            for i, expected in enumerate(self._references[key])
        ]
        return float(np.mean(shares))

    # Floors -------------------------------------------------------------------------------------
    def _measure_ceilings(self, runtime: str, precision: str) -> None:
        if self.args.no_roofline or runtime.startswith(
            "paddle"
        ):  # it takes no ONNX file; the others tell the machine's ceilings
            return
        try:
            self.ceilings[f"{runtime}, {precision}"] = _measure_ceilings(
                runtime, precision, self.args.device, self.args.num_threads
            )
        except _MISTAKES as error:
            self._fail(runtime, precision, "ceilings", error)

    def add_roofline(self) -> None:
        """Give every row its floors, at the best that any runtime reached: of arithmetic at the row's precision, of
        memory at all."""
        for row in self.rows:
            same = [each for name, each in self.ceilings.items() if name.endswith(", " + row["precision"])]
            if not same:
                continue
            best = {
                "macs_per_second": max(each["macs_per_second"] for each in same),
                "bytes_per_second": max(each["bytes_per_second"] for each in self.ceilings.values()),
            }
            artifact = self.artifact(row["key"], "fp32")
            graph = "tensorrt" if "tensorrt" in artifact.graphs else "onnx"  # the plainer one
            try:
                counted = floors.count(artifact.path_of(graph, "model"))
            except (ValueError, KeyError, OSError) as error:
                self.failures[f"floors of {row['key']}"] = str(error)
                continue
            row["floors"] = {**counted, **floors.floors(counted, best, row["precision"], 1, row["bare_ms"])}


def _steps(engine: Engine, batch: np.ndarray) -> Callable[[], dict[str, float]]:
    def call() -> dict[str, float]:
        seconds: dict[str, float] = {}
        start = last = time.perf_counter()

        def done(step: str) -> None:
            nonlocal last
            now = time.perf_counter()
            seconds[step] = seconds.get(step, 0.0) + now - last
            last = now

        engine.backend.run_in_steps(batch, done)
        return {**seconds, "total": time.perf_counter() - start}

    return call


def _launches(engine: Engine) -> Callable[[], dict[str, float]]:
    def call() -> dict[str, float]:
        start = time.perf_counter()
        engine.launch()
        return {"total": time.perf_counter() - start}

    return call


def _times(in_steps, bare) -> dict[str, Any]:
    stages = {step: describe(seconds) for step, seconds in in_steps.seconds.items()}
    alone = describe(bare.seconds["total"]) if bare is not None else stages["forward"]
    return {
        "stages": stages,
        "latency_ms": stages["total"]["median_ms"],
        "fps": stages["total"]["fps"],
        "bare": alone,
        "bare_ms": alone["median_ms"],
        "bare_fps": alone["fps"],
        "fused": {},
    }


def _reference(artifact: Artifact) -> Callable[[np.ndarray], np.ndarray]:
    """The CPU in FP32: ONNX Runtime where it is installed, else whatever is."""
    from ppliteseg_paddle.deploy.backends import open_backend
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES

    return open_backend("onnxruntime" if RUNTIMES["onnxruntime"].installed else "auto", artifact, "cpu").run


def _measure_ceilings(runtime: str, precision: str, device: str, threads: int | None) -> dict[str, float]:
    large = device != "cpu"
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("macs_per_second", floors.arithmetic), ("bytes_per_second", floors.memory)):
            artifact, amount = make(os.path.join(folder, name), precision, large)
            engine = open_engine(runtime, artifact, precision, device, threads)
            batch = np.zeros(artifact.input.shape, np.float32)
            engine.backend.run(batch)
            seconds = measure(
                _launches(engine) if engine.launch else _steps(engine, batch), warmup=5, repeats=20
            ).seconds
            found[name] = amount / min(seconds["total" if engine.launch else "forward"])
    return found


def _images(path: str | None, most: int) -> tuple[list[str], list[np.ndarray]]:
    """Names and pixels: of a folder or list; else two photographs that come with scikit-learn; else a generated one."""
    from ppliteseg_paddle.deploy.preprocess import generated_image
    from ppliteseg_paddle.reading.images import read_image

    if path:
        if os.path.isdir(path):
            paths = sorted(
                os.path.join(path, name)
                for name in os.listdir(path)
                if name.lower().endswith((".png", ".jpg", ".jpeg"))
            )
        else:
            paths = [path]
        if not paths:
            raise DataError(f"{path} holds no image (.png, .jpg).")
        chosen = paths[:: max(1, len(paths) // most)][:most]
        return [os.path.basename(item) for item in chosen], [read_image(item) for item in chosen]
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        return ["generated"], [generated_image(512, 1024)]
    names = ["china.jpg", "flower.jpg"]
    return names, [np.ascontiguousarray(load_sample_image(name)[:, :, ::-1]) for name in names]


def _papers_protocol(args, bench: _Bench) -> list[dict[str, Any]]:
    """The paper's protocol on the runtimes that users have (`deploy.backends`): image resized, inferred, mask resized
    back."""
    from ppliteseg_paddle.benchmark.protocols import Contestant, paper, paper_image
    from ppliteseg_paddle.deploy.runtimes import RUNTIMES

    if args.no_paper:
        return []
    rows: list[dict[str, Any]] = []
    encoded, _ = paper_image(bench.images[0])
    for name in [name for name in ("tensorrt", "onnxruntime", "openvino") if RUNTIMES[name].installed]:
        if args.runtimes and name not in args.runtimes:
            continue
        contestants = []
        for key in filter(lambda key: bench.exported(key, "fp32"), args.networks):
            try:
                contestant = Contestant(key, bench.artifact(key, "fp32"), name, args.device, args.num_threads)
                contestant.open()
                contestants.append(contestant)
            except _MISTAKES as error:
                bench.failures[f"paper's protocol, {key}, {name}"] = " ".join(str(error).split())
        if contestants:
            names = [contestant.name for contestant in contestants]
            against = {key: network(key).against for key in names if network(key).against in names}
            measured = paper(contestants, encoded, bench.size(names[0]), args.warmup, args.repeats, against=against)
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
    parser.add_argument("--runtimes", nargs="+", choices=list(RUNTIMES), help="default: all that are for the device")
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
    parser.add_argument("--no_roofline", action="store_true", help="leave the ceilings out")
    parser.add_argument("--no_paper", action="store_true", help="leave the paper's protocol out")
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
