"""What runs an exported graph: one interface, one row of `BACKENDS` for each runtime.

A runtime is imported when its backend is opened, never before. `auto` takes the first row, fastest
first, whose graph is in the artifact, whose package is installed, and which runs the graph. Rows that
can use a GPU go before those that cannot, unless the CPU is asked for. `tensorrt` counts only for what was
exported for it, `paddle-trt` only where its engine is there already: nobody waits for minutes unasked.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.deploy.artifact import ENGINES_FOLDER, PRECISIONS, Artifact
from ppliteseg_paddle.deploy.shapes import ShapeRange, shape_range
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, PPLiteSegError, suggest

log = logging.getLogger("ppliteseg_paddle")

# Where the graph leaves height and width open, it is tried on an image of this size.
_TRIAL_SIDE = 64


class Backend:
    """One opened graph on one runtime. Not for several threads at once: open one for each.

    Attributes: `name` as in `BACKENDS`; `device` ("cpu", "gpu:0"); `graph`, the artifact's graph that is run.
    """

    name = ""
    device = "cpu"
    graph = ""

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Run the graph and wait for its result.

        Shape: batch as the artifact's `input_of(graph)` says, contiguous; returns class ids (N, H, W) or scores
            (N, classes, H, W).
        """
        raise NotImplementedError

    def run_in_steps(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        """`run`, telling when each step is done: "copy_in", "forward", "copy_out". What a runtime does in one is
        "forward"."""
        output = self.run(batch)
        done("forward")
        return output

    def describe(self) -> dict[str, Any]:
        """Runtime, version, device, threads: plain values for reports."""
        raise NotImplementedError


@dataclass(frozen=True)
class Options:
    """How a graph is to be run. The last four are for TensorRT alone.

    Args:
        device: "cpu", "gpu" or "gpu:N"; None takes a GPU where the runtime sees one.
        num_threads: CPU threads; None takes all that the process may use.
        precision: one of `PRECISIONS`; None takes what the artifact was exported for.
        dynamic_shape: smallest, usual and largest input (N, 3, H, W) of an engine; None takes the artifact's.
        cache_dir: where engines are kept; None keeps them beside the graph, or where that cannot be written, in the
            user's cache.
        calibration: inputs of the graph from which Paddle-TensorRT learns the ranges of values for INT8.
    """

    device: str | None = None
    num_threads: int | None = None
    precision: str | None = None
    dynamic_shape: ShapeRange | None = None
    cache_dir: str | None = None
    calibration: Sequence[np.ndarray] = ()


class Kind(NamedTuple):
    """A row of `BACKENDS`: which graphs it runs (any of them), which package it needs (any of them), how that is
    installed,
    what opens it ("module:function" of this package), whether it may find a GPU (asked only where the package is
    installed),
    and whether `auto` may take it for an artifact."""

    graphs: tuple[str, ...]
    packages: tuple[str, ...]
    install: str
    open: Callable[[Artifact, Options], Backend]
    may_use_gpu: Callable[[], bool] = lambda: False
    in_auto: Callable[[Artifact], bool] = lambda artifact: True

    @property
    def installed(self) -> bool:
        return any(importlib.util.find_spec(package) is not None for package in self.packages)


def open_backend(
    name: str, artifact: Artifact, device: str | None = None, num_threads: int | None = None, **more: Any
) -> Backend:
    """Open an artifact's graph.

    Args:
        name: a key of `BACKENDS`, or "auto".
        device, num_threads, more: see `Options`.
    Raises: ConfigError: for an unknown name, device or number. DependencyError: if its package is not installed.
        ArtifactError: if the artifact lacks its graph, or the runtime cannot run it.
    """
    options = _checked(Options(device, num_threads, **more))
    if name == "auto":
        return _first_that_works(artifact, options)
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend '{name}'.{suggest(name, ['auto', *BACKENDS])}")
    return _open(name, artifact, options)


def _checked(options: Options) -> Options:
    threads = options.num_threads
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ConfigError(f"num_threads is {threads!r}; give a whole number of at least 1.")
    if options.precision is not None and options.precision not in PRECISIONS:
        raise ConfigError(f"unknown precision '{options.precision}'.{suggest(options.precision, PRECISIONS)}")
    split_device(options.device)
    return replace(options, dynamic_shape=shape_range(options.dynamic_shape))


def _open(name: str, artifact: Artifact, options: Options) -> Backend:
    kind = BACKENDS[name]
    if not any(graph in artifact.graphs for graph in kind.graphs):
        raise ArtifactError(
            f"{artifact.folder} holds no {' or '.join(kind.graphs)} graph, which the backend '{name}' needs (it holds: "
            f"{', '.join(artifact.graphs) or 'none'}). Export it with --format {kind.graphs[0]}."
        )
    if not kind.installed:
        raise DependencyError(
            f"the backend '{name}' needs {kind.packages[0]}, which is not installed. Install it with: {kind.install}"
        )
    return kind.open(artifact, options)


def _first_that_works(artifact: Artifact, options: Options) -> Backend:
    failures: list[tuple[str, PPLiteSegError]] = []
    able = [
        name
        for name, kind in BACKENDS.items()
        if any(graph in artifact.graphs for graph in kind.graphs) and kind.in_auto(artifact)
    ]
    if options.device is None:
        able.sort(
            key=lambda name: not (BACKENDS[name].installed and BACKENDS[name].may_use_gpu())
        )  # stable: else the table's order
    for name in able:
        try:
            backend = _open(name, artifact, options)
        except (ArtifactError, DependencyError) as error:
            failures.append((name, error))
            continue
        for failed, error in failures:
            if isinstance(error, ArtifactError):
                log.warning("backend '%s' is passed over for '%s': %s", failed, name, error)
        log.info("backend: %s on %s", name, backend.device)
        return backend
    if not failures:
        raise ArtifactError(
            f"{artifact.folder} holds no graph that a backend here runs (it holds: "
            f"{', '.join(artifact.graphs) or 'none'}); known are {', '.join(BACKENDS)}."
        )
    raise failures[0][1]  # the preferred one's: the others would only repeat it


def default_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def trial_input(artifact: Artifact, graph: str = "paddle", side: int = _TRIAL_SIDE) -> np.ndarray:
    """Zeros of a size that the graph takes."""
    tensor = artifact.input_of(graph)
    sizes = {"N": 1, "C": 3, "H": side, "W": side}
    return np.zeros(
        [size if size > 0 else sizes[name] for name, size in zip(tensor.layout, tensor.shape)], tensor.dtype
    )


def split_device(device: str | None) -> tuple[str | None, int]:
    """ "gpu:1" -> ("gpu", 1); None -> (None, 0): whichever there is.

    Raises: ConfigError: for anything but cpu, gpu and gpu:N.
    """
    if device is None:
        return None, 0
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "gpu" or (number and not number.isdigit()) or device.endswith(":")):
        raise ConfigError(f"device '{device}' cannot run an exported model; give cpu, gpu or gpu:N.")
    return kind, int(number or 0)


