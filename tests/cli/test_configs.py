"""`ppliteseg configs`: the shipped configurations, listed and copied."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml
from commands import run_json

from ppliteseg_paddle.cli.main import main, parse
from ppliteseg_paddle.config.read import load, shipped_configs

NAME = "ppliteseg_t_cityscapes_1024x512_scale0.5_160k"


def test_all_shipped_configurations_are_listed_with_what_they_are_for(capsys):
    status, result = run_json(capsys, "configs", "list")
    about = {row["name"]: row["about"] for row in result["configs"]}
    assert status == 0 and set(about) == set(shipped_configs())
    assert about[NAME] == "PP-LiteSeg-T on Cityscapes, tested at scale 0.5 (1024x512)"
    assert all(about.values())


@pytest.mark.parametrize("name", [NAME, "ppliteseg_t_camvid_480x360_60min"])
def test_a_copy_is_one_file_that_means_the_same(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["configs", "copy", name]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"wrote {name}.yml"
    assert "_base_" not in yaml.safe_load((tmp_path / f"{name}.yml").read_text("utf-8"))
    assert load(f"{name}.yml")[0] == load(name)[0]


def test_a_copy_keeps_variables_and_says_where_it_comes_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PPLITESEG_CAMVID_ROOT", "/elsewhere")
    assert main(["configs", "show", "ppliteseg_t_camvid_480x360"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# PP-LiteSeg-T on CamVid at 480x360") and "${PPLITESEG_CAMVID_ROOT:-data/camvid}" in shown


@pytest.mark.parametrize("name", shipped_configs())
def test_the_commands_in_a_shipped_configuration_name_it_so_that_they_run_anywhere(name):
    with open(shipped_configs()[name], encoding="utf-8") as file:
        comment = file.read().replace("\\\n#", "")
    commands = [shlex.split(line) for line in re.findall(r"^#   ppliteseg ((?:train|val) .*)", comment, re.MULTILINE)]
    assert commands and all(parse(command[0], command[1:]).config == name for command in commands)


def test_a_copy_replaces_nothing(tmp_path, monkeypatch, capsys):
    target = tmp_path / "mine.yml"
    target.write_text("iters: 1\n")
    assert main(["configs", "copy", NAME, str(target)]) == 2
    assert f"{target} exists; give another FILE" in capsys.readouterr().err
    assert target.read_text() == "iters: 1\n"
    assert main(["configs", "copy", NAME, str(tmp_path / "mine.txt")]) == 2
    assert main(["configs", "copy", NAME[:-1]]) == 2
    assert f"Did you mean '{NAME}'" in capsys.readouterr().err


def test_the_package_is_the_command():
    printed = subprocess.run([sys.executable, "-m", "ppliteseg_paddle", "--version"], capture_output=True, text=True)
    assert printed.stdout.startswith("ppliteseg ") and printed.returncode == 0


def test_keys_are_explained_with_their_values_and_defaults(capsys):
    status, result = run_json(capsys, "configs", "keys")
    rows = {row["key"]: row for row in result["keys"]}
    assert status == 0 and rows["iters"]["default"] == "required" and rows["save_interval"]["default"] == "1000"
    assert {"model", "train_dataset", "palette"} <= set(rows) and "lr_scheduler" in result["blocks"]
    assert main(["configs", "keys", "PPLiteSegNet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "backbone: STDCNet813, STDCNet1446, or one of PaddleSeg's.",
        "    a block with a 'type', required",
    ]
    assert lines[-1].startswith("further blocks and types (ppliteseg configs keys BLOCK): ")


def test_a_block_that_is_not_there_gets_a_near_name(capsys):
    assert main(["configs", "keys", "test_confg"]) == 2
    assert capsys.readouterr().err == (
        "error: configs keys: there is no block or type 'test_confg'. Did you mean 'test_config'?\n"
    )


@pytest.mark.parametrize(
    "option, advice", [("save_dir=out", "give --save_dir out"), ("do_eval=True", "give --do_eval"), ("lr=1", "Did you")]
)
def test_a_flag_among_the_keys_of_opts_is_named(option, advice, capsys):
    assert main(["train", "--config", NAME, "--opts", option]) == 2
    assert advice in capsys.readouterr().err
