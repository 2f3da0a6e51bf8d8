"""What is set up before Paddle is imported, and that importing the package sets up nothing."""

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest

from ppliteseg_paddle import environment

CPUINFO = "processor : 0\nvendor_id : %s\nmodel name : x\nflags : fpu sse %s\n\n"


def run(code, **variables):
    """The last line that a fresh process prints."""
    values = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=values)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("module", ["ppliteseg_paddle", "ppliteseg_paddle.deploy", "ppliteseg_paddle.registry"])
def test_importing_it_changes_nothing_in_the_process(module):
    code = f"""
    import os, sys
    before = dict(os.environ), list(sys.meta_path), list(sys.path_hooks)
    import {module}
    assert (dict(os.environ), list(sys.meta_path), list(sys.path_hooks)) == before
    print(sorted({{"paddle", "paddleseg", "cv2", "numpy", "yaml"}} & set(sys.modules)))
    """
    assert run(code, MKL_DEBUG_CPU_TYPE=None) == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "from ppliteseg_paddle import pp_liteseg_t",
        "from ppliteseg_paddle.models.stdc import STDCNet813",
        "from ppliteseg_paddle.losses.cross_entropy import CELoss",
        "import ppliteseg_paddle; ppliteseg_paddle.register()",
        "from ppliteseg_paddle.environment import import_paddle; import_paddle()",
    ],
)
def test_whatever_imports_paddle_prepares_the_process_before(statement):
    code = f"""
    import sys
    from ppliteseg_paddle import environment
    order, prepare = [], environment.prepare
    environment.prepare = lambda: [order.append("paddle" in sys.modules), prepare()]
    {statement}
    print(order[0], "paddle" in sys.modules)
    """
    assert run(code) == "False True"


@pytest.mark.skipif(environment.paddle_version() >= (3,), reason="only Paddle 2.6 breaks the PNG readers")
def test_a_png_is_read_beside_paddle_2_6():
    code = """
    from ppliteseg_paddle import pp_liteseg_t
    import cv2, numpy, paddle
    data = cv2.imencode(".png", numpy.arange(4096, dtype="uint8").reshape(64, 64))[1]
    print(cv2.imdecode(data, -1).shape)
    """
    assert run(code) == "(64, 64)"


def test_paddle_2_6_imported_before_opencv_is_warned_about(monkeypatch):
    monkeypatch.setattr(environment, "paddle_version", lambda: (2, 6, 2))
    for name in ("cv2", "PIL.Image"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "paddle", object())
    monkeypatch.setattr(environment.importlib, "import_module", lambda name: None)
    with pytest.warns(RuntimeWarning, match=r"Call ppliteseg_paddle.environment.prepare\(\)"):
        environment.prepare()


