"""What runs an exported graph: one interface, one row of `BACKENDS` for each runtime.

A runtime is imported when its backend is opened, never before. `auto` takes the first row, fastest
first, whose graph is in the artifact, whose package is installed, and which runs the graph. Rows that
can use a GPU go before those that cannot, unless the CPU is asked for.
"""
from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ppliteseg_paddle.deploy.artifact import Artifact
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
        """`run`, telling when each step is done: "copy_in", "forward", "copy_out". What a runtime does in one is "forward"."""
        output = self.run(batch)
        done("forward")
        return output

    def describe(self) -> Dict[str, Any]:
        """Runtime, version, device, threads: plain values for reports."""
        raise NotImplementedError


class Kind(NamedTuple):
    """A row of `BACKENDS`: which graphs it runs (any of them), which package it needs, how that is installed, how it is
    opened, and whether it may find a GPU (asked only where the package is installed)."""

    graphs: Tuple[str, ...]
    package: str
    install: str
    open: Callable[[Artifact, Optional[str], Optional[int]], Backend]
    may_use_gpu: Callable[[], bool] = lambda: False


def open_backend(name: str, artifact: Artifact, device: Optional[str] = None, num_threads: Optional[int] = None) -> Backend:
    """Open an artifact's graph.

    Args:
        name: a key of `BACKENDS`, or "auto".
        device: "cpu", "gpu" or "gpu:N"; None takes a GPU where the runtime sees one.
        num_threads: CPU threads; None takes all that the process may use.
    Raises: ConfigError: for an unknown name, device or number. DependencyError: if its package is not installed.
        ArtifactError: if the artifact lacks its graph, or the runtime cannot run it.
    """
    if num_threads is not None and (isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1):
        raise ConfigError("num_threads is %r; give a whole number of at least 1." % (num_threads,))
    if name == "auto":
        return _first_that_works(artifact, device, num_threads)
    if name not in BACKENDS:
        raise ConfigError("unknown backend '%s'.%s" % (name, suggest(name, ["auto", *BACKENDS])))
    kind = BACKENDS[name]
    if not any(graph in artifact.graphs for graph in kind.graphs):
        raise ArtifactError("%s holds no %s graph, which the backend '%s' needs (it holds: %s). Export it with --format %s."
                            % (artifact.folder, " or ".join(kind.graphs), name, ", ".join(artifact.graphs) or "none",
                               kind.graphs[0]))
    if importlib.util.find_spec(kind.package) is None:
        raise DependencyError("the backend '%s' needs %s, which is not installed. Install it with: %s"
                              % (name, kind.package, kind.install))
    return kind.open(artifact, device, num_threads)


def _first_that_works(artifact: Artifact, device: Optional[str], num_threads: Optional[int]) -> Backend:
    failures: List[Tuple[str, PPLiteSegError]] = []
    able = [name for name, kind in BACKENDS.items() if any(graph in artifact.graphs for graph in kind.graphs)]
    if device is None:
        able.sort(key=lambda name: not _may_use_gpu(BACKENDS[name]))  # stable: the table's order within each group
    for name in able:
        try:
            backend = open_backend(name, artifact, device, num_threads)
        except (ArtifactError, DependencyError) as error:
            failures.append((name, error))
            continue
        for failed, error in failures:
            if isinstance(error, ArtifactError):
                log.warning("backend '%s' is passed over for '%s': %s", failed, name, error)
        log.debug("backend: %s on %s", name, backend.device)
        return backend
    if not failures:
        raise ArtifactError("%s holds no graph that a backend here runs (it holds: %s); known are %s."
                            % (artifact.folder, ", ".join(artifact.graphs) or "none", ", ".join(BACKENDS)))
    raise failures[0][1]  # the preferred one's: the others would only repeat it


def _may_use_gpu(kind: Kind) -> bool:
    return importlib.util.find_spec(kind.package) is not None and kind.may_use_gpu()


def default_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def trial_input(artifact: Artifact, graph: str = "paddle", side: int = _TRIAL_SIDE) -> np.ndarray:
    """Zeros of a size that the graph takes."""
    tensor = artifact.input_of(graph)
    sizes = {"N": 1, "C": 3, "H": side, "W": side}
    return np.zeros([size if size > 0 else sizes[name] for name, size in zip(tensor.layout, tensor.shape)], tensor.dtype)


def split_device(device: Optional[str]) -> Tuple[Optional[str], int]:
    """"gpu:1" -> ("gpu", 1); None -> (None, 0): whichever there is.

    Raises: ConfigError: for anything but cpu, gpu and gpu:N.
    """
    if device is None:
        return None, 0
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "gpu" or (number and not number.isdigit()) or device.endswith(":")):
        raise ConfigError("device '%s' cannot run an exported model; give cpu, gpu or gpu:N." % device)
    return kind, int(number or 0)


