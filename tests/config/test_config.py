import textwrap

import pytest
from tiny_data import values, write_config

from ppliteseg_paddle.config import read as config
from ppliteseg_paddle.config.components import check_components
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


def checked(path, **kwargs):
    loaded = config.load(path, **kwargs)
    check_components(*loaded)
    return loaded[0]


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


def test_flags_override_the_file_and_the_options(path):
    changed, _ = config.load(path, opts=["iters=7"], iters=9, batch_size=3, learning_rate=0.5)
    assert (changed["iters"], changed["batch_size"], changed["lr_scheduler"]["learning_rate"]) == (9, 3, 0.5)


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


# --- checking ------------------------------------------------------------------------------


def broken(tmp_path, change):
    content = values(tmp_path)
    change(content)
    return write_config(tmp_path / "c.yml", content)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda c: c.update(batchsize=3), "batchsize: unknown key. Did you mean 'batch_size'"),
        (lambda c: c.pop("loss"), "missing loss. A configuration needs batch_size"),
        (lambda c: c.update(batch_size="4"), "batch_size: expected an integer of at least 1, found the text '4'"),
        (lambda c: c.update(batch_size=True), "batch_size: expected an integer"),
        (lambda c: c.update(iters=0), "iters: expected an integer of at least 1, found 0"),
        (lambda c: c.update(ema_decay=1), "ema_decay: expected a number between 0 and 1, found 1"),
        (lambda c: c.update(model=[1]), "model: expected a block of 'key: value' lines, found the list [1]"),
        (lambda c: c["optimizer"].pop("type"), "optimizer: no 'type' is given"),
        (lambda c: c["lr_scheduler"].update(learning_rate="1e-3"), "write a point and a sign, as in 1.0e-5"),
        (lambda c: c["loss"].update(coef=1), "loss.coef: expected a list, found 1"),
        (lambda c: c["loss"].update(types=[{"type": "CELoss"}] * 2), "2 types for 3 coef"),
        (lambda c: c["loss"].update(types=["CELoss"]), "loss.types.0: expected a block with a 'type'"),
        (lambda c: c.update(test_config={"scale": 1.0}), "test_config.scale: unknown key. Did you mean 'scales'?"),
        (lambda c: c.update(test_config={"scales": 1}), "test_config.scales: expected a number with a point"),
        (
            lambda c: c.update(test_config={"is_slide": True, "stride": [8, 8]}),
            "a sliding window needs test_config.crop_size",
        ),
        (
            lambda c: c["model"].update(type="PPLiteSegNett"),
            "model.type: there is no model 'PPLiteSegNett'. Did you mean 'PPLiteSegNet'",
        ),
        (
            lambda c: c["model"]["neck"].update(type="SPM"),
            "model.neck.type: there is no component 'SPM'. Did you mean 'SPPM'",
        ),
        (
            lambda c: c["model"]["backbone"].update(type="STDCNet814"),
            "there is no backbone 'STDCNet814'. Did you mean 'STDCNet813'",
        ),
        (
            lambda c: c["model"]["backbone"].update(type="CELoss"),
            "'CELoss' is registered among PaddleSeg's losses, not as a backbone",
        ),
        (
            lambda c: c["train_dataset"]["transforms"].append({"type": "Normalise"}),
            "train_dataset.transforms.1.type: there is no transform 'Normalise'. Did you mean 'Normalize'",
        ),
        (lambda c: c["model"]["neck"].update(bins=[1]), "model.neck.bins: SPPM takes no such argument."),
        (lambda c: c["model"]["neck"].pop("in_channels"), "model.neck: SPPM needs in_channels, which is not given"),
        (
            lambda c: c["optimizer"].update(momentun=0.9),
            "optimizer.momentun: SGD takes no such argument. Did you mean 'momentum'",
        ),
        (
            lambda c: c["lr_scheduler"].update(type="PolyDecay"),
            "no learning-rate scheduler 'PolyDecay'. Did you mean 'PolynomialDecay'",
        ),
        (lambda c: c["lr_scheduler"].update(warmup=3), "lr_scheduler.warmup: PolynomialDecay takes no such argument."),
        (lambda c: c["lr_scheduler"].update(warmup_iters=3), "a warm-up needs lr_scheduler.warmup_start_lr"),
        (
            lambda c: c["model"].update(num_classes=19),
            "model.num_classes is 19, but train_dataset (StreetScenes) has 11 classes",
        ),
        (
            lambda c: c["model"].update(num_classes="eleven"),
            "model.num_classes: expected an integer, found the text 'eleven'",
        ),
        (
            lambda c: c["model"].update(backbone="STDCNet813"),
            "model.backbone: expected a block with a 'type', found the text 'STDCNet813'",
        ),
        (lambda c: c["model"].update(neck=None), "model.neck: expected a block with a 'type', found nothing"),
        (
            lambda c: c["model"].update(seg_head_channels=32),
            "model.seg_head_channels: expected a list of integers, found 32",
        ),
        (
            lambda c: c["model"]["neck"].update(bin_sizes=4),
            "model.neck.bin_sizes: expected a list of integers, found 4",
        ),
        (
            lambda c: c["model"]["head"].update(out_channels=[32, "a", 128]),
            "model.head.out_channels: expected a list of integers",
        ),
        (
            lambda c: c["train_dataset"].update(transforms={"type": "Normalize"}),
            "train_dataset.transforms: expected a list of blocks with a 'type', found a block",
        ),
        (
            lambda c: c["train_dataset"].update(transforms=["Normalize"]),
            "train_dataset.transforms.0: expected a block with a 'type', found the text 'Normalize'",
        ),
        (
            lambda c: c["train_dataset"].update(transforms=[{"type": "Normalize", "mean": 0.5}]),
            "train_dataset.transforms.0.mean: expected a list of numbers, found 0.5",
        ),
        (
            lambda c: c["lr_scheduler"].update(power="x"),
            "lr_scheduler.power: expected a number of at least 0, found the text 'x'",
        ),
        (
            lambda c: c["loss"]["types"][0].update(weight=[1, 2, 3]),
            "loss.types.0.weight: 3 weights for 11 classes: give one for each",
        ),
    ],
)
def test_each_fault_of_a_configuration_is_one_line_that_names_the_key(tmp_path, change, expected):
    assert expected in message(checked, broken(tmp_path, change))


