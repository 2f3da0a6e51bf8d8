"""Messages stay readable whatever a file holds."""

import pytest

from ppliteseg_paddle.errors import LONGEST, LONGEST_WORD, DataError


@pytest.mark.parametrize("found", ["9" * 5000, repr(bytes(5000)), "0.5, " * 5000])
def test_what_came_from_a_file_is_shortened_and_the_advice_stays(found):
    text = str(DataError(f"c.yml: there is no transform '{found}'; choose from A and B."))
    assert len(text) <= LONGEST
    assert text.startswith("c.yml: there is no transform '") and text.endswith("; choose from A and B.")
    assert " ... " in text


def test_usual_messages_are_not_changed():
    text = f"image {'/folder' * (LONGEST_WORD // 8)}.png does not exist; " + "give one that does. " * 30
    assert str(DataError(text)) == text
