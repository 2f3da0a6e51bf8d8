"""The runtimes: one table, one row each. Whatever the package says or asks about a runtime comes from its row.

`open_backend` and `auto`, `predict --backend`, `benchmark`, `doctor`, the hints of `export` and the install hints read
it. A runtime of another package joins with `register`. Importing this module is cheap and loads no runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from ppliteseg_paddle.errors import ConfigError

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.artifact import Artifact
    from ppliteseg_paddle.deploy.interface import Backend, Options

Open = Callable[["Artifact", "Options"], "Backend"]


@dataclass(frozen=True)
class RuntimeSpec:
    """What there is to know about a runtime.

    Args:
        name: as `--backend` takes it.
        title: its own name, for reports.
        graphs: the formats that it reads, the preferred one first; any of them will do.
        packages: the modules that it needs; any of them will do.
        install: the command that installs it.
        open: makes a `Backend` of an artifact and options. It is called only if a package is installed and the artifact
            has a graph, and imports the runtime. How it is measured follows from the backend: `Backend.run_in_steps`.
        precisions: device ("cpu", "gpu") -> the precisions that it computes in there, of `interface.COMPUTED`.
        distributions: the names by which pip knows the packages: reports note their versions. The packages' own by
            default.
        probe: Python code that fails where the runtime cannot work, and else prints its version and more on one line.
            `doctor` runs it in a process of its own. By default it imports the first package.
        may_use_gpu: whether it may find a GPU; asked only where a package is installed.
        in_auto: whether `auto` may take it for an artifact.
        timed: whether `auto` times it against the others that are (`fastest`), rather than trust the table.
        leads_in: precisions in which it precedes the rows before it, for an artifact of fixed size.
    """

    name: str
    title: str
    graphs: tuple[str, ...]
    packages: tuple[str, ...]
    install: str
    open: Open
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"cpu": ("fp32",)})
    distributions: tuple[str, ...] = ()
    probe: str = ""
    may_use_gpu: Callable[[], bool] = lambda: False
    in_auto: Callable[[Artifact], bool] = lambda artifact: True
    timed: bool = False
    leads_in: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        package = self.packages[0]
        if not self.distributions:
            object.__setattr__(self, "distributions", self.packages)
        if not self.probe:
            object.__setattr__(
                self, "probe", f"import {package}; print(getattr({package}, '__version__', 'version unknown'))"
            )

    @property
    def installed(self) -> bool:
        """Whether one of its packages can be found; none is imported."""
        return any(importlib.util.find_spec(package) is not None for package in self.packages)

    @property
    def devices(self) -> tuple[str, ...]:
        """ "cpu", "gpu", or both."""
        return tuple(self.precisions)

    def computes_in(self, precision: str | None) -> bool:
        """Whether it has a precision on some device; None stands for the artifact's own."""
        return precision is None or any(precision in each for each in self.precisions.values())

    def reads(self, artifact: Artifact) -> bool:
        """Whether the artifact has a graph that it runs."""
        return any(graph in artifact.graphs for graph in self.graphs)


# --------------------------------------------------------------------------------------------
# What the rows are made of
# --------------------------------------------------------------------------------------------
def _opens(module: str, name: str) -> Open:
    """Opens by a class of a module beside this one, which is imported only then."""
    return lambda artifact, options: getattr(_module(module), name)(artifact, options)


def _module(name: str) -> Any:
    return importlib.import_module("ppliteseg_paddle.deploy." + name)