def test_an_error_names_the_base_file_or_the_option_that_set_the_key(tmp_path):
    write_config(tmp_path / "base.yml", values(tmp_path, batch_size=-1))
    top = written(tmp_path, "_base_: base.yml\niters: 3", "top.yml")
    assert message(config.load, top).startswith(str(tmp_path / "base.yml") + ": batch_size")
    assert message(config.load, top, opts=["batch_size=x"]).startswith("--opts batch_size")


def test_a_foreign_top_level_key_is_left_alone(tmp_path):
    content = values(tmp_path, slim_settings={"pact": True})
    assert config.load(write_config(tmp_path / "c.yml", content))[0]["slim_settings"] == {"pact": True}


def test_a_configuration_of_paddleseg_components_passes(tmp_path):
    content = values(tmp_path)
    content["model"] = {"type": "PPLiteSeg", "backbone": {"type": "STDC2"}, "arm_out_chs": [32, 64, 128]}
    content["train_dataset"] = {
        "type": "Cityscapes",
        "dataset_root": "x",
        "mode": "train",
        "transforms": [
            {"type": "ResizeStepScaling", "scale_step_size": 0.25},
            {"type": "RandomPaddingCrop", "crop_size": [64, 32]},
        ],
    }
    content["val_dataset"] = {"type": "Cityscapes", "dataset_root": "x", "mode": "val", "transforms": []}
    content["loss"] = {
        "types": [
            {"type": "MixedLoss", "losses": [{"type": "OhemCrossEntropyLoss"}, {"type": "DiceLoss"}], "coef": [1, 1]}
        ],
        "coef": [1],
    }
    content["optimizer"] = {"type": "adam"}
    assert checked(write_config(tmp_path / "c.yml", content))["model"]["type"] == "PPLiteSeg"
