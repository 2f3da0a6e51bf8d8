"""The check of words that texts and code should not use."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Spelled in two parts, as this file is checked, too.
FIX, COLOR, MAX = "me" + "nd", "col" + "our", "MO" + "ST"
DOCSTRING = f'x = 1\n\n\ndef f():\n    """First.\n\n    A {COLOR}.\n    """\n'
TWO_LITERALS = "x = 1\ny = (\n    'not a who" + "le '\n    f'number: {x}'\n)\n"


@pytest.fixture(scope="module")
def check_words():
    spec = importlib.util.spec_from_file_location("check_words", ROOT / "scripts" / "check_words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text", "line", "instead"),
    [
        ("text.md", f"Good.\n\nThe {FIX}s are listed.\n", 3, "fix"),
        ("wrapped.md", "It must be a who" + "le\nnumber.\n", 1, "integer"),
        ("comment.yml", f"x: 1\ny: 2  # the {COLOR}s\n", 2, "color"),
        ("docstring.py", DOCSTRING, 7, "color"),
        ("comment.py", f"x = 1  # {FIX}ed\n", 1, "fix"),
        ("adjacent_literals.py", TWO_LITERALS, 3, "integer"),
        ("function.py", f"def {FIX}_labels():\n    pass\n", 1, "fix"),
        ("constant.py", f"GRID_{COLOR.upper()}S = 3\n", 1, "color"),
        ("minimum.py", f"{MAX}_TRIES = 3\n", 1, "max, min"),
    ],
)
def test_a_banned_word_is_found_with_its_line(check_words, tmp_path, capsys, name, text, line, instead):
    path = tmp_path / name
    path.write_text(text, "utf-8")

    assert check_words.main([str(path)]) == 1

    assert capsys.readouterr().out.startswith(f"{path.as_posix()}:{line}: ")
    assert [(number, word) for number, _, word in check_words.findings(path, name)] == [(line, instead)]


@pytest.mark.parametrize("text", ["# recommended, amend\n", "y = f'{x is None}'\n", "counts.most_common(3)\n"])
def test_parts_of_other_words_are_not_found(check_words, tmp_path, text):
    path = tmp_path / "fine.py"
    path.write_text(text, "utf-8")

    assert check_words.main([str(path)]) == 0


def test_every_exception_has_a_reason(check_words):
    assert all(len(reason) > 5 for _, _, reason in check_words.ALLOWED)
