import numpy as np
import paddle
import pytest
from reference import paddleseg_model, state_of

from ppliteseg_paddle import PPLiteSegNet, pp_liteseg_b, pp_liteseg_t
from ppliteseg_paddle.benchmark.studies.mixed_types import mixed_types
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.models.fld import FLDHead
from ppliteseg_paddle.models.sppm import SPPM
from ppliteseg_paddle.models.stdc import STDCNet813
from ppliteseg_paddle.models.uafm import FUSIONS, PADDLESEG_ARM_TYPES
from ppliteseg_paddle.weights.load import from_paddleseg

BUILDERS = {"T": pp_liteseg_t, "B": pp_liteseg_b}


def relative_difference(a, b):
    a, b = a.numpy(), b.numpy()
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(a).max()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["T", "B"])
def test_with_the_same_weights_all_logits_equal_those_of_paddlesegs_model(preset, by_paddle):
    theirs = paddleseg_model(preset)
    ours = BUILDERS[preset](num_classes=11)
    renamed = from_paddleseg(state_of(theirs))
    assert set(renamed) == set(ours.state_dict())
    ours.set_state_dict(renamed)
    image = paddle.randn([2, 3, 90, 122])
    for mode, outputs in (("eval", 1), ("train", 3)):
        getattr(theirs, mode)()
        getattr(ours, mode)()
        expected, found = theirs(image), by_paddle(ours, image)
        assert len(expected) == len(found) == outputs
        for a, b in zip(expected, found):
            assert relative_difference(a, b) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("arm_type", list(PADDLESEG_ARM_TYPES))
def test_every_fusion_equals_paddlesegs_arm_type_and_gets_gradients(arm_type):
    theirs = paddleseg_model("T", arm_type=arm_type)
    ours = pp_liteseg_t(num_classes=11, fusion=PADDLESEG_ARM_TYPES[arm_type])
    ours.set_state_dict(from_paddleseg(state_of(theirs)))
    image = paddle.randn([2, 3, 64, 96])
    theirs.eval(), ours.eval()
    assert relative_difference(theirs(image)[0], ours(image)[0]) < 1e-5
    ours.train()
    sum(logits.square().mean() for logits in ours(image)).backward()
    without = [
        name
        for name, p in ours.named_parameters()
        if not p.stop_gradient and (p.grad is None or not np.any(p.grad.numpy()))
    ]
    # A convolution's bias ahead of normalisation is cancelled by it: its gradient is zero but for rounding.
    assert [name for name in without if not name.endswith("conv.bias")] == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (90, 120), (128, 257)])
@pytest.mark.parametrize("preset", ["T", "B"])
def test_logits_have_the_images_size_whatever_it_is(preset, size):
    model = BUILDERS[preset](num_classes=5)
    image = paddle.randn([2, 3, *size])
    assert [list(y.shape) for y in model(image)] == [[2, 5, *size]] * 3
    model.eval()
    assert [list(y.shape) for y in model(image)] == [[2, 5, *size]]


@pytest.mark.slow
def test_the_presets_have_the_parameters_that_paddlesegs_models_have():
    for preset, build in BUILDERS.items():
        count = {
            owner: sum(int(np.prod(a.shape)) for name, a in state.items() if not name.endswith("_scale"))
            for owner, state in (("theirs", state_of(paddleseg_model(preset, 19))), ("ours", state_of(build(19))))
        }
        assert count["theirs"] == count["ours"]