def _gpu_paddle_installed() -> bool:
    from importlib import metadata

    try:
        metadata.version("paddlepaddle-gpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def _was_built_here(artifact: Artifact) -> bool:
    """Whether Paddle has built TensorRT engines for it on this machine: nobody waits for minutes unasked."""
    return bool(_module("engines").has_engine(artifact.folder, "paddle-trt"))


_PADDLE_DISTRIBUTIONS = ("paddlepaddle", "paddlepaddle-gpu")
_PADDLE_PROBE = """
from ppliteseg_paddle.environment import import_paddle
import_paddle()
from paddle import inference
inference.Config()
print(inference.get_version().split()[1])
"""
_PADDLE_TRT_PROBE = """
from ppliteseg_paddle.environment import import_paddle
from ppliteseg_paddle.deploy.paddle_trt import check_usable
print('TensorRT %s' % check_usable(import_paddle()))
"""
_TENSORRT_PROBE = """
from ppliteseg_paddle.deploy.cuda import Gpu
from ppliteseg_paddle.deploy.tensorrt import import_tensorrt
package, for_rtx = import_tensorrt()
print(package.__version__, 'for RTX' * for_rtx, 'on', Gpu().name)
"""
_ONNX_RUNTIME_PROBE = """
import onnxruntime
print(onnxruntime.__version__, ' '.join(onnxruntime.get_available_providers()))
"""
_ALL = ("fp32", "fp16", "int8")

# What a float export can be computed in by `Predictor`, `predict` and `benchmark`.
ARITHMETIC = ("fp32", "bf16")
# What chooses by itself: by times that were measured on this machine, by measuring them anew, by the table below.
AUTO = ("auto", "auto:measure", "auto:table")

# Fastest first, as measured by scripts/bench_infer.sh.
_ROWS = (
    RuntimeSpec(
        name="tensorrt",
        title="TensorRT",
        graphs=("tensorrt",),
        packages=("tensorrt", "tensorrt_rtx"),
        install="pip install tensorrt",
        open=_opens("tensorrt", "TensorRtBackend"),
        precisions={"gpu": _ALL},
        distributions=("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13"),
        probe=_TENSORRT_PROBE,
        may_use_gpu=lambda: True,
    ),
    RuntimeSpec(
        name="onnxruntime",
        title="ONNX Runtime",
        graphs=("onnx",),
        packages=("onnxruntime",),
        install="pip install onnxruntime",
        open=_opens("onnx_runtime", "OnnxRuntimeBackend"),
        precisions={"cpu": _ALL, "gpu": _ALL},
        distributions=("onnxruntime", "onnxruntime-gpu"),
        probe=_ONNX_RUNTIME_PROBE,
        may_use_gpu=lambda: bool(_module("onnx_runtime").may_use_gpu()),
        timed=True,
    ),
    RuntimeSpec(
        name="openvino",
        title="OpenVINO",
        graphs=("openvino", "onnx"),
        packages=("openvino",),
        install="pip install openvino",
        open=_opens("openvino", "OpenVinoBackend"),
        precisions={"cpu": (*_ALL, "bf16")},
        timed=True,
        # 1.2 times as fast as ONNX Runtime with AVX2, 1.4 with VNNI, 2.7 with AMX; half as fast at open sizes.
        leads_in=("int8",),
    ),
    RuntimeSpec(
        name="paddle-trt",
        title="Paddle Inference with TensorRT",
        graphs=("paddle",),
        packages=("paddle",),
        install="pip install paddlepaddle-gpu",
        open=_opens("paddle_trt", "PaddleTrtBackend"),
        precisions={"gpu": _ALL},
        distributions=_PADDLE_DISTRIBUTIONS,
        probe=_PADDLE_TRT_PROBE,
        may_use_gpu=_gpu_paddle_installed,
        in_auto=_was_built_here,
    ),
    RuntimeSpec(
        name="paddle",
        title="Paddle Inference",
        graphs=("paddle",),
        packages=("paddle",),
        install="pip install paddlepaddle==3.2.2",
        open=_opens("paddle_inference", "PaddleBackend"),
        precisions={"cpu": ("fp32", "bf16"), "gpu": ("fp32",)},
        distributions=_PADDLE_DISTRIBUTIONS,
        probe=_PADDLE_PROBE,
        may_use_gpu=_gpu_paddle_installed,
    ),
    RuntimeSpec(
        name="paddle-native",
        title="Paddle Inference without oneDNN",
        graphs=("paddle",),
        packages=("paddle",),
        install="pip install paddlepaddle==3.2.2",
        open=_opens("paddle_inference", "PaddleNativeBackend"),
        precisions={"cpu": ("fp32",), "gpu": ("fp32",)},
        distributions=_PADDLE_DISTRIBUTIONS,
        probe=_PADDLE_PROBE,
        may_use_gpu=_gpu_paddle_installed,
    ),
)

# --------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------
RUNTIMES: dict[str, RuntimeSpec] = {}


def register(spec: RuntimeSpec, before: str | None = None) -> None:
    """Add a runtime.

    Args: before: the row that it precedes in the order of `auto`; None puts it last.
    Raises: ConfigError: if its name is taken, or `before` is unknown.
    """
    if spec.name in (*RUNTIMES, *AUTO):
        raise ConfigError(f"a runtime '{spec.name}' exists already; give another name.")
    if before is not None and before not in RUNTIMES:
        raise ConfigError(f"before is '{before}', which is no runtime; give one of {', '.join(RUNTIMES)}.")
    names = list(RUNTIMES)
    later = {name: RUNTIMES.pop(name) for name in (names[names.index(before) :] if before is not None else ())}
    RUNTIMES[spec.name] = spec
    RUNTIMES.update(later)


for _row in _ROWS:
    register(_row)


def backend_names() -> tuple[str, ...]:
    """What `--backend` takes: the forms of "auto", and the runtimes in the order of their table."""
    return (*AUTO, *RUNTIMES)


def formats() -> tuple[str, ...]:
    """All graph formats that a runtime reads."""
    return tuple(dict.fromkeys(graph for spec in RUNTIMES.values() for graph in spec.graphs))


def readers(graph: str) -> tuple[str, ...]:
    """The runtimes that read a format, in the order of `auto`."""
    return tuple(name for name, spec in RUNTIMES.items() if graph in spec.graphs)


def distributions() -> tuple[str, ...]:
    """What pip calls the packages of all runtimes."""
    return tuple(dict.fromkeys(name for spec in RUNTIMES.values() for name in spec.distributions))


def install_hint(package: str) -> str | None:
    """The command that installs a module which a runtime needs; None for a module that none needs."""
    return next((spec.install for spec in RUNTIMES.values() if package in spec.packages), None)
