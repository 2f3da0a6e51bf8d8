import numpy as np
import paddle
import pytest
from reference import PRESETS, paddleseg_model, randomise, state_of

from ppliteseg_paddle import PPLiteSegNet, load_weights, pp_liteseg_b, pp_liteseg_t
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models import pp_liteseg, stdc
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.sppm import SPPM
from ppliteseg_paddle.models.uafm import PADDLESEG_ARM_TYPES
from ppliteseg_paddle.weights import names as weight_names
from ppliteseg_paddle.weights.files import write_state_dict
from ppliteseg_paddle.weights.names import describe, identify, to_ours, to_paddleseg

BUILDERS = {"T": pp_liteseg_t, "B": pp_liteseg_b}


def assert_equal_states(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("preset, arm_type", [("T", arm) for arm in PADDLESEG_ARM_TYPES] + [("B", "UAFM_SpAtten")])
def test_to_our_names_and_back_gives_the_very_file(preset, arm_type):
    state = state_of(paddleseg_model(preset, 3, arm_type))
    ours = to_ours(state)
    assert (ours.source, ours.ignored) == ("PaddleSeg's PPLiteSeg", [])
    assert set(ours.state) == set(state_of(BUILDERS[preset](num_classes=3, fusion=PADDLESEG_ARM_TYPES[arm_type])))
    assert_equal_states(to_paddleseg(ours.state), state)
    assert len([name for name in state if name.endswith("_scale")]) == (3 if arm_type == "UAFM_SpAtten" else 0)


@pytest.mark.parametrize("preset", ["T", "B"])
def test_a_backbones_names_go_to_ours_and_back(preset):
    import paddleseg.models

    state = state_of(getattr(paddleseg.models, PRESETS[preset][0])())
    assert_equal_states(to_paddleseg(to_ours(state).state), state)


@pytest.mark.parametrize("preset", ["T", "B"])
def test_paddlesegs_model_loads_a_converted_file_with_nothing_missing(preset, tmp_path, capsys):
    ours = BUILDERS[preset](num_classes=5)
    randomise(ours)
    path = str(tmp_path / "model.pdparams")
    write_state_dict(path, to_paddleseg(state_of(ours)))
    theirs = paddleseg_model(preset, 5)
    missing, unexpected = theirs.set_state_dict(paddle.load(path))
    assert (list(missing), list(unexpected)) == ([], [])
    from paddleseg.utils import utils

    theirs = paddleseg_model(preset, 5)
    utils.load_entire_model(theirs, path)  # what its own tools call
    total = len(theirs.state_dict())
    assert f"There are {total}/{total} variables loaded" in capsys.readouterr().out
    theirs.eval(), ours.eval()
    image = paddle.randn([1, 3, 64, 96])
    expected = theirs(image)[0].numpy()
    np.testing.assert_allclose(ours(image)[0].numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_a_model_with_another_backbone_keeps_that_backbones_names(tmp_path):
    from paddleseg.cvlibs import manager
    from paddleseg.models import PPLiteSeg

    options = {"arm_out_chs": [32, 64, 128], "seg_head_inter_chs": [32, 64, 64], "backbone_indices": [1, 2, 3]}
    theirs = PPLiteSeg(3, manager.BACKBONES["ResNet18_vd"](output_stride=32), **options)
    randomise(theirs)
    channels = [128, 256, 512]
    ours = PPLiteSegNet(
        3,
        manager.BACKBONES["ResNet18_vd"](output_stride=32),
        SPPM(512),
        FLDHead(channels, 128, [32, 64, 128]),
        [32, 64, 64],
    )
    path = str(tmp_path / "model.pdparams")
    paddle.save(theirs.state_dict(), path)
    assert load_weights(ours, path, strict=True).complete
    assert_equal_states(to_paddleseg(state_of(ours)), state_of(theirs))
    theirs.eval(), ours.eval()
    image = paddle.randn([1, 3, 64, 64])
    expected = theirs(image)[0].numpy()
    np.testing.assert_allclose(ours(image)[0].numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_names_of_a_parallel_wrapper_are_taken_off():
    state = state_of(pp_liteseg_t(num_classes=2))
    assert set(to_ours({"_layers." + name: array for name, array in state.items()}).state) == set(state)


def two_fusions():
    return PPLiteSegNet(
        2, stdc.STDCNet813(), SPPM(1024), FLDHead([256, 512], 128, [32, 64]), [32, 64], backbone_indices=[2, 3, 4]
    )


def test_forms_that_paddlesegs_model_does_not_have_are_refused():
    with pytest.raises(WeightsError, match="deepest fusion does not take the feature that SPPM takes"):
        to_paddleseg(state_of(two_fusions()))
    without_neck = {name: array for name, array in state_of(pp_liteseg_t(2)).items() if not name.startswith("neck.")}
    with pytest.raises(WeightsError, match="the model has no SPPM"):
        to_paddleseg(without_neck)
    with pytest.raises(WeightsError, match="the names are not this project's"):
        to_paddleseg(state_of(paddleseg_model("T", 2)))


def test_a_file_says_which_model_it_is_of():
    assert describe(state_of(pp_liteseg_t(7))) == {"backbone": "STDC1", "preset": "T", "num_classes": 7, "levels": 3}
    assert describe(state_of(pp_liteseg_b(19))) == {"backbone": "STDC2", "preset": "B", "num_classes": 19, "levels": 3}
    assert describe(state_of(two_fusions())) == {"backbone": "STDC1", "preset": None, "num_classes": 2, "levels": 2}
    assert describe(state_of(stdc.STDCNet1446())) == {
        "backbone": "STDC2",
        "preset": None,
        "num_classes": None,
        "levels": 0,
    }
    assert identify(["conv1._conv.weight"]) == "unknown"


def test_the_tables_agree_with_the_models():
    assert {stdc.VARIANTS["STDCNet813"]: "STDC1", stdc.VARIANTS["STDCNet1446"]: "STDC2"} == weight_names.BACKBONES
    for (backbone, channels), preset in weight_names.PRESETS.items():
        cls, out_channels, _ = pp_liteseg.PRESETS[preset]
        assert (weight_names.BACKBONES[stdc.VARIANTS[cls.__name__]], out_channels) == (backbone, channels)
