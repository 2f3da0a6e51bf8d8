"""Show the versions of everything, what works here, and the command that mends what does not.

Exit status 2 if training or inference with Paddle cannot work. Every package is tried in a process
of its own, so that one which is broken, or ends its process, is reported like the others."""

from __future__ import annotations

import concurrent.futures
import os
import platform
import re
import shutil
import subprocess
import sys

from ppliteseg_paddle.files import SOURCE_ROOT

PACKAGES = (
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
    "pandas",
    "matplotlib",
    "protobuf",
    "safetensors",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "paddle2onnx",
    "ml-dtypes",
    "setuptools",
)

_PREPARE = "from ppliteseg_paddle import environment; environment.prepare(); "
_CONV = """
from ppliteseg_paddle import environment; environment.prepare()
import paddle
gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
paddle.set_device('gpu' if gpu else 'cpu')
y = paddle.nn.functional.conv2d(paddle.ones([1, 3, 8, 8]), paddle.ones([4, 3, 3, 3]), padding=1)
assert float(y.max()) == 27.0, 'a convolution gave a wrong result: %r' % float(y.max())
print(('GPU ' + paddle.device.cuda.get_device_name()) if gpu else 'CPU')
"""
_REGISTRY = """
import ppliteseg_paddle; ppliteseg_paddle.register()
import paddleseg
from paddleseg.cvlibs import manager
names = [n for r in ('MODELS', 'BACKBONES', 'LOSSES', 'DATASETS') for n in getattr(manager, r).components_dict]
missing = [n for n in ('PPLiteSegNet', 'STDCNet813', 'OhemCELoss', 'CamVid', 'PPLiteSeg') if n not in names]
assert not missing, 'not registered: ' + ', '.join(missing)
print('%s, %d components' % (paddleseg.__version__, len(names)))
"""
_TRAINING = """
from ppliteseg_paddle.models.fused import onednn
found = onednn.library()
without = "by Paddle's layers: this Paddle has no oneDNN 3, the processor no AVX2, or PPLITESEG_ONEDNN is 0"
print('by oneDNN %s on a CPU' % found.version if found else without)
"""
_PNG = """
from ppliteseg_paddle import environment; environment.prepare()
import paddle, cv2, numpy
ok, data = cv2.imencode('.png', numpy.arange(4096, dtype='uint8').reshape(64, 64))
assert cv2.imdecode(data, -1) is not None, 'a PNG cannot be read beside paddle'
print('reads PNG beside paddle')
"""
# (name, code that prints a detail, needed for: "training", "inference" or nothing)
PROBES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("numpy", "import numpy; print(numpy.__version__)", ("training", "inference")),
    ("opencv (cv2)", "import cv2; print(cv2.__version__)", ("training", "inference")),
    ("paddle", _PREPARE + "import paddle; print(paddle.__version__)", ("training", "inference")),
    ("convolution", _CONV, ("training", "inference")),
    ("convolution in training", _TRAINING, ()),
    ("images with paddle", _PNG, ("training", "inference")),
    ("paddleseg and registry", _REGISTRY, ("training",)),
    ("visualdl", "from visualdl import LogWriter; print('curves with --use_vdl')", ()),
    ("matplotlib", "import matplotlib; print('plots')", ()),
)
# Runtimes that can run an exported model: (name, code).
BACKENDS = (
    ("Paddle Inference", _PREPARE + "import paddle.inference as i; i.Config(); print(i.get_version().split()[1])"),
    ("ONNX Runtime", "import onnxruntime as o; print(o.__version__, ' '.join(o.get_available_providers()))"),
    ("OpenVINO", "import openvino as o; print(o.__version__)"),
    ("Paddle2ONNX (export)", _PREPARE + "import paddle2onnx as p; print(p.__version__)"),
)
ABSENT = "not installed"


def add_arguments(parser) -> None:
    """No flags of its own."""


