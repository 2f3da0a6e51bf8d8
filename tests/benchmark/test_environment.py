import json

from ppliteseg_paddle.benchmark import environment
from ppliteseg_paddle.benchmark.environment import gpus, machine


def test_the_machine_is_described_with_the_versions_of_what_is_installed():
    described = machine()
    assert {
        "processor",
        "cpus",
        "cpus_usable",
        "gpus",
        "memory_gib",
        "system",
        "versions",
        "load_average",
        "time",
    } <= set(described)
    assert {"ppliteseg_paddle", "python", "numpy", "paddleseg"} <= set(described["versions"])
    assert json.loads(json.dumps(described)) == described


def test_gpus_are_read_from_nvidia_smi(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'A Card, 550.1, 16 GiB, 1500 MHz, 5000 MHz, 1900 MHz, 70 W, 40, 7.5, 0 %'\n")
    program.chmod(0o755)
    monkeypatch.setattr(environment.shutil, "which", lambda name: str(program))
    (found,) = gpus()
    assert (found["name"], found["driver"], found["clock_sm"], found["compute_capability"]) == (
        "A Card",
        "550.1",
        "1500 MHz",
        "7.5",
    )


def test_a_broken_nvidia_smi_means_no_gpu(monkeypatch, tmp_path):
    for text in ("#!/bin/sh\nexit 9\n", "no program"):
        program = tmp_path / "nvidia-smi"
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setattr(environment.shutil, "which", lambda name, path=str(program): path)
        assert gpus() == []
