"""What this process needs before Paddle is imported, and the number of threads that Paddle computes with.

`prepare()` is called by everything in this package that imports paddle. Importing this module changes nothing: it only
remembers `OMP_NUM_THREADS`, which paddle overwrites when it is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import logging
import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any


def _omp_num_threads_of_the_user() -> str | None:
    """`OMP_NUM_THREADS` as the user set it. After the import of paddle a 1 is paddle's own."""
    found = os.environ.get("OMP_NUM_THREADS")
    return None if "paddle" in sys.modules and found == "1" else found


# Warnings of Paddle that a user cannot act upon.
NOISE = (
    "No ccache found",  # Paddle 3 at import, about compiling C++ extensions
    r"\s*Non compatible API",  # Paddle 3.2 and later, where PaddleSeg's and our calls resemble torch's
    "When training, we now always track",  # of every batch norm
)
GLOG_LEVEL = "GLOG_minloglevel"
VECTOR_INSTRUCTIONS = (
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "sve",
)
VECTOR_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
)
# oneDNN's names of instruction sets with products of bfloat16, as `ONEDNN_MAX_CPU_ISA` takes them, by how they begin.
_WITH_BF16 = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10", "DEFAULT", "ALL")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)
_OMP_NUM_THREADS_OF_THE_USER = _omp_num_threads_of_the_user()
_compute_threads = 1  # see `use_all_cores`
_signals_are_pythons = False  # see `import_paddle`


def prepare() -> None:
    """Set up this process for Paddle. Call it before `import paddle`; calling it again changes nothing.

    Sets `MKL_DEBUG_CPU_TYPE` on AMD processors, loads OpenCV or Pillow ahead of Paddle 2.6, and hides the warnings in
    `NOISE`.
    """
    choose_fast_matrix_products()
    load_image_codecs_before_paddle()
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def import_paddle() -> Any:
    """Import paddle into a process that is prepared for it, and take its signal handlers and the root logger's handler
    off. Of Paddle's C++ code it shows errors only, unless `GLOG_minloglevel` is set. Returns: the package.

    Reason: Paddle's import replaces the handlers of SIGTERM and of crashes, Python's own included. Its own allocates
    memory inside the signal, and about one SIGTERM in ten waits for ever for a lock that the interrupted thread holds.
    It also gives the root logger a handler, so that everybody's warnings begin with a time, a file and a line.
    Can go: when Paddle's handlers do nothing of the kind.
    """
    global _signals_are_pythons
    prepare()
    with _sigterm_waiting():
        with _root_logger_unchanged(), _errors_only():
            paddle = importlib.import_module("paddle")
        if not _signals_are_pythons:
            _signals_are_pythons = True
            paddle.disable_signal_handler()
            handler = signal.getsignal(signal.SIGTERM)
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # which Python knows of and Paddle had replaced
    return paddle


@contextlib.contextmanager
def _root_logger_unchanged() -> Iterator[None]:
    before = list(logging.root.handlers)
    try:
        yield
    finally:
        for handler in [handler for handler in logging.root.handlers if handler not in before]:
            logging.root.removeHandler(handler)


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """What Paddle's C++ code logs is decided at its import, by a variable: see `ignore_noise`. The variable goes after
    it, as the environment is the user's."""
    if GLOG_LEVEL in os.environ:
        yield
        return
    os.environ[GLOG_LEVEL] = "2"  # INFO, WARNING, ERROR, FATAL
    try:
        yield
    finally:
        os.environ.pop(GLOG_LEVEL, None)


@contextlib.contextmanager
def _sigterm_waiting() -> Iterator[None]:
    """Let SIGTERM wait in this thread, so that Paddle's handler never gets one."""
    if "paddle" in sys.modules or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_noise() -> None:
    """Show none of the warnings in `NOISE`, and of Paddle's C++ code nothing below an error, unless `GLOG_minloglevel`
    is set: it warns of what its own Python code does ("PIR not support input out tensor"). To be called before Paddle
    is imported; processes that this one starts do the same."""
    os.environ.setdefault(GLOG_LEVEL, "2")
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def load_image_codecs_before_paddle() -> None:
    """Load OpenCV (or Pillow) ahead of Paddle 2.6. Warns if paddle was imported first.

    Reason: libpaddle 2.6.2 exports zlib symbols of its own. If it is loaded first, OpenCV's and
    Pillow's PNG readers bind to them and fail, or the process dies in `inflateReset2`.
    Can go: with support for Paddle 2.6.
    """
    version = paddle_version()
    if version is None or version >= (3,) or "cv2" in sys.modules or "PIL.Image" in sys.modules:
        return
    if "paddle" in sys.modules:
        warnings.warn(
            "Paddle 2.6 was imported before OpenCV, so reading a PNG file can end this process. "
            "Call ppliteseg_paddle.environment.prepare() or import cv2 before paddle.",
            RuntimeWarning,
            stacklevel=3,
        )
    for module in ("cv2", "PIL.Image"):
        if importlib.util.find_spec(module.split(".")[0]) is not None:
            importlib.import_module(module)
            return


