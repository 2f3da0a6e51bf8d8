import numpy as np
import paddle
import pytest
from reference import PRESETS, paddleseg_model, randomise, state_of
from registered import component, registered

from ppliteseg_paddle import PPLiteSegNet, load_weights, pp_liteseg_b, pp_liteseg_t
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models import pp_liteseg, stdc, stdc_names
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.layers import ConvBNReLU
from ppliteseg_paddle.models.sppm import SPPM
from ppliteseg_paddle.models.uafm import PADDLESEG_ARM_TYPES
from ppliteseg_paddle.registry import COMPONENTS
from ppliteseg_paddle.weights import names as weight_names
from ppliteseg_paddle.weights.names import describe, identify, to_ours, to_paddleseg
from ppliteseg_paddle.weights.rules import families, family_of
from ppliteseg_paddle.weights.write import write_state_dict

BUILDERS = {"T": pp_liteseg_t, "B": pp_liteseg_b}


def assert_equal_states(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    called = {stdc.VARIANTS["STDCNet813"]: "STDC1", stdc.VARIANTS["STDCNet1446"]: "STDC2"}
    assert called == stdc_names.VARIANTS
    for (backbone, channels), preset in weight_names.PRESETS.items():
        cls, out_channels, _ = pp_liteseg.PRESETS[preset]
        assert (called[stdc.VARIANTS[cls.__name__]], out_channels) == (backbone, channels)


# --------------------------------------------------------------------------------------------
# Backbones other than STDC
# --------------------------------------------------------------------------------------------
class Stages(paddle.nn.Layer):
    """Somebody's backbone, whose stages are called `stages` too: two blocks each, as STDC1 has from the third on."""

    feat_channels = (8, 16, 32, 64, 128)
    feat_strides = (2, 4, 8, 16, 32)

    def __init__(self):
        super().__init__()
        pairs = zip((3, *self.feat_channels), self.feat_channels)
        self.stages = paddle.nn.LayerList(
            [paddle.nn.Sequential(ConvBNReLU(a, b, 3, stride=2), ConvBNReLU(b, b, 3)) for a, b in pairs]
        )

    def forward(self, x):
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def model_on(backbone):
    channels = list(backbone.feat_channels)[-3:]
    return PPLiteSegNet(3, backbone, SPPM(channels[-1]), FLDHead(channels, 128, [32, 64, 128]), [32, 64, 64])


def test_a_foreign_backbone_is_not_taken_for_stdc():
    alone, whole = state_of(Stages()), state_of(model_on(Stages()))
    assert identify(alone) == "unknown" and describe(alone)["backbone"] is None
    assert (identify(whole), describe(whole)["backbone"], describe(whole)["levels"]) == ("ours", None, 3)
    torch_like = {"features.0.0.weight": np.zeros(3), "features.0.1.running_mean": np.zeros(3)}
    assert identify(torch_like) == "unknown" and to_ours(torch_like).state.keys() == torch_like.keys()


def test_a_foreign_backbone_keeps_its_names_in_a_file_for_paddleseg():
    from paddleseg.models import PPLiteSeg

    backbone = Stages()
    whole = state_of(model_on(backbone))
    theirs = PPLiteSeg(3, backbone, arm_out_chs=[32, 64, 128], seg_head_inter_chs=[32, 64, 64])
    converted = to_paddleseg(whole)
    assert set(converted) == set(state_of(theirs))
    assert_equal_states(to_ours(converted).state, whole)
    with pytest.raises(WeightsError, match="the names are not this project's"):
        to_paddleseg(state_of(backbone))


@pytest.mark.parametrize("target", registered("BACKBONES"))
def test_every_backbone_that_tells_its_names_knows_them_and_gets_them_back(target):
    state = state_of(component(target)())
    family = family_of(state)
    if family is None:  # it keeps them wherever it goes
        assert to_ours(state).state.keys() == state.keys()
        return
    names, source = family
    assert source == names.ours and names.form(state)
    assert_equal_states(to_ours(to_paddleseg(state)).state, state)
    assert all(other is names or other.source(state) is None for other in families())


PLAIN_NET = """
from paddle import nn


class PlainNet(nn.Layer):
    def __init__(self):
        super().__init__()
        self.layers = nn.LayerList([nn.Conv2D(3, 8, 3), nn.Conv2D(8, 8, 3)])
"""
PLAIN_NET_NAMES = """
from ppliteseg_paddle.weights.rules import BackboneNames


class PlainNames(BackboneNames):
    ours = "our PlainNet"
    our_names = r"layers\\.\\d+\\.(weight|bias)"
    foreign = {"somebody's PlainNet": r"blocks\\.\\d+\\.(weight|bias)"}
    ignored = r"fc\\."
    rows = (("layers.{}.", "blocks.{}."),)

    def variant(self, names):
        return "PlainNet"


NAMES = PlainNames()
"""


def test_a_new_backbone_tells_its_names_in_a_file_of_its_own(tmp_path, monkeypatch):
    package = tmp_path / "scratch_backbones"
    package.mkdir()
    for name, source in (("__init__", ""), ("plain_net", PLAIN_NET), ("plain_net_names", PLAIN_NET_NAMES)):
        (package / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = "scratch_backbones.plain_net:PlainNet"
    monkeypatch.setitem(COMPONENTS, "BACKBONES", (*COMPONENTS["BACKBONES"], row))
    from scratch_backbones.plain_net import PlainNet

    theirs = {name.replace("layers", "blocks"): array for name, array in state_of(PlainNet()).items()}
    renamed = to_ours({**theirs, "fc.weight": np.zeros(3)})
    assert (renamed.source, renamed.ignored) == ("somebody's PlainNet", ["fc.weight"])
    assert identify(renamed.state) == "our PlainNet" and describe(renamed.state)["backbone"] == "PlainNet"
    assert_equal_states(to_paddleseg(renamed.state), theirs)
    path, other = str(tmp_path / "theirs.pdparams"), PlainNet()
    write_state_dict(path, theirs)
    assert load_weights(other, path, strict=True).complete
    assert_equal_states(state_of(other), renamed.state)
    assert identify(state_of(stdc.STDCNet813())) == "our STDC backbone"
