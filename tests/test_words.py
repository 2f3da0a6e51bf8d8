"""The check of words that texts and code should not use."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def check_words():
    spec = importlib.util.spec_from_file_location("check_words", ROOT / "scripts" / "check_words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Faults are spelled in two halves here, as this file is checked, too.
FIX, COLOR, INTEGER = "me" + "nd", "col" + "our", "who" + "le number"


@pytest.mark.parametrize(
    ("name", "text", "line", "instead"),
    [
        ("a.md", f"Good.\n\nThe {FIX}s are listed.\n", 3, "fix"),
        ("a.md", f"It must be a {INTEGER.replace(' ', chr(10))}.\n", 1, "integer"),
        ("a.yml", f"x: 1\ny: 2  # the {COLOR}s\n", 2, "color"),
        ("a.py", f'x = 1\n\n\ndef f():\n    """First.\n\n    A {COLOR}.\n    """\n', 7, "color"),
        ("a.py", f"x = 1  # {FIX}ed\n", 1, "fix"),
        ("a.py", f"x = (
    'not a {INTEGER.split()[0]} '
    f'number: {{x}}'
)
", 2, "integer"),
        ("a.py", f"def {FIX}_labels():\n    pass\n", 1, "fix"),
        ("a.py", f"GRID_{COLOR.upper()}S = 3\n", 1, "color"),
        ("a.py", "MO" + "ST_TRIES = 3\n", 1, "max, min"),
    ],
)
def test_a_banned_word_is_found_with_its_line_and_what_to_write(
    check_words, tmp_path, capsys, name, text, line, instead
):
    path = tmp_path / name
    path.write_text(text, "utf-8")

    assert check_words.main([str(path)]) == 1

    assert capsys.readouterr().out.startswith(f"{path.as_posix()}:{line}: ")
    assert [(found[0], found[2]) for found in check_words.findings(path, name)] == [(line, instead)]


@pytest.mark.parametrize("text", ["# recommended, amend
", "smallest = value is None
", "counts.most_common(3)
"])
def test_parts_of_other_words_are_not_found(check_words, tmp_path, text):
    path = tmp_path / "a.py"
    path.write_text(text, "utf-8")

    assert check_words.main([str(path)]) == 0


def test_every_exception_has_a_reason(check_words):
    assert all(len(reason) > 5 for _, _, reason in check_words.ALLOWED)