def run(args) -> dict:
    packages = {name: _version(name) for name in PACKAGES}
    print("trying each package in a process of its own ...", file=sys.stderr, flush=True)
    rows = [(name, code) for name, code, _ in PROBES] + list(BACKENDS)
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(2, min(4, os.cpu_count() or 2))) as pool:
        outcomes = dict(zip([name for name, _ in rows], pool.map(probe, [code for _, code in rows])))
    checks = [
        {"name": name, "ok": outcomes[name][0], "detail": outcomes[name][1], "needed_for": list(needed)}
        for name, _, needed in PROBES
    ]
    works = {
        purpose: all(check["ok"] for check in checks if purpose in check["needed_for"])
        for purpose in ("training", "inference")
    }
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages,
        "checks": checks,
        "backends": [{"name": name, "ok": outcomes[name][0], "detail": outcomes[name][1]} for name, _ in BACKENDS],
        "works": works,
        "findings": findings(packages, outcomes),
        "exit_status": 0 if all(works.values()) else 2,
    }


def summary(result: dict) -> str:
    lines = [f"Python {result['python']}, {result['platform']}, {result['cpus']} CPUs", "", "versions"]
    lines += [f"  {name:24} {version}" for name, version in result["packages"].items() if version]
    absent = [name for name, version in result["packages"].items() if not version]
    lines += [f"  not installed: {', '.join(absent)}", "", "checks"]
    lines += [_row(check) for check in result["checks"]] + ["", "runtimes for an exported model"]
    lines += [_row(check) for check in result["backends"]]
    if result["findings"]:
        lines += ["", "to mend"]
        for finding in result["findings"]:
            lines += [f"  {finding['level']!s:8} {finding['what']}", f"           {finding['mend']}"]
    lines += [""] + [f"{purpose}: {('works' if ok else 'CANNOT WORK')}" for purpose, ok in result["works"].items()]
    return "\n".join(lines)


