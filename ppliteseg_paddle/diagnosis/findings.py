"""Known trouble with versions and machines, and the command that fixes each: one table, one row each."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, NamedTuple

from ppliteseg_paddle.deploy.runtimes import distributions
from ppliteseg_paddle.diagnosis.probes import Outcome
from ppliteseg_paddle.errors import install_training

# PaddleSeg's releases whose training loop is tested.
PADDLESEG_VERSIONS = ("2.8.0", "2.9.1")
_MIN_SHARED_MEMORY_MIB = 256
Version = tuple[int, ...]
_OR_GPU = " (or '.[gpu]')"  # its newest build on the index, 2.6.2, knows Python up to 3.12


@dataclass(frozen=True)
class Machine:
    """What is known of this machine.

    Args: packages: name -> version or None; outcomes: name of a probe -> outcome.
    """

    packages: Mapping[str, str | None]
    outcomes: Mapping[str, Outcome]

    def version(self, *packages: str) -> Version:
        """The version of the first that is installed; () without, which is less than any version."""
        return next(filter(None, (_numbers(self.packages.get(package)) for package in packages)), ())

    @property
    def paddle(self) -> Version:
        return self.version("paddlepaddle-gpu", "paddlepaddle")

    def failed(self, probe: str) -> bool:
        return probe in self.outcomes and not self.outcomes[probe].ok

    def detail(self, probe: str) -> str:
        return self.outcomes[probe].detail if probe in self.outcomes else ""

    @property
    def python(self) -> Version:
        return tuple(sys.version_info[:2])

    @property
    def built_for_numpy_1(self) -> list[str]:
        """Packages that do not work with NumPy 2."""
        opencv = self.version("opencv-python", "opencv-python-headless")
        old = (("opencv-python", () < opencv < (4, 10)), ("paddlepaddle", () < self.paddle < (3,)))
        return [name for name, is_old in old if is_old]


class Rule(NamedTuple):
    """A row: "error" or "warning", when it applies, what is wrong, and how to fix it."""

    level: str
    applies: Callable[[Machine], object]
    what: Callable[[Machine], str]
    fix: str


RULES = (
    Rule(
        "error",
        lambda m: not (3, 9) <= m.python <= (3, 14),
        lambda m: f"Python {platform.python_version()} is outside 3.9 to 3.14",
        "make the environment with a Python from 3.9 to 3.13",
    ),
    Rule(
        "error",
        lambda m: m.python == (3, 14) and m.version("paddleseg"),
        lambda m: f"there is no PaddlePaddle for Python {platform.python_version()}; exported models can be run",
        "to train, make the environment with a Python from 3.9 to 3.13",
    ),
    Rule(
        "error",
        lambda m: m.version("paddleseg") and not m.paddle,
        lambda m: "PaddleSeg is installed, but PaddlePaddle is not",
        "pip install '.[cpu]'   (or '.[gpu]')",
    ),
    Rule(
        "warning",
        lambda m: m.python >= (3, 13) and m.paddle and m.version("visualdl") and not m.version("paddleseg"),
        lambda m: "training needs PaddleSeg, whose requirements have no build for this Python: install it without them",
        f"pip install --no-deps paddleseg=={PADDLESEG_VERSIONS[0]}",
    ),
    Rule(
        "error",
        lambda m: not any(m.version(name) for name in distributions()),
        lambda m: "no runtime is installed that runs an exported model",
        "pip install '.[runtime]'   (ONNX Runtime and OpenVINO; or '.[cpu]' to train)",
    ),
    Rule(
        "error",
        lambda m: m.version("paddleseg") and m.packages["paddleseg"] not in PADDLESEG_VERSIONS,
        lambda m: (
            f"PaddleSeg {m.packages['paddleseg']} is installed; the training loop is tested with "
            f"{' and '.join(PADDLESEG_VERSIONS)}"
        ),
        f"pip install --no-deps paddleseg=={PADDLESEG_VERSIONS[0]}",
    ),
    Rule(
        "error",
        lambda m: m.version("paddlepaddle") and m.version("paddlepaddle-gpu"),
        lambda m: "paddlepaddle and paddlepaddle-gpu are both installed and overwrite each other's files",
        "pip uninstall paddlepaddle paddlepaddle-gpu, then install one of them",
    ),
    Rule(
        "error",
        lambda m: m.version("numpy") >= (2,) and m.built_for_numpy_1 and m.python < (3, 13),
        lambda m: (
            f"NumPy {m.packages['numpy']} is installed beside {' and '.join(m.built_for_numpy_1)}, built for NumPy 1"
        ),
        "pip install 'numpy<2'",
    ),
    Rule(
        "error",
        lambda m: m.version("numpy") >= (2,) and m.built_for_numpy_1 and m.python >= (3, 13),
        lambda m: f"{' and '.join(m.built_for_numpy_1)} is built for NumPy 1, which Python 3.13 does not have",
        "pip install 'opencv-python>=4.12,<5'",
    ),
    Rule(
        "error",
        lambda m: m.version("numpy") >= (2, 4) and m.paddle,
        lambda m: f"NumPy {m.packages['numpy']} is installed beside PaddlePaddle, whose float(tensor) fails with it",
        "pip install 'numpy<2.4'",
    ),
    Rule(
        "error",
        lambda m: m.version("pandas") >= (3,) and m.version("numpy") < (2,),
        lambda m: f"pandas {m.packages['pandas']} wants NumPy 2; visualdl needs pandas",
        "pip install 'pandas<3'",
    ),
    Rule(
        "warning",
        lambda m: m.version("ml-dtypes") >= (0, 6) and m.version("numpy") < (2,),
        lambda m: f"ml-dtypes {m.packages['ml-dtypes']} wants NumPy 2; onnx needs ml-dtypes",
        "pip install 'ml-dtypes<0.5.5' 'onnx<1.18' 'numpy<2'",
    ),
    Rule(
        "warning",
        lambda m: () < m.paddle < (3,) and m.version("protobuf") >= (7,),
        lambda m: f"protobuf {m.packages['protobuf']}: training on several devices fails with PaddlePaddle 2.6",
        "pip install 'protobuf<7'",
    ),
    Rule(
        "warning",
        lambda m: (3, 3) <= m.paddle < (3, 4),
        lambda m: (
            "PaddlePaddle 3.3 cannot run this model with oneDNN on a CPU (PaddlePaddle issue 77340), so inference is "
            "about 4 times slower"
        ),
        "pip install paddlepaddle==3.2.2, or run the model with ONNX Runtime or OpenVINO",
    ),
    Rule(
        "error",
        lambda m: "libGL" in m.detail("opencv (cv2)"),
        lambda m: "OpenCV finds no libGL on this machine",
        "apt-get install libgl1 libglib2.0-0",
    ),
    Rule(
        "error",
        lambda m: m.failed("opencv (cv2)") and "numpy" in m.detail("opencv (cv2)") and m.version("numpy") < (2,),
        lambda m: f"OpenCV and NumPy do not fit together: {m.detail('opencv (cv2)')}",
        "pip install --force-reinstall 'numpy<2' 'opencv-python<=4.6.0'",
    ),
    Rule(
        "error",
        lambda m: m.paddle and m.failed("paddle") and m.version("numpy") < (2,),
        lambda m: f"paddle cannot be imported: {m.detail('paddle')}",
        "pip install --force-reinstall '.[cpu]'",
    ),
    Rule(
        "warning",
        lambda m: m.version("paddlepaddle") and not m.version("paddlepaddle-gpu") and shutil.which("nvidia-smi"),
        lambda m: "this machine has an NVIDIA GPU, but PaddlePaddle is a CPU build",
        "pip uninstall paddlepaddle && pip install '.[gpu]'   (GPUs since Hopper: see the docs, Installation)",
    ),
    Rule(
        "error",
        lambda m: m.version("paddlepaddle-gpu") and m.failed("convolution") and not m.failed("paddle"),
        lambda m: (
            f"PaddlePaddle-GPU {m.packages['paddlepaddle-gpu']} cannot compute on this machine: "
            f"{m.detail('convolution')}"
        ),
        "install a build with kernels for this GPU (see the docs, Installation), or use --device cpu",
    ),
    Rule(
        "warning",
        lambda m: _shared_memory_mib() < _MIN_SHARED_MEMORY_MIB,
        lambda m: (
            f"the shared memory, /dev/shm, has {_shared_memory_mib():.0f} MiB free; "
            "training with --num_workers may die with a bus error"
        ),
        "use --num_workers 0, or start the container with --shm-size=1g",
    ),
)


def how_to_train(python: Version = sys.version_info[:2]) -> str:
    """What to do where nothing for training is installed, on a version of Python."""
    if python >= (3, 14):
        return "there is no PaddlePaddle for this Python: take one from 3.9 to 3.13"
    return f"{install_training('cpu', python)}{_OR_GPU * (python < (3, 13))}"


def findings(packages: Mapping[str, str | None], outcomes: Mapping[str, Outcome]) -> list[dict[str, str]]:
    """What is known to be wrong with these versions on this machine: {"level", "what", "fix"}, errors first.

    Args: as `Machine` has them.
    """
    machine = Machine(packages, outcomes)
    found = [
        {"level": rule.level, "what": rule.what(machine), "fix": rule.fix} for rule in RULES if rule.applies(machine)
    ]
    return sorted(found, key=lambda finding: finding["level"])


def _numbers(text: str | None) -> Version:
    """'3.2.2' -> (3, 2, 2); () for None."""
    match = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _shared_memory_mib() -> float:
    """What is free of it; unlimited where the system has no such folder."""
    folder = "/dev/shm"  # nothing is written  # noqa: S108  # nosec B108
    return shutil.disk_usage(folder).free / 2**20 if os.path.isdir(folder) else float("inf")