def test_opencv_comes_before_paddle_2_6_and_stays_out_of_paddle_3(monkeypatch):
    loaded = []
    for name in ("cv2", "PIL.Image", "paddle"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(environment.importlib, "import_module", loaded.append)
    monkeypatch.setattr(environment, "paddle_version", lambda: (3, 2, 2))
    environment.load_image_codecs_before_paddle()
    assert loaded == []
    monkeypatch.setattr(environment, "paddle_version", lambda: (2, 6, 2))
    environment.load_image_codecs_before_paddle()
    assert loaded == ["cv2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "first, variable, expected",
    [
        ("import ppliteseg_paddle, paddle", "3", "3"),
        ("import ppliteseg_paddle, paddle", "1", "1"),
        ("import ppliteseg_paddle, paddle", None, "all"),
        ("import paddle, ppliteseg_paddle", "3", "3"),
        ("import paddle, ppliteseg_paddle", None, "all"),
    ],
)
def test_the_users_number_of_threads_is_respected(first, variable, expected):
    code = f"""
    import os
    {first}
    from ppliteseg_paddle.environment import compute_threads, use_all_cores
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert compute_threads() == 1
    threads = use_all_cores()
    assert compute_threads() == threads
    print("all" if threads == cores else threads)
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert run(code, OMP_NUM_THREADS=variable) == ("all" if expected == str(cores) else expected)


@pytest.mark.parametrize(
    "vendor, flags, expected",
    [
        ("AuthenticAMD", "fma avx2", True),
        ("AuthenticAMD", "avx2", False),
        ("AuthenticAMD", "fma4 avx", False),
        ("GenuineIntel", "fma avx2", False),
    ],
)
def test_only_amd_processors_with_avx2_get_the_other_matrix_products(tmp_path, monkeypatch, vendor, flags, expected):
    (tmp_path / "cpuinfo").write_text(CPUINFO % (vendor, flags))
    assert environment._is_amd_with_avx2(str(tmp_path / "cpuinfo")) is expected
    monkeypatch.setattr(environment, "_is_amd_with_avx2", lambda: expected)
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    environment.choose_fast_matrix_products()
    assert os.environ.get("MKL_DEBUG_CPU_TYPE") == ("5" if expected else None)


def test_what_the_user_has_chosen_for_matrix_products_stays(monkeypatch):
    monkeypatch.setattr(environment, "_is_amd_with_avx2", lambda: True)
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "")
    environment.choose_fast_matrix_products()
    assert os.environ["MKL_DEBUG_CPU_TYPE"] == ""


def test_a_system_without_a_description_of_its_processor_is_left_alone(tmp_path):
    assert environment._is_amd_with_avx2(str(tmp_path / "none")) is False


def test_memory_is_trimmed_only_where_sizes_change(monkeypatch):
    trimmed = []
    monkeypatch.setattr(environment, "trim_memory", lambda: trimmed.append(len(trimmed)))
    changes = environment.SizeChanges(every=3)
    for size in [(1, 8), (1, 8), (1, 9), (1, 9)]:
        changes.note(size)
    assert not trimmed
    for _ in range(100):
        changes.note((1, 7))
    assert len(trimmed) == 1


KEEPING = """
import ctypes, resource
from ppliteseg_paddle import environment
environment.keep_freed_memory()
libc, size = ctypes.CDLL(None), 64 << 20
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
faults = []
for _ in range(3):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[2] - faults[1])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone has mallopt")
@pytest.mark.parametrize("variables, kept", [({}, True), ({"MALLOC_TOP_PAD_": "131072"}, False)], ids=str)
def test_what_is_freed_serves_the_next_step_unless_the_user_has_tuned_it(variables, kept):
    tuned = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    environ = {name: value for name, value in os.environ.items() if name not in tuned}
    run = [sys.executable, "-c", KEEPING]
    faults = int(subprocess.run(run, env={**environ, **variables}, capture_output=True, text=True, check=True).stdout)
    pages = (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert faults < pages // 100 if kept else faults > pages // 600  # with huge pages, a fault for each 2 MB


def test_trimming_gives_what_lies_below_something_in_use_back_to_the_system():
    """Some hundred small blocks are freed below one that is kept."""
    environment.trim_memory()  # on every system
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(60_000) for _ in range(1000)]
    for block in blocks:
        ctypes.memset(block, 1, 60_000)
    for block in blocks[:-1]:
        libc.free(block)
    before = resident()
    environment.trim_memory()
    libc.free(blocks[-1])
    assert before - resident() > 30_000_000


@pytest.mark.skipif(environment.paddle_version() < (3,), reason="Paddle 2 has no PIR")
@pytest.mark.parametrize("begin", ["environment.ignore_noise()", "from ppliteseg_paddle import pp_liteseg_t"])
@pytest.mark.parametrize("level, seen", [(None, False), ("1", True)])
def test_paddles_own_warnings_of_its_own_code_are_not_shown_unless_asked(begin, level, seen):
    code = f"""
    import os
    from ppliteseg_paddle import environment
    {begin}
    paddle = environment.import_paddle()
    assert ("GLOG_minloglevel" in os.environ) == ({level!r} is not None or "ignore_noise" in {begin!r})
    paddle.enable_static()
    x = paddle.static.data("x", [1], "float32")
    paddle.add(x, x, out=x)
    """
    values = {name: value for name, value in os.environ.items() if name != "GLOG_minloglevel"}
    values.update({} if level is None else {"GLOG_minloglevel": level})
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=values)
    assert (done.returncode, "not support input out tensor" in done.stderr) == (0, seen), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "code, said",
    [
        ("import ppliteseg_paddle.models.stdc, paddle", ""),
        ("import ppliteseg_paddle.losses.cross_entropy, paddle", ""),
        (
            "from ppliteseg_paddle import pp_liteseg_t; import paddle; model = pp_liteseg_t(num_classes=2); "
            "x = paddle.rand([2, 3, 64, 64]); model(x); model.eval(); model(x)",
            "",
        ),
        (
            "import logging; from ppliteseg_paddle import environment; environment.import_paddle(); "
            "logging.getLogger('ppliteseg_paddle.weights').warning('a line')",
            "a line\n",
        ),
    ],
)
def test_paddle_says_nothing_of_its_import_and_our_calls_and_leaves_the_form_of_warnings_as_it_was(code, said):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, said)
