"""scripts/check.sh finds what it is there for: each check fails on a fault that is planted in a copy."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BANNED = "col" + "our"  # spelled in two parts, as this file is checked, too
RAISES = """
from ppliteseg_paddle.errors import DataError

raise DataError("planted")
"""
UNTYPED = "def f(x):\n    return x\n"
# check, faulty files by their path in the package, what is said of them
FAULTS = [
    pytest.param("lint", {"planted.py": "import json\n"}, "F401", id="unused import"),
    pytest.param("lint", {"planted.py": 'x = "%s" % 1\n'}, "UP031", id="percent format"),
    pytest.param("lint", {"planted.py": f"x = '{'long ' * 30}'\n"}, "E501", id="long line"),
    pytest.param("lint", {"planted.py": "x = eval('1')\n"}, "S307", id="eval"),
    pytest.param("bandit", {"planted.py": "import os\n\nos.chmod('x', 0o777)\n"}, "B103", id="open to all"),
    pytest.param("format", {"planted.py": "x = {  'a':1 }\n"}, "planted.py", id="format"),
    pytest.param(
        "imports",
        {"reading/planted.py": "def f():\n    from ppliteseg_paddle.data import dataset\n"},
        "ppliteseg_paddle.reading.planted -> ppliteseg_paddle.data.dataset",
        id="import from a floor above, inside a function",
    ),
    pytest.param(
        "imports",
        {"deploy/planted.py": "import paddleseg\n"},
        "ppliteseg_paddle.deploy.planted -> paddleseg",
        id="PaddleSeg in deploy",
    ),
    pytest.param(
        "imports",
        {
            "data/planted.py": "import ppliteseg_paddle.data.planted_too\n",
            "data/planted_too.py": "import ppliteseg_paddle.data.planted\n",
        },
        "No cycles are allowed in ppliteseg_paddle.data",
        id="circle",
    ),
    pytest.param("imports", {"attic/__init__.py": ""}, "attic", id="room without a floor"),
    pytest.param("types", {"weights/planted.py": UNTYPED}, "Function is missing a type annotation", id="strict room"),
    pytest.param("types", {"visual/planted.py": "x: int = ''\n"}, "visual/planted.py:1: error: ", id="ratchet"),
    pytest.param("words", {"planted.py": f"# The {BANNED}\n"}, "planted.py:1: ", id="banned word"),
    pytest.param("errors", {"planted.py": RAISES}, "docs/errors.md is not current", id="message that the page lacks"),
    pytest.param("architecture", {"attic/__init__.py": ""}, "attic", id="room that the picture lacks"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package, its checks and their settings, in a repository of its own."""
    folder = tmp_path_factory.mktemp("copy") / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("ppliteseg_paddle", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def check(folder, name):
    bin_folder = os.path.dirname(sys.executable)
    variables = {
        "VIRTUAL_ENV": sys.prefix,  # so that nothing is installed
        "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]),
        "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache"),
    }
    done = subprocess.run(
        ["bash", str(folder / "scripts" / "check.sh"), name],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name, files, words", FAULTS)
def test_a_planted_fault_is_found(copy, name, files, words):
    if name in ("imports", "types") and sys.version_info < (3, 10):
        pytest.skip("the tool of this check needs Python 3.10")
    planted = [copy / "ppliteseg_paddle" / path for path in files]
    try:
        for path, text in zip(planted, files.values()):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        subprocess.run("git init -q . && git add -A", shell=True, cwd=copy, check=True)
        status, output = check(copy, name)
    finally:
        for path in planted:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    assert status == 1 and words in output, output


def test_an_unknown_check_is_refused_with_the_known_ones(copy):
    assert check(copy, "spelling") == (
        2,
        "error: there is no check 'spelling'; there are: lint format bandit imports words errors architecture types\n",
    )


def test_a_commit_runs_the_same_checks_and_needs_no_network():
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in content["repos"] for hook in repo["hooks"]]
    assert all(repo["repo"] == "local" for repo in content["repos"])
    assert {hook["language"] for hook in hooks} == {"system"}
    known = check(ROOT, "none")[1].split("there are: ")[1].split()
    assert sorted(hook["entry"] for hook in hooks) == sorted(f"bash scripts/check.sh {name}" for name in known)


# --------------------------------------------------------------------------------------------
# The ratchet
# --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def check_types():
    spec = importlib.util.spec_from_file_location("check_types", ROOT / "scripts" / "check_types.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MYPY = """\
ppliteseg_paddle/data/cache.py:3: error: Missing type  [no-untyped-def]
ppliteseg_paddle/data/prepare/folder.py:9: error: Missing type  [no-untyped-def]
ppliteseg_paddle/data/cache.py:4: note: only a note
ppliteseg_paddle/files.py:1: error: Wrong  [misc]
Found 3 errors in 3 files (checked 9 source files)
"""


def test_errors_are_counted_by_room(check_types):
    found = check_types.by_room(MYPY.splitlines())
    assert {room: len(lines) for room, lines in found.items()} == {"data": 2, "files": 1}


@pytest.mark.parametrize(
    "allowed, words",
    [
        ("data 2\nfiles 1\n", []),
        ("data 1\nfiles 1\n", ["data: 2 type errors, 1 allowed"]),
        ("data 2\n", ["files: 1 type errors, 0 allowed"]),
        ("data 3\nfiles 1\n", ["data: 2 type errors, 3 allowed: python scripts/check_types.py --update"]),
        ("cli 1\ndata 2\nfiles 1\n", ["cli: 0 type errors, 1 allowed: python scripts/check_types.py --update"]),
    ],
)
def test_more_errors_than_recorded_are_refused_and_fewer_are_to_be_recorded(check_types, allowed, words):
    lines = check_types.report(check_types.by_room(MYPY.splitlines()), check_types.allowed_errors(allowed))
    assert [line for line in lines if "allowed" in line] == words


def test_the_recorded_numbers_can_only_be_lowered(check_types):
    found = check_types.by_room(MYPY.splitlines())
    assert check_types.lowered("# Head.\ncli 1\ndata 3\nfiles 0\n", found) == "# Head.\ndata 2\n"
