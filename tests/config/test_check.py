"""Each fault of a configuration is one line that names the key, the file that set it, and what is allowed."""

import textwrap

import pytest
from tiny_data import values, write_config

from ppliteseg_paddle.config import read as config
from ppliteseg_paddle.config.components import check_components
from ppliteseg_paddle.errors import ConfigError


def written(tmp_path, text, name="c.yml"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


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
        (lambda c: c.update(save_interval=0), "save_interval: expected an integer of at least 1, found 0"),
        (lambda c: c.update(palette="red"), "palette: expected a list, found the text 'red'"),
        (
            lambda c: c.update(palette=[[0, 0, 0], [255, 0, 256]]),
            "palette.1: expected [red, green, blue], each an integer from 0 to 255, found the list [255, 0, 256].",
        ),
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
            lambda c: c["lr_scheduler"].update(warmup_iters=3, warmup_start_lr=0.5),
            "lr_scheduler.warmup_start_lr is 0.5: a warm-up starts below the learning rate, which is 0.01.",
        ),
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
            lambda c: c["model"]["head"].update(fusion=["add"]),
            "model.head.fusion: expected a text, found the list ['add']",
        ),
        (
            lambda c: c.update(recipe={"devices": 4}),
            "recipe.batch_size: expected an integer of at least 1, found nothing",
        ),
        (lambda c: c.update(data_cache=5), "data_cache: expected a text, found 5"),
        (
            lambda c: c.update(test_config={"aug_eval": "no"}),
            "test_config.aug_eval: expected true or false, found the text",
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


def test_null_is_accepted_where_it_means_the_default(tmp_path):
    content = values(tmp_path, data_cache=None, test_config={"crop_size": None, "stride": None})
    content["loss"]["types"] = [{"type": "CELoss", "weight": None}]
    content["model"]["backbone_indices"] = None
    assert checked(write_config(tmp_path / "c.yml", content))["data_cache"] is None


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
