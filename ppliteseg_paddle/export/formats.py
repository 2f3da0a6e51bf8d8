"""The formats that `export` writes, one row each. A format is added with a row here and a file that writes it.

This module is cheap to import: `ppliteseg export --help` reads the table.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ppliteseg_paddle.environment import paddle_version
from ppliteseg_paddle.errors import ConfigError, DependencyError, suggest

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.artifact import Artifact

DEFAULT_OPSET = 17  # the newest that ONNX Runtime 1.17 and TensorRT 8.6 read, too
OPSETS = range(11, 22)  # before 11, Resize does not say where pixels lie
# Forms of an ONNX graph, the default first; see `plain_graph`.
GRAPHS = ("fast", "plain")
_ONNX_PACKAGES = ("onnx", "onnxruntime", "paddle2onnx")


@dataclass(frozen=True)
class Format:
    """A row of `FORMATS`.

    Args:
        writer: "module:function", called with (source, artifact, folder). It writes the graph into the folder and
            returns the file of each role, as in {"model": "model.onnx"}.
        packages: what writing it needs.
        int8: whether it can hold 8-bit layers.
        takes_images: whether the graph may do the preprocessing itself (`preprocess_in_graph`).
        several_graphs: whether the graph has a fast and a plain form (`plain_graph`).
        opsets: whether it is of any version of ONNX's operator set.
        rounds_to_fp16: whether fp16 rounds this graph's weights, so that masks are compared within fp16's bounds.
        on_model_device: whether it is compared on the device that Paddle is set to; else on the CPU.
        compared_as: the format whose runtimes compare it, where its own need another machine.
        triton: the backend of NVIDIA Triton that serves it, a key of `triton.BACKENDS`.
        further_checks: "module:function", called with (artifact, model, images, save_dir) after the comparison on
            the CPU; it returns what is added to the report.
    """

    writer: str
    packages: tuple[str, ...] = ()
    int8: bool = True
    takes_images: bool = True
    several_graphs: bool = False
    opsets: bool = False
    rounds_to_fp16: bool = False
    on_model_device: bool = False
    compared_as: str | None = None
    triton: str | None = None
    further_checks: str | None = None

    def write(self, source: Any, artifact: Artifact, folder: str) -> dict[str, str]:
        """Write the graph of a `network.Source`. Returns: the file of each role."""
        roles: dict[str, str] = _load(self.writer)(source, artifact, folder)
        return roles

    def check_further(self, *arguments: Any) -> dict[str, Any]:
        """Run `further_checks`; {} where the row has none."""
        return _load(self.further_checks)(*arguments) if self.further_checks else {}


FORMATS: dict[str, Format] = {
    "paddle": Format("ppliteseg_paddle.export.paddle:write", int8=False, takes_images=False, on_model_device=True),
    "onnx": Format(
        "ppliteseg_paddle.export.onnx:write",
        _ONNX_PACKAGES,
        several_graphs=True,
        opsets=True,
        rounds_to_fp16=True,
        triton="onnxruntime",
    ),
    "openvino": Format(
        "ppliteseg_paddle.export.openvino:write",
        (*_ONNX_PACKAGES, "openvino"),
        several_graphs=True,
        rounds_to_fp16=True,
        triton="openvino",
    ),
    "tensorrt": Format(
        "ppliteseg_paddle.export.tensorrt:write",
        _ONNX_PACKAGES,
        compared_as="onnx",
        triton="tensorrt",
        further_checks="ppliteseg_paddle.export.tensorrt:check_on_gpu",
    ),
}


def check_known(names: Sequence[str]) -> tuple[str, ...]:
    """The formats, each once.

    Raises: ConfigError: if none is given, or one has no row.
    """
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"unknown format '{name}'.{suggest(name, FORMATS)}")
    if not names:
        raise ConfigError(f"no format is given.{suggest('', FORMATS)}")
    return tuple(dict.fromkeys(names))


def check_installed(names: Sequence[str]) -> None:
    """Raises: DependencyError: if a package that a format needs is missing, or Paddle too old for it."""
    packages = dict.fromkeys(package for name in names for package in FORMATS[name].packages)
    for package in packages:
        if importlib.util.find_spec(package) is None:
            wanting = next(name for name in names if package in FORMATS[name].packages)
            raise missing(wanting, package)
    version = paddle_version()
    if "paddle2onnx" in packages and version is not None and version < (3,):
        raise DependencyError(
            "exporting to ONNX needs Paddle 3 or later, as paddle2onnx does; installed is "
            f"{'.'.join(map(str, version))}. The weights can be exported with another Paddle: pip install "
            "paddlepaddle==3.2.2"
        )


def missing(wanting: str, package: str, python: tuple[int, ...] = sys.version_info[:2]) -> DependencyError:
    """What to say of a package that a format needs, on a version of Python."""
    if package == "paddle2onnx" and python >= (3, 13):
        return DependencyError(
            f"exporting to {wanting} needs paddle2onnx, which has no build for Python 3.13 or later. Export in an "
            "environment of Python 3.9 to 3.12; --format paddle needs none."
        )
    return DependencyError(
        f"exporting to {wanting} needs {package}, which is not installed. Install it with: pip install '.[cpu,deploy]'"
    )


def names_where(holds: Callable[[Format], bool]) -> str:
    """The formats for which something holds, for messages: "onnx, openvino and tensorrt"."""
    names = [name for name, row in FORMATS.items() if holds(row)]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _load(target: str) -> Callable[..., Any]:
    module, name = target.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