def parts(**changes):
    options = {
        "neck": {"in_channels": 1024, "out_channels": 128},
        "head": {"in_channels": [256, 512, 1024], "neck_channels": 128, "out_channels": [32, 64, 128]},
        "seg_head_channels": [32, 64, 64],
        "num_classes": 4,
        "backbone_indices": None,
    }
    for key, value in changes.items():
        options[key] = {**options[key], **value} if isinstance(value, dict) else value
    return PPLiteSegNet(
        options["num_classes"],
        STDCNet813(),
        SPPM(**options["neck"]),
        FLDHead(**options["head"]),
        options["seg_head_channels"],
        options["backbone_indices"],
    )


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"neck": {"in_channels": 512}}, r"model\.neck\.in_channels is 512, but must be 1024"),
        (
            {"head": {"in_channels": [256, 512, 512]}},
            r"model\.head\.in_channels is \[256, 512, 512\], but must be \[256, 512, 1024\]",
        ),
        (
            {"head": {"neck_channels": 96}},
            r"model\.head\.neck_channels is 96, but must be 128 \(model\.neck\.out_channels\)",
        ),
        ({"seg_head_channels": [32]}, r"the length of model\.seg_head_channels is 1, but must be 3"),
        ({"head": {"out_channels": [32, 64]}}, r"one number a level each, but are \[256, 512, 1024\] and \[32, 64\]"),
        ({"backbone_indices": [2, 3, 5]}, r"rising numbers from 0 to 4, as STDCNet813 returns 5 features"),
        ({"backbone_indices": [4, 3, 2]}, r"backbone_indices is \[4, 3, 2\]"),
        ({"backbone_indices": [3, 4]}, r"model\.head has 3 levels, but 2|model\.head has 3 levels, but \[3, 4\]"),
        ({"num_classes": 0}, r"model\.num_classes is 0, but must be a positive integer"),
        (
            {"head": {"fusion": "spatial_mean_mx"}},
            r"fusion 'spatial_mean_mx' is unknown\. Did you mean 'spatial_mean_max'",
        ),
        ({"head": {"fusion": "UAFM_ChAtten"}}, r"PaddleSeg's name; write 'channel_mean_max'"),
        ({"head": {"resize_mode": "bicubic"}}, r"resize_mode 'bicubic' is unknown\. Choose from: bilinear, nearest"),
        ({"neck": {"bin_sizes": [1, 0]}}, r"bin_sizes must be positive integers such as \[1, 2, 4\], but is \[1, 0\]"),
    ],
)
def test_parts_that_disagree_are_named_with_what_was_found_and_what_fits(changes, text):
    with pytest.raises(ConfigError, match=text):
        parts(**changes)


def test_a_backbone_without_declared_channels_is_refused():
    with pytest.raises(ConfigError, match="Linear has no feat_channels"):
        PPLiteSegNet(2, paddle.nn.Linear(2, 2), SPPM(8), FLDHead([8], 128, [8]), [8])


@pytest.mark.parametrize(
    "name, channels",
    [("ResNet18_vd", [128, 256, 512]), ("MobileNetV2_x1_0", [32, 96, 320]), ("MobileNetV3_large_x1_0", [40, 112, 160])],
)
def test_a_backbone_of_paddleseg_serves_too(name, channels):
    from paddleseg.cvlibs import manager

    backbone = manager.BACKBONES[name]()
    assert list(backbone.feat_channels)[-3:] == channels
    model = PPLiteSegNet(3, backbone, SPPM(channels[-1]), FLDHead(channels, 128, [32, 64, 128]), [32, 64, 64])
    model.eval()
    assert list(model(paddle.randn([1, 3, 65, 97]))[0].shape) == [1, 3, 65, 97]


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_the_head_takes_any_number_of_levels(levels):
    backbone = STDCNet813()
    channels = backbone.feat_channels[-levels:]
    model = PPLiteSegNet(3, backbone, SPPM(1024, 64), FLDHead(channels, 64, [16] * levels), [8] * levels)
    outputs = model(paddle.randn([2, 3, 64, 64]))
    assert [list(y.shape) for y in outputs] == [[2, 3, 64, 64]] * levels


def test_with_two_fusions_the_neck_still_reads_the_deepest_feature():
    """The decoder as the paper's text has it: fusions at strides 8 and 16, context from stride 32."""
    model = PPLiteSegNet(
        3, STDCNet813(), SPPM(1024), FLDHead([256, 512], 128, [32, 64]), [32, 64], backbone_indices=[2, 3, 4]
    )
    assert [list(y.shape) for y in model(paddle.randn([2, 3, 64, 96]))] == [[2, 3, 64, 96]] * 2