# --------------------------------------------------------------------------------------------
# Paddle Inference
# --------------------------------------------------------------------------------------------
class Form(NamedTuple):
    """One way to set Paddle Inference up on a CPU."""

    onednn: bool
    without_passes: Tuple[str, ...] = ()
    warning: str = ""


# Fastest first. Since Paddle 3.3.0 a `.json` graph with a resize operator raises «ConvertPirAttribute2RuntimeAttribute not
# support [pir::ArrayAttribute<pir::DoubleAttribute>]» if oneDNN is to run that operator (Paddle issue 77340). Without the
# placement pass only the operators that oneDNN's fusion passes rewrite go there: convolutions, the bulk of the work.
_ONEDNN_FORMS = (
    Form(True),
    Form(True, ("onednn_placement_pass",), "Paddle %s cannot run this graph's resize operators with oneDNN (Paddle issue 77340): "
         "oneDNN runs the convolutions only, which is somewhat slower. Paddle 3.2.2 has no such fault."),
)
_NATIVE_FORMS = (Form(False),)


class PaddleBackend(Backend):
    """Paddle Inference on CPU or GPU, for `.json` (Paddle 3) and `.pdmodel` graphs.

    Args: forms: ways to set it up on a CPU; the first that runs a trial image is kept.
    Raises: ArtifactError: if none does.
    """

    graph = "paddle"

    def __init__(self, name: str, forms: Tuple[Form, ...], artifact: Artifact, device: Optional[str], num_threads: Optional[int]):
        self.name = name
        self._paddle = _import_paddle()
        self.version = self._paddle.__version__
        self.device = _paddle_device(self._paddle, device)
        self.num_threads = num_threads or default_threads()
        self._native: Optional[_Session] = None
        self._model = artifact.path_of("paddle", "model")
        self._params = artifact.path_of("paddle", "params")
        writer = artifact.versions.get("paddle", "unknown")
        if self._model.endswith(".json") and int(self.version.split(".")[0]) < 3:
            # Paddle 2 does not say so: it dies.
            raise ArtifactError("%s was written by Paddle %s, and the installed Paddle %s cannot read its format; install "
                                "paddlepaddle 3 or later, or export with the installed one." % (self._model, writer, self.version))
        self._open(forms if self.device == "cpu" else (Form(False),), trial_input(artifact), writer)

    def _open(self, forms: Tuple[Form, ...], trial: np.ndarray, writer: str) -> None:
        for i, form in enumerate(forms):
            try:
                self._session = self._create(form)
                with silent_stdout():
                    self._session.run(trial)
            except (RuntimeError, ValueError, NotImplementedError, OSError, TypeError) as error:  # what Paddle's C++ raises
                if i + 1 < len(forms):
                    continue
                raise ArtifactError("Paddle %s cannot run %s, which Paddle %s wrote: %s. Install that Paddle, or export with "
                                    "the installed one." % (self.version, self._model, writer, _reason(error))) from error
            self.form = form
            if form.warning:
                _warn_once(form.warning % self.version)
            return

    def _create(self, form: Form) -> "_Session":
        from paddle import inference
        config = inference.Config(self._model, self._params)
        config.disable_glog_info()
        if self._model.endswith(".json"):
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        if self.device == "cpu":
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(self.num_threads)
            if form.onednn:
                _call(config, "enable_onednn", "enable_mkldnn")
                # Kernels are kept for the last few input sizes; without a bound every new size adds to memory.
                _call(config, "set_onednn_cache_capacity", "set_mkldnn_cache_capacity", arguments=(10,))
            else:
                _call(config, "disable_onednn", "disable_mkldnn")
        else:
            config.enable_use_gpu(256, int(self.device.split(":")[1]))  # MB to start with; it grows
        for name in form.without_passes:
            config.delete_pass(name)
        # No enable_memory_optim(): it saves nothing beside the new executor, and without it fails on Paddle 3.2 and 3.3.
        with silent_stdout():
            return _Session(inference.create_predictor(config))

    def run_in_steps(self, batch: np.ndarray, done: Callable[[str], None]) -> np.ndarray:
        def done_on_device(step: str) -> None:
            if self.device != "cpu":
                self._paddle.device.synchronize()
            done(step)
        return self.run(batch, done_on_device)

    def run(self, batch: np.ndarray, done: Callable[[str], None] = lambda step: None) -> np.ndarray:
        batch = np.ascontiguousarray(batch)
        try:
            return self._session.run(batch, done)
        except RuntimeError as error:
            if not self.form.onednn:
                raise
            # oneDNN cannot pool a map of fewer cells than bins, that is, images of a few dozen pixels; Paddle's own kernels can.
            if self._native is None:
                self._native = self._create(_NATIVE_FORMS[0])
            result = self._native.run(batch, done)
            _warn_once("oneDNN of Paddle %s cannot run inputs of %dx%d pixels (%s); such images run without it."
                       % (self.version, batch.shape[3], batch.shape[2], _reason(error)))
            return result

    def describe(self) -> Dict[str, Any]:
        values = {"name": self.name, "runtime": "Paddle Inference", "version": self.version, "device": self.device}
        if self.device == "cpu":
            values.update(num_threads=self.num_threads, onednn=self.form.onednn,
                          without_passes=list(self.form.without_passes))
        return values


