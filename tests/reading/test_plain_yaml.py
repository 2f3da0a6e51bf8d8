"""YAML made to harm: it is refused in one line, before it has taken memory or time."""

import os

import pytest

from ppliteseg_paddle.config.source import Source, apply_option, read_with_bases, read_yaml
from ppliteseg_paddle.deploy.folder import read_metadata
from ppliteseg_paddle.errors import ArtifactError, ConfigError
from ppliteseg_paddle.reading import plain_yaml
from ppliteseg_paddle.reading.plain_yaml import PlainYamlError, parse_plain_yaml, read_plain_yaml

LAUGHS = "\n".join(
    ["a0: &a0 [ha, ha]"] + [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 40)]
)
MERGES = "\n".join(
    ["a0: &a0 {k0: 1}"] + [f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}]}}" for level in range(1, 60)]
)
HARMFUL = {
    "aliases of aliases": (LAUGHS, "more than 100000 values, with aliases written out"),
    "merges of merges": (MERGES, "more than 100000 values"),
    "an alias of a long text": (f"a: &a {'x' * 9999}\nb: [{'*a, ' * 999}1]", "more than 100000 values"),
    "an alias in what it names": ("a: &a [1, *a]", "an alias stands in what it names"),
    "lists too deep": ("a: " + "[" * 20000, "nested more than 100 deep"),
    "mappings too deep": ("\n".join(" " * depth + "a:" for depth in range(300)), "nested more than 100 deep"),
    "a function": ('a: !!python/name:os.system ""', "could not determine a constructor"),
    "a call": ('a: !!python/object/apply:os.system ["true"]', "could not determine a constructor"),
    "a day that does not exist": ("a: 2020-13-45", "'2020-13-45' is no timestamp"),
    "a number of no digits": ("a: 0x_", "'0x_' is no int"),
    "a tag that does not fit": ("a: !!bool 7", "'7' is no bool"),
    "more digits than Python converts": (f"a: {'9' * 5000}", "is no int"),
    "more digits than Python prints": (f"a: 0x{'f' * 9000}", "is no int"),
    "a character that there is not": ('a: "\\UFFFFFFFF"', "no valid YAML: "),
}


@pytest.mark.parametrize("text, words", HARMFUL.values(), ids=list(HARMFUL))
def test_harmful_yaml_is_refused_in_one_line(text, words, tmp_path):
    path = tmp_path / "deploy.yaml"
    path.write_text(text)
    for error, read, argument in ((ConfigError, read_yaml, str(path)), (ArtifactError, read_metadata, str(tmp_path))):
        with pytest.raises(error) as caught:
            read(argument)
        message = str(caught.value)
        assert words in message and f"{path}" in message and "\n" not in message and len(message) < 500


def test_plain_yaml_means_what_it_means_to_paddleseg():
    import yaml

    text = """
    base: &base {a: 1, b: [1, 2.5, null, true, text, 'quoted', "\\u00fc", 0x1f, 1:30, .inf]}
    merged: {<<: *base, a: 2}
    twice: [*base, *base]
    tuple: !!python/tuple [1, 2]
    long: |
      one
      two
    day: 2020-02-29
    1: number
    """
    read = parse_plain_yaml(text)
    assert read == yaml.load(text, yaml.FullLoader)  # noqa: S506 - what PaddleSeg does
    assert isinstance(read["tuple"], tuple)


def test_a_file_beyond_the_bytes_that_are_allowed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "c.yml"
    path.write_text("a: " + "x" * 100)
    monkeypatch.setattr(plain_yaml, "MAX_BYTES", 100)
    with pytest.raises(PlainYamlError, match="more than the 100 bytes"):
        read_plain_yaml(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.yml")
    with pytest.raises(ConfigError, match="is no regular file"):
        read_yaml(str(tmp_path / "c.yml"))


def test_bases_that_multiply_are_refused(tmp_path):
    (tmp_path / "0.yml").write_text("a: 1\n")
    for level in range(1, 30):
        (tmp_path / f"{level}.yml").write_text(f"_base_: [{level - 1}.yml, {level - 1}.yml]\n")
    path = str(tmp_path / "29.yml")
    with pytest.raises(ConfigError, match="29.yml: _base_ leads to more than 100 files"):
        read_with_bases(path, Source(path))


@pytest.mark.parametrize("text", ["{[1]: 2}", "-" * 100000 + "1", "[" * 100000])
def test_an_option_that_is_no_literal_is_a_text(text):
    values = {}
    apply_option(values, f"a={text}", Source("c.yml"))
    assert values == {"a": text}