def test_the_export_form_keeps_the_logits_and_drops_the_other_segmentation_heads():
    model = pp_liteseg_t(num_classes=7)
    model.eval()
    image = paddle.randn([1, 3, 360, 480])  # 12 x 15 at stride 32: no bin size but 1 divides both
    expected = model(image)[0].numpy()
    model.prepare_for_export(input_size=(360, 480))
    assert len(model.seg_heads) == 1 and not model.training
    np.testing.assert_allclose(model(image)[0].numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_loss_computation_gives_one_loss_a_level_that_paddlesegs_loop_can_index():
    from ppliteseg_paddle.losses.cross_entropy import CELoss

    model = pp_liteseg_t(num_classes=4)
    label = paddle.randint(0, 4, [2, 64, 64])
    losses = model.loss_computation(
        model(paddle.randn([2, 3, 64, 64])), {"types": [CELoss()] * 3, "coef": [1, 0.5, 0]}, {"label": label}
    )
    assert [list(loss.shape) for loss in losses] == [[1], [1], [1]]
    assert float(losses[0][0]) > 0 and float(losses[2][0]) == 0


def test_logits_that_the_losses_upsample_give_the_losses_and_gradients_of_full_size_ones():
    from ppliteseg_paddle.losses.cross_entropy import OhemCELoss

    model = pp_liteseg_t(num_classes=4)
    image, label = paddle.randn([2, 3, 64, 96]), paddle.randint(0, 4, [2, 64, 96])
    losses = {"types": [OhemCELoss(0.7, 200)] * 3, "coef": [1, 0.5, 0.25]}
    found = []
    for full_size in (True, False):
        model.full_size_logits = full_size
        logits_list = model(image)
        assert [logits.shape[2:] == [64, 96] for logits in logits_list] == [full_size] * 3
        values = model.loss_computation(logits_list, losses, {"label": label})
        sum(values).backward()
        found.append([float(value) for value in values] + [model.head.fusions[0].conv_out.conv.weight.grad.numpy()])
        model.clear_gradients()
    np.testing.assert_allclose(found[0][:3], found[1][:3], rtol=1e-5)
    np.testing.assert_allclose(found[0][3], found[1][3], atol=1e-5 * np.abs(found[0][3]).max())


def test_losses_that_do_not_upsample_get_full_size_logits():
    from paddleseg.models.losses import DiceLoss

    model = pp_liteseg_t(num_classes=4)
    model.full_size_logits = False
    values = model.loss_computation(
        model(paddle.randn([2, 3, 64, 96])),
        {"types": [DiceLoss()] * 3, "coef": [1, 1, 1]},
        {"label": paddle.randint(0, 4, [2, 64, 96])},
    )
    assert all(0 < float(value) < 1 for value in values)


def test_a_training_steps_gradients_equal_those_of_paddlesegs_model_and_loss():
    """In float64, where both agree to the last digits of a float32: our loss computes in that type. In float32, fifty
    batch norms over few numbers amplify the last bit, and each network is a percent off the truth in its own way."""
    from paddleseg.core.train import loss_computation
    from paddleseg.models.losses import OhemCrossEntropyLoss

    from ppliteseg_paddle.losses.cross_entropy import OhemCELoss

    theirs, ours = paddleseg_model("T"), pp_liteseg_t(num_classes=11)
    ours.set_state_dict(from_paddleseg(state_of(theirs)))
    ours.full_size_logits = False
    image, label = paddle.randn([2, 3, 96, 128], "float64"), paddle.randint(0, 11, [2, 96, 128])

    def their_losses(logits_list):
        losses = {"types": [OhemCrossEntropyLoss(min_kept=3000)] * 3, "coef": [1, 1, 1]}
        with mixed_types():
            return loss_computation(logits_list, label, None, losses)

    def our_losses(logits_list):
        losses = {"types": [OhemCELoss(min_kept=3000)] * 3, "coef": [1, 1, 1]}
        return ours.loss_computation(logits_list, losses, {"label": label})

    expected = from_paddleseg(gradients_in_float64(theirs, their_losses, image))
    found = gradients_in_float64(ours, our_losses, image)
    assert set(found) == set(expected)
    whole = np.sqrt(sum(np.sum(gradient**2) for gradient in expected.values()))
    for name, gradient in expected.items():
        # A convolution's bias ahead of normalisation has no gradient but for rounding, hence the second term.
        bound = 1e-4 * np.linalg.norm(gradient) + 1e-9 * whole
        assert np.linalg.norm(found[name] - gradient) <= bound, name


def gradients_in_float64(model, losses_of, image):
    model.to(dtype="float64")
    model.train()
    sum(losses_of(model(image))).backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def test_fusion_names_are_those_that_the_documentation_promises():
    assert set(FUSIONS) == {"spatial_mean_max", "spatial_mean", "channel_mean_max", "channel_mean", "add"}
