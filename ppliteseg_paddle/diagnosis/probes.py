"""Try each package in a process of its own, so that one which is broken, or ends its process, is reported like the
others."""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

from ppliteseg_paddle.deploy import runtimes
from ppliteseg_paddle.files import SOURCE_ROOT

# What an installation may be for. Inference needs any one runtime beside what its probes try.
PURPOSES = ("training", "inference")
# Whoever installs this wants to train.
TRAINS_WITH = "paddleseg"
ABSENT = "not installed"

# Packages whose versions are shown, beside those of the runtimes.
_PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "pyyaml",
    "tqdm",
    "paddlepaddle",
    "paddlepaddle-gpu",
    "paddleseg",
    "visualdl",
    "tensorboard",
    "pandas",
    "matplotlib",
    "protobuf",
    "safetensors",
    "onnx",
    "paddle2onnx",
    "ml-dtypes",
    "setuptools",
)

_PREPARE = "from ppliteseg_paddle import environment; environment.prepare()\n"
_CONVOLUTION = (
    _PREPARE
    + """
import paddle
gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
paddle.set_device('gpu' if gpu else 'cpu')
y = paddle.nn.functional.conv2d(paddle.ones([1, 3, 8, 8]), paddle.ones([4, 3, 3, 3]), padding=1)
assert float(y.max()) == 27.0, 'a convolution gave a wrong result: %r' % float(y.max())
print(('GPU ' + paddle.device.cuda.get_device_name()) if gpu else 'CPU')
"""
)
_CONVOLUTION_IN_TRAINING = """
from ppliteseg_paddle.models.fused import onednn
found = onednn.library()
without = "by Paddle's layers: this Paddle has no oneDNN 3, the processor no AVX2, or PPLITESEG_ONEDNN is 0"
print('by oneDNN %s on a CPU, in fp32%s' % (found.version, ' or bf16' * found.bf16) if found else without)
"""
_PNG = (
    _PREPARE
    + """
import paddle, cv2, numpy
ok, data = cv2.imencode('.png', numpy.arange(4096, dtype='uint8').reshape(64, 64))
assert cv2.imdecode(data, -1) is not None, 'a PNG cannot be read beside paddle'
print('reads PNG beside paddle')
"""
)
_REGISTRY = """
from ppliteseg_paddle import registry
registry.register()
import paddleseg
from paddleseg.cvlibs import manager
held = [name for group in registry.COMPONENTS for name in getattr(manager, group).components_dict]
ours = [target.split(':')[1] for targets in registry.COMPONENTS.values() for target in targets]
missing = [name for name in ours if name not in held]
assert not missing, 'not registered: ' + ', '.join(missing)
print('%s, %d components' % (paddleseg.__version__, len(held)))
"""


class Probe(NamedTuple):
    """Code that fails, or else prints a line about what it found; `needed_for`: those of `PURPOSES` that depend on
    it."""

    name: str
    code: str
    needed_for: tuple[str, ...] = ()


PROBES = (
    Probe("numpy", "import numpy; print(numpy.__version__)", PURPOSES),
    Probe("opencv (cv2)", "import cv2; print(cv2.__version__)", PURPOSES),
    Probe("paddle", _PREPARE + "import paddle; print(paddle.__version__)", ("training",)),
    Probe("convolution", _CONVOLUTION, ("training",)),
    Probe("convolution in training", _CONVOLUTION_IN_TRAINING),
    Probe("images with paddle", _PNG, ("training",)),
    Probe("paddleseg and registry", _REGISTRY, ("training",)),
    Probe("visualdl", "from visualdl import LogWriter; print('curves with --use_vdl')"),
    Probe("matplotlib", "import matplotlib; print('plots')"),
    Probe("paddle2onnx", _PREPARE + "import paddle2onnx; print(paddle2onnx.__version__, 'exports other formats')"),
)


class Outcome(NamedTuple):
    """Of a probe. `error` is the class of a Python exception: "DependencyError" says that nothing is broken, but
    something is missing."""

    ok: bool
    detail: str
    error: str = ""

    @property
    def status(self) -> str:
        """ "ok", "-" for what is not installed or not for this machine, or "FAILS"."""
        return "ok" if self.ok else "-" if self.detail == ABSENT or self.error == "DependencyError" else "FAILS"


def versions() -> dict[str, str | None]:
    """Package -> version; None where it is not installed. Nothing is imported."""
    found: dict[str, str | None] = {}
    for package in dict.fromkeys((*_PACKAGES, *runtimes.distributions())):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def try_all() -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Run all probes, several at once.

    Returns: name of a probe -> outcome, and name of a runtime -> outcome.
    """
    installed = {name: spec for name, spec in runtimes.RUNTIMES.items() if spec.installed}
    codes = [code for _, code, _ in PROBES] + [spec.probe for spec in installed.values()]
    unique = list(dict.fromkeys(codes))  # runtimes of one package may share a probe
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(2, min(4, os.cpu_count() or 2))) as pool:
        outcomes = dict(zip(unique, pool.map(run_probe, unique)))
    return (
        {probe.name: outcomes[probe.code] for probe in PROBES},
        {
            name: outcomes[spec.probe] if name in installed else Outcome(False, ABSENT)
            for name, spec in runtimes.RUNTIMES.items()
        },
    )


def working(
    packages: Mapping[str, str | None], outcomes: Mapping[str, Outcome], backends: Mapping[str, Outcome]
) -> dict[str, bool | None]:
    """Purpose -> whether all that it needs works; None for training where it is not installed: who runs exported models
    needs none of it.

    Args: packages: as `versions` returns them; outcomes, backends: as `try_all` does.
    """
    works: dict[str, bool | None] = {
        purpose: all(outcomes[probe.name].ok for probe in PROBES if purpose in probe.needed_for) for purpose in PURPOSES
    }
    works["inference"] = bool(works["inference"]) and any(outcome.ok for outcome in backends.values())
    if not packages.get(TRAINS_WITH):
        works["training"] = None
    return works


def run_probe(code: str, timeout: float = 180) -> Outcome:
    """Run Python code in a process of its own. The detail is the last line that it printed, or its error."""
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join([SOURCE_ROOT, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    )
    try:
        done = subprocess.run(  # noqa: S603 - this Python, our code
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Outcome(False, f"did not answer within {timeout:g} s")
    if done.returncode < 0:
        return Outcome(False, f"the process died (signal {-done.returncode:d})")
    if done.returncode == 0:
        return Outcome(True, _shortened(_last_line(done.stdout.splitlines())))
    return _failure(done.stderr.splitlines())


def _failure(lines: Sequence[str]) -> Outcome:
    last = _last_line(lines)
    match = re.match(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*(?:Error|Exception))(?:: |$)", last)
    error = match.group(1) if match else ""
    if re.match(r"ModuleNotFoundError: No module named '\w+'$", last):
        return Outcome(False, ABSENT, error)
    silent = ("ModuleNotFoundError", "ImportError", "AssertionError", "DependencyError")
    return Outcome(False, _shortened(last[match.end() :] if match and error in silent else last), error)


def _last_line(lines: Sequence[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 150 else text[:147] + "..."
