import pytest

from ppliteseg_paddle.diagnosis import findings as known
from ppliteseg_paddle.diagnosis import probes
from ppliteseg_paddle.diagnosis.probes import Outcome

GOOD = {
    **dict.fromkeys(probes.versions()),
    "numpy": "1.26.4",
    "opencv-python": "4.5.5.64",
    "paddlepaddle": "3.2.2",
    "paddleseg": "2.8.0",
    "pandas": "2.3.3",
    "protobuf": "6.33.0",
}
FINE = {probe.name: Outcome(True, "") for probe in probes.PROBES}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without GPU and with enough shared memory, on the Python that most have."""
    monkeypatch.setattr(known.Machine, "python", (3, 11))
    monkeypatch.setattr(known.shutil, "which", lambda name: None)
    monkeypatch.setattr(known, "_shared_memory_mib", lambda: 1024)


def found(packages=(), outcomes=()):
    failed = {name: Outcome(*outcome) for name, outcome in dict(outcomes).items()}
    return known.findings({**GOOD, **dict(packages)}, {**FINE, **failed})


def test_nothing_is_found_in_the_versions_that_we_install():
    assert found() == []


@pytest.mark.parametrize(
    "packages, outcomes, level, what, fix",
    [
        (
            {"numpy": "2.1.0"},
            {},
            "error",
            "NumPy 2.1.0 is installed beside opencv-python, built for NumPy 1",
            "pip install 'numpy<2'",
        ),
        ({"numpy": "2.1.0", "paddlepaddle": "2.6.2"}, {}, "error", "beside opencv-python and paddlepaddle", "numpy<2"),
        ({"pandas": "3.0.1"}, {}, "error", "pandas 3.0.1 wants NumPy 2", "pandas<3"),
        ({"paddlepaddle": None, "openvino": "2026.4"}, {}, "error", "but PaddlePaddle is not", "pip install '.[cpu]'"),
        ({"paddlepaddle": None, "paddleseg": None}, {}, "error", "no runtime is installed", "'.[runtime]'"),
        ({"paddleseg": "2.7.0"}, {}, "error", "PaddleSeg 2.7.0 is installed", "paddleseg==2.8.0"),
        ({"paddlepaddle-gpu": "2.6.2", "paddlepaddle": "2.6.2"}, {}, "error", "are both installed", "pip uninstall"),
        (
            {"paddlepaddle": "2.6.2", "protobuf": "7.36.2"},
            {},
            "warning",
            "protobuf 7.36.2: training on several devices",
            "protobuf<7",
        ),
        ({"paddlepaddle": "3.3.1"}, {}, "warning", "issue 77340", "paddlepaddle==3.2.2"),
        ({"ml-dtypes": "0.6.0"}, {}, "warning", "ml-dtypes 0.6.0 wants NumPy 2", "ml-dtypes<0.5.5"),
        (
            {},
            {"opencv (cv2)": (False, "libGL.so.1: cannot open shared object file")},
            "error",
            "no libGL",
            "apt-get install libgl1",
        ),
        (
            {},
            {"opencv (cv2)": (False, "numpy.core.multiarray failed to import")},
            "error",
            "do not fit together",
            "--force-reinstall",
        ),
        (
            {},
            {"paddle": (False, "libfoo.so is missing")},
            "error",
            "paddle cannot be imported: libfoo.so",
            "--force-reinstall",
        ),
        (
            {"paddlepaddle": None, "paddlepaddle-gpu": "2.6.2"},
            {"convolution": (False, "no kernel image")},
            "error",
            "cannot compute on this machine: no kernel image",
            "--device cpu",
        ),
    ],
)
def test_each_known_trouble_is_found_with_its_fix(packages, outcomes, level, what, fix):
    findings = found(packages, outcomes)
    assert len(findings) == 1, findings
    assert findings[0]["level"] == level
    assert what in findings[0]["what"] and fix in findings[0]["fix"]


def test_an_unused_gpu_and_a_small_shared_memory_are_pointed_out(monkeypatch):
    monkeypatch.setattr(known.shutil, "which", lambda name: "/usr/bin/" + name)
    for free in (64, 0):
        monkeypatch.setattr(known, "_shared_memory_mib", lambda free=free: free)
        assert [finding["level"] for finding in found()] == ["warning", "warning"]


@pytest.mark.parametrize("absent", [("paddleseg",), ("paddleseg", "paddlepaddle")])
def test_who_runs_exported_models_needs_no_training(absent):
    assert found({"onnxruntime": "1.32.0", **dict.fromkeys(absent)}) == []


CURRENT = {"numpy": "2.3.5", "opencv-python": "4.14.0.94", "pandas": "3.1.1", "ml-dtypes": "0.6.0"}


@pytest.mark.parametrize(
    "python, packages, level, what, fix",
    [
        ((3, 13), {}, None, "", ""),
        ((3, 14), {"paddlepaddle": None, "paddleseg": None, "openvino": "2026.4"}, None, "", ""),
        (
            (3, 13),
            {"paddleseg": None, "visualdl": "2.5.3", "onnxruntime": "1.32.0"},
            "warning",
            "training needs PaddleSeg",
            "pip install --no-deps paddleseg==2.8.0",
        ),
        ((3, 13), {"opencv-python": "4.6.0.66"}, "error", "built for NumPy 1", "opencv-python>=4.12"),
        ((3, 13), {"numpy": "2.4.6"}, "error", "whose float(tensor) fails", "numpy<2.4"),
        ((3, 15), {}, "error", "is outside 3.9 to 3.14", "3.9 to 3.13"),
        ((3, 8), {}, "error", "is outside 3.9 to 3.14", "3.9 to 3.13"),
        ((3, 14), {"paddlepaddle": "3.2.2"}, "error", "no PaddlePaddle for Python", "3.9 to 3.13"),
    ],
)
def test_each_python_has_its_trouble_and_its_fix(monkeypatch, python, packages, level, what, fix):
    monkeypatch.setattr(known.Machine, "python", python)
    findings = found({**CURRENT, **packages})
    assert [finding["level"] for finding in findings] == [level] * (level is not None)
    assert all(what in finding["what"] and fix in finding["fix"] for finding in findings)


@pytest.mark.parametrize(
    "python, words",
    [
        ((3, 12), "pip install '.[cpu]' (or '.[gpu]')"),
        ((3, 13), "pip install '.[cpu]' && pip install --no-deps paddleseg==2.8.0"),
        ((3, 14), "there is no PaddlePaddle for this Python: take one from 3.9 to 3.13"),
    ],
)
def test_who_wants_to_train_is_told_how_on_this_python(python, words):
    assert known.how_to_train(python) == words


def test_errors_come_before_warnings():
    assert [f["level"] for f in found({"paddlepaddle": "3.3.1", "pandas": "3.0"})] == ["error", "warning"]


@pytest.mark.parametrize("version", known.PADDLESEG_VERSIONS)
def test_every_tested_release_of_paddleseg_is_accepted(version):
    assert found({"paddleseg": version}) == []


@pytest.mark.parametrize(
    "code, ok, detail, status",
    [
        ("print('a'); print('b c')", True, "b c", "ok"),
        ("import sys; sys.exit('wrong')", False, "wrong", "FAILS"),
        ("raise ValueError('wrong')", False, "ValueError: wrong", "FAILS"),
        ("import no_such_package", False, probes.ABSENT, "-"),
        (
            "from ppliteseg_paddle.errors import DependencyError as Error; raise Error('no GPU is found')",
            False,
            "no GPU is found",
            "-",
        ),
        ("import os; os.kill(os.getpid(), 11)", False, "the process died (signal 11)", "FAILS"),
        ("import ppliteseg_paddle; print('found')", True, "found", "ok"),
    ],
)
def test_a_probe_reports_success_failure_absence_and_death(code, ok, detail, status):
    outcome = probes.run_probe(code)
    assert (outcome.ok, outcome.detail, outcome.status) == (ok, detail, status)


def test_a_probe_that_hangs_is_ended():
    assert probes.run_probe("import time; time.sleep(60)", timeout=0.5) == (False, "did not answer within 0.5 s", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolution", "paddleseg and registry"])
def test_the_probes_that_matter_pass_in_this_environment(name):
    outcome = probes.run_probe({probe.name: probe.code for probe in probes.PROBES}[name])
    assert outcome.ok, outcome.detail


def test_runtimes_that_share_a_probe_are_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(probes, "run_probe", lambda code: tried.append(code) or Outcome(True, "fine"))
    checks, runtimes = probes.try_all()
    assert len(tried) == len(set(tried)) and checks["paddle"].ok
    assert runtimes["paddle"] == runtimes["paddle-native"] == Outcome(True, "fine")
