"""OpenVINO behind `interface.Backend`. The module's name does not hide the package: imports are absolute."""

from __future__ import annotations

import contextlib
import importlib
from functools import cache, partial
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy import compiled
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.interface import (
    Backend,
    Options,
    check_output,
    check_ports,
    default_threads,
    split_device,
    trial_input,
)
from ppliteseg_paddle.errors import ArtifactError, DependencyError

_TRIAL_SIDES = (64, 96)  # pixels, where the graph leaves them open
# Kernels that are kept, of which a network has about fifty for each input size. OpenVINO's own number, 5000, takes a
# gigabyte; without any, an image of a new size takes as long as with them.
_CACHED_KERNELS = {"CPU_RUNTIME_CACHE_CAPACITY": 100}


class OpenVinoBackend(Backend):
    """An OpenVINO graph, or else the ONNX graph, on OpenVINO's CPU plug-in.

    Raises: DependencyError: for another device than the CPU. ArtifactError: if it cannot run the graph.
    """

    name = "openvino"

    def __init__(self, artifact: Artifact, options: Options):
        openvino = importlib.import_module("openvino")
        self.version = openvino.__version__.split("-")[0]
        self.num_threads = options.num_threads or default_threads()
        self.bf16 = options.precision == "bf16"
        self._sizes = environment.SizeChanges()
        self.graph = "openvino" if "openvino" in artifact.graphs else "onnx"
        if split_device(options.device)[0] == "gpu":
            raise DependencyError(
                f"the backend 'openvino' runs on the CPU only, not on '{options.device}'; give --device cpu or another "
                "backend."
            )
        if artifact.precision == "int8" and artifact.input.dynamic:
            # 2026.4: 8 to 30 % of an image's pixels have another class than in float, and it takes twice as long as
            # ONNX Runtime, whose masks are right. Can go: once the versions that setup.py admits compute it.
            raise ArtifactError(
                f"OpenVINO computes INT8 graphs of open size wrongly, and {artifact.folder} holds one: take the "
                "backend 'onnxruntime', or export with --input_shape."
            )
        path = artifact.path_of(self.graph, "model")
        settings = {
            "INFERENCE_NUM_THREADS": self.num_threads,
            "PERFORMANCE_HINT": "LATENCY",
            # By default it computes in bfloat16 where the processor can, which moves the borders in a mask.
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32",
        }
        try:
            core = shared_core(openvino.Core)
            self._request = _opened(core, path, settings, self._kept(artifact, settings)).create_infer_request()
            check_ports(artifact, self.graph, len(self._request.model_inputs), len(self._request.model_outputs))
            # Where sizes are open, OpenVINO before 2026 runs the first one, and at the second returns nothing or fails.
            for side in _TRIAL_SIDES if artifact.input_of(self.graph).dynamic else _TRIAL_SIDES[:1]:
                trial = trial_input(artifact, self.graph, side)
                output = self.run(trial)
                if not output.size:
                    raise RuntimeError("its result is empty")
                check_output(artifact, self.graph, trial, output)
        except (RuntimeError, ValueError, OSError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise ArtifactError(
                f"OpenVINO {self.version} cannot run {path}: {(lines or ['unknown'])[-1][:300].rstrip('. ')}. Install "
                "openvino 2026 or later (Python 3.10 or later), export with --input_shape, or take another backend."
            ) from error

    def _kept(self, artifact: Artifact, settings: dict[str, Any]) -> compiled.Compiled | None:
        """Where the compiled model is kept. Of a float graph it is not: a file of all its weights would save a tenth of
        the start, in 8 bits a third."""
        if artifact.precision != "int8" or not compiled.enabled():
            return None
        files = [artifact.path_of(self.graph, role) for role in sorted(artifact.graphs[self.graph])]
        return compiled.Compiled(self.name, self.version, artifact.precision, files, settings)

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(0, batch)

    def run_logits(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._run(1, batch)

    def _run(self, number: int, batch: NDArray[Any]) -> NDArray[Any]:
        self._sizes.note(batch.shape)
        # A copy: the result's memory is the request's and changes with the next run.
        return np.array(self._request.infer([batch], share_inputs=True, share_outputs=True)[number])

    def describe(self) -> dict[str, Any]:
        return {
            **({"precision": "bf16"} if self.bf16 else {}),
            "name": self.name,
            "runtime": "OpenVINO",
            "version": self.version,
            "device": self.device,
            "num_threads": self.num_threads,
            "graph": self.graph,
        }


@cache
def shared_core(kind: Any) -> Any:
    """OpenVINO's `Core`, one for the process, which lives as long as it does.

    Reason: each one gives the thread another stack for its signals and the former one back when it goes, also where
    that one's memory is gone. After two that end in the order of their start, the next signal, a Ctrl-C too, crashes
    the process (2026.4). Can go: once OpenVINO leaves that stack alone.

    Args: kind: the class `openvino.Core`.
    """
    return kind()


def _opened(core: Any, path: str, settings: dict[str, Any], kept: compiled.Compiled | None) -> Any:
    """The model compiled, or as it was kept. Args: path: of the graph."""
    content = kept.read() if kept is not None else None
    if content is not None:
        with contextlib.suppress(RuntimeError):
            return _bounded(partial(core.import_model, content, "CPU"), settings)
    model = _bounded(partial(core.compile_model, core.read_model(path), "CPU"), settings)
    if kept is not None:
        kept.keep(lambda: model.export_model().getvalue())
    return model


def _bounded(make: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> Any:
    """A compiled model with a bound on kept kernels, where this OpenVINO has the setting, which is not documented."""
    try:
        return make({**settings, **_CACHED_KERNELS})
    except RuntimeError:
        return make(settings)
