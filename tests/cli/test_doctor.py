import pytest

from ppliteseg_paddle.cli import doctor
from ppliteseg_paddle.deploy.runtimes import RUNTIMES
from ppliteseg_paddle.diagnosis import probes
from ppliteseg_paddle.diagnosis.probes import Outcome


def without_paddleseg(code):
    return Outcome(False, probes.ABSENT) if "import paddleseg" in code else Outcome(True, "fine")


def test_the_status_is_2_where_training_or_inference_cannot_work(monkeypatch):
    monkeypatch.setattr(probes, "run_probe", without_paddleseg)
    result = doctor.run(None)
    assert result["works"] == {"training": False, "inference": True}
    assert result["exit_status"] == 2
    text = doctor.summary(result)
    assert "training: CANNOT WORK" in text and "inference: works" in text
    monkeypatch.setattr(probes, "run_probe", lambda code: Outcome(True, "fine"))
    assert doctor.run(None)["exit_status"] == 0


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
