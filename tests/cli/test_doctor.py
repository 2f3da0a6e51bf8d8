import dataclasses

import pytest

from ppliteseg_paddle.cli import doctor
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.diagnosis import probes
from ppliteseg_paddle.diagnosis.findings import how_to_train
from ppliteseg_paddle.diagnosis.probes import Outcome

VERSIONS = {"numpy": "1.26.4", "paddlepaddle": "3.2.2", "paddleseg": "2.8.0", "onnxruntime": "1.32.0"}


def installed(monkeypatch, failing=(), absent=(), runtimes=("onnxruntime",)):
    """A machine on which probes fail whose code holds one of `failing`, and packages are absent."""
    versions = {**dict.fromkeys(probes.versions()), **VERSIONS, **dict.fromkeys(absent)}
    monkeypatch.setattr(probes, "versions", lambda: versions)
    for name, spec in RUNTIMES.items():
        monkeypatch.setitem(
            RUNTIMES, name, dataclasses.replace(spec, packages=("numpy" if name in runtimes else "no_",))
        )
    broken = Outcome(False, probes.ABSENT)
    monkeypatch.setattr(
        probes, "run_probe", lambda code: broken if any(word in code for word in failing) else Outcome(True, "fine")
    )
    return doctor.run(None)


def last_lines(result):
    return doctor.summary(result).splitlines()[-2:]


def test_all_works(monkeypatch):
    result = installed(monkeypatch)
    assert result["works"] == {"training": True, "inference": True} and result["exit_status"] == 0
    assert last_lines(result) == ["training: works", "inference: works"]


def test_a_broken_paddleseg_stops_training_and_nothing_else(monkeypatch):
    result = installed(monkeypatch, failing=["import paddleseg"])
    assert result["works"] == {"training": False, "inference": True} and result["exit_status"] == 2
    assert last_lines(result) == ["training: CANNOT WORK", "inference: works"]


@pytest.mark.parametrize("absent", [["paddleseg"], ["paddleseg", "paddlepaddle"]])
def test_an_installation_for_exported_models_is_not_blamed_for_the_training_that_it_lacks(monkeypatch, absent):
    result = installed(monkeypatch, failing=["import paddle" + "seg" * (len(absent) == 1)], absent=absent)
    assert result["works"] == {"training": None, "inference": True} and result["exit_status"] == 0
    assert not [each for each in result["findings"] if each["level"] == "error"]
    assert last_lines(result)[0] == f"training: not installed; {how_to_train()}"


def test_without_a_runtime_nothing_works_and_the_command_that_installs_one_is_named(monkeypatch):
    from ppliteseg_paddle.deploy.runtimes import distributions

    result = installed(monkeypatch, ["import paddle"], ["paddleseg", *distributions()], runtimes=())
    assert result["works"] == {"training": None, "inference": False} and result["exit_status"] == 2
    [error] = [each for each in result["findings"] if each["level"] == "error"]
    assert "no runtime is installed" in error["what"] and error["fix"].startswith("pip install '.[runtime]'")


def test_paddleseg_without_paddle_is_an_error(monkeypatch):
    result = installed(monkeypatch, ["import paddle"], ["paddlepaddle"])
    assert result["works"] == {"training": False, "inference": True} and result["exit_status"] == 2
    assert "PaddleSeg is installed, but PaddlePaddle is not" in [each["what"] for each in result["findings"]]


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_is_listed_by_the_name_that_backend_takes_with_its_install_command(monkeypatch, name):
    monkeypatch.setattr(probes, "run_probe", lambda code: Outcome(True, "fine"))
    monkeypatch.setattr(type(RUNTIMES[name]), "installed", False)
    result = doctor.run(None)
    [row] = [row for row in result["backends"] if row["name"] == name]
    assert row["detail"] == probes.ABSENT and row["status"] == "-" and not row["ok"]
    listed = doctor.summary(result).split("runtimes for an exported model", 1)[1]
    [line] = [line for line in listed.splitlines() if line.split()[:1] == [name]]
    assert line.endswith(f"not installed; {RUNTIMES[name].install}")


@pytest.mark.parametrize("flags, said", [([], "trying each package in a process of its own ...\n"), (["--quiet"], "")])
def test_what_doctor_says_meanwhile_goes_to_stderr_and_with_quiet_nowhere(flags, said, monkeypatch, capsys):
    installed(monkeypatch)
    capsys.readouterr()
    assert main(["doctor", *flags]) == 0
    assert capsys.readouterr().err == said