class _Session:
    """A Paddle predictor with its one input and one output."""

    def __init__(self, predictor):
        self._predictor = predictor
        self._input = predictor.get_input_handle(predictor.get_input_names()[0])
        self._output = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(self, batch: np.ndarray, done: Callable[[str], None] = lambda step: None) -> np.ndarray:
        self._input.reshape(batch.shape)
        self._input.copy_from_cpu(batch)
        done("copy_in")
        self._predictor.run()
        done("forward")
        output = self._output.copy_to_cpu()  # waits for the device
        done("copy_out")
        return output


def _import_paddle():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")  # of no concern to anybody who compiles nothing
        return importlib.import_module("paddle")


def _paddle_device(paddle, device: Optional[str]) -> str:
    """"cpu" or "gpu:N", checked against what is there."""
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    kind, number = split_device(device)
    if kind is None:
        return "gpu:0" if count else "cpu"
    if kind == "cpu":
        return "cpu"
    if not paddle.is_compiled_with_cuda():
        raise DependencyError("device '%s' needs a GPU build of Paddle, and the installed %s is for the CPU. Install "
                              "paddlepaddle-gpu, or give --device cpu." % (device, paddle.__version__))
    if number >= count:
        raise ConfigError("device '%s' does not exist: %d GPU(s) found." % (device, count))
    return "gpu:%d" % number


def _call(config, *names: str, arguments: Tuple = ()) -> None:
    """Call the first method that this Paddle has: mkldnn was renamed onednn."""
    for name in names:
        if hasattr(config, name):
            getattr(config, name)(*arguments)
            return


def _reason(error: BaseException) -> str:
    """The telling line of Paddle's long error texts."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(("---", "C++ Traceback"))]
    marked = [line for line in lines if "Error:" in line or line.startswith("(")]
    return (marked or lines or [type(error).__name__])[0][:300].rstrip(". ")


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Drop what native code prints on stdout: Paddle 3.2 writes debug lines there while it optimises a graph, which would
    end up in the middle of a program's own output."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # no stdout at all, as in a service
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        if os.name == "posix":
            ctypes.CDLL(None).fflush(None)  # C's own buffer, while it still goes nowhere
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)


_warned = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        log.warning(message)


def _gpu_paddle_installed() -> bool:
    from importlib import metadata
    try:
        metadata.version("paddlepaddle-gpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def _paddle_kind(name: str, forms: Tuple[Form, ...]) -> Kind:
    return Kind(("paddle",), "paddle", "pip install paddlepaddle==3.2.2",
                lambda artifact, device, num_threads: PaddleBackend(name, forms, artifact, device, num_threads),
                _gpu_paddle_installed)


def _open_onnxruntime(artifact: Artifact, device: Optional[str], num_threads: Optional[int]) -> Backend:
    from ppliteseg_paddle.deploy.onnx_runtime import OnnxRuntimeBackend
    return OnnxRuntimeBackend(artifact, device, num_threads)


def _onnxruntime_may_use_gpu() -> bool:
    from ppliteseg_paddle.deploy.onnx_runtime import may_use_gpu
    return may_use_gpu()


def _open_openvino(artifact: Artifact, device: Optional[str], num_threads: Optional[int]) -> Backend:
    from ppliteseg_paddle.deploy.openvino import OpenVinoBackend
    return OpenVinoBackend(artifact, device, num_threads)


# Fastest first: the order in which `auto` tries them, as measured on CPUs by scripts/bench_infer.sh.
BACKENDS: Dict[str, Kind] = {
    "onnxruntime": Kind(("onnx",), "onnxruntime", "pip install onnxruntime", _open_onnxruntime, _onnxruntime_may_use_gpu),
    "openvino": Kind(("openvino", "onnx"), "openvino", "pip install openvino", _open_openvino),
    "paddle": _paddle_kind("paddle", _ONEDNN_FORMS),
    "paddle-native": _paddle_kind("paddle-native", _NATIVE_FORMS),
}
