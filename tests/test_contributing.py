"""The examples of CONTRIBUTING.md keep every contract."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from contributing_examples import BLOCKS, NAMES

ROOT = Path(__file__).resolve().parent.parent


def test_every_example_is_a_file_and_a_row():
    heads = [head for head, _ in BLOCKS]
    assert len(heads) == 8
    assert [head.startswith("row of") for head in heads] == [False, True] * 4


@pytest.mark.slow
def test_the_examples_pass_the_contract_tests():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-m", "pytest", "-p", "contributing_examples", "-p", "no:cacheprovider", "-vv"]
    done = subprocess.run(
        [*command, "tests/contract", "-k", " or ".join(NAMES)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output[-4000:]
    for name in NAMES:
        assert re.search(rf"\[[^]]*{name}[^]]*\] PASSED", output), f"no contract test ran for {name}"
