"""`ppliteseg completion`: what bash offers with its script."""

import shutil
import subprocess
import sys

import pytest
from commands import run_json

from ppliteseg_paddle.cli.main import COMMANDS, main
from ppliteseg_paddle.config.read import shipped_configs


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "ppliteseg.bash"
    done = subprocess.run(
        [sys.executable, "-m", "ppliteseg_paddle", "completion", "bash"], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    path.write_text(done.stdout)
    return path


def offered(script, folder, *words):
    """What bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in words)
    program = (
        f"source '{script}'; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        "function compopt() { :; }; _shtab_ppliteseg; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_flags_choices_names_and_files(script, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.yml").touch()

    assert set(offered(script, tmp_path, "ppliteseg", "")) == set(COMMANDS)
    assert offered(script, tmp_path, "ppliteseg", "dat") == ["data"]
    assert {"prepare", "check", "stats"} <= set(offered(script, tmp_path, "ppliteseg", "data", ""))
    assert set(offered(script, tmp_path, "ppliteseg", "train", "--save_")) == {"--save_dir", "--save_interval"}
    assert set(offered(script, tmp_path, "ppliteseg", "export", "--precision", "")) == {"fp32", "fp16", "int8"}
    names = offered(script, tmp_path, "ppliteseg", "train", "--config", "ppliteseg_t")
    assert set(names) == {name for name in shipped_configs() if name.startswith("ppliteseg_t")}
    assert offered(script, tmp_path, "ppliteseg", "train", "--config", "photos.") == ["photos.yml"]
    assert offered(script, tmp_path, "ppliteseg", "val", "--model_path", "cityscapes-b-scale0.7") == [
        "cityscapes-b-scale0.75"
    ]
    assert "photos" in offered(script, tmp_path, "ppliteseg", "predict", "--image_path", "pho")
    assert offered(script, tmp_path, "ppliteseg", "predict", "--save_dir", "pho") == ["photos"]  # folders only


def test_other_shells_get_their_scripts_and_an_unknown_one_is_refused(capsys):
    assert run_json(capsys, "completion", "zsh")[1]["script"].startswith("#compdef ppliteseg")
    assert "complete ppliteseg" in run_json(capsys, "completion", "tcsh")[1]["script"]
    assert main(["completion", "fish"]) == 2
    assert "invalid choice: 'fish'" in capsys.readouterr().err


def test_without_shtab_the_command_that_installs_it_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install '.[completion]'" in capsys.readouterr().err
