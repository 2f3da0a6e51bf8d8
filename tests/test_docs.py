"""What the documentation says exists: commands and flags, links, files, Python that compiles."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ppliteseg_paddle.cli import main as cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("scripts/*.sh"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Flags of other programs that the pages mention.
FOREIGN_FLAGS = {
    "--build",
    "--disable-telemetry",
    "--input",
    "--kill-on-bad-exit",
    "--logdir",
    "--model-repository",
    "--pipeline",
    "--requeue",
    "--rm",
    "--save_path",
    "--serve",
}
# Files of PaddleSeg that docs/fidelity.md compares with, and that docs/deploy.md runs.
FOREIGN_FILES = {
    "deploy/python/infer.py",
    "configs/pp_liteseg/",
    "models/pp_liteseg.py",
    "models/layers/tensor_fusion.py",
    "models/backbones/stdcnet.py",
}


def text_of(page):
    return (ROOT / page).read_text("utf-8")


def blocks(page, *languages):
    return [body for language, body in FENCE.findall(text_of(page)) if language in languages]


def commands():
    """The words of every `ppliteseg ...` line of the shell blocks."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] in ("ppliteseg", "paddleseg"):
                    yield pytest.param(words[1:], id=f"{page}: {' '.join(words[1:4])}")


def github_anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("words", commands())
def test_a_printed_command_is_parsed(words, capsys):
    if "--help" in words:
        return
    cli.parse(words[0], words[1:])


# CHANGELOG.md also names flags that are gone.
@pytest.mark.parametrize("page", [*SCRIPTS, *(page for page in PAGES if page != "CHANGELOG.md")])
def test_every_flag_of_a_page_exists(page):
    known = set(FOREIGN_FLAGS)
    for path in [*ROOT.glob("ppliteseg_paddle/**/*.py"), *ROOT.glob("scripts/*.py"), ROOT / "tests" / "soak.py"]:
        known |= set(re.findall(r"--[a-z][a-z_-]*", path.read_text("utf-8")))
    for command in cli.COMMANDS:  # some are composed
        known |= set(re.findall(r"--[a-z_]+", cli.build_parser(command).format_help()))
    text = text_of(page)
    if page in SCRIPTS:  # what their comments and calls say of our commands
        text = "\n".join(line for line in text.splitlines() if re.search(r"#   |ppliteseg|paddleseg", line))
    shown = re.findall(r"(?<![\w-])--[a-z][a-z_-]*", text)
    assert {flag for flag in shown if flag not in known and flag.replace("-", "_") not in known} - {
        "--save-dir"
    } == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in [github_anchor(heading) for heading in headings], f"{page} links to {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_file_that_a_page_names_exists(page):
    names = (
        set(re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|sh|yml|toml))?)(?:::\w+)?`", text_of(page))) - FOREIGN_FILES
    )
    ours = [name for name in names if re.match(r"(ppliteseg_paddle|tests|scripts|configs|docs|\.ci)/", name)]
    rooms = [name for name in names if (ROOT / "ppliteseg_paddle" / name.split("/")[0]).is_dir()]
    missing = [name for name in ours if not (ROOT / name).exists()]
    missing += [name for name in rooms if name not in ours and not (ROOT / "ppliteseg_paddle" / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_compile(page):
    for block in blocks(page, "python"):
        compile(block, page, "exec")


@pytest.mark.parametrize("script", ["draw_architecture.py", "draw_speed.py"])
def test_a_drawn_picture_shows_the_code_and_the_tables_as_they_are(script):
    drawn = subprocess.run(
        [sys.executable, f"scripts/{script}", "--check"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert drawn.returncode == 0, drawn.stdout.decode()


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != "scripts/env.sh"])
def test_every_script_explains_itself_before_it_makes_an_environment(script, tmp_path):
    environment = {**os.environ, "VENV": str(tmp_path / "absent")}
    command = ["bash", ROOT / script, "--help"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and f"bash {script}" in run.stdout, run.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and "WARNING" not in run.stderr, run.stderr
    front = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert 'href="training/' in front, "links of README lead to pages of the site"
    reference = (tmp_path / "site" / "api" / "index.html").read_text("utf-8")
    assert "ppliteseg_paddle.deploy.predictor.Predictor" in reference
    parameters = [re.sub("<.*?>|\\s", "", item) for item in re.findall("<li.*?</li>", reference, re.DOTALL)]
    assert any(text.startswith("num_classes(int)") for text in parameters) and "<strong>Shape:</strong>" in reference
    assert "<details" not in reference, "a part of a docstring is taken for a box"
