"""Reading a configuration: bases, options, variables, names of shipped files."""

import textwrap

import pytest
from tiny_data import values, write_config

from ppliteseg_paddle.config import read as config
from ppliteseg_paddle.config.source import Source, apply_option, read_with_bases, read_yaml, unshared
from ppliteseg_paddle.errors import ConfigError


def written(tmp_path, text, name="c.yml"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


@pytest.fixture
def path(tmp_path):
    return write_config(tmp_path / "c.yml", values(tmp_path))


def message(call, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- reading -------------------------------------------------------------------------------


def test_bases_are_merged_as_paddleseg_merges_them(tmp_path):
    from paddleseg.cvlibs.config import parse_from_yaml

    written(tmp_path, "a: 1\nm: {x: 1, y: {k: 1, l: 2}}\nlist: [1, 2]", "one.yml")
    written(tmp_path, "a: 2\nb: 2\nm: {x: 2, z: 3}", "two.yml")
    written(tmp_path, "_base_: [one.yml, two.yml]\nm: {y: {k: 5}}", "both.yml")
    top = written(tmp_path, "_base_: both.yml\nlist: [3]\nm: {y: {_inherited_: False, n: 1}}", "top.yml")
    read = read_with_bases(top, Source(top))
    assert read == parse_from_yaml(top)
    assert read == {"a": 1, "b": 2, "m": {"x": 1, "z": 3, "y": {"n": 1}}, "list": [3]}


def test_inherited_false_leaves_no_mark_where_there_is_no_base(tmp_path):
    content = values(tmp_path)
    content["model"]["_inherited_"] = False
    assert "_inherited_" not in config.load(write_config(tmp_path / "c.yml", content))[0]["model"]


def test_a_missing_file_is_reported_with_the_nearest_name(path):
    assert message(config.load, path.replace("c.yml", "cc.yml")).endswith(
        "cc.yml does not exist. Did you mean 'c.yml'?"
    )


def test_a_file_that_is_no_yaml_is_reported_with_its_line(tmp_path):
    assert "bad.yml:3: no valid YAML" in message(config.load, written(tmp_path, "a: 1\nb: [1\nc: 2", "bad.yml"))


def test_a_shipped_configuration_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded, source = config.load("ppliteseg_t_camvid_480x360")
    assert loaded["val_dataset"]["type"] == "CamVid"
    assert source.path.endswith("configs/camvid/ppliteseg_t_camvid_480x360.yml")


def test_an_unknown_name_is_reported_with_the_nearest_shipped_one():
    text = message(config.load, "pplite_t_camvid_480x360")
    assert "configuration 'pplite_t_camvid_480x360' does not exist: give a .yml file" in text
    assert "Did you mean 'ppliteseg_t_camvid_480x360'" in text


@pytest.mark.parametrize(
    "text, found", [("", "nothing"), ("- 1\n- 2", "the list [1, 2]"), ("hello", "the text 'hello'")]
)
def test_a_file_that_is_no_mapping_says_what_it_holds(tmp_path, text, found):
    assert message(config.load, written(tmp_path, text)).endswith(f"holds {found}, not 'key: value' lines.")


def test_bases_that_lead_back_are_reported(tmp_path):
    written(tmp_path, "_base_: b.yml", "a.yml")
    written(tmp_path, "_base_: a.yml", "b.yml")
    assert "_base_ leads back to itself" in message(config.load, str(tmp_path / "a.yml"))


def test_a_base_that_is_no_path_is_reported(tmp_path):
    assert "_base_ must be a path or a list of paths, but holds 5" in message(
        config.load, written(tmp_path, "_base_: 5")
    )


def test_a_missing_base_is_reported_with_the_place_looked_at(tmp_path):
    assert "_base_ 'none.yml' does not exist" in message(config.load, written(tmp_path, "_base_: none.yml"))


# --- changing ------------------------------------------------------------------------------


def test_options_set_nested_keys_list_items_and_new_last_keys(path):
    changed, _ = config.load(
        path,
        opts=[
            "model.neck.bin_sizes=[1, 3]",
            "loss.coef.1=0.25",
            "train_dataset.edge=True",
            "train_dataset.dataset_root=a=b",
            "test_config.scales=0.5,1.0",
            "batch_size=2",
        ],
    )
    assert changed["model"]["neck"]["bin_sizes"] == [1, 3]
    assert changed["loss"]["coef"] == [1, 0.25, 0.5]
    assert changed["train_dataset"]["edge"] is True
    assert changed["train_dataset"]["dataset_root"] == "a=b"
    assert changed["test_config"] == {"scales": (0.5, 1.0)}
    assert changed["batch_size"] == 2


def test_the_texts_true_and_false_are_booleans(path):
    assert config.load(path, opts=["test_config.aug_eval=false"])[0]["test_config"]["aug_eval"] is False


def test_null_means_none(tmp_path):
    path = write_config(tmp_path / "c.yml", values(tmp_path))
    for text in ("null", "None"):
        given = config.load(path, opts=[f"model.backbone.pretrained={text}"])[0]
        assert given["model"]["backbone"]["pretrained"] is None


def test_flags_override_the_file_and_the_options(path):
    changed, _ = config.load(path, opts=["iters=7"], iters=9, batch_size=3, learning_rate=0.5)
    assert (changed["iters"], changed["batch_size"], changed["lr_scheduler"]["learning_rate"]) == (9, 3, 0.5)


@pytest.mark.parametrize(("rate", "start"), [(0.04, 0.002), (0.003, 0.002), (0.002, 0.0001), (0.0004, 0.00002)])
def test_a_warm_up_starts_below_the_learning_rate_of_the_flag(path, rate, start):
    warm_up = ["lr_scheduler.learning_rate=0.04", "lr_scheduler.warmup_iters=10", "lr_scheduler.warmup_start_lr=0.002"]
    block = config.load(path, opts=warm_up, learning_rate=rate)[0]["lr_scheduler"]
    assert block["learning_rate"] == rate and block["warmup_start_lr"] == pytest.approx(start)


def test_options_give_what_paddleseg_gives(path):
    from paddleseg.cvlibs import Config

    options = [
        "lr_scheduler.learning_rate=0.5",
        "model.head.fusion=add",
        "model.seg_head_channels=[8, 8, 8]",
        "iters=1e3",
    ]
    ours = unshared(read_with_bases(path, Source(path)))
    for option in options:
        apply_option(ours, option, Source(path))
    theirs = Config(path, opts=options).dic
    assert {key: ours[key] for key in ("lr_scheduler", "model", "iters")} == {
        key: theirs[key] for key in ("lr_scheduler", "model", "iters")
    }


@pytest.mark.parametrize(
    "option, expected",
    [
        ("batch_size", "--opts wants key=value"),
        ("modl.neck.type=SPPM", "the configuration has no key 'modl'. Did you mean 'model'?"),
        ("model.neckk.type=SPPM", "'model' has no key 'neckk'. Did you mean 'neck'?"),
        ("loss.coef.7=1", "'loss.coef' is a list of 3: give an index from 0 to 2 in place of '7'"),
        ("iters.x=1", "'iters' is 4 and holds no keys"),
    ],
)
def test_an_option_for_a_place_that_is_not_there_is_reported(path, option, expected):
    assert expected in message(config.load, path, opts=[option])


def test_an_option_changes_one_place_of_a_yaml_anchor(tmp_path):
    content = read_yaml(write_config(tmp_path / "c.yml", values(tmp_path)))
    text = write_config(tmp_path / "c.yml", content)
    with open(text, "a") as file:
        file.write("test_config: &t {aug_eval: True}\n_copy: *t\n")
    changed, _ = config.load(text, opts=["test_config.aug_eval=False"])
    assert changed["_copy"] == {"aug_eval": True}


def test_variables_expand_as_in_a_shell(monkeypatch):
    monkeypatch.setenv("PLACE", "/here")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NONE", raising=False)
    assert config.expand_env("${PLACE}/x") == "/here/x"
    assert config.expand_env("${PLACE:-/there}") == "/here"
    assert config.expand_env("${NONE:-/there}/${EMPTY:-a b}") == "/there/a b"
    assert config.expand_env("no variable, $PLACE, 5$") == "no variable, $PLACE, 5$"
    assert "the environment variable NONE is not set" in message(config.expand_env, "${NONE}/x")


def test_an_option_wins_over_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", "/variable")
    content = values("${PLACE:-/default}")
    path = write_config(tmp_path / "c.yml", content)
    assert config.load(path)[0]["train_dataset"]["dataset_root"] == "/variable"
    assert (
        config.load(path, opts=["train_dataset.dataset_root=/option"])[0]["train_dataset"]["dataset_root"] == "/option"
    )
