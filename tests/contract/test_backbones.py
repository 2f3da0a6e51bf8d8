"""What every backbone owes the model, the export and weight files."""

import numpy as np
import paddle
import pytest
from reference import randomise
from registered import component, registered, without_gradient

from ppliteseg_paddle import PPLiteSegNet, load_weights
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.sppm import SPPM

every_backbone = pytest.mark.parametrize("target", registered("BACKBONES"))
ODD_SIZES = [(64, 96), (75, 101), (33, 47)]


def model_with(backbone):
    channels = list(backbone.feat_channels)[-3:]
    return PPLiteSegNet(4, backbone, SPPM(channels[-1], 16), FLDHead(channels, 16, [8, 8, 8]), [8, 8, 8])


def largest_difference(one, other):
    return np.abs(one - other).max() / np.abs(one).max()


@every_backbone
@pytest.mark.parametrize("size", ODD_SIZES)
def test_features_have_the_channels_and_strides_that_are_declared_whatever_the_size(target, size):
    backbone = component(target)()
    features = backbone(paddle.randn([2, 3, *size]))
    assert len(features) == len(backbone.feat_channels) == len(backbone.feat_strides) >= 3
    assert [list(feature.shape) for feature in features] == [
        [2, channels, -(-size[0] // stride), -(-size[1] // stride)]
        for channels, stride in zip(backbone.feat_channels, backbone.feat_strides)
    ]
    assert sorted(backbone.feat_strides) == list(backbone.feat_strides)


@every_backbone
def test_every_parameter_learns(target):
    backbone = component(target)()
    sum((feature * paddle.randn(feature.shape)).mean() for feature in backbone(paddle.randn([2, 3, 64, 96]))).backward()
    assert without_gradient(backbone) == []


@every_backbone
def test_weights_saved_and_loaded_give_the_same_features(target, tmp_path):
    saved, loaded = component(target)(), component(target)()
    randomise(saved)
    path = str(tmp_path / "backbone.pdparams")
    paddle.save(saved.state_dict(), path)
    load_weights(loaded, path)
    saved.eval(), loaded.eval()
    image = paddle.randn([1, 3, 64, 64])
    for one, other in zip(saved(image), loaded(image)):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@every_backbone
def test_pretrained_takes_a_file_of_its_own_weights(target, tmp_path):
    saved = component(target)()
    path = str(tmp_path / "backbone.pdparams")
    paddle.save(saved.state_dict(), path)
    for name, array in component(target)(pretrained=path).state_dict().items():
        np.testing.assert_array_equal(array.numpy(), saved.state_dict()[name].numpy(), err_msg=name)


@every_backbone
def test_images_with_one_channel_are_taken(target):
    assert len(component(target)(in_channels=1)(paddle.randn([1, 1, 64, 64]))) >= 3


@every_backbone
def test_a_model_on_it_gives_logits_of_the_images_size(target):
    model = model_with(component(target)())
    image = paddle.randn([2, 3, 75, 101])
    assert [list(logits.shape) for logits in model(image)] == [[2, 4, 75, 101]] * 3
    model.eval()
    assert [list(logits.shape) for logits in model(image)] == [[2, 4, 75, 101]]


@every_backbone
def test_the_models_export_form_of_a_fixed_size_gives_the_same_logits(target):
    model = model_with(component(target)())
    randomise(model)
    model.eval()
    image = paddle.randn([1, 3, 90, 122])
    expected = model(image)[0].numpy()
    model.prepare_for_export(input_size=(90, 122))
    assert largest_difference(expected, model(image)[0].numpy()) < 1e-4