def _row(check: dict) -> str:
    status = "ok" if check["ok"] else "-" if check["detail"] == ABSENT else "FAILS"
    return f"  {check['name']!s:24} {status!s:5} {check['detail']}"


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def probe(code: str, timeout: float = 180) -> tuple[bool, str]:
    """Run Python code in a process of its own. Returns: whether it ended well, and its last line or its error."""
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join([SOURCE_ROOT, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    )
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return False, f"did not answer within {timeout:g} s"
    if done.returncode < 0:
        return False, f"the process died (signal {-done.returncode:d})"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, _shorter(lines[-1]) if lines else ""


def _shorter(text: str) -> str:
    if re.match(r"ModuleNotFoundError: No module named '\w+'$", text):
        return ABSENT
    text = re.sub(r"^(ModuleNotFoundError|ImportError|AssertionError): ", "", " ".join(text.split()))
    return text if len(text) <= 150 else text[:147] + "..."


# --------------------------------------------------------------------------------------------
# Known trouble and its mend
# --------------------------------------------------------------------------------------------
def findings(packages: dict[str, str | None], outcomes: dict[str, tuple[bool, str]]) -> list[dict[str, str]]:
    """What is known to be wrong with these versions on this machine: {"level", "what", "mend"}, errors first.

    Args:
        packages: name -> version or None; outcomes: name of a probe -> (ok, detail).
    """
    found: list[dict[str, str]] = []

    def add(level: str, condition, what: str, mend: str) -> None:
        if condition:
            found.append({"level": level, "what": what, "mend": mend})

    version = {name: _numbers(text) for name, text in packages.items()}
    cpu, gpu = version["paddlepaddle"], version["paddlepaddle-gpu"]
    paddle = gpu or cpu
    opencv = version["opencv-python"] or version["opencv-python-headless"]
    failed = {name for name, (ok, _) in outcomes.items() if not ok}
    cv2_detail = outcomes.get("opencv (cv2)", (True, ""))[1]

    add(
        "error",
        not (3, 9) <= sys.version_info[:2] <= (3, 12),
        f"Python {platform.python_version()} is outside 3.9 to 3.12",
        "make the environment with a Python from 3.9 to 3.12",
    )
    add("error", not paddle, "PaddlePaddle is not installed", "pip install '.[cpu]'   (or '.[gpu]')")
    add(
        "error",
        not version["paddleseg"],
        "PaddleSeg is not installed; training and export need it",
        "pip install '.[cpu]'   (or '.[gpu]')",
    )
    add(
        "error",
        version["paddleseg"] and version["paddleseg"] != (2, 8, 0),
        f"PaddleSeg {packages['paddleseg']} is installed; the training loop is known as of 2.8.0",
        "pip install paddleseg==2.8.0",
    )
    add(
        "error",
        cpu and gpu,
        "paddlepaddle and paddlepaddle-gpu are both installed and overwrite each other's files",
        "pip uninstall paddlepaddle paddlepaddle-gpu, then install one of them",
    )
    old = [
        name
        for name, is_old in (("opencv-python", () < opencv <= (4, 6, 0)), ("paddlepaddle", () < paddle < (3,)))
        if is_old
    ]
    add(
        "error",
        version["numpy"] >= (2,) and old,
        f"NumPy {packages['numpy']} is installed beside {' and '.join(old)}, built for NumPy 1",
        "pip install 'numpy<2'",
    )
    add(
        "error",
        version["pandas"] >= (3,),
        f"pandas {packages['pandas']} wants NumPy 2; visualdl needs pandas",
        "pip install 'pandas<3'",
    )
    add(
        "warning",
        version["ml-dtypes"] >= (0, 6),
        f"ml-dtypes {packages['ml-dtypes']} wants NumPy 2; onnx needs ml-dtypes",
        "pip install 'ml-dtypes<0.5.5' 'onnx<1.18' 'numpy<2'",
    )
    add(
        "warning",
        paddle and paddle < (3,) and version["protobuf"] >= (7,),
        f"protobuf {packages['protobuf']}: training on several devices fails with PaddlePaddle 2.6",
        "pip install 'protobuf<7'",
    )
    add(
        "warning",
        paddle and (3, 3) <= paddle < (3, 4),
        "PaddlePaddle 3.3 cannot run this model with oneDNN on a CPU (PaddlePaddle issue 77340), so inference is about "
        "4 times slower",
        "pip install paddlepaddle==3.2.2, or run the model with ONNX Runtime or OpenVINO",
    )
    add("error", "libGL" in cv2_detail, "OpenCV finds no libGL on this machine", "apt-get install libgl1 libglib2.0-0")
    add(
        "error",
        "opencv (cv2)" in failed and "numpy" in cv2_detail and version["numpy"] < (2,),
        f"OpenCV and NumPy do not fit together: {cv2_detail}",
        "pip install --force-reinstall 'numpy<2' 'opencv-python<=4.6.0'",
    )
    add(
        "error",
        paddle and "paddle" in failed and version["numpy"] < (2,),
        f"paddle cannot be imported: {outcomes.get('paddle', (0, ''))[1]}",
        "pip install --force-reinstall '.[cpu]'",
    )
    add(
        "warning",
        cpu and not gpu and shutil.which("nvidia-smi"),
        "this machine has an NVIDIA GPU, but PaddlePaddle is a CPU build",
        "pip uninstall paddlepaddle && pip install '.[gpu]'   (GPUs since Hopper: see README)",
    )
    add(
        "error",
        gpu and "convolution" in failed and "paddle" not in failed,
        f"PaddlePaddle-GPU {packages['paddlepaddle-gpu']} cannot compute on this machine: "
        f"{outcomes.get('convolution', (0, ''))[1]}",
        "install a build with kernels for this GPU (see README), or use --device cpu",
    )
    free = _shared_memory_mib()
    add(
        "warning",
        free is not None and free < 256,
        f"/dev/shm has {free} MiB free; training with --num_workers may die with a bus error",
        "use --num_workers 0, or start the container with --shm-size=1g",
    )
    return sorted(found, key=lambda finding: finding["level"])


def _numbers(text: str | None) -> tuple[int, ...]:
    """'3.2.2' -> (3, 2, 2); () for None, which is less than any version."""
    match = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _shared_memory_mib() -> int | None:
    return shutil.disk_usage("/dev/shm").free // 2**20 if os.path.isdir("/dev/shm") else None
