"""docs/errors.md: written from the code, current, and each cause belongs to a message that there is."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ppliteseg_paddle.causes import CAUSES

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "write_errors.py"


@pytest.fixture(scope="module")
def writer():
    spec = importlib.util.spec_from_file_location("write_errors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def messages(writer):
    return [row.text for row in writer.read()[1]]


def test_the_page_is_current():
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "docs/errors.md is current\n"), done.stdout + done.stderr


@pytest.mark.parametrize("words", [each.words for causes in CAUSES.values() for each in causes])
def test_each_cause_belongs_to_a_message_of_the_code(messages, words):
    assert any(words in text for text in messages)


def test_messages_are_found_however_they_are_made(writer):
    import ast

    code = """
class PPLiteSegError(Exception):
    exit_status = 2
class RankFailed(PPLiteSegError):
    exit_status = 3
def f(path, row):
    raise RankFailed(f"rank {row.number!r} is gone: "
                     f"{path}.")
    raise RankFailed("no {} here".format(path))
    raise RankFailed("a " + row.text + " b")
    raise RankFailed(path)
    return PPLiteSegError("plain text | x")
    raise ValueError("no error of a user")
"""
    trees = {"a.py": ast.parse(code)}
    classes = writer.error_classes(trees)
    assert classes == {"PPLiteSegError": 2, "RankFailed": 3}
    found = [(row.text, row.error) for row in writer.messages(trees, classes)]
    assert found == [
        ("rank {number} is gone: {path}.", "RankFailed"),
        ("no {} here", "RankFailed"),
        ("a {...} b", "RankFailed"),
        ("plain text | x", "PPLiteSegError"),
    ]
