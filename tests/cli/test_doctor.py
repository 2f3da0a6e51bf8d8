import pytest

from ppliteseg_paddle.cli import doctor

GOOD = {
    **{name: None for name in doctor.PACKAGES},
    "numpy": "1.26.4",
    "opencv-python": "4.5.5.64",
    "paddlepaddle": "3.2.2",
    "paddleseg": "2.8.0",
    "pandas": "2.3.3",
    "protobuf": "6.33.0",
}
FINE = {name: (True, "") for name in [name for name, _, _ in doctor.PROBES] + [name for name, _ in doctor.BACKENDS]}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without GPU and with enough shared memory."""
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "_shared_memory_mib", lambda: 1024)


def found(packages=(), outcomes=()):
    return doctor.findings({**GOOD, **dict(packages)}, {**FINE, **dict(outcomes)})


def test_nothing_is_found_in_the_versions_that_we_install():
    assert found() == []


@pytest.mark.parametrize(
    "packages, outcomes, level, what, mend",
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
        ({"paddlepaddle": None}, {}, "error", "PaddlePaddle is not installed", "pip install '.[cpu]'"),
        ({"paddleseg": None}, {}, "error", "PaddleSeg is not installed", "pip install '.[cpu]'"),
        ({"paddleseg": "2.9.1"}, {}, "error", "PaddleSeg 2.9.1 is installed", "paddleseg==2.8.0"),
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
def test_each_known_trouble_is_found_with_its_mend(packages, outcomes, level, what, mend):
    findings = found(packages, outcomes)
    assert len(findings) == 1, findings
    assert findings[0]["level"] == level
    assert what in findings[0]["what"] and mend in findings[0]["mend"]


def test_an_unused_gpu_and_a_small_shared_memory_are_pointed_out(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr(doctor, "_shared_memory_mib", lambda: 64)
    assert [finding["level"] for finding in found()] == ["warning", "warning"]


def test_errors_come_before_warnings():
    assert [f["level"] for f in found({"paddlepaddle": "3.3.1", "pandas": "3.0"})] == ["error", "warning"]


@pytest.mark.parametrize(
    "code, ok, detail",
    [
        ("print('a'); print('b c')", True, "b c"),
        ("import sys; sys.exit('wrong')", False, "wrong"),
        ("import no_such_package", False, doctor.ABSENT),
        ("import os; os.kill(os.getpid(), 11)", False, "the process died (signal 11)"),
        ("import ppliteseg_paddle; print('found')", True, "found"),
    ],
)
def test_a_probe_reports_success_failure_and_death(code, ok, detail):
    assert doctor.probe(code) == (ok, detail)


def test_a_probe_that_hangs_is_ended():
    assert doctor.probe("import time; time.sleep(60)", timeout=0.5) == (False, "did not answer within 0 s")


def test_the_status_is_2_where_training_or_inference_cannot_work(monkeypatch):
    def probe(code):
        return (False, doctor.ABSENT) if "paddleseg" in code.replace("ppliteseg_paddle", "") else (True, "fine")

    monkeypatch.setattr(doctor, "probe", probe)
    result = doctor.run(None)
    assert result["works"] == {"training": False, "inference": True}
    assert result["exit_status"] == 2
    text = doctor.summary(result)
    assert "training: CANNOT WORK" in text and "inference: works" in text
    monkeypatch.setattr(doctor, "probe", lambda code: (True, "fine"))
    assert doctor.run(None)["exit_status"] == 0


@pytest.mark.parametrize("name", ["convolution", "paddleseg and registry"])
def test_the_probes_that_matter_pass_in_this_environment(name):
    code = {row[0]: row[1] for row in doctor.PROBES}[name]
    ok, detail = doctor.probe(code)
    assert ok, detail
