"""The table of keys: it has every argument of our components, and the page of docs/ is written from it."""

import importlib
import inspect

import pytest

from ppliteseg_paddle.config import reference
from ppliteseg_paddle.config.keys import KEYS, SIGNATURE, TOP_LEVEL, keys_of, value_of
from ppliteseg_paddle.registry import COMPONENTS

OURS = [target for targets in COMPONENTS.values() for target in targets]


@pytest.mark.parametrize("target", OURS, ids=lambda target: target.split(":")[1])
def test_the_table_has_each_argument_of_our_components_and_no_other(target):
    module, name = target.split(":")
    arguments = dict(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    assert set(keys_of(name)) == set(arguments)
    for key in keys_of(name).values():
        default = arguments[key.name].default
        assert key.default == SIGNATURE
        assert default is inspect.Parameter.empty or key.kind.accepts(default), f"{name}.{key.name}"


def test_every_default_is_of_its_kind():
    for key in KEYS:
        if key.default not in ("required", SIGNATURE, None):
            assert key.kind.accepts(key.default), key


def test_no_key_is_in_the_table_twice_and_each_has_one_sentence():
    places = [(key.place, key.name) for key in KEYS]
    assert len(places) == len(set(places))
    assert [key for key in KEYS if not key.meaning.endswith(".") or ". " in key.meaning] == []


def test_a_value_that_a_file_does_not_give_is_the_tables():
    assert value_of({"max_unreadable_share": 0.5}, "max_unreadable_share") == 0.5
    assert value_of({}, "max_unreadable_share") == TOP_LEVEL["max_unreadable_share"].default == 0.01


def test_the_reference_in_docs_is_current():
    with open(reference.PATH, encoding="utf-8") as file:
        assert file.read() == reference.text(), "write it: python -m ppliteseg_paddle.config.reference"


def test_the_reference_names_choices_and_defaults_as_a_file_has_them():
    lines = {line.split("`")[1]: line for line in reference.text().splitlines() if line.startswith("| `")}
    assert "`spatial_mean_max`, `spatial_mean`" in lines["fusion"]
    assert "| `[1, 2, 4]` |" in lines["bin_sizes"]
    assert "or null" in lines["distort"] and "| `null` |" in lines["distort"]
