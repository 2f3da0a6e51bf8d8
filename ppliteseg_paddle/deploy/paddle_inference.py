"""Paddle Inference behind `interface.Backend`: on the CPU with and without oneDNN, and on a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.graph_files import check_paddle_graph
from ppliteseg_paddle.deploy.interface import (
    Backend,
    Options,
    check_output,
    check_ports,
    default_threads,
    split_device,
    trial_input,
)
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError

log = logging.getLogger("ppliteseg_paddle")


class Form(NamedTuple):
    """One way to set Paddle Inference up on a CPU."""

    onednn: bool
    without_passes: tuple[str, ...] = ()
    warning: str = ""


# Fastest first. Since Paddle 3.3.0 a `.json` graph with a resize operator raises «ConvertPirAttribute2RuntimeAttribute
# not support [pir::ArrayAttribute<pir::DoubleAttribute>]» if oneDNN is to run that operator (Paddle issue 77340).
# Without the placement pass only the operators that oneDNN's fusion passes rewrite go there: convolutions, the bulk of
# the work.
_ONEDNN_FORMS = (
    Form(True),
    Form(
        True,
        ("onednn_placement_pass",),
        "Paddle %s cannot run this graph's resize operators with oneDNN (Paddle issue 77340): "
        "oneDNN runs the convolutions only, which is somewhat slower. Paddle 3.2.2 has no such fault.",
    ),
)
_NATIVE_FORMS = (Form(False),)
# oneDNN keeps kernels and a copy of the weights for each of the last input sizes: for as many as take this many bytes.
_CACHE_BYTES = 64 * 2**20
_MAX_CACHED_SIZES = 10


class PaddleBackend(Backend):
    """Paddle Inference on CPU or GPU, for `.json` (Paddle 3) and `.pdmodel` graphs.

    On a CPU oneDNN may run it. Of the ways to set that up (`forms`), the first that runs a trial image is kept. There,
    one thread runs everything: oneDNN, OpenMP and MKL keep memory for each thread that calls them, and a stream has new
    threads each time.

    Raises: ArtifactError: if none does.
    """

    name = "paddle"
    graph = "paddle"
    opens_in_fork = False  # Paddle's own threads and locks do not follow: most calls wait for ever, some crash
    forms: tuple[Form, ...] = _ONEDNN_FORMS

    def __init__(self, artifact: Artifact, options: Options):
        self._paddle = environment.import_paddle()
        self.version = self._paddle.__version__
        self.device = paddle_device(self._paddle, options.device)
        self.num_threads = options.num_threads or default_threads()
        self.bf16 = options.precision == "bf16"
        self._native: Session | None = None
        self._sizes = environment.SizeChanges()
        self._model = artifact.path_of("paddle", "model")
        self._params = artifact.path_of("paddle", "params")
        writer = artifact.versions.get("paddle", "unknown")
        check_readable(self.version, self._model, writer)
        self._thread = ThreadPoolExecutor(1, "paddle") if self.device == "cpu" else None
        forms = self.forms if self.device == "cpu" else _NATIVE_FORMS
        if self.bf16:
            forms = forms[:1]  # the others are slower than float32: 409 ms in place of 274
        self._in_thread(self._open, forms, artifact, writer)

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments) if self._thread is None else self._thread.submit(function, *arguments).result()

    def _open(self, forms: tuple[Form, ...], artifact: Artifact, writer: str) -> None:
        trial = trial_input(artifact)
        for i, form in enumerate(forms):
            try:
                check_paddle_graph(self._model, self._params)
                self._session = self._create(form)
                check_ports(artifact, self.graph, *self._session.ports)
                with silent_stdout():
                    output = self._session.run(trial)
            except (
                RuntimeError,
                ValueError,
                NotImplementedError,
                OSError,
                TypeError,
                MemoryError,  # of a damaged weight file
            ) as error:  # what Paddle's C++ raises
                if i + 1 < len(forms):
                    continue
                if self.bf16:
                    raise ArtifactError(
                        f"Paddle {self.version} cannot run all of {self._model} in bf16: {reason(error)}. Export with "
                        "--input_shape and take Paddle 3.2.2, take the backend 'openvino', or use --precision fp32."
                    ) from error
                raise ArtifactError(
                    f"Paddle {self.version} cannot run {self._model}, which Paddle {writer} wrote: {reason(error)}. "
                    "Install that Paddle, or export with the installed one."
                ) from error
            check_output(artifact, self.graph, trial, output)
            self.form = form
            if form.warning:
                _warn_once(form.warning % self.version)
            return

    def _create(self, form: Form) -> Session:
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
                sizes = min(_MAX_CACHED_SIZES, max(1, _CACHE_BYTES // max(1, os.path.getsize(self._params))))
                _call(config, "set_onednn_cache_capacity", "set_mkldnn_cache_capacity", arguments=(sizes,))
                if self.bf16:
                    _call(config, "enable_onednn_bfloat16", "enable_mkldnn_bfloat16")
            else:
                _call(config, "disable_onednn", "disable_mkldnn")
        else:
            config.enable_use_gpu(256, int(self.device.split(":")[1]))  # MB to start with; it grows
        for name in form.without_passes:
            config.delete_pass(name)
        # No enable_memory_optim(): beside the new executor it saves nothing, without it Paddle 3.2 and 3.3 fail.
        with silent_stdout():
            return Session(inference.create_predictor(config))

    def run_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        return self._output(0, batch, self._waiting(done))

    def run_logits_in_steps(self, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        return self._output(1, batch, self._waiting(done))

    def _waiting(self, done: Callable[[str], None]) -> Callable[[str], None]:
        def done_on_device(step: str) -> None:
            if self.device != "cpu":
                self._paddle.device.synchronize()
            done(step)

        return done_on_device

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._output(0, batch)

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._output(1, batch)

    def _output(
        self, number: int, batch: NDArray[Any], done: Callable[[str], None] = lambda step: None
    ) -> NDArray[Any]:
        output: NDArray[Any] = self._in_thread(self._run, number, np.ascontiguousarray(batch), done)
        return output

    def _run(self, number: int, batch: NDArray[Any], done: Callable[[str], None]) -> NDArray[Any]:
        self._sizes.note(batch.shape)
        try:
            return self._session.run(batch, done, number)
        except RuntimeError as error:
            if not self.form.onednn:
                raise
            # oneDNN cannot pool a map of fewer cells than bins, that is, images of a few dozen pixels; Paddle's own
            # kernels can.
            if self._native is None:
                self._native = self._create(_NATIVE_FORMS[0])
            result = self._native.run(batch, done, number)
            _warn_once(
                f"oneDNN of Paddle {self.version} cannot run inputs of {batch.shape[3]:d}x{batch.shape[2]:d} pixels "
                f"({reason(error)}); such images run without it."
            )
            return result

    def describe(self) -> dict[str, Any]:
        values = {"name": self.name, "runtime": "Paddle Inference", "version": self.version, "device": self.device}
        if self.device == "cpu":
            values.update(
                num_threads=self.num_threads, onednn=self.form.onednn, without_passes=list(self.form.without_passes)
            )
        if self.bf16:
            values["precision"] = "bf16"
        return values


class PaddleNativeBackend(PaddleBackend):
    """Paddle Inference with Paddle's own kernels, without oneDNN."""

    name = "paddle-native"
    forms = _NATIVE_FORMS