def choose_fast_matrix_products() -> None:
    """Let the MKL in Paddle's CPU builds use AVX2 on AMD processors.

    Reason: that MKL (of 2019) recognizes Intel processors only and takes its slowest code path on others: matrix
    products, and with them convolutions in training, run at 40 % of their AVX2 speed on an AMD EPYC. The variable
    selects the AVX2 path; later versions of MKL ignore it. A value that the user has set is respected. MKL reads the
    variable at its first product, so setting it after the import of paddle is not too late.
    Can go: when Paddle's CPU builds carry another library.
    """
    if "MKL_DEBUG_CPU_TYPE" not in os.environ and _is_amd_with_avx2():
        os.environ["MKL_DEBUG_CPU_TYPE"] = "5"


def _is_amd_with_avx2(cpuinfo: str = "/proc/cpuinfo") -> bool:
    described = _cpuinfo(cpuinfo)
    return "AuthenticAMD" in described and {"avx2", "fma"} <= set(described.split())


def _cpuinfo(path: str = "/proc/cpuinfo") -> str:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(8192).split("\n\n")[0]
    except OSError:
        return ""


def processor() -> str:
    """The processor's name."""
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def instruction_sets() -> str:
    """What the order of sums in Paddle's kernels depends on: the vector instructions that the processor has, and the
    variables that hide some of them from the libraries."""
    flags = set(_cpuinfo().split())
    found = [name for name in VECTOR_INSTRUCTIONS if name in flags]
    hidden = [f"{name}={os.environ[name]}" for name in VECTOR_VARIABLES if name in os.environ]
    return " ".join([*found, *hidden]) or platform.machine()


def multiplies_bf16() -> bool:
    """Whether the processor multiplies bfloat16 (AVX512_BF16 or AMX), and no variable hides that from oneDNN. Known on
    Linux only."""
    limits = [os.environ[name] for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    has = {"avx512_bf16", "amx_bf16"} & set(_cpuinfo().split())
    return bool(has) and all(limit.upper().startswith(_WITH_BF16) for limit in limits[:1])


def paddle_version() -> tuple[int, ...] | None:
    """(3, 2, 2) of the installed Paddle without importing it; None if it is not installed."""
    from importlib import metadata

    for name in ("paddlepaddle", "paddlepaddle-gpu"):
        try:
            text = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdigit())
    return None


def use_all_cores() -> int:
    """Let Paddle compute with all cores that this process may use, or with its share of them beside other ranks.

    Returns: the number of threads.

    Reason: Paddle's CPU builds start with one thread unless OMP_NUM_THREADS is set before the import; most of
    the machine idles while it trains. A variable that the user has set is respected, but a 1 under
    `paddle.distributed.launch` is not taken for the user's: the launcher imports paddle, too, and so hands it to every
    rank.
    Can go: when Paddle chooses the number of threads by itself.
    """
    import paddle

    global _compute_threads
    wanted, ranks_here = _OMP_NUM_THREADS_OF_THE_USER, int(os.environ.get("PADDLE_LOCAL_SIZE") or 1)
    if wanted and wanted.isdigit() and int(wanted) > (1 if ranks_here > 1 else 0):
        threads = int(wanted)
    elif hasattr(os, "sched_getaffinity"):
        threads = max(1, len(os.sched_getaffinity(0)) // ranks_here)
    else:
        threads = max(1, (os.cpu_count() or 1) // ranks_here)
    paddle.base.core.set_num_threads(threads)
    _compute_threads = threads
    return threads


def compute_threads() -> int:
    """Threads that this process computes with, in Paddle and beside it: 1 until `use_all_cores` was called."""
    return _compute_threads


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for the next step, which needs as much again.

    Reason: glibc gives large blocks back to the system at once, which hands them out anew page by page, each zeroed:
    a tenth of an evaluation's time. What the variables of glibc say is respected. Can go: when Paddle's CPU builds
    keep a pool of their own.
    """
    tuned = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform.startswith("linux") and not tuned:
        with contextlib.suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            for option, value in ((_M_TRIM_THRESHOLD, 2**31 - 1), (_M_MMAP_MAX, 0)):
                mallopt(option, value)


def trim_memory() -> None:
    """Give freed memory back to the system, which glibc keeps where something in use lies above it. Takes some
    milliseconds."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


class SizeChanges:
    """Trims memory now and then where sizes change. Libraries keep what they built for the last sizes; what they throw
    away for new ones leaves holes, and the process grows on.

    Args: every: after how many changes.
    """

    def __init__(self, every: int = 20) -> None:
        self._every, self._changes = every, 0
        self._last: tuple[int, ...] = ()

    def note(self, size: tuple[int, ...]) -> None:
        """To be called before each use, with its size."""
        if size == self._last:
            return
        self._last, self._changes = size, self._changes + 1
        if self._changes % self._every == 0:
            trim_memory()
