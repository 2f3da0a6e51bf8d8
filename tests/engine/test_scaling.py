import copy

import pytest

from ppliteseg_paddle.engine.scaling import apply_changes, scale_recipe
from ppliteseg_paddle.errors import ConfigError

CONFIG = {
    "batch_size": 4,
    "iters": 160000,
    "recipe": {"devices": 4, "batch_size": 4},
    "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.005, "warmup_iters": 1000, "warmup_start_lr": 1e-5},
    "loss": {"types": [{"type": "OhemCELoss", "min_kept": 130000}, {"type": "CELoss"}], "coef": [1, 1]},
}


def test_the_recipes_own_hardware_changes_nothing():
    scaling = scale_recipe(CONFIG, devices=4, batch_size=4)
    assert (scaling.changes, scaling.sentences) == ({}, [])


def test_a_configuration_without_recipe_is_left_alone():
    config = {key: value for key, value in CONFIG.items() if key != "recipe"}
    assert scale_recipe(config, devices=1, batch_size=1).changes == {}


def test_one_device_sees_as_many_images_at_a_smaller_rate():
    before = copy.deepcopy(CONFIG)
    scaling = scale_recipe(CONFIG, devices=1, batch_size=4)
    assert scaling.changes == {
        "lr_scheduler.learning_rate": 0.00125,
        "iters": 640000,
        "lr_scheduler.warmup_iters": 4000,
    }
    assert scaling.sentences == [
        "the recipe takes 16 images a step (4 x 4), this run takes 4 (1 x 4):",
        "lr_scheduler.learning_rate 0.005 -> 0.00125: the gradient is the mean over 0.25 times as many images (linear "
        "rule)",
        "iters 160000 -> 640000: so that as many images are seen",
        "lr_scheduler.warmup_iters 1000 -> 4000: so that as many images are seen",
        "keep the configuration's own numbers with --no_auto_scale",
    ]
    assert before == CONFIG


def test_a_larger_batch_on_one_device_scales_min_kept_too():
    scaling = scale_recipe(CONFIG, devices=1, batch_size=8)
    assert scaling.changes == {
        "lr_scheduler.learning_rate": 0.0025,
        "iters": 320000,
        "lr_scheduler.warmup_iters": 2000,
        "loss.types.0.min_kept": 260000,
    }
    assert any("it counts pixels of one device's batch, 8 images instead of 4" in text for text in scaling.sentences)


def test_the_same_total_on_fewer_devices_changes_min_kept_alone():
    assert scale_recipe(CONFIG, devices=2, batch_size=8).changes == {"loss.types.0.min_kept": 260000}


def test_losses_of_one_kind_are_spoken_of_once():
    losses = {"types": [{"type": "OhemCELoss", "min_kept": 130000} for _ in range(3)], "coef": [1, 1, 1]}
    scaling = scale_recipe({**CONFIG, "loss": losses}, devices=2, batch_size=8)
    assert scaling.changes == {f"loss.types.{i:d}.min_kept": 260000 for i in range(3)}
    assert scaling.sentences == [
        "OHEM's min_kept 130000 -> 260000: it counts pixels of one device's batch, 8 images instead of 4",
        "keep the configuration's own numbers with --no_auto_scale",
    ]


def test_iterations_are_rounded_up():
    assert scale_recipe(CONFIG, devices=3, batch_size=1).changes["iters"] == 853334


def test_what_was_set_by_hand_stays_and_is_named():
    scaling = scale_recipe(
        CONFIG, devices=1, batch_size=1, given=["iters", "batch_size", "lr_scheduler.learning_rate", "loss"]
    )
    assert scaling.changes == {"lr_scheduler.warmup_iters": 16000}
    assert "iters stays 160000, as it was set by hand" in scaling.sentences
    assert "OHEM's min_kept stays 130000, as it was set by hand" in scaling.sentences


def test_changes_are_put_where_their_keys_lead():
    config = copy.deepcopy(CONFIG)
    apply_changes(config, scale_recipe(config, devices=1, batch_size=2).changes)
    assert (config["iters"], config["lr_scheduler"]["learning_rate"], config["loss"]["types"][0]["min_kept"]) == (
        1280000,
        0.000625,
        65000,
    )


@pytest.mark.parametrize(
    "recipe", [None, 4, {"devices": 4}, {"devices": 0, "batch_size": 4}, {"devices": True, "batch_size": 4}]
)
def test_an_invalid_recipe_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"recipe is .*as in \{devices: 4, batch_size: 4\}"):
        scale_recipe({**CONFIG, "recipe": recipe}, devices=1, batch_size=1)


def test_training_scales_the_recipe_once_and_says_what_it_did(capsys):
    from types import SimpleNamespace

    from ppliteseg_paddle.config.source import Source
    from ppliteseg_paddle.engine.train import fit_recipe

    values = {
        "recipe": {"devices": 4, "batch_size": 4},
        "batch_size": 2,
        "iters": 1000,
        "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.008},
        "loss": {"types": [{"type": "OhemCELoss", "min_kept": 100}], "coef": [1]},
    }
    config = SimpleNamespace(dic=values, batch_size=2, source=Source("c.yml"))
    fit_recipe(config, devices=1)
    assert (values["lr_scheduler"]["learning_rate"], values["iters"], values["loss"]["types"][0]["min_kept"]) == (
        0.001,
        8000,
        50,
    )
    said = capsys.readouterr().out
    assert "lr_scheduler.learning_rate 0.008 -> 0.001" in said and "--no_auto_scale" in said
    fit_recipe(config, devices=1)  # as a run from the saved configuration would
    assert values["lr_scheduler"]["learning_rate"] == 0.001 and capsys.readouterr().out == ""