class Session:
    """A Paddle predictor with its one input and its outputs.

    Attributes: `ports`: how many inputs and outputs the graph declares; with none of either it cannot `run`.
    """

    def __init__(self, predictor: Any):
        self._predictor = predictor
        inputs = predictor.get_input_names()
        self._input = predictor.get_input_handle(inputs[0]) if inputs else None
        self._outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]
        self.ports = len(inputs), len(self._outputs)

    def run(
        self, batch: NDArray[Any], done: Callable[[str], None] = lambda step: None, number: int = 0
    ) -> NDArray[Any]:
        """Run the graph. Returns: its output of this number."""
        assert self._input is not None  # noqa: S101 - see `ports`
        self._input.reshape(batch.shape)
        self._input.copy_from_cpu(batch)
        done("copy_in")
        self._predictor.run()
        done("forward")
        output: NDArray[Any] = self._outputs[number].copy_to_cpu()  # waits for the device
        done("copy_out")
        return output


def check_readable(version: str, model: str, writer: str) -> None:
    """Raises: ArtifactError: if a Paddle of that version cannot read the graph. Paddle 2 does not say so: it dies."""
    if model.endswith(".json") and int(version.split(".")[0]) < 3:
        raise ArtifactError(
            f"{model} was written by Paddle {writer}, and the installed Paddle {version} cannot read its format; "
            "install paddlepaddle 3 or later, or export with the installed one."
        )


def paddle_device(paddle: Any, device: str | None) -> str:
    """ "cpu" or "gpu:N", checked against what is there."""
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    kind, number = split_device(device)
    if kind is None:
        return "gpu:0" if count else "cpu"
    if kind == "cpu":
        return "cpu"
    if not paddle.is_compiled_with_cuda():
        raise DependencyError(
            f"device '{device}' needs a GPU build of Paddle, and the installed {paddle.__version__} is for the CPU. "
            "Install paddlepaddle-gpu, or give --device cpu."
        )
    if number >= count:
        raise ConfigError(f"device '{device}' does not exist: {count:d} GPU(s) found.")
    return f"gpu:{number:d}"


def _call(config: Any, *names: str, arguments: tuple[Any, ...] = ()) -> None:
    """Call the first method that this Paddle has: mkldnn was renamed onednn."""
    for name in names:
        if hasattr(config, name):
            getattr(config, name)(*arguments)
            return


def reason(error: BaseException) -> str:
    """The telling line of Paddle's long error texts."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and not line.startswith(("---", "C++ Traceback"))
    ]
    marked = [line for line in lines if "Error:" in line or line.startswith("(")]
    return (marked or lines or [type(error).__name__])[0][:300].rstrip(". ")


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Drop what native code prints on stdout: Paddle 3.2 writes debug lines while it optimises a graph, and they would
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


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        log.warning(message)