# --------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------
def _module(name: str):
    return importlib.import_module("ppliteseg_paddle.deploy." + name)


def _gpu_paddle_installed() -> bool:
    from importlib import metadata

    try:
        metadata.version("paddlepaddle-gpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def _was_built_here(artifact: Artifact) -> bool:
    folder = os.path.join(artifact.folder, ENGINES_FOLDER)
    return os.path.isdir(folder) and any(name.startswith("paddle-trt") for name in os.listdir(folder))


def _paddle_kind(onednn: bool) -> Kind:
    return Kind(
        ("paddle",),
        ("paddle",),
        "pip install paddlepaddle==3.2.2",
        lambda artifact, options: _module("paddle_inference").PaddleBackend(artifact, options, onednn),
        _gpu_paddle_installed,
    )


# Fastest first: the order in which `auto` tries them. Those for the CPU as measured by scripts/bench_infer.sh.
BACKENDS: dict[str, Kind] = {
    "tensorrt": Kind(
        ("tensorrt",),
        ("tensorrt", "tensorrt_rtx"),
        "pip install tensorrt",
        lambda artifact, options: _module("tensorrt").TensorRtBackend(artifact, options),
        lambda: True,
    ),
    "onnxruntime": Kind(
        ("onnx",),
        ("onnxruntime",),
        "pip install onnxruntime",
        lambda artifact, options: _module("onnx_runtime").OnnxRuntimeBackend(
            artifact, options.device, options.num_threads
        ),
        lambda: _module("onnx_runtime").may_use_gpu(),
    ),
    "openvino": Kind(
        ("openvino", "onnx"),
        ("openvino",),
        "pip install openvino",
        lambda artifact, options: _module("openvino").OpenVinoBackend(artifact, options.device, options.num_threads),
    ),
    "paddle-trt": Kind(
        ("paddle",),
        ("paddle",),
        "pip install paddlepaddle-gpu",
        lambda artifact, options: _module("paddle_trt").PaddleTrtBackend(artifact, options),
        _gpu_paddle_installed,
        _was_built_here,
    ),
    "paddle": _paddle_kind(onednn=True),
    "paddle-native": _paddle_kind(onednn=False),
}
