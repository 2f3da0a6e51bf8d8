"""What `studies.gpu` measures: masks, times, and the ceilings of the roofline."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.benchmark.protocols import rest_between
from ppliteseg_paddle.benchmark.studies import roofline
from ppliteseg_paddle.benchmark.studies.engines import Engine, check_runtime, open_engine
from ppliteseg_paddle.benchmark.studies.gpu_exports import MISTAKES, Exports, read_images
from ppliteseg_paddle.benchmark.studies.networks import accuracy_of, network
from ppliteseg_paddle.benchmark.timing import Measurement, describe, measure, measure_round_robin, ratios
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.errors import ConfigError, DependencyError, PPLiteSegError

PRECISIONS = ("fp32", "tf32", "fp16", "int8")
_BATCHES = {"gpu": [1, 2, 4, 8, 16], "cpu": [1]}
_MAX_PROFILED = 15


class Bench:
    """Results of one run. Attributes: `rows`, `profiles`, `ceilings`, `failures`, as they are written; `exports`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.kind: str = args.device.split(":")[0]
        self.failures: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []
        self.profiles: dict[str, list[tuple[str, float]]] = {}
        self.ceilings: dict[str, dict[str, float]] = {}
        self._batches: list[int] = args.batches or _BATCHES[self.kind]
        self._references: dict[str, list[np.ndarray]] = {}
        self.image_names, self.images = read_images(args.images, args.max_images)
        self.exports = Exports(args, self.images, max(self._batches) > 1, self.failures)

    def measure(self, runtime: str, precision: str, keys: Sequence[str]) -> None:
        """All networks of one size on a runtime, round-robin, then each in larger batches."""
        args = self._args
        try:
            check_runtime(runtime, precision, args.device)
        except (ConfigError, DependencyError) as error:
            self.failures[f"{runtime}, {precision}"] = str(error)
            return
        engines, differing = self._open_all(runtime, precision, keys)
        if not engines:
            return
        batches = {key: self._batch(key, precision, 0) for key in engines}
        rest = rest_between(engine.backend for engine in engines.values())
        steps = {key: _steps(engine, batches[key]) for key, engine in engines.items()}
        in_steps = measure_round_robin(steps, args.warmup, args.repeats, rest=rest)
        launches = {key: _launches(engine.launch) for key, engine in engines.items() if engine.launch}
        bare = measure_round_robin(launches, args.warmup, args.repeats, rest=rest) if launches else {}
        self._measure_ceilings(runtime, precision)
        for key, engine in engines.items():
            against = network(key).against if network(key).against in engines else None
            self.rows.append(
                {
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
            )
            if engine.profile is not None and args.profile:
                self.profiles[f"{key}, {runtime}, {precision}"] = engine.profile(batches[key])[:_MAX_PROFILED]
        del engines, steps, launches  # their memory is needed
        for key in keys:
            self._best_batch(runtime, precision, key)

    def _open_all(
        self, runtime: str, precision: str, keys: Sequence[str]
    ) -> tuple[dict[str, Engine], dict[str, float]]:
        """The engines that open, and in how many pixels each one's masks differ."""
        engines: dict[str, Engine] = {}
        differing: dict[str, float] = {}
        for key in keys:
            if not self.exports.done(key, precision):  # which has been told
                continue
            try:
                engine = self._open(runtime, key, precision)
                differing[key] = self._differing(key, precision, engine)
                engines[key] = engine
            except MISTAKES as error:
                self._fail(runtime, precision, key, error)
        return engines, differing

    def _open(self, runtime: str, key: str, precision: str, batch: int = 1) -> Engine:
        artifact = self.exports.artifact(key, precision, batch > 1)
        return open_engine(runtime, artifact, precision, self._args.device, self._args.num_threads, batch)

    def _best_batch(self, runtime: str, precision: str, key: str) -> None:
        """Larger batches while they give more images a second."""
        wanted = (key, runtime, precision)
        row = next((row for row in self.rows if (row["key"], row["runtime"], row["precision"]) == wanted), None)
        if row is None or max(self._batches) == 1:
            return
        tried = {1: 1000.0 / row["bare_ms"]}
        for size in self._batches[1:]:
            try:
                engine = self._open(runtime, key, precision, size)
                batch = np.repeat(self._batch(key, precision, 0), size, axis=0)
                engine.backend.run(batch)
                call = _launches(engine.launch) if engine.launch else _steps(engine, batch)
                seconds = measure(call, self._args.warmup, self._args.repeats).seconds
            except MISTAKES as error:
                self._fail(runtime, precision, f"{key} in batches of {size:d}", error)
                break
            tried[size] = size / float(np.median(seconds["total" if engine.launch else "forward"]))
            if tried[size] < 1.02 * max(list(tried.values())[:-1]):
                break
        best = max(tried, key=lambda size: tried[size])
        batches = {str(size): fps for size, fps in tried.items()}
        row.update(best_batch=best, best_batch_fps=tried[best], batches_tried=batches)

    def _fail(self, runtime: str, precision: str, what: str, error: PPLiteSegError) -> None:
        self.failures[f"{what}, {runtime}, {precision}"] = " ".join(str(error).split())

    # Correctness --------------------------------------------------------------------------------
    def _batch(self, key: str, precision: str, index: int) -> np.ndarray:
        return self.exports.artifact(key, precision).preprocess(self.images[index])[0]

    def _differing(self, key: str, precision: str, engine: Engine) -> float:
        """Share of pixels in which the engine's masks differ from the CPU's in FP32, over all images."""
        if key not in self._references:
            reference = _reference(self.exports.artifact(key, "fp32"))
            self._references[key] = [reference(self._batch(key, "fp32", i)) for i in range(len(self.images))]
        shares = [
            float(np.mean(engine.backend.run(self._batch(key, precision, i)) != expected))
            for i, expected in enumerate(self._references[key])
        ]
        return float(np.mean(shares))

    # Roofline -----------------------------------------------------------------------------------
    def _measure_ceilings(self, runtime: str, precision: str) -> None:
        # Paddle takes no ONNX file; the others tell the machine's ceilings.
        if self._args.no_roofline or runtime.startswith("paddle"):
            return
        try:
            found = _measure_ceilings(runtime, precision, self._args.device, self._args.num_threads)
            self.ceilings[f"{runtime}, {precision}"] = found
        except MISTAKES as error:
            self._fail(runtime, precision, "ceilings", error)

    def add_roofline(self) -> None:
        """Give every row its distance to the best that any runtime reached: of arithmetic at the row's precision, of
        memory at all."""
        for row in self.rows:
            same = [each for name, each in self.ceilings.items() if name.endswith(", " + row["precision"])]
            if not same:
                continue
            best = {
                "macs_per_second": max(each["macs_per_second"] for each in same),
                "bytes_per_second": max(each["bytes_per_second"] for each in self.ceilings.values()),
            }
            artifact = self.exports.artifact(row["key"], "fp32")
            graph = "tensorrt" if "tensorrt" in artifact.graphs else "onnx"  # the plainer one
            try:
                counted = roofline.count(artifact.path_of(graph, "model"))
            except (ValueError, KeyError, OSError) as error:
                self.failures[f"roofline of {row['key']}"] = str(error)
                continue
            row["roofline"] = {**counted, **roofline.bounds(counted, best, row["precision"], 1, row["bare_ms"])}


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


def _launches(launch: Callable[[], Any]) -> Callable[[], dict[str, float]]:
    def call() -> dict[str, float]:
        start = time.perf_counter()
        launch()
        return {"total": time.perf_counter() - start}

    return call


def _times(in_steps: Measurement, bare: Measurement | None) -> dict[str, Any]:
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
        for name, make in (("macs_per_second", roofline.arithmetic), ("bytes_per_second", roofline.memory)):
            artifact, amount = make(os.path.join(folder, name), precision, large)
            engine = open_engine(runtime, artifact, precision, device, threads)
            batch = np.zeros(artifact.input.shape, np.float32)
            engine.backend.run(batch)
            seconds = measure(
                _launches(engine.launch) if engine.launch else _steps(engine, batch), warmup=5, repeats=20
            ).seconds
            found[name] = amount / min(seconds["total" if engine.launch else "forward"])
    return found
